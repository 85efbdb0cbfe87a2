"""What an effect node is asked to do."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText


def _now() -> datetime:
    return datetime.now(UTC)


class ModelEffectInput(BaseModel):
    """One call of an effect node; only `operation_data` is required.

    operation_data: what `${input...}` reads and `input_schema` judges; from Python it takes any objects.
    correlation_id: None means that of the current context, else a new one. transaction_enabled, retry_enabled,
    max_retries, retry_delay_ms, circuit_breaker_enabled: for code-driven nodes; on a contract node the contract
    decides. timeout_ms: on a contract node it can only shorten `flow_timeout_ms`, and only when it is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    operation_data: dict[str, object]
    effect_type: EnumEffectType = EnumEffectType.API_CALL
    operation_id: UUID = Field(default_factory=new_id)
    correlation_id: UUID | None = None
    transaction_enabled: StrictFlag = True
    retry_enabled: StrictFlag = True
    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] = 3
    retry_delay_ms: Annotated[int, Field(strict=True, ge=0, le=60_000)] = 1_000
    circuit_breaker_enabled: StrictFlag = False
    timeout_ms: Annotated[int, Field(strict=True, ge=1, le=3_600_000)] = 30_000
    metadata: dict[StrictText, StrictText] = Field(default_factory=dict)  # cheaper than a copied default
    timestamp: datetime = Field(default_factory=_now)
