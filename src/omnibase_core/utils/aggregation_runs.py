"""Groups that memory cannot hold: sorted runs of lines, and the merge of several runs.

A line is the JSON array `[parts of the group, window start, window end, row of the state]`; the lines of a group stand
together. Where the lines are kept is the business of `SpillFiles`.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.aggregation_fields import Order, order_of
from omnibase_core.utils.aggregation_methods import Method

S = TypeVar("S")
Run = TypeVar("Run")
Place = tuple[Order, int, int]
Parts = list[JsonValue]
_MOST_RUNS: Final = 12
"""Runs of a level before they are merged into one of the next: bounds the open files and their buffers."""
_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class SpillFiles(Protocol[Run]):
    """Where runs are kept. Raises ModelOnexError RESOURCE_UNAVAILABLE when that fails."""

    def write(self, lines: Iterable[str]) -> Run:
        """Keep lines, which have no line ends."""
        ...

    def read(self, run: Run) -> Iterator[str]:
        """The lines again."""
        ...

    def drop(self, run: Run) -> None:
        """Forget a run."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """A group, its window (0, 0 where there is none), and the rows of its states, earlier items first. The rows must
    be read before the next group is asked for.
    """

    parts: Parts
    start: int
    end: int
    sources: Sequence[Iterator[JsonValue]]


class SpilledRuns:
    """The runs of one aggregation."""

    def __init__(self, files: SpillFiles[object], method: Method[S]) -> None:
        self._files = files
        self._joined: Callable[[Sequence[Iterator[JsonValue]]], Iterator[JsonValue]] = method.joined
        self._levels: list[list[object]] = []

    def __bool__(self) -> bool:
        return any(self._levels)

    def write(self, groups: Iterable[Group]) -> None:
        """Keep groups, which come in order."""
        self._put(self._files.write(_lines(groups)), 0)

    def _put(self, run: object, level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(run)
        if len(runs) == _MOST_RUNS:
            made = self._files.write(_lines(self._shrunk(self._merged(runs))))
            for each in runs:
                self._files.drop(each)
            runs.clear()
            self._put(made, level + 1)

    def _shrunk(self, groups: Iterable[Group]) -> Iterator[Group]:
        for group in groups:
            rows = self._joined(group.sources) if len(group.sources) > 1 else group.sources[0]
            yield Group(group.parts, group.start, group.end, [rows])

    def groups(self) -> Iterator[Group]:
        """All groups of all runs, in order."""
        return self._merged([run for runs in reversed(self._levels) for run in runs])

    def _merged(self, runs: Sequence[object]) -> Iterator[Group]:
        readers = [_Reader(self._files.read(run)) for run in runs]
        heap = [(reader.place, at) for at, reader in enumerate(readers) if reader.place is not None]
        heapq.heapify(heap)
        while heap:
            place = heap[0][0]
            at_place: list[int] = []
            while heap and heap[0][0] == place:
                at_place.append(heapq.heappop(heap)[1])
            parts = readers[at_place[0]].parts
            sources = [readers[at].rows_here() for at in at_place]
            yield Group(parts, place[1], place[2], sources)
            for at, source in zip(at_place, sources, strict=True):
                for _ in source:
                    pass
                if (behind := readers[at].place) is not None:
                    heapq.heappush(heap, (behind, at))


class _Reader:
    """A run, read group by group."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._advance()

    def _advance(self) -> None:
        line = next(self._lines, None)
        self.place: Place | None = None
        if line is not None:
            parts, start, end, row = json.loads(line)
            self.place = (order_of(parts), start, end)
            self.parts: Parts = parts
            self._row: JsonValue = row

    def rows_here(self) -> Iterator[JsonValue]:
        """The rows of the group at which the run stands."""
        place = self.place
        while self.place == place and place is not None:
            row = self._row
            self._advance()
            yield row


def _lines(groups: Iterable[Group]) -> Iterator[str]:
    for group in groups:
        for source in group.sources:
            for row in source:
                try:
                    yield _encode([group.parts, group.start, group.end, row])
                except (TypeError, ValueError, RecursionError) as error:
                    raise no_json(error) from None


def no_json(error: Exception) -> ModelOnexError:
    """For a partial state that cannot be written down."""
    return ModelOnexError(
        f"the partial state of a group is no JSON: {error}. What is spilled to disk or stored consists of null, "
        "booleans, finite numbers, text, lists and objects",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )
