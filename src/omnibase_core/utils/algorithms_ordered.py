"""Algorithms that look at the order of items or at groups: median, percentile, histogram, sort, top_k, group_aggregate.

The first two and `sort` need all values at the end, whatever they do; the others keep what their result needs.
"""

import json
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from fractions import Fraction
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Final, cast

from omnibase_core.utils.algorithms import (
    Algorithm,
    Count,
    ItemFault,
    Items,
    Kinds,
    Max,
    Mean,
    Min,
    Ordered,
    Stddev,
    Sum,
    column,
    ints_and_floats,
    kinds_of,
    rank,
    require_field,
    require_finite,
)
from omnibase_core.utils.chunking import Chunk
from omnibase_core.utils.exact_sums import quotient

Number = int | float
_BINS: Final = 10
_MAX_BINS: Final = 100_000


def _numbers_in_order(chunk: Items) -> list[Number]:
    ints_and_floats(chunk)
    require_finite(chunk)
    return sorted(cast("Sequence[Number]", chunk), key=rank)  # as checked


def _at(values: Sequence[Number], percent: Number) -> Number:
    """The value at a percentage of the way, between two neighbours in proportion; exact, rounded once."""
    place = Fraction(percent) * (len(values) - 1) / 100
    below = int(place)
    low = values[below]
    if place == below:
        return low
    high = values[below + 1]
    if rank(low) == rank(high):
        return low
    exact = Fraction(low) + (Fraction(high) - Fraction(low)) * (place - below)
    return quotient(exact.numerator, exact.denominator)


@dataclass(frozen=True, slots=True)
class _Distribution:
    field: str | None = None

    def __post_init__(self) -> None:
        require_field(self.field)

    def process_chunk(self, chunk: Items) -> list[Number]:
        return _numbers_in_order(column(chunk, self.field))

    def merge(self, first: list[Number], second: list[Number]) -> list[Number]:
        return sorted(first + second, key=rank)


@dataclass(frozen=True, slots=True)
class Median(_Distribution):
    """The middle number, or the float nearest to the mean of the two in the middle; None of nothing."""

    def finish(self, state: list[Number]) -> Number | None:
        return _at(state, 50) if state else None


@dataclass(frozen=True, slots=True)
class Percentile(_Distribution):
    """The number at `percentile` percent (0..100) of the way from the least to the greatest, or one for each of a list.

    Between two numbers it is interpolated in proportion. None of nothing.
    """

    percentile: Number | Sequence[Number] = 50

    def __post_init__(self) -> None:
        require_field(self.field)
        wanted: Sequence[object] = self.percentile if isinstance(self.percentile, list | tuple) else [self.percentile]
        for each in wanted:
            if not isinstance(each, int | float) or isinstance(each, bool) or not 0 <= each <= 100:
                raise ValueError(f"percentile is a number from 0 to 100, or a list of them; found {each!r}")

    def finish(self, state: list[Number]) -> Number | list[Number | None] | None:
        if isinstance(self.percentile, list | tuple):
            return [_at(state, each) if state else None for each in self.percentile]
        return _at(state, cast("Number", self.percentile)) if state else None  # no list, as just seen


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many numbers fall into each bin: `{edges, counts, below, above}`.

    A bin has its lower edge, and the last one its upper edge too. Given are `edges`, in ascending order, or the number
    of `bins` (10) of equal width from `low` to `high`; with neither `low` nor `high` the range of the numbers is taken,
    which needs all of them in memory.
    """

    field: str | None = None
    bins: int | None = None
    low: Number | None = None
    high: Number | None = None
    edges: Sequence[Number] | None = None

    def __post_init__(self) -> None:
        require_field(self.field)
        if self.edges is not None:
            self._require_edges()
            return
        if self.bins is not None and (type(self.bins) is not int or not 1 <= self.bins <= _MAX_BINS):
            raise ValueError(f"bins is a number from 1 to {_MAX_BINS}, found {self.bins!r}")
        if self.low is None and self.high is None:
            return
        if not _ascending([self.low, self.high]):
            raise ValueError(
                f"low and high are numbers that are given together, low first; found {self.low!r} and {self.high!r}"
            )

    def _require_edges(self) -> None:
        given: object = self.edges
        if not isinstance(given, list | tuple) or len(given) < 2 or not _ascending(given):
            raise ValueError(f"edges are two numbers or more in ascending order, found {given!r}")
        for name, value in (("bins", self.bins), ("low", self.low), ("high", self.high)):
            if value is not None:
                raise ValueError(f"edges and {name} exclude each other; found {name} {value!r}")

    def process_chunk(self, chunk: Items) -> list[Number]:
        """All numbers in order, or, where the edges are known, counts: below, each bin, above."""
        values = column(chunk, self.field)
        edges = self._edges()
        if edges is None:
            return _numbers_in_order(values)
        ints_and_floats(values)
        require_finite(values)
        return cast("list[Number]", _counts(cast("Sequence[Number]", values), edges))  # as checked

    def merge(self, first: list[Number], second: list[Number]) -> list[Number]:
        if self._edges() is None:
            return sorted(first + second, key=rank)
        return [a + b for a, b in zip(first, second, strict=True)]

    def finish(self, state: list[Number]) -> dict[str, object]:
        edges = self._edges()
        counts: Sequence[Number] = state
        if edges is None:
            edges = _even(state[0], state[-1], self.bins or _BINS) if state else []
            counts = _counts(state, edges) if state else [0, 0]
        return {"edges": edges, "counts": list(counts[1:-1]), "below": counts[0], "above": counts[-1]}

    def _edges(self) -> list[Number] | None:
        if self.edges is not None:
            return list(self.edges)
        return None if self.low is None or self.high is None else _even(self.low, self.high, self.bins or _BINS)


def _ascending(values: Sequence[object]) -> bool:
    """Whether all are numbers in the range of floats, each above the one before."""
    if not set(map(type, values)) <= {int, float}:
        return False
    numbers = cast("Sequence[Number]", values)  # as just seen
    return all(abs(each) <= sys.float_info.max for each in numbers) and all(a < b for a, b in pairwise(numbers))


def _even(low: Number, high: Number, bins: int) -> list[Number]:
    if low == high:
        return [low, high]
    width = (Fraction(high) - Fraction(low)) / bins
    inner = (Fraction(low) + width * each for each in range(1, bins))
    return [low, *(quotient(each.numerator, each.denominator) for each in inner), high]


def _counts(values: Sequence[Number], edges: list[Number]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    on_last = sum(value == edges[-1] for value in values)
    counts[-1] -= on_last
    counts[-2] += on_last
    return counts


Placed = tuple[Ordered, int, object]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Partial state of `sort` and `top_k`: items in order, with their values and places; none of mixed kinds."""

    kinds: Kinds
    items: list[Placed]


@dataclass(frozen=True, slots=True)
class Sort:
    """The items by their value, or by their `field`; items that are equal there keep their order."""

    field: str | None = None
    descending: bool = False

    def __post_init__(self) -> None:
        require_field(self.field)
        if type(self.descending) is not bool:
            raise ValueError(f"descending is true or false, found {self.descending!r}")

    def process_chunk(self, chunk: Items) -> Ranked:
        values = column(chunk, self.field)
        kinds = kinds_of(values, chunk)
        places = chunk.places if isinstance(chunk, Chunk) else range(len(chunk))
        keys = cast("Sequence[Ordered]", values)  # as just seen
        return self._ranked(kinds, list(zip(keys, places, chunk, strict=True)))

    def merge(self, first: Ranked, second: Ranked) -> Ranked:
        return self._ranked(first.kinds.merge(second.kinds), first.items + second.items)

    def finish(self, state: Ranked) -> list[object]:
        state.kinds.require_one()
        return [item for _, _, item in state.items]

    def _ranked(self, kinds: Kinds, placed: list[Placed]) -> Ranked:
        return Ranked(kinds, [] if kinds.mixed else self._in_order(placed))

    def _in_order(self, placed: list[Placed]) -> list[Placed]:
        return _in_order(placed, descending=self.descending)


def _in_order(placed: list[Placed], *, descending: bool) -> list[Placed]:
    placed.sort(key=itemgetter(1))
    placed.sort(key=itemgetter(0), reverse=descending)
    return placed


@dataclass(frozen=True, slots=True)
class TopK(Sort):
    """The first `k` items of the sorted ones, the greatest first unless `descending` is false."""

    descending: bool = True
    k: int = 10

    def __post_init__(self) -> None:
        Sort.__post_init__(self)  # `super()` does not work in a class with slots
        if type(self.k) is not int or self.k < 1:
            raise ValueError(f"k is a number from 1 on, found {self.k!r}")

    def _in_order(self, placed: list[Placed]) -> list[Placed]:
        return _in_order(placed, descending=self.descending)[: self.k]


Groups = dict[str, dict[str, object]]


class _Picked(Chunk):
    """Some items of a chunk."""

    def __init__(self, chunk: Chunk, indexes: Sequence[int]) -> None:
        super().__init__((chunk[index] for index in indexes), chunk.start, chunk.number)
        places = chunk.places
        self._places = [places[index] for index in indexes]

    @property
    def places(self) -> Sequence[int]:
        return self._places


@dataclass(frozen=True, slots=True)
class GroupAggregate:
    """An object for each value of the field `group_by`, with that value and the aggregates of its items.

    aggregates: name in the result -> `{algorithm: <name>, <its parameters>}`; without any, `count`. Groups come in the
    order null, false, true, numbers, text.
    """

    group_by: str
    aggregates: Mapping[str, Mapping[str, object]] = dataclass_field(
        default_factory=lambda: {"count": {"algorithm": "count"}}
    )
    _inner: dict[str, Algorithm[object]] = dataclass_field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given: tuple[object, object] = self.group_by, self.aggregates  # out of a contract, so of any type
        if not isinstance(given[0], str) or not given[0]:
            raise ValueError(f"group_by is the name of a field, found {given[0]!r}")
        if not isinstance(given[1], Mapping) or not given[1]:
            raise ValueError("aggregates maps names to {algorithm, <its parameters>}")
        if self.group_by in self.aggregates:
            raise ValueError(f"aggregates cannot be named {self.group_by!r} like the group_by field")
        aggregates: Mapping[str, object] = self.aggregates
        for name, wanted in aggregates.items():
            kind = wanted.get("algorithm") if isinstance(wanted, Mapping) else None
            if not isinstance(wanted, Mapping) or not isinstance(kind, str) or kind not in _INNER:
                allowed = ", ".join(sorted(_INNER))
                raise ValueError(f"aggregates.{name}.algorithm is one of {allowed}; found {kind!r}")
            parameters = {key: value for key, value in wanted.items() if key != "algorithm"}
            try:
                self._inner[name] = cast("Algorithm[object]", _INNER[kind](**parameters))  # all of them are
            except (TypeError, ValueError) as error:
                raise ValueError(f"aggregates.{name}: {error}") from None

    def process_chunk(self, chunk: Items) -> Groups:
        places: dict[str, list[int]] = {}
        for index, key in enumerate(column(chunk, self.group_by)):
            if key is not None and type(key) not in {bool, int, float, str}:
                raise ItemFault(index, f"expected a scalar in {self.group_by!r}, found {type(key).__name__}")
            places.setdefault(json.dumps(key), []).append(index)
        known = chunk if isinstance(chunk, Chunk) else Chunk(chunk)
        groups: Groups = {}
        for text, at in places.items():
            items = _Picked(known, at)
            try:
                groups[text] = {name: each.process_chunk(items) for name, each in self._inner.items()}
            except ItemFault as fault:
                raise ItemFault(at[fault.index], fault.problem) from None
        return groups

    def merge(self, first: Groups, second: Groups) -> Groups:
        merged = dict(first)
        for text, states in second.items():
            known = merged.get(text)
            merged[text] = (
                states
                if known is None
                else {name: each.merge(known[name], states[name]) for name, each in self._inner.items()}
            )
        return merged

    def finish(self, state: Groups) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        faults: list[ItemFault] = []
        for text in sorted(state, key=_group_rank):
            row: dict[str, object] = {self.group_by: json.loads(text)}
            for name, each in self._inner.items():
                try:
                    row[name] = each.finish(state[text][name])
                except ItemFault as fault:
                    faults.append(fault)
            rows.append(row)
        if faults:
            raise min(faults, key=attrgetter("index"))
        return rows


def _group_rank(text: str) -> tuple[int, tuple[Ordered, float, bool]]:
    value = json.loads(text)
    kinds: tuple[type, ...] = (type(None), bool, int, float, str)
    place = min(kinds.index(type(value)), 2) if not isinstance(value, str) else 3
    return place, rank(value or 0 if place < 2 else value)


_INNER: Final[dict[str, type]] = {
    "sum": Sum,
    "mean": Mean,
    "min": Min,
    "max": Max,
    "count": Count,
    "median": Median,
    "stddev": Stddev,
    "percentile": Percentile,
    "histogram": Histogram,
    "sort": Sort,
    "top_k": TopK,
}

BUILT_IN: Final[Mapping[str, type]] = {**_INNER, "group_aggregate": GroupAggregate}
"""The algorithms that are there without registering any."""
