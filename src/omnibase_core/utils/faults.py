"""From an error or a status to a decision: what kind of fault it was, and whether the attempt may be repeated.

The table of section 2.5: `not_sent` may always be repeated, `rejected` too; `ambiguous` only when the operation is
idempotent; `done` never. A fault must besides be in the policy's lists, unless it is transient by nature.
"""

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase, EnumOperationOutcome, EnumStopReason
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError

_NOT_SENT, _REJECTED, _AMBIGUOUS, _DONE = EnumFaultPhase

_KINDS_BY_NAME: Final = {
    "ECONNREFUSED": ("ECONNREFUSED", _NOT_SENT),
    "EHOSTUNREACH": ("ECONNREFUSED", _NOT_SENT),
    "ENETUNREACH": ("ECONNREFUSED", _NOT_SENT),
    "EHOSTDOWN": ("ECONNREFUSED", _NOT_SENT),
    "EPIPE": ("ECONNRESET", _AMBIGUOUS),
    "ECONNABORTED": ("ECONNRESET", _AMBIGUOUS),
}
_MAX_CAUSES: Final = 10


@dataclass(slots=True)
class Fault:
    """One failed attempt, in the terms of the decision.

    listed: the policy's lists, or the fault's own nature, allow a repetition. target_failed: it counts against the
    target's breaker; None says that it says nothing about the target.
    """

    message: str
    code: EnumCoreErrorCode
    phase: EnumFaultPhase
    kind: str | None = None
    status_code: int | None = None
    listed: bool = False
    retry_after_s: float | None = None
    target_failed: bool | None = None
    error: BaseException | None = None

    @property
    def timed_out(self) -> bool:
        return self.kind == "ETIMEDOUT"


@dataclass(frozen=True, slots=True)
class RetryLists:
    """What a policy allows to be repeated."""

    status_codes: frozenset[int]
    errors: frozenset[str]


def fault_of_error(error: BaseException, lists: RetryLists) -> Fault:
    """What an exception of a handler means."""
    if isinstance(error, EffectFault):
        return Fault(
            error.message,
            error.error_code,
            error.phase,
            error.error_kind,
            error.status_code,
            error.transient or error.error_kind in lists.errors or error.status_code in lists.status_codes,
            error.retry_after_s,
            _target_failed(error.phase, error.error_kind, error.error_code),
            error,
        )
    if isinstance(error, ModelOnexError):
        timed_out = error.error_code is EnumCoreErrorCode.TIMEOUT
        phase = _AMBIGUOUS if timed_out else _REJECTED
        kind = "ETIMEDOUT" if timed_out else None
        return Fault(error.message, error.error_code, phase, kind, listed=kind in lists.errors, error=error)
    kind, phase, name = _kind_of_untyped(error)
    code = EnumCoreErrorCode.TIMEOUT if kind == "ETIMEDOUT" else EnumCoreErrorCode.OPERATION_FAILED
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    listed = kind in lists.errors or name in lists.errors
    return Fault(text, code, phase, kind, None, listed, None, _target_failed(phase, kind, code), error)


def _kind_of_untyped(error: BaseException) -> tuple[str | None, EnumFaultPhase, str | None]:
    """Kind, phase and errno name of an exception that a handler did not translate.

    One that is no connection fault failed, simply.
    """
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT", _AMBIGUOUS, None
    if isinstance(error, OSError):
        if any(cls.__name__ == "gaierror" for cls in type(error).__mro__):  # its number is none of errno's
            return "ECONNREFUSED", _NOT_SENT, None
        name = errno.errorcode.get(error.errno or 0)
        if name is None:
            name = next((name for cls, name in _NAMES_OF_CLASSES if isinstance(error, cls)), None)
        if name is not None:
            return *_KINDS_BY_NAME.get(name, (name, _AMBIGUOUS)), name
        return None, _AMBIGUOUS, None
    return None, _REJECTED, None


_NAMES_OF_CLASSES: Final[tuple[tuple[type[OSError], str], ...]] = (
    (ConnectionRefusedError, "ECONNREFUSED"),
    (ConnectionResetError, "ECONNRESET"),
    (ConnectionAbortedError, "ECONNABORTED"),
    (BrokenPipeError, "EPIPE"),
)


def _target_failed(phase: EnumFaultPhase, kind: str | None, code: EnumCoreErrorCode) -> bool | None:
    if phase is _AMBIGUOUS:
        return True
    if phase is _NOT_SENT:
        is_local = code not in {EnumCoreErrorCode.OPERATION_FAILED, EnumCoreErrorCode.TIMEOUT}
        return None if is_local or kind is None else True
    return False


def fault_of_status(
    status: int, success_codes: Collection[int], lists: RetryLists, retry_after_s: float | None
) -> Fault:
    """What a status outside the success codes means (section 2.5)."""
    allowed = ", ".join(map(str, sorted(success_codes)))
    phase, failed = _phase_of_status(status)
    return Fault(
        f"status {status} is not among the success codes ({allowed})",
        EnumCoreErrorCode.RATE_LIMITED if status == 429 else EnumCoreErrorCode.OPERATION_FAILED,
        phase,
        None,
        status,
        phase is not _DONE and status in lists.status_codes,
        retry_after_s,
        failed,
    )


def _phase_of_status(status: int) -> tuple[EnumFaultPhase, bool | None]:
    if status == 429:
        return _REJECTED, None
    if status == 408 or status >= 500:
        return _AMBIGUOUS, True
    return (_DONE if status < 300 else _REJECTED), False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to go on, and if not, why and with what outcome."""

    repeat: bool
    reason: EnumStopReason
    outcome: EnumOperationOutcome
    code: EnumCoreErrorCode


def judge(fault: Fault, *, idempotent: bool, attempts_left: int) -> Verdict:
    """The decision after a failed attempt, deadline and budget left aside."""
    outcome, code = EnumOperationOutcome.FAILED, fault.code
    if fault.phase is _AMBIGUOUS and not idempotent:
        if fault.status_code is None or fault.status_code in {408, 502, 504}:
            outcome, code = EnumOperationOutcome.UNKNOWN, EnumCoreErrorCode.OUTCOME_UNKNOWN
        return Verdict(repeat=False, reason=EnumStopReason.NOT_IDEMPOTENT, outcome=outcome, code=code)
    if fault.phase is _DONE or not fault.listed:
        return Verdict(repeat=False, reason=EnumStopReason.NOT_RETRYABLE, outcome=outcome, code=code)
    return Verdict(repeat=attempts_left > 0, reason=EnumStopReason.ATTEMPTS, outcome=outcome, code=code)


def retry_after_seconds(value: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), by number or date; None when it is neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 10 else 1e9
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # the parser of the library trips over some texts
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())


def is_listed_anywhere(error: BaseException, lists: RetryLists) -> bool:
    """Whether the error, or one of its causes (at most 10 deep), is one that the policy repeats."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and len(seen) <= _MAX_CAUSES and id(current) not in seen:
        seen.add(id(current))
        status = getattr(current, "status_code", None)
        kind = getattr(current, "error_kind", None)
        if (isinstance(status, int) and status in lists.status_codes) or (
            isinstance(kind, str) and kind in lists.errors
        ):
            return True
        if fault_of_error(current, lists).listed:
            return True
        current = current.__cause__
    return False
