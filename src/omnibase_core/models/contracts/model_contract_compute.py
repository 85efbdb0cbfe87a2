"""A computation over items by a registered algorithm, with its input: what `execute_compute` takes (3.2)."""

from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

from pydantic import ConfigDict, Field, model_validator

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictFlag, StrictNumber, StrictText

Backend = Literal["serial", "threads", "processes", "cluster"]
OutputFormat = Literal["json", "dataframe", "array", "none"]
DataType = Literal[
    "string", "integer", "number", "boolean", "array", "object", "null", "str", "int", "float", "bool", "list", "dict"
]
"""Types of JSON by their names there or in Python; `float` takes no int, `number` both, neither a boolean."""


class ModelAlgorithmConfig(FrozenModel):
    """Which algorithm, and its parameters, which are the keyword arguments of its class."""

    algorithm_type: Annotated[StrictText, Field(min_length=1, max_length=200)]
    parameters: dict[StrictText, object] = {}


class ModelParallelConfig(FrozenModel):
    """How the chunks are shared out.

    backend: None is `processes` for more than one worker, else `serial`; `cluster` is the engine of the setting
    `compute_cluster`. chunk_size: items of a chunk; None is a
    quarter of a worker's share.
    """

    worker_count: Annotated[StrictNumber, Field(ge=1, le=256)] = 1
    backend: Backend | None = None
    chunk_size: Annotated[StrictNumber, Field(ge=1, le=100_000_000)] | None = None

    @property
    def chosen_backend(self) -> Backend:
        return self.backend or ("processes" if self.worker_count > 1 else "serial")


class ModelComputeInputValidation(FrozenModel):
    """What must be there. The fields are those of the input, or, when the input is a list, of each of its items."""

    required_fields: tuple[StrictText, ...] = ()
    data_types: dict[StrictText, DataType] = {}


class ModelOutputTransformation(FrozenModel):
    """The shape of the result.

    json: as the algorithm gives it. array: always a list. dataframe: of pandas, or of polars when only that is there.
    none: no result, only the metrics.
    """

    format: OutputFormat = "json"


class ModelComputePerformance(FrozenModel):
    """Limits and the cache.

    timeout_ms: the whole computation, from when workers are ready; needs the backend `processes`, because nothing else
    can be stopped.
    cache_enabled: a result is kept under the hash of everything that it depends on, for `cache_ttl_seconds`.
    """

    timeout_ms: Annotated[StrictNumber, Field(ge=1, le=3_600_000)] | None = None
    cache_enabled: StrictFlag = False
    cache_ttl_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0


class ModelContractCompute(FrozenModel):
    """An algorithm and the data that it works on.

    input_data: a list of items, or an object in which `input_field`, or else the only field that is a list, has them.
    purity: `enforce` fails an algorithm that opens files or sockets, or reads the clock or randomness.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    correlation_id: UUID = Field(default_factory=uuid4)
    input_data: list[object] | dict[StrictText, object]
    input_field: StrictText | None = None
    algorithm_config: ModelAlgorithmConfig
    parallel_config: ModelParallelConfig = ModelParallelConfig()
    input_validation: ModelComputeInputValidation = ModelComputeInputValidation()
    output_transformation: ModelOutputTransformation = ModelOutputTransformation()
    performance: ModelComputePerformance = ModelComputePerformance()
    purity: Literal["off", "enforce"] = "off"

    @model_validator(mode="after")
    def _can_be_stopped_in_time(self) -> Self:
        backend = self.parallel_config.chosen_backend
        if self.performance.timeout_ms is not None and backend != "processes":
            raise ModelOnexError(
                f"performance.timeout_ms needs a computation that can be stopped, and the backend is {backend!r}; set "
                "parallel_config.backend to 'processes', with any worker_count",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        return self
