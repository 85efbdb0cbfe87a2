"""An aggregation with its input: what `execute_reduction` takes (4.2)."""

from typing import Annotated, Final, Literal, Self
from uuid import UUID, uuid4

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from omnibase_core.enums.enum_aggregation import (
    EnumAggregationMethod,
    EnumConflictResolution,
    EnumLateData,
    EnumWindowType,
)
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.primitives.strict_types import (
    FrozenModel,
    StrictFlag,
    StrictNumber,
    StrictReal,
    StrictText,
)

RESERVED: Final = ("value", "window_start", "window_end")
"""Keys that a row of the result has beside those of `group_by`."""
MAX_WINDOWS_OF_AN_ITEM: Final = 1_000
_MAX_MS: Final = 366 * 24 * 3_600_000

FieldName = Annotated[StrictText, Field(min_length=1, max_length=200, pattern=r"^[^.]+(\.[^.]+)*$")]
Percent = Annotated[StrictNumber | StrictReal, Field(ge=0, le=100)]
Milliseconds = Annotated[StrictNumber, Field(ge=1, le=_MAX_MS)]


def _as_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _refuse(problem: str) -> ModelOnexError:
    return ModelOnexError(problem, EnumCoreErrorCode.VALIDATION_ERROR)


class ModelReductionConfig(FrozenModel):
    """What is made of which values.

    value_field: dotted name of the value in an item; None takes the item itself. group_by: one dotted name or several;
    the result then has a row for each combination of their values, which are scalars. state_key: where the partial
    state is kept, so that the next call goes on with it. percentile: 0..100, or several. reducer, parameters: name of
    a class registered by `@reducer`, and its keyword arguments, for `custom`. null_values: `skip` leaves out items
    whose value is null or missing; `error` refuses them where a number or text is needed.
    """

    aggregation_method: EnumAggregationMethod
    value_field: FieldName | None = None
    group_by: Annotated[tuple[FieldName, ...], BeforeValidator(_as_several), Field(max_length=16)] = ()
    state_key: Annotated[StrictText, Field(min_length=1, max_length=200)] | None = None
    percentile: Percent | Annotated[tuple[Percent, ...], Field(min_length=1, max_length=100)] = 50
    reducer: Annotated[StrictText, Field(min_length=1, max_length=200)] | None = None
    parameters: dict[StrictText, JsonValue] = {}
    null_values: Literal["error", "skip"] = "error"

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        method, given = self.aggregation_method, self.model_fields_set
        if (method is EnumAggregationMethod.CUSTOM) != (self.reducer is not None):
            raise _refuse(
                "reduction_config.reducer names the class that carries out the method 'custom', and no other method "
                f"has one; found {method.value!r} with reducer {self.reducer!r}"
            )
        if "parameters" in given and method is not EnumAggregationMethod.CUSTOM:
            raise _refuse(f"reduction_config.parameters are those of a custom reducer; {method.value!r} takes none")
        if "percentile" in given and method is not EnumAggregationMethod.PERCENTILE:
            raise _refuse(f"reduction_config.percentile goes with the method 'percentile'; found {method.value!r}")
        if len(set(self.group_by)) < len(self.group_by):
            raise _refuse(f"reduction_config.group_by names a field twice: {', '.join(self.group_by)}")
        taken = [name for name in self.group_by if name in RESERVED]
        if taken:
            raise _refuse(
                f"reduction_config.group_by cannot have {taken[0]!r}: a row of the result has that key itself; "
                "rename the field first"
            )
        return self


class ModelWindowConfig(FrozenModel):
    """How event time is cut into windows; a window has its start and not its end.

    time_field: dotted name of the event time in an item: milliseconds since 1970 as an int, an ISO 8601 text with an
    offset, or an aware datetime. tumbling: `size_ms`. sliding: `size_ms`, begun anew every `slide_ms`. session: items
    of a group that are less than `gap_ms` apart.
    """

    type: EnumWindowType
    time_field: FieldName
    size_ms: Milliseconds | None = None
    slide_ms: Milliseconds | None = None
    gap_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        needed = {
            EnumWindowType.TUMBLING: {"size_ms"},
            EnumWindowType.SLIDING: {"size_ms", "slide_ms"},
            EnumWindowType.SESSION: {"gap_ms"},
        }[self.type]
        found = {name for name in ("size_ms", "slide_ms", "gap_ms") if getattr(self, name) is not None}
        if found != needed:
            raise _refuse(
                f"a {self.type.value} window has {' and '.join(sorted(needed))} and no other measure; "
                f"found {', '.join(sorted(found)) or 'none'}"
            )
        if self.size_ms is not None and self.slide_ms is not None:
            if self.slide_ms > self.size_ms:
                raise _refuse(
                    f"slide_ms is at most size_ms, {self.size_ms}, or items would fall between the windows; "
                    f"found {self.slide_ms}"
                )
            if self.size_ms > self.slide_ms * MAX_WINDOWS_OF_AN_ITEM:
                raise _refuse(
                    f"an item would be in {self.size_ms // self.slide_ms} windows; allowed are "
                    f"{MAX_WINDOWS_OF_AN_ITEM}, so raise slide_ms"
                )
        return self


class ModelStreamingConfig(FrozenModel):
    """How the input comes, and windows over event time.

    enabled: `input_data` is any iterable or async iterable, taken chunk by chunk; else it is a list. items_come_as:
    `chunks` when it yields lists of items; `auto` takes a list or tuple for a chunk. chunk_size: items that are worked
    on at once. watermark_ms: how long items may come out of order: a window is closed when an item's time is that far
    behind its end. late_data_policy: what happens to items whose windows are all closed; `update` never closes any.
    checkpoint_items: progress is stored under `state_key` at least so often (0: never), and a run that was killed goes
    on from there: give it the same input again. It begins anew, with nothing left out of the input, when another state
    was stored since or `conflict_resolution` was changed. run_id: names the input, such as a file and its date. A run
    that is in the state is not carried out again under its name as long as it is among the last 100 that are, and
    progress is that of a name; without one a run goes on with whatever progress there is.
    """

    enabled: StrictFlag = False
    items_come_as: Literal["auto", "items", "chunks"] = "auto"
    chunk_size: Annotated[StrictNumber, Field(ge=1, le=1_000_000)] = 10_000
    window: ModelWindowConfig | None = None
    watermark_ms: Annotated[StrictNumber, Field(ge=0, le=_MAX_MS)] = 0
    late_data_policy: EnumLateData = EnumLateData.DROP
    checkpoint_items: Annotated[StrictNumber, Field(ge=0, le=1_000_000_000)] = 0
    run_id: Annotated[StrictText, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _windows_have_watermarks(self) -> Self:
        stray = {"watermark_ms", "late_data_policy"} & self.model_fields_set
        if self.window is None and stray:
            raise _refuse(f"streaming_config.{min(stray)} says when a window closes, and there is no window; add one")
        return self


class ModelMemoryManagement(FrozenModel):
    """buffer_size_mb: MiB of groups and values in memory; what is beyond goes to files in a directory of its own below
    `spill_directory` (None: the system's for temporary files), which is gone when the aggregation ends. The result is
    not counted; where groups were spilled it is read from disk as it is iterated. Below 8 some MiB of fixed costs show.
    """

    buffer_size_mb: Annotated[StrictNumber, Field(ge=1, le=1_048_576)] = 128
    spill_directory: Annotated[StrictText, Field(min_length=1)] | None = None


class ModelReducerTransactionConfig(FrozenModel):
    """enabled: state and backup are stored within one transaction of the `ProtocolTransactionManager`."""

    enabled: StrictFlag = False


class ModelBackupConfig(FrozenModel):
    """A backup of the stored state at `backup_location`, made in the same transaction as the update.

    backup_type: `before` keeps the state that is replaced, `after` the one that replaces it. version: told in the
    backup, for whoever reads it. retention: how many backups of the place are kept.
    """

    enabled: StrictFlag = False
    backup_location: Annotated[StrictText, Field(min_length=1, max_length=500)] | None = None
    backup_type: Literal["before", "after"] = "before"
    version: Annotated[StrictText, Field(min_length=1, max_length=50)] = "1"
    retention: Annotated[StrictNumber, Field(ge=1, le=10_000)] = 10

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.enabled and self.backup_location is None:
            raise _refuse("backup_config.enabled needs backup_location, the name under which backups are kept")
        return self


class ModelContractReducer(FrozenModel):
    """An aggregation and the data that it works on.

    input_data: a list of items, or an object in which the only field that is a list has them; with
    `streaming_config.enabled` any iterable or async iterable of items or of lists of
    items, or a function that is given the number of items to leave out and returns such a one. conflict_resolution:
    which value is kept where the method `merge` meets two for a field (None: the last), and what is done when somebody
    else has stored a state under `state_key` meanwhile (None: ConcurrentModificationError; `merge` adds the items to
    theirs).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    correlation_id: UUID = Field(default_factory=uuid4)
    input_data: object = ()
    reduction_config: ModelReductionConfig
    streaming_config: ModelStreamingConfig = ModelStreamingConfig()
    memory_management: ModelMemoryManagement = ModelMemoryManagement()
    conflict_resolution: EnumConflictResolution | None = None
    transaction_config: ModelReducerTransactionConfig = ModelReducerTransactionConfig()
    backup_config: ModelBackupConfig = ModelBackupConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        reduction, streaming = self.reduction_config, self.streaming_config
        if not streaming.enabled and not isinstance(self.items, list | tuple):
            raise _refuse(
                f"input_data is a list, or an object with one list; found {type(self.input_data).__name__}; "
                "with streaming_config.enabled it may be any iterable"
            )
        merges = reduction.state_key is not None and self.conflict_resolution is EnumConflictResolution.MERGE
        if merges and streaming.window is not None and streaming.late_data_policy is not EnumLateData.UPDATE:
            raise _refuse(
                "conflict_resolution 'merge' adds these items to a state that others stored; with windows that close, "
                "what is late depends on the order of all items, so choose late_data_policy 'update' or another "
                "conflict_resolution"
            )
        if reduction.state_key is None:
            wanting = {
                "transaction_config.enabled": self.transaction_config.enabled,
                "backup_config.enabled": self.backup_config.enabled,
                "streaming_config.checkpoint_items": streaming.checkpoint_items > 0,
                "streaming_config.run_id": streaming.run_id is not None,
            }
            for name, wanted in wanting.items():
                if wanted:
                    raise _refuse(f"{name} is about a stored state; name it by reduction_config.state_key")
        return self

    @property
    def items(self) -> object:
        """`input_data`, or the only list in it."""
        data = self.input_data
        if isinstance(data, dict):
            lists = [value for value in data.values() if isinstance(value, list | tuple)]
            return lists[0] if len(lists) == 1 else data
        return data
