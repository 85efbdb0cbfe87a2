"""Groups that memory cannot hold: sorted runs of lines, and the merge of several runs.

A line is a JSON array of some rows, each `[parts of the group, window start, window end, row of the state]`; the rows
of a group stand together. Where the lines are kept is the business of `SpillFiles`.
"""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple, Protocol, TypeVar

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.aggregation_fields import order_of
from omnibase_core.utils.aggregation_methods import Method

S = TypeVar("S")
Run = TypeVar("Run")
Place = tuple[object, ...]
"""What groups are sorted by: their order, then their window."""
Parts = list[JsonValue]
_FEWEST_RUNS: Final = 8
_MOST_RUNS: Final = 64
_BYTES_PER_RUN: Final = 256 * 1024
"""So much of the limit stands for a run that is being read: its buffer, and the lines that were read at once."""
_LINE_ROWS: Final = 100
_LINE_VALUES: Final = 1_000
"""A line ends when it has so many rows, or so many values in rows that are lists."""
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


class Group(NamedTuple):
    """A group, its window (0, 0 where there is none), and the rows of its states, earlier items first. The rows must
    be read before the next group is asked for.
    """

    parts: Parts
    start: int
    end: int
    sources: Sequence[Iterator[JsonValue]]


class SpilledRuns:
    """The runs of one aggregation. Those of a level are merged into one of the next when there are too many to read
    them at once within `limit` bytes.
    """

    def __init__(self, files: SpillFiles[object], method: Method[S], limit: int) -> None:
        self._files = files
        self._most = max(_FEWEST_RUNS, min(_MOST_RUNS, limit // _BYTES_PER_RUN))
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
        if len(runs) == self._most:
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
            sources = [readers[at].rows_here() for at in at_place]
            yield Group(readers[at_place[0]].parts, *readers[at_place[0]].window, sources)
            for at, source in zip(at_place, sources, strict=True):
                for _ in source:
                    pass
                if (behind := readers[at].place) is not None:
                    heapq.heappush(heap, (behind, at))


class _Reader:
    """A run, read group by group."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._ahead: Iterator[tuple[Parts, int, int, JsonValue]] = iter(())
        self._advance()

    def _advance(self) -> None:
        row = next(self._ahead, None)
        if row is None:
            self._ahead = iter(json.loads(next(self._lines, "[]")))
            row = next(self._ahead, None)
        self.place: Place | None = None
        if row is not None:
            self.parts, start, end, self._row = row
            self.window = (start, end)
            self.place = (*order_of(self.parts), start, end)

    def rows_here(self) -> Iterator[JsonValue]:
        """The rows of the group at which the run stands."""
        place = self.place
        while self.place == place and place is not None:
            row = self._row
            self._advance()
            yield row


def _lines(groups: Iterable[Group]) -> Iterator[str]:
    line: list[tuple[Parts, int, int, JsonValue]] = []
    values = 0
    for parts, start, end, sources in groups:
        for row in chain.from_iterable(sources):
            line.append((parts, start, end, row))
            values += len(row) if isinstance(row, list) else 1
            if len(line) == _LINE_ROWS or values >= _LINE_VALUES:
                yield _encoded(line)
                line, values = [], 0
    if line:
        yield _encoded(line)


def _encoded(line: object) -> str:
    try:
        return _encode(line)
    except (TypeError, ValueError, RecursionError) as error:
        raise no_json(error) from None


def no_json(error: Exception) -> ModelOnexError:
    """For a partial state that cannot be written down."""
    return ModelOnexError(
        f"the partial state of a group is no JSON: {error}. What is spilled to disk or stored consists of null, "
        "booleans, finite numbers, text, lists and objects",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )
