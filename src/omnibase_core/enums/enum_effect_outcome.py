"""What became of an operation and of each of its attempts."""

from enum import StrEnum


class EnumFaultPhase(StrEnum):
    """How far an attempt came before it failed; with idempotency it decides about a repetition (section 2.5)."""

    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    AMBIGUOUS = "ambiguous"
    DONE = "done"


class EnumOperationOutcome(StrEnum):
    """`UNKNOWN` says that the effect may or may not have happened, and that asking again could double it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    COMPENSATED = "compensated"


class EnumStopReason(StrEnum):
    """Why no further attempt was made."""

    SUCCESS = "success"
    NOT_RETRYABLE = "not_retryable"
    NOT_IDEMPOTENT = "not_idempotent"
    ATTEMPTS = "attempts"
    DEADLINE = "deadline"
    BUDGET = "budget"
    RETRY_AFTER = "retry_after"
    BREAKER_OPEN = "breaker_open"
    CANCELLED = "cancelled"
