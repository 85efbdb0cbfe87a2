"""What happened in a call of an effect node: per attempt, per operation, in all."""

from datetime import UTC, datetime
from typing import Annotated, Self
from uuid import UUID, uuid4

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SerializeAsAny, field_serializer, model_validator
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase, EnumOperationOutcome, EnumStopReason
from omnibase_core.enums.enum_effect_policy import EnumExecutionMode
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.primitives.strict_types import FrozenModel

ExtractedValue = str | int | float | bool | None


class ModelEffectAttempt(FrozenModel):
    """One attempt.

    number: 1-based. started_ms: milliseconds since the operation began. phase: how far it came, None after a success.
    error_kind: fault kind such as ECONNRESET. delay_ms: the wait before the next attempt, 0 for the last.
    delay_source: `backoff`, or `retry_after` when the other side asked for a longer wait.
    """

    number: int
    started_ms: float
    duration_ms: float
    phase: EnumFaultPhase | None = None
    status_code: int | None = None
    error_kind: str | None = None
    delay_ms: float = 0.0
    delay_source: str | None = None


class ModelEffectOperationResult(FrozenModel):
    """What became of one operation; `outcome` follows `success` unless given."""

    operation_name: str
    success: bool
    duration_ms: float
    outcome: EnumOperationOutcome = EnumOperationOutcome.FAILED
    retries: int = 0
    extracted_fields: dict[str, Annotated[ExtractedValue, Field(union_mode="smart")]] = {}
    error_message: str | None = None
    error_code: EnumCoreErrorCode | None = None
    stop_reason: EnumStopReason | None = None
    status_code: int | None = None
    attempts: list[ModelEffectAttempt] = []

    @model_validator(mode="after")
    def _outcome_follows_success(self) -> Self:
        if self.success and "outcome" not in self.model_fields_set:
            self.__dict__["outcome"] = EnumOperationOutcome.SUCCEEDED
        return self


def _now() -> datetime:
    return datetime.now(UTC)


class ModelEffectOutput(BaseModel):
    """What happened in one call.

    result: for a contract the extracted fields of all operations, keyed by operation name; for a code-driven node the
    very object that it returned. Neither validated nor copied; what JSON cannot hold is serialised by `str`.
    processing_time_ms, retry_count, operation_result: read-only aliases of total_duration_ms, total_retry_count,
    result; building takes them as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    correlation_id: UUID = Field(default_factory=uuid4)
    operation_id: UUID = Field(default_factory=uuid4)
    operations: list[ModelEffectOperationResult] = []
    failed_operation: str | None = None
    total_retry_count: int = Field(0, validation_alias=AliasChoices("total_retry_count", "retry_count"))
    total_duration_ms: float = Field(0.0, validation_alias=AliasChoices("total_duration_ms", "processing_time_ms"))
    transaction_state: EnumTransactionState = EnumTransactionState.NONE
    execution_mode: EnumExecutionMode = EnumExecutionMode.SEQUENTIAL_ABORT
    subcontract_name: str = ""
    subcontract_version: str = "1.0.0"
    timestamp: datetime = Field(default_factory=_now)
    result: SerializeAsAny[object] = Field(None, validation_alias=AliasChoices("result", "operation_result"))
    metadata: dict[str, str] = {}

    @field_serializer("result")
    def _result_as_json(self, value: object) -> object:
        return to_jsonable_python(value, fallback=str, serialize_unknown=True)

    @property
    def processing_time_ms(self) -> float:
        return self.total_duration_ms

    @property
    def retry_count(self) -> int:
        return self.total_retry_count

    @property
    def operation_result(self) -> object:
        return self.result


class EffectFailedError(ModelOnexError):
    """A contract's call that failed. `partial_output` is what had happened by then, also as a dict in `context`."""

    partial_output: ModelEffectOutput | None = None
