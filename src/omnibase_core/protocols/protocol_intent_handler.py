"""The seam between the executor of intents and whatever carries one kind of them out."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute
from omnibase_core.models.model_intent import ModelIntent


@dataclass(frozen=True, slots=True)
class IntentDone:
    """A success: what it says, and how many attempts it took."""

    result: JsonValue = None
    attempts: int = 1


@runtime_checkable
class ProtocolIntentHandler(Protocol):
    """Carries out intents of one kind.

    retries_itself: the handler heeds `intent.retry_policy`; otherwise the executor repeats what failed.
    """

    retries_itself: bool

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        """Whether doing it twice is as good as once. The route's own word goes before it."""
        ...

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        """The named connection whose ambient transaction `carry_out` joins; None when it joins none."""
        ...

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        """Do it. Raises ModelOnexError: VALIDATION_ERROR for a payload of the wrong shape, EffectFault for a failed
        attempt, `OUTCOME_UNKNOWN` when the effect may have happened.
        """
        ...
