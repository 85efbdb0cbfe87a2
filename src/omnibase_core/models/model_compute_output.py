"""What a compute node was given back: per step, per pipeline, in all."""

from typing import Final
from uuid import UUID, uuid4

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SerializeAsAny, field_serializer
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_compute import EnumTransformationType
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.primitives.strict_types import FrozenModel

TOO_DEEP: Final = "(nested too deeply to be shown as JSON)"
"""Stands for an output that the serializer, which goes 255 levels down, cannot write."""
_ROOM: Final = 8
"""Levels that are left for the models around an output, which are written with it in one go."""


def _as_json(value: object) -> object:
    held = value
    for _ in range(_ROOM):
        held = [held]
    try:
        plain = to_jsonable_python(held, fallback=str, serialize_unknown=True)
    except UnicodeEncodeError:  # a key with half of a surrogate pair
        return ascii(value)
    except (ValueError, RecursionError):  # also what is a part of itself
        return TOO_DEEP
    for _ in range(_ROOM):
        plain = plain[0]
    found: object = plain
    return found


class _Computed(FrozenModel):
    """Frozen, and with an output that is neither validated nor copied."""

    output: SerializeAsAny[object] = None

    @field_serializer("output")
    def _output_as_json(self, value: object) -> object:
        return _as_json(value)


class ModelComputeStepResult(_Computed):
    """What became of one step.

    output: what it gave, the very object that the next step received; None after a failure. error_type: an error code.
    A validation step that goes on is a success whose error_type and error_message say what was wrong.
    """

    success: bool
    duration_ms: float
    transformation_type: EnumTransformationType | None = None
    error_type: str | None = None
    error_message: str | None = None


class ModelComputePipelineResult(_Computed):
    """What became of one call of a pipeline.

    output: of the last step; None after a failure. steps_executed: steps that began, those of branches included.
    step_results: by step name, in the order in which they ended. error_step: where it failed; None also for a breach
    of the contract's input_schema or output_schema.
    """

    success: bool
    processing_time_ms: float
    steps_executed: int = 0
    step_results: dict[str, ModelComputeStepResult] = {}
    error_type: str | None = None
    error_message: str | None = None
    error_step: str | None = None


class ModelComputeOutput(BaseModel):
    """What one call of a compute node gave.

    result: neither validated nor copied; what JSON cannot hold is serialised by `str`. processed_data: the same under
    its other name, in reading and building. cache_hit: the result was taken from the node's cache. pipeline: step by
    step, for a node with a contract.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    result: SerializeAsAny[object] = Field(None, validation_alias=AliasChoices("result", "processed_data"))
    operation_id: UUID = Field(default_factory=uuid4)
    correlation_id: UUID = Field(default_factory=uuid4)
    processing_time_ms: float = 0.0
    cache_hit: bool = False
    parallel_execution_used: bool = False
    performance_metrics: dict[str, float | int | str] = {}
    pipeline: ModelComputePipelineResult | None = None

    @field_serializer("result")
    def _result_as_json(self, value: object) -> object:
        return _as_json(value)

    @property
    def processed_data(self) -> object:
        return self.result


class ComputeFailedError(ModelOnexError):
    """A pipeline that failed. `pipeline_result` is what had been computed by then; in `context` it is a dict, in which
    a text stands for the large outputs.
    """

    pipeline_result: ModelComputePipelineResult | None = None
