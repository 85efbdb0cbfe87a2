"""The seam to wherever secrets are kept."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ProtocolSecretProvider(Protocol):
    """Gives secrets by name. Asked before every attempt that needs one, so that a store that was away can be
    retried.
    """

    async def get(self, name: str) -> str | None:
        """The secret, or None when there is none of that name. Raises EffectFault when the store cannot be asked."""
        ...
