"""The typed fault with which a handler says how an attempt failed."""

from collections.abc import Mapping
from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.onex_error import ModelOnexError


class EffectFault(ModelOnexError):
    """One failed attempt, described by what the executor needs to decide about the next one.

    error_kind: name of the fault as contracts list it in `retryable_errors`: ECONNREFUSED (never connected, DNS failure
        included), ECONNRESET (connection lost), ETIMEDOUT (no answer in time), or a word of the handler's own.
    phase: how far the attempt came (see `EnumFaultPhase`). The default is the careful one: `AMBIGUOUS`.
    transient: the fault may be repeated without an entry in the policy's lists (serialisation failure, deadlock). False
        does not forbid a repetition.
    status_code: HTTP status, when there was one.
    sqlstate: five characters of SQLSTATE, when there was one.
    retry_after_s: seconds that the other side asked to wait; it only ever lengthens a delay.
    """

    def __init__(
        self,
        message: str = "",
        error_code: EnumCoreErrorCode | str | None = None,
        context: Mapping[str, object] | None = None,
        correlation_id: UUID | None = None,
        *,
        error_kind: str | None = None,
        phase: EnumFaultPhase = EnumFaultPhase.AMBIGUOUS,
        transient: bool = False,
        status_code: int | None = None,
        sqlstate: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, error_code, context, correlation_id)
        self.error_kind = error_kind
        self.phase = phase
        self.transient = transient
        self.status_code = status_code
        self.sqlstate = sqlstate
        self.retry_after_s = retry_after_s
