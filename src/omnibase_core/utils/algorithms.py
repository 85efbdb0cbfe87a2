"""What an algorithm is, and those that count and add: sum, mean, stddev, count, min, max.

An algorithm is a pure object. `process_chunk(chunk)` makes a partial state of some items, `merge(first, second)` one of
two, `finish(state)` the result. Chunks may be of any length, also empty, and states are merged in any grouping and any
order: the result is the same to the last bit. Parameters are the keyword arguments of the class.

Numbers are ints and floats, no booleans; NaN and infinities are refused, because with them the order would matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from omnibase_core.utils.chunking import Chunk
from omnibase_core.utils.exact_sums import (
    SCALE,
    quotient,
    root_of_quotient,
    squares_of_floats,
    squares_of_ints,
    sum_of_floats,
    sum_of_ints,
)

S = TypeVar("S")
Items = Sequence[object]
Ordered = int | float | str


class ItemFault(Exception):
    """An item that the algorithm cannot take. `index` counts from 0 in the chunk; out of `finish`, in all items."""

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(index, problem)
        self.index = index
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class Algorithm(Protocol[S]):
    """A computation over items that can be cut into chunks. It keeps nothing between calls and does no I/O."""

    def process_chunk(self, chunk: Items, /) -> S:
        """The partial state of some items. Raises ItemFault for one that does not fit."""
        ...

    def merge(self, first: S, second: S, /) -> S:
        """The state of both; neither is changed."""
        ...

    def finish(self, state: S, /) -> object:
        """The result, as JSON. Whose state is the result does without. Raises ItemFault for one that does not fit."""
        ...


def require_field(field: object) -> None:
    """Raises ValueError for a parameter `field` that names none; those of contracts are of any type."""
    if field is not None and not (isinstance(field, str) and field):
        raise ValueError(f"field is the name of a field, found {field!r}")


def column(chunk: Items, field: str | None) -> Items:
    """The items, or the value of `field` in each of them."""
    if field is None:
        return chunk
    try:
        return [cast("dict[str, object]", item)[field] for item in chunk]  # other kinds raise, and are found below
    except (LookupError, TypeError):
        for index, item in enumerate(chunk):
            if not isinstance(item, dict):
                raise ItemFault(index, f"expected an object with field {field!r}, found {_kind(item)}") from None
            if field not in item:
                raise ItemFault(index, f"field {field!r} is missing") from None
        raise


def ints_and_floats(chunk: Items) -> tuple[list[int], list[float]]:
    """The numbers by kind. Raises ItemFault at the first that is no finite number."""
    kinds = set(map(type, chunk))
    if kinds <= {float}:
        return [], cast("list[float]", chunk)  # by the line above
    if kinds <= {int}:
        return cast("list[int]", chunk), []  # the same
    ints: list[int] = []
    floats: list[float] = []
    for index, item in enumerate(chunk):
        if type(item) is int:
            ints.append(item)
        elif type(item) is float:
            floats.append(item)
        else:
            raise ItemFault(index, f"expected a number, found {_kind(item)}")
    return ints, floats


def require_finite(chunk: Items) -> None:
    """Raises ItemFault at the first float that is not finite."""
    for index, item in enumerate(chunk):
        if type(item) is float and not math.isfinite(item):
            raise ItemFault(index, f"expected a finite number, found {item}")


def ordered_values(chunk: Items) -> list[Ordered]:
    """Items that have an order: all of them finite numbers or all of them text. Raises ItemFault at the first other."""
    kinds = set(map(type, chunk))
    if not (kinds <= {int, float} or kinds <= {str}):
        text = bool(chunk) and type(chunk[0]) is str
        for index, item in enumerate(chunk):
            if type(item) not in ({str} if text else {int, float}):
                wanted = "text as before" if text else "a number" if index else "a number or text"
                raise ItemFault(index, f"expected {wanted}, found {_kind(item)}")
    if float in kinds:
        require_finite(chunk)
    return cast("list[Ordered]", list(chunk))  # by the check of the kinds


def rank(value: Ordered) -> tuple[Ordered, float, bool]:
    """A sort key that tells 1 from 1.0 and -0.0 from 0.0, which `<` does not: the result must not depend on luck."""
    if isinstance(value, str):
        return value, 0.0, False
    return value, math.copysign(1.0, value) if not value else 0.0, type(value) is float


def same_kind(first: object, second: object) -> None:
    """Raises ValueError when one of the two is text and the other a number."""
    if isinstance(first, str) != isinstance(second, str):
        raise ValueError(f"text and numbers have no common order: found {_kind(first)} and {_kind(second)}")


def _kind(item: object) -> str:
    return "null" if item is None else type(item).__name__


@dataclass(frozen=True, slots=True)
class Total:
    """Exact partial state of a sum. `real`: a float was among the numbers. Units: see `exact_sums`."""

    count: int = 0
    units: int = 0
    real: bool = False
    square_units: int = 0


def total_of(chunk: Items, *, squares: bool = False) -> Total:
    ints, floats = ints_and_floats(chunk)
    try:
        units = sum_of_ints(ints) + sum_of_floats(floats)
    except (ValueError, OverflowError):
        require_finite(chunk)
        raise
    square_units = squares_of_ints(ints) + squares_of_floats(floats) if squares else 0
    return Total(len(chunk), units, bool(floats), square_units)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the algorithms over totals have in common. `field`: the number is that field of each item."""

    field: str | None = None

    def __post_init__(self) -> None:
        require_field(self.field)

    def process_chunk(self, chunk: Items) -> Total:
        return total_of(column(chunk, self.field))

    def merge(self, first: Total, second: Total) -> Total:
        return Total(
            first.count + second.count,
            first.units + second.units,
            first.real or second.real,
            first.square_units + second.square_units,
        )


@dataclass(frozen=True, slots=True)
class Sum(_Sums):
    """The sum: exact for ints, else the float nearest to the exact sum. 0 of nothing."""

    def finish(self, state: Total) -> int | float:
        return quotient(state.units, 1 << SCALE) if state.real else state.units >> SCALE


@dataclass(frozen=True, slots=True)
class Mean(_Sums):
    """The float nearest to the exact mean; None of nothing."""

    def finish(self, state: Total) -> float | None:
        return quotient(state.units, state.count << SCALE) if state.count else None


@dataclass(frozen=True, slots=True)
class Stddev(_Sums):
    """The float nearest to the exact standard deviation; None of too few numbers.

    ddof: 1 for that of a sample, 0 for that of all there is.
    """

    ddof: int = 1

    def __post_init__(self) -> None:
        require_field(self.field)
        if self.ddof not in {0, 1} or isinstance(self.ddof, bool):
            raise ValueError(f"ddof is 0 or 1, found {self.ddof!r}")

    def process_chunk(self, chunk: Items) -> Total:
        return total_of(column(chunk, self.field), squares=True)

    def finish(self, state: Total) -> float | None:
        count = state.count
        if count <= self.ddof:
            return None
        spread = count * state.square_units - state.units * state.units
        return root_of_quotient(spread, count * (count - self.ddof) << (2 * SCALE))


@dataclass(frozen=True, slots=True)
class Count:
    """How many items; with `field`, how many whose field is there and not null."""

    field: str | None = None

    def __post_init__(self) -> None:
        require_field(self.field)

    def process_chunk(self, chunk: Items) -> int:
        if self.field is None:
            return len(chunk)
        return sum(isinstance(item, dict) and item.get(self.field) is not None for item in chunk)

    def merge(self, first: int, second: int) -> int:
        return first + second

    def finish(self, state: int) -> int:
        return state


@dataclass(frozen=True, slots=True)
class Kinds:
    """Where the first number and the first text stand among items that have to be all numbers or all text.

    Which of the two is wrong is known once the first of all items is, so `finish` judges that, and no chunk.
    """

    number: int | None = None
    text: int | None = None

    @property
    def mixed(self) -> bool:
        return self.number is not None and self.text is not None

    def merge(self, other: "Kinds") -> "Kinds":
        return Kinds(_earlier(self.number, other.number), _earlier(self.text, other.text))

    def require_one(self) -> None:
        """Raises ItemFault at the first item that is of another kind than those before it."""
        if self.number is None or self.text is None:
            return
        if self.number < self.text:
            raise ItemFault(self.text, "expected a number as before, found text")
        raise ItemFault(self.number, "expected text as before, found a number")


def _earlier(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def kinds_of(values: Items, chunk: Items) -> Kinds:
    """The kinds of the values of a chunk. Raises ItemFault at the first that is neither a finite number nor text."""
    kinds = set(map(type, values))
    if not kinds <= {int, float, str}:
        for index, item in enumerate(values):
            if type(item) not in {int, float, str}:
                raise ItemFault(index, f"expected a number or text, found {_kind(item)}")
    if float in kinds:
        require_finite(values)
    places = chunk.places if isinstance(chunk, Chunk) else range(len(chunk))
    if len(kinds) == 1 or str not in kinds:
        first = places[0] if values else None
        return Kinds(text=first) if str in kinds else Kinds(number=first)
    text = [type(value) is str for value in values]
    return Kinds(places[text.index(False)], places[text.index(True)])


@dataclass(frozen=True, slots=True)
class Best:
    """Partial state of `min` and `max`. value: None of nothing, and of kinds that have no common order."""

    kinds: Kinds
    value: Ordered | None = None


@dataclass(frozen=True, slots=True)
class _Extreme:
    field: str | None = None

    def __post_init__(self) -> None:
        require_field(self.field)

    def process_chunk(self, chunk: Items) -> Best:
        given = column(chunk, self.field)
        kinds = kinds_of(given, chunk)
        if not given or kinds.mixed:
            return Best(kinds)
        values = cast("Sequence[Ordered]", given)  # of one kind, as just seen
        found = self._best_of(values)
        return Best(kinds, self._best_of([each for each in values if each == found], by_rank=True))

    def merge(self, first: Best, second: Best) -> Best:
        kinds = first.kinds.merge(second.kinds)
        found = [state.value for state in (first, second) if state.value is not None]
        return Best(kinds, self._best_of(found, by_rank=True) if found and not kinds.mixed else None)

    def finish(self, state: Best) -> Ordered | None:
        state.kinds.require_one()
        return state.value

    def _best_of(self, values: Sequence[Ordered], *, by_rank: bool = False) -> Ordered:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Min(_Extreme):
    """The least number or text; None of nothing. Of equals, -0.0 and the int come first."""

    def _best_of(self, values: Sequence[Ordered], *, by_rank: bool = False) -> Ordered:
        return min(values, key=rank) if by_rank else min(values)


@dataclass(frozen=True, slots=True)
class Max(_Extreme):
    """The greatest number or text; None of nothing. Of equals, 0.0 and the float come last, and so win."""

    def _best_of(self, values: Sequence[Ordered], *, by_rank: bool = False) -> Ordered:
        return max(values, key=rank) if by_rank else max(values)
