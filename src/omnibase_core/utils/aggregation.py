"""An aggregation while it goes on: items in, partial states by group, the result out. Pure but for spilled runs.

Items without groups and windows are folded chunk by chunk. Else values wait by group until there are many, because
folding ten into a state costs little more than folding one. Memory is estimated: at less than half of the limit the
groups are written to a sorted run, which leaves the rest for the sorting and for what the estimate misses.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_aggregation import (
    EnumAggregationMethod,
    EnumConflictResolution,
    EnumLateData,
    EnumWindowType,
)
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError, StateConsistencyError
from omnibase_core.models.contracts.model_contract_reducer import (
    ModelContractReducer,
    ModelReductionConfig,
    ModelStreamingConfig,
    ModelWindowConfig,
)
from omnibase_core.utils.aggregation_fields import Key, column, key_of, keys_of, order_of, parts_of, times_of
from omnibase_core.utils.aggregation_methods import (
    AverageMethod,
    CollectMethod,
    CountMethod,
    DistinctMethod,
    FirstMethod,
    LastMethod,
    MaxMethod,
    Method,
    MinMethod,
    SumMethod,
    size_of,
)
from omnibase_core.utils.aggregation_runs import Group, SpilledRuns, SpillFiles, no_json
from omnibase_core.utils.aggregation_values import CustomMethod, MergeMethod, NumberedFault, PercentileMethod
from omnibase_core.utils.aggregation_windows import Session, Sessions, Watermark, windows_at
from omnibase_core.utils.algorithms import ItemFault, Items
from omnibase_core.utils.exact_sums import BeyondFloatsError

Row = dict[str, object]
Place = tuple[Key, int, int]
_Dumped = tuple[list[JsonValue], int, int, JsonValue, bool]
FORMAT: Final = 1
_MOST_WAITING: Final = 250_000
_WAITING_LIST_BYTES: Final = 250
_OWN_BYTES: Final = 2 * 1024 * 1024
"""What chunks under way, buffers of files and lines of runs take, however few the groups are."""
_ROW_BYTES: Final = 260
"""Of a group beside its state: the key of three, its entry in a dict, and its place in the order while it is sorted."""


def method_of(config: ModelReductionConfig, conflicts: EnumConflictResolution | None) -> Method[object]:
    """The method that a contract names. AlgorithmNotFoundError for a reducer that nobody registered."""
    kinds: dict[EnumAggregationMethod, Callable[[], object]] = {
        EnumAggregationMethod.SUM: SumMethod,
        EnumAggregationMethod.AVERAGE: AverageMethod,
        EnumAggregationMethod.MIN: MinMethod,
        EnumAggregationMethod.MAX: MaxMethod,
        EnumAggregationMethod.FIRST: FirstMethod,
        EnumAggregationMethod.LAST: LastMethod,
        EnumAggregationMethod.COLLECT: CollectMethod,
        EnumAggregationMethod.DISTINCT: DistinctMethod,
    }
    method: object
    if config.aggregation_method is EnumAggregationMethod.COUNT:
        method = CountMethod(of_field=config.value_field is not None)
    elif config.aggregation_method is EnumAggregationMethod.PERCENTILE:
        method = PercentileMethod(config.percentile)
    elif config.aggregation_method is EnumAggregationMethod.MERGE:
        method = MergeMethod(conflicts or EnumConflictResolution.LAST_WRITE_WINS)
    elif config.aggregation_method is EnumAggregationMethod.CUSTOM:
        method = CustomMethod(config.reducer or "", config.parameters)
    else:
        method = kinds[config.aggregation_method]()
    return cast("Method[object]", method)  # each is asked only about states of its own


class Aggregation:
    """One aggregation of a contract: `add` items in their order, then ask for `rows`.

    files: where groups go that do not fit into `memory_management.buffer_size_mb`; without any, RESOURCE_UNAVAILABLE
    is raised instead. It may be used by one thread at a time. earlier: how many of `items` were of other inputs, and
    are not counted where an item is named.
    """

    def __init__(self, contract: ModelContractReducer, files: SpillFiles[object] | None = None) -> None:
        self.contract = contract
        self.items = self.earlier = 0
        self.late = 0
        self.late_items: list[dict[str, JsonValue]] = []
        self._config: ModelReductionConfig = contract.reduction_config
        self._streaming: ModelStreamingConfig = contract.streaming_config
        self._method = method_of(self._config, contract.conflict_resolution)
        self._window = self._streaming.window
        self._watermark = Watermark(self._streaming)
        session = self._window is not None and self._window.type is EnumWindowType.SESSION
        gap = self._window.gap_ms if self._window is not None else None
        self._sessions = Sessions(self._method, gap or 0) if session else None
        buffer = contract.memory_management.buffer_size_mb * 1024 * 1024
        self._limit = max(buffer // 4, buffer // 2 - _OWN_BYTES)
        self._most_waiting = min(_MOST_WAITING, max(1_000, self._limit // 400))
        self._states: dict[object, object] = {}  # by key, or by place where there are windows
        self._waiting: defaultdict[object, list[object]] = defaultdict(list)
        self._waiting_items = self._waiting_bytes = self._bytes = self._late_bytes = 0
        self._runs = None if files is None else SpilledRuns(files, self._method, self._limit)

    # items in

    def add(self, items: Items) -> None:
        """Add items that follow those before. VALIDATION_ERROR names the first that does not fit; the aggregation is
        of no use then.
        """
        try:
            self._add(items)
        except ItemFault as fault:
            raise self._fault(fault.index, fault.problem, absolute=isinstance(fault, NumberedFault)) from None
        except ValueError as error:
            raise ModelOnexError(f"{self.title}: {error}", EnumCoreErrorCode.VALIDATION_ERROR) from None

    def _fault(self, item: int, problem: str, *, absolute: bool) -> ModelOnexError:
        item = (item if absolute else self.items + item) - self.earlier
        field = self._config.value_field
        if field is not None and not problem.startswith("field "):
            problem = f"field {field!r}: {problem}"
        return ModelOnexError(
            f"{self.title}, item {item} (counted from 0): {problem}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"item": item, "field": field, "problem": problem},
        )

    @property
    def title(self) -> str:
        method, field = self._config.aggregation_method.value, self._config.value_field
        return f"aggregation {method!r}" + (f" of {field!r}" if field else "")

    def _add(self, items: Items) -> None:
        method, config, given = self._method, self._config, len(items)
        skips = config.null_values == "skip" and not method.counts_missing
        values = column(items, config.value_field, or_null=skips or method.counts_missing)
        numbers: Sequence[int] = range(len(items))
        if skips and None in values:
            numbers = [at for at, value in enumerate(values) if value is not None]
            items, values = [items[at] for at in numbers], [values[at] for at in numbers]
        try:
            method.check(values)
            self._take(items, values, numbers)
        except NumberedFault:
            raise
        except ItemFault as fault:
            raise ItemFault(numbers[fault.index], fault.problem) from None
        self.items += given
        if self._bytes + self._waiting_total() > self._limit or self._waiting_items >= self._most_waiting:
            self._make_room()

    def _take(self, items: Items, values: Sequence[object], numbers: Sequence[int]) -> None:
        method, config = self._method, self._config
        if method.numbered:
            values = [(self.items + at, value) for at, value in zip(numbers, values, strict=True)]
        if self._window is not None:
            self._take_into_windows(items, values, numbers)
        elif config.group_by:
            waiting = self._waiting
            for key, value in zip(keys_of(items, config.group_by), values, strict=True):
                waiting[key].append(value)
            self._note_waiting(len(values), method.weight(values))
        elif values:
            self._fold({(): values})

    def _waiting_total(self) -> int:
        return self._waiting_bytes + len(self._waiting) * _WAITING_LIST_BYTES

    def _note_waiting(self, items: int, arrived: int) -> None:
        self._waiting_items += items
        self._waiting_bytes += arrived

    def _take_into_windows(self, items: Items, values: Sequence[object], numbers: Sequence[int]) -> None:
        window = cast("ModelWindowConfig", self._window)  # the only caller has looked
        keys = list(keys_of(items, self._config.group_by))
        watermark, placed = self._watermark, 0
        share = self._method.weight(values) // max(1, len(values))
        for index, time in enumerate(times_of(items, window.time_field)):
            closed, key, value = watermark.at, keys[index], values[index]
            if self._sessions is not None:
                found = self._sessions.add(key, time, value, closed)
                self._bytes += 2 * _ROW_BYTES + share
            else:
                found = False
                for start, end in windows_at(window, time):
                    if end > closed:
                        self._waiting[key, start, end].append(value)
                        placed += 1
                        found = True
            if not found:
                self._note_late(items[index], index, numbers[index], time, closed)
            watermark.pass_by(time)
        if placed:
            self._note_waiting(placed, share * placed)

    def _note_late(self, item: object, index: int, at: int, time: int, closed: int) -> None:
        policy = self._streaming.late_data_policy
        if policy is EnumLateData.ERROR:
            raise ItemFault(
                index,
                f"field {getattr(self._window, 'time_field', '')!r}: event time {time} is late, windows are closed up "
                f"to {closed}; raise watermark_ms, or choose drop, side_output or update as late_data_policy",
            )
        self.late += 1
        if policy is EnumLateData.SIDE_OUTPUT:
            size = size_of(item) + 500
            self._late_bytes += size
            self._bytes += size
            known = cast("JsonValue", item)  # or dump says that it is none
            self.late_items.append({"event": "late_item", "number": self.items + at, "event_time": time, "item": known})
            if self._late_bytes > self._limit // 2:
                raise ModelOnexError(
                    f"{self.title}: {len(self.late_items)} late items fill a quarter of memory_management."
                    f"buffer_size_mb; raise it or watermark_ms, or choose another late_data_policy",
                    EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
                )

    # memory

    def _fold_waiting(self) -> None:
        waiting, self._waiting = self._waiting, defaultdict(list)
        self._waiting_items = self._waiting_bytes = 0
        self._fold(cast("dict[object, Sequence[object]]", waiting))  # lists are what waits

    def _fold(self, waiting: dict[object, Sequence[object]]) -> None:
        known = len(self._states)
        self._bytes += self._method.fold_all(self._states, waiting)
        self._bytes += (len(self._states) - known) * _ROW_BYTES

    def _make_room(self) -> None:
        self._fold_waiting()
        if self._bytes <= self._limit:
            return
        if self._sessions is not None:
            closes = self._streaming.late_data_policy is not EnumLateData.UPDATE
            self._take_sessions(self._watermark.at if closes else None)
        states = sum(map(self._method.size, self._states.values())) + _ROW_BYTES * len(self._states)
        open_sessions = 0
        if self._sessions is not None:
            open_sessions = sum(
                _ROW_BYTES + self._method.size(session.state) for _, session in self._sessions.every()
            )  # fmt: skip
        self._bytes = states + open_sessions + self._late_bytes
        if self._bytes <= self._limit * 4 // 5:  # the estimate was too high
            return
        limit = self.contract.memory_management.buffer_size_mb
        if self._runs is None:
            raise ModelOnexError(
                f"{self.title}: {len(self._states)} groups need more than memory_management.buffer_size_mb, {limit} "
                "MiB, and this aggregation keeps its state in a store, which holds no more; raise it, or leave out "
                "reduction_config.state_key",
                EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
            )
        if open_sessions > self._limit // 2:
            raise ModelOnexError(
                f"{self.title}: {len(self._sessions or ())} sessions are open at once and need more than half of "
                f"memory_management.buffer_size_mb, {limit} MiB; raise it, or lower gap_ms or watermark_ms",
                EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
            )
        self._spill()

    def _spill(self) -> None:
        if self._runs is not None and self._states:
            self._runs.write(self._emptied())
            self._states = {}
            self._bytes = self._late_bytes + sum(
                _ROW_BYTES + self._method.size(session.state)
                for _, session in (self._sessions.every() if self._sessions is not None else ())
            )

    def _emptied(self) -> Iterator[Group]:
        """The groups in order; their states are let go of as they are handed out."""
        for place in self._in_order():
            key, start, end = self._place(place)
            yield Group(parts_of(key), start, end, [self._method.rows(self._states.pop(place))])

    def _in_order(self) -> list[object]:
        states = self._states
        if self._window is None and len(self._config.group_by) == 1 and len({*map(type, states)}) == 1:
            key = next(iter(states))
            if isinstance(key, str | int):
                return sorted(states)  # type: ignore[type-var]  # all of them are text, or ints
        return sorted(states, key=self._order)

    def _order(self, place: object) -> tuple[object, ...]:
        key, start, end = self._place(place)
        return *order_of(parts_of(key)), start, end

    def _place(self, place: object) -> Place:
        return (place, 0, 0) if self._window is None else cast("Place", place)  # as they are put there

    def _take_sessions(self, closed_until: int | None) -> None:
        """Make rows of sessions that are closed, or of all."""
        if self._sessions is None:
            return
        for key, session in self._sessions.take(closed_until):
            place = (key, session.start, session.end)
            known = self._states.get(place)
            self._states[place] = session.state if known is None else self._method.merge(known, session.state)

    # the result

    @property
    def spilled(self) -> bool:
        """Whether groups were written to runs, so that the rows of the result are read from there."""
        return bool(self._runs)

    def rows(self) -> Iterator[Row]:
        """A row for each group and window, in the order of the groups: `{<field of group_by>..., window_start,
        window_end, value}`, windows only where the contract has one. Ends the aggregation. VALIDATION_ERROR for a
        value beyond the range of floats.
        """
        self._fold_waiting()
        self._take_sessions(None)
        if not self.spilled:
            merged = self._joined_sessions(
                (parts_of(self._place(place)[0]), *self._place(place)[1:], self._states[place])
                for place in self._in_order()
            )
            for parts, start, end, state in merged:
                yield self._row(parts, start, end, partial(self._method.finish, state))
            return
        self._spill()
        groups = cast("SpilledRuns", self._runs).groups()  # there are some
        if self._sessions is None:
            for group in groups:
                yield self._row(group.parts, group.start, group.end, partial(self._method.finished, group.sources))
            return
        sessions = (
            (group.parts, group.start, group.end, self._loaded(self._method.joined(group.sources))) for group in groups
        )
        for parts, start, end, state in self._joined_sessions(sessions):
            yield self._row(parts, start, end, partial(self._method.finish, state))

    def _loaded(self, rows: Iterator[JsonValue]) -> object:
        if isinstance(self._method, PercentileMethod):
            next(rows)  # the count
        state: object = None
        for row in rows:
            loaded = self._method.load(row)
            state = loaded if state is None else self._method.merge(state, loaded)
        return state

    def _joined_sessions(
        self, rows: Iterable[tuple[list[JsonValue], int, int, object]]
    ) -> Iterator[tuple[list[JsonValue], int, int, object]]:
        """With the policy `update` sessions that overlap are one: those of several workers, or of several runs."""
        if self._sessions is None or self._streaming.late_data_policy is not EnumLateData.UPDATE:
            yield from rows
            return
        group: list[Session[object]] = []
        parts_before: list[JsonValue] | None = None
        for parts, start, end, state in rows:
            if parts_before is not None and order_of(parts) != order_of(parts_before):
                for session in self._sessions.joined(group):
                    yield parts_before, session.start, session.end, session.state
                group = []
            parts_before = parts
            group.append(Session(start, end, state))
        for session in self._sessions.joined(group):
            yield parts_before or [], session.start, session.end, session.state

    def _row(self, parts: Sequence[JsonValue], start: int, end: int, finish: Callable[[], object]) -> Row:
        row: Row = dict(zip(self._config.group_by, parts, strict=True))
        if self._window is not None:
            row["window_start"], row["window_end"] = start, end
        try:
            row["value"] = finish()
        except BeyondFloatsError as error:
            where = f", {', '.join(f'{name} {value!r}' for name, value in row.items())}" if row else ""
            raise ModelOnexError(
                f"{self.title}{where}: {error}", EnumCoreErrorCode.VALIDATION_ERROR, {"group": dict(row)}
            ) from None
        return row

    def result(self) -> object:
        """The value, or with groups or windows the list of rows. Ends the aggregation."""
        if self._window is None and not self._config.group_by:
            rows = list(self.rows())
            return rows[0]["value"] if rows else self._method.nothing()
        return list(self.rows())

    # the partial state

    def dump(self) -> JsonValue:
        """The partial state as JSON. VALIDATION_ERROR where values are none."""
        self._fold_waiting()
        if self._sessions is not None:
            places = [((key, each.start, each.end), each.state, True) for key, each in self._sessions.every()]
        else:
            places = []
        every = [*((self._place(place), state, False) for place, state in self._states.items()), *places]
        dumped: dict[str, JsonValue] = {
            "format": FORMAT,
            "of": self._identity(),
            "items": self.items,
            "late": self.late,
            "late_items": cast("list[JsonValue]", self.late_items),  # JSON, or the check below says so
            "latest": self._watermark.latest,
            "rows": [
                [parts_of(key), start, end, self._method.dump(state), is_open]
                for (key, start, end), state, is_open in every
            ],
        }
        try:
            json.dumps(dumped, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise no_json(error) from None
        return dumped

    def _identity(self) -> JsonValue:
        """What has to be the same for two partial states to fit together."""
        config = self._config.model_dump(mode="json", exclude={"state_key"})
        window = self._window
        return {**config, "window": None if window is None else window.model_dump(mode="json")}

    def absorb(self, dumped: JsonValue) -> None:
        """Add the partial state of items that come after those here; where order does not count, of any others.

        StateConsistencyError for a state of another aggregation. VALIDATION_ERROR with windows that close, unless this
        aggregation is empty: what is late depends on all items before.
        """
        found = dumped if isinstance(dumped, dict) else {}
        if found.get("format") != FORMAT or found.get("of") != self._identity():
            raise StateConsistencyError(
                f"{self.title}: the partial state is not one of this aggregation; found "
                f"{json.dumps(found.get('of'), default=str)[:300]}, expected {json.dumps(self._identity())}; use "
                "another state_key"
            )
        if self.items and self._window is not None and self._streaming.late_data_policy is not EnumLateData.UPDATE:
            raise ModelOnexError(
                f"{self.title}: partial states with windows are put together only with late_data_policy 'update'; with "
                "others it depends on all earlier items what is late",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        self._fold_waiting()
        try:
            for parts, start, end, row, is_open in cast("list[_Dumped]", found["rows"]):  # as written by dump
                self._absorb_row(key_of(parts), start, end, row, is_open=is_open)
        except (LookupError, TypeError) as error:
            raise StateConsistencyError(f"{self.title}: the partial state is damaged: {error!r}") from error
        except ValueError as error:
            raise ModelOnexError(f"{self.title}: {error}", EnumCoreErrorCode.VALIDATION_ERROR) from None
        late_items = cast("list[dict[str, JsonValue]]", found["late_items"])  # as written by dump
        self.late_items += [{**each, "number": cast("int", each["number"]) + self.items} for each in late_items]
        self.items += cast("int", found["items"])  # the same
        self.late += cast("int", found["late"])  # the same
        if found["latest"] is not None:
            self._watermark.pass_by(cast("int", found["latest"]))  # the same
        if self._bytes > self._limit:
            self._make_room()

    def _absorb_row(self, key: Key, start: int, end: int, row: JsonValue, *, is_open: bool) -> None:
        method = self._method
        state = method.moved(method.load(row), self.items) if self.items else method.load(row)
        self._bytes += _ROW_BYTES + method.size(state)
        if is_open and self._sessions is not None:
            self._sessions.put(key, Session(start, end, state))
            return
        place: object = key if self._window is None else (key, start, end)
        known = self._states.get(place)
        self._states[place] = state if place not in self._states else method.merge(known, state)


def aggregate(contract: ModelContractReducer, *, chunk_size: int | None = None) -> object:
    """The result of a contract whose `input_data` is a list, in memory. Raises what `Aggregation` raises."""
    aggregation = Aggregation(contract)
    items = cast("Sequence[object]", contract.items)  # by the contract's rule
    size = chunk_size or contract.streaming_config.chunk_size
    for start in count(0, size):
        if start >= len(items):
            return aggregation.result()
        aggregation.add(items[start : start + size])
    raise AssertionError  # count has no end
