"""Which service of the container carries out which handler kind."""

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError


class EffectHandlerRegistry:
    """Handler kind -> name of a container service. Kinds beside the built-in four are welcome."""

    def __init__(self, handlers: dict[str, str] | None = None) -> None:
        self.handlers: dict[str, str] = dict(handlers or {})
        self._frozen = False

    def register(self, kind: str, service_name: str) -> None:
        """Add a kind. VALIDATION_ERROR when it has a service already (the message names both), or after `freeze`."""
        kind = str(kind)
        if self._frozen:
            raise ModelOnexError(
                f"handler kind {kind!r} comes too late: the registry is frozen since the service started",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        if kind in self.handlers:
            raise ModelOnexError(
                f"handler kind {kind!r} is already registered: {self.handlers[kind]!r} has it, "
                f"{service_name!r} wants it",
                EnumCoreErrorCode.VALIDATION_ERROR,
                {"kind": kind, "registered": self.handlers[kind], "refused": service_name},
            )
        self.handlers[kind] = service_name

    def resolve(self, kind: str) -> str:
        """The service name of a kind; RESOURCE_UNAVAILABLE, listing what is there, when it has none."""
        try:
            return self.handlers[str(kind)]
        except KeyError:
            raise ModelOnexError(
                f"No handler registered for {str(kind)!r}; registered: {', '.join(sorted(self.handlers)) or 'none'}",
                EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
                {"kind": str(kind), "registered": sorted(self.handlers)},
            ) from None

    def is_registered(self, kind: str) -> bool:
        return str(kind) in self.handlers

    def list_registered(self) -> list[str]:
        """The kinds, sorted."""
        return sorted(self.handlers)

    def freeze(self) -> None:
        """Refuse registrations from now on: the service calls this when it has started."""
        self._frozen = True
