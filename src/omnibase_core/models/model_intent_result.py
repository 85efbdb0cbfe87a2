"""What became of an intent."""

from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.models.primitives.strict_types import FrozenModel


class IntentExecutionResult(FrozenModel):
    """One per intent, in the order in which they were carried out.

    result: what the route says about a success; that of the first time for a duplicate. error: a sentence, also for a
    duplicate whose first time failed. error_code: `OUTCOME_UNKNOWN` says that the effect may have happened. attempts: 0
    when nothing was tried.
    """

    intent_id: UUID
    status: EnumIntentStatus
    result: JsonValue = None
    error: str | None = None
    error_code: EnumCoreErrorCode | None = None
    attempts: int = 0
    duration_ms: float = 0.0
