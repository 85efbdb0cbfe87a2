"""The base of every error that ONEX raises on purpose, and the subclasses that callers must tell apart."""

from collections.abc import Mapping
from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode


class ModelOnexError(Exception):
    """An error with a code, a context and the correlation id of the call in which it happened.

    `context` is a mutable dict of the error's own; `error_context` is an older spelling of it. The error pickles,
    and it is not a `ValueError`, so that pydantic lets it pass.
    """

    default_code = EnumCoreErrorCode.OPERATION_FAILED

    def __init__(
        self,
        message: str = "",
        error_code: EnumCoreErrorCode | str | None = None,
        context: Mapping[str, object] | None = None,
        correlation_id: UUID | None = None,
        *,
        error_context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = self.default_code if error_code is None else EnumCoreErrorCode(error_code)
        self.context: dict[str, object] = dict(context or error_context or {})
        self.correlation_id = correlation_id

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(cls: type[ModelOnexError], args: tuple[object, ...], state: dict[str, object]) -> ModelOnexError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


OnexError = ModelOnexError


class LeaseConflictError(ModelOnexError):
    """Another holder has the lease."""

    default_code = EnumCoreErrorCode.CONFLICT


class LeaseExpiredError(ModelOnexError):
    """The lease ran out before the write."""

    default_code = EnumCoreErrorCode.CONFLICT


class LeaseValidationError(ModelOnexError):
    """The lease is not one of this workflow."""

    default_code = EnumCoreErrorCode.VALIDATION_ERROR


class EpochMismatchError(ModelOnexError):
    """The state moved on since the action was issued."""

    default_code = EnumCoreErrorCode.CONFLICT


class ActionExpiredError(ModelOnexError):
    """The action's `expires_at` has passed by the store's clock."""

    default_code = EnumCoreErrorCode.TIMEOUT


class ConcurrentModificationError(ModelOnexError):
    """The stored version is not the expected one."""

    default_code = EnumCoreErrorCode.CONFLICT


class StateUpdateConflictError(EpochMismatchError):
    """Two updates of one state exclude each other: an action that changed it already comes with another change."""


class StateConsistencyError(ModelOnexError):
    """Stored state contradicts itself."""

    default_code = EnumCoreErrorCode.INTERNAL_ERROR


class TransactionError(ModelOnexError):
    """A transaction could not be begun, committed or rolled back."""


class DependencyResolutionError(ModelOnexError):
    """Required dependencies are missing, unhealthy or of a wrong version."""

    default_code = EnumCoreErrorCode.RESOURCE_UNAVAILABLE


class WorkflowExecutionError(ModelOnexError):
    """A workflow ended without its result."""


class AlgorithmNotFoundError(ModelOnexError):
    """No algorithm of that name is registered."""

    default_code = EnumCoreErrorCode.NOT_FOUND


class DatabaseConnectionError(ModelOnexError):
    """A database could not be reached."""

    default_code = EnumCoreErrorCode.RESOURCE_UNAVAILABLE
