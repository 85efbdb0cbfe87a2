"""What a reducer node made of an action or of data."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, SerializeAsAny, field_serializer
from pydantic_core import to_jsonable_python

from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.primitives.strict_types import FrozenModel


def _now() -> datetime:
    return datetime.now(UTC)


class ModelReducerStateMetadata(FrozenModel):
    """How a machine moved. transition: None when it stayed. intents_emitted: their number."""

    previous_state: str | None = None
    new_state: str | None = None
    transition: str | None = None
    intents_emitted: Annotated[int, Field(ge=0)] = 0


class ModelReductionMetrics(FrozenModel):
    """records_processed: 1 for an action, of an aggregation the items of this call. reduction_ratio: results per
    record. state_size: fields of the state, or rows of the result.
    """

    records_processed: Annotated[int, Field(ge=0)] = 0
    reduction_ratio: float = 0.0
    state_size: Annotated[int, Field(ge=0)] = 0


class ModelReducerOutput(BaseModel):
    """The new state, and what is to be done.

    result: of a machine the snapshot of its new state; of a code-driven node the state that it returned; of an
    aggregation the value, or with groups or windows a row for each. `aggregated_data` is another name of it, in reading
    and building. new_state: the state itself, for the next input. intents: in the order in which they were emitted.
    events: an action that a machine ignored; late items.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    correlation_id: UUID = Field(default_factory=uuid4)
    operation_id: UUID = Field(default_factory=uuid4)
    result: SerializeAsAny[object] = Field(None, validation_alias=AliasChoices("result", "aggregated_data"))
    new_state: SerializeAsAny[object] = None
    state_metadata: ModelReducerStateMetadata = ModelReducerStateMetadata()
    intents: list[ModelIntent] = []
    events: list[dict[str, JsonValue]] = []
    reduction_metrics: ModelReductionMetrics = ModelReductionMetrics()
    processing_time_ms: Annotated[float, Field(ge=0)] = 0.0
    metadata: dict[str, str] = {}
    timestamp: datetime = Field(default_factory=_now)

    @field_serializer("result", "new_state")
    def _as_json(self, value: object) -> object:
        return to_jsonable_python(value, fallback=_plain, serialize_unknown=True)

    @property
    def aggregated_data(self) -> object:
        return self.result


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Iterable) else str(value)
