"""What is made of the values of a group: sum, average, count, min, max, first, last, collect, distinct.

A method keeps nothing of the values but a partial state. `fold` adds values to one, `merge` makes one of two, `dump`
and `load` turn it into JSON and back without losing a bit. States of the methods here merge in any grouping and any
order to the same result: those for which order counts keep the number of each item.

`rows`, `joined` and `finished` are for states that were written to disk: a state is one or several rows there.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain
from operator import itemgetter
from typing import ClassVar, Final, Generic, TypeVar, cast

from pydantic import JsonValue

from omnibase_core.utils.algorithms import (
    ItemFault,
    Ordered,
    ints_and_floats,
    ordered_values,
    rank,
    require_finite,
    same_kind,
)
from omnibase_core.utils.exact_sums import SCALE, quotient, sum_of_floats

S = TypeVar("S")
Values = Sequence[object]
Placed = tuple[int, object]
"""A value and the number of its item, from 0 on."""

_FEW: Final = 8
"""Up to so many floats are scaled one by one, which is quicker than preparing `math.fsum`."""
_ROW: Final = 500
"""Values of one row on disk."""
SLOT_BYTES: Final = 56
"""A small object: a number, or the head of a text or tuple."""


class Method(Generic[S]):
    """A way to aggregate.

    numbered: values come as `Placed`. counts_missing: a missing value is null, whatever the contract says of nulls.
    """

    numbered: ClassVar[bool] = False
    counts_missing: ClassVar[bool] = False

    def check(self, values: Values) -> None:
        """Raises ItemFault for the first of some values (without numbers) that does not fit."""

    def fold(self, state: S | None, values: Values) -> S:
        """The state with checked values added. `state` is not used again."""
        raise NotImplementedError

    def fold_all(self, states: dict[object, S], waiting: dict[object, Values]) -> int:
        """`fold` for many places. Returns by how many bytes the states grew, rather too many.

        `waiting` is empty then: values are let go of one place after the other.
        """
        grown = 0
        while waiting:
            place, values = waiting.popitem()
            known = states.get(place)
            folded = states[place] = self.fold(known, values)
            grown += self.size(folded) if known is None else self.growth(values)
        return grown

    def weight(self, values: Values) -> int:
        """About how many bytes checked values take that wait to be folded."""
        return 32 * len(values)

    def growth(self, values: Values) -> int:  # noqa: ARG002  # for those that keep values
        """By how many bytes a state grows when values are folded into it, rather too many."""
        return 0

    def merge(self, first: S, second: S) -> S:
        """The state of both, which are not used again. Raises ValueError when they do not fit together."""
        raise NotImplementedError

    def finish(self, state: S) -> object:
        """The result; the state stays as it is."""
        raise NotImplementedError

    def nothing(self) -> object:
        """The result where there is no value."""
        return None

    def dump(self, state: S) -> JsonValue:
        return cast("JsonValue", state)  # most states are JSON; the others override this

    def load(self, dumped: JsonValue) -> S:
        return cast("S", dumped)  # the same

    def size(self, state: S) -> int:  # noqa: ARG002  # for those whose states differ
        """About how many bytes the state takes."""
        return SLOT_BYTES

    def moved(self, state: S, by: int) -> S:  # noqa: ARG002  # for those with numbers
        """The state as if so many items had come before its own."""
        return state

    # on disk

    def rows(self, state: S) -> Iterator[JsonValue]:
        """The state in pieces, each of bounded size where the method can."""
        yield self.dump(state)

    def joined(self, sources: Sequence[Iterator[JsonValue]]) -> Iterator[JsonValue]:
        """The rows of one state of several, each given by its rows; earlier items first."""
        yield self.dump(self._merged(sources))

    def finished(self, sources: Sequence[Iterator[JsonValue]]) -> object:
        """The result of several states, given as in `joined`."""
        return self.finish(self._merged(sources))

    def _merged(self, sources: Sequence[Iterator[JsonValue]]) -> S:
        return reduce(self.merge, map(self.load, chain.from_iterable(sources)))


def require_numbers(values: Values) -> None:
    """Raises ItemFault at the first that is no finite number."""
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        ints_and_floats(values)
    if float in kinds:
        try:
            finite = math.isfinite(sum(cast("Sequence[float]", values)))  # numbers, as just seen
        except OverflowError:  # an int beyond the floats
            finite = False
        if not finite:
            require_finite(values)  # many large numbers are no fault


Sums = tuple[int, int, int, bool]
"""How many, their exact sum as a whole number of units of 2**-k, k, and whether a float was among them."""
_NO_SUM: Final[Sums] = (0, 0, 0, False)


def _with_floats(state: Sums, floats: Sequence[float]) -> Sums:
    """The sum with many floats added."""
    units = sum_of_floats(floats)
    zeros = min((units & -units).bit_length() - 1, SCALE) if units else SCALE
    return _added(state, (len(floats), units >> zeros, SCALE - zeros, True))


def _added(first: Sums, second: Sums) -> Sums:
    shift = first[2] - second[2]
    if shift >= 0:
        return first[0] + second[0], first[1] + (second[1] << shift), first[2], first[3] or second[3]
    return first[0] + second[0], (first[1] << -shift) + second[1], second[2], first[3] or second[3]


class SumMethod(Method[Sums]):
    """The sum: exact for ints, else the float nearest to the exact sum. 0 of nothing."""

    def check(self, values: Values) -> None:
        require_numbers(values)

    def fold(self, state: Sums | None, values: Values) -> Sums:
        if len(values) <= _FEW:
            states: dict[object, Sums] = {} if state is None else {0: state}
            self.fold_all(states, {0: values})
            return states[0]
        ints, floats = ints_and_floats(values)
        total = _NO_SUM if state is None else state
        if floats:
            total = _with_floats(total, floats)
        return _added(total, (len(ints), sum(ints), 0, False)) if ints else total

    def fold_all(self, states: dict[object, Sums], waiting: dict[object, Values]) -> int:
        before = len(states)
        while waiting:
            place, values = waiting.popitem()
            if len(values) > _FEW:
                states[place] = self.fold(states.get(place), values)
                continue
            count, units, scale, real = states.get(place, _NO_SUM)
            for value in cast("Sequence[int | float]", values):  # as checked
                if type(value) is float:
                    number, divisor = value.as_integer_ratio()
                    shift = divisor.bit_length() - 1 - scale
                    if shift > 0:
                        units = (units << shift) + number
                        scale += shift
                    else:
                        units += number << -shift
                    real = True
                else:
                    units += cast("int", value) << scale  # the only other kind
            states[place] = (count + len(values), units, scale, real)
        return (len(states) - before) * self.size(_NO_SUM)

    def merge(self, first: Sums, second: Sums) -> Sums:
        return _added(first, second)

    def finish(self, state: Sums) -> int | float | None:
        return quotient(state[1], 1 << state[2]) if state[3] else state[1]

    def nothing(self) -> object:
        return 0

    def dump(self, state: Sums) -> JsonValue:
        count, units, scale, real = state
        zeros = min((units & -units).bit_length() - 1, scale) if units else scale
        return [count, format(units >> zeros, "x"), scale - zeros, real]

    def load(self, dumped: JsonValue) -> Sums:
        count, digits, scale, real = cast("tuple[int, str, int, bool]", dumped)  # as written above
        return count, int(digits, 16), scale, real

    def size(self, state: Sums) -> int:
        return 200 + state[1].bit_length() // 7


class AverageMethod(SumMethod):
    """The float nearest to the exact mean; None of nothing."""

    def finish(self, state: Sums) -> float | None:
        return quotient(state[1], state[0] << state[2])

    def nothing(self) -> object:
        return None


class CountMethod(Method[int]):
    """How many items; with a `value_field`, how many whose field is there and not null."""

    counts_missing = True

    def __init__(self, *, of_field: bool) -> None:
        self._of_field = of_field

    def fold(self, state: int | None, values: Values) -> int:
        return (state or 0) + (sum(value is not None for value in values) if self._of_field else len(values))

    def merge(self, first: int, second: int) -> int:
        return first + second

    def finish(self, state: int) -> int:
        return state

    def nothing(self) -> object:
        return 0


class MinMethod(Method[Ordered]):
    """The least number or text; None of nothing. Of equals, -0.0 and the int come first."""

    def __init__(self) -> None:
        self._kind: type | None = None

    def check(self, values: Values) -> None:
        ordered_values(values)
        if not values:
            return
        if self._kind is None:
            self._kind = str if isinstance(values[0], str) else float
        elif (self._kind is str) != isinstance(values[0], str):
            expected = "text as before" if self._kind is str else "a number as before"
            raise ItemFault(0, f"expected {expected}, found {kind_of(values[0])}")

    def fold(self, state: Ordered | None, values: Values) -> Ordered:
        known = cast("Sequence[Ordered]", values)  # as checked
        found = self._best_of(known)
        if not found or isinstance(found, float):  # a zero or a float may equal what `<` does not tell from it
            found = self._best_of([each for each in known if each == found], by_rank=True)
        return found if state is None else self.merge(state, found)

    def weight(self, values: Values) -> int:
        return sum(map(size_of, values)) if values and isinstance(values[0], str) else 32 * len(values)

    def growth(self, values: Values) -> int:
        return self.weight(values) if values and isinstance(values[0], str) else 0

    def _best_of(self, values: Sequence[Ordered], *, by_rank: bool = False) -> Ordered:
        return min(values, key=rank) if by_rank else min(values)

    def merge(self, first: Ordered, second: Ordered) -> Ordered:
        same_kind(first, second)
        return self._best_of((first, second), by_rank=True)

    def finish(self, state: Ordered) -> Ordered:
        return state

    def size(self, state: Ordered) -> int:
        return SLOT_BYTES + (len(state) * 4 if isinstance(state, str) else 0)


class MaxMethod(MinMethod):
    """The greatest number or text; None of nothing. Of equals, 0.0 and the float come last, and so win."""

    def _best_of(self, values: Sequence[Ordered], *, by_rank: bool = False) -> Ordered:
        return max(values, key=rank) if by_rank else max(values)


class NumberedMethod(Method[S]):
    """What methods have in common that keep values with their numbers."""

    numbered = True

    def weight(self, values: Values) -> int:
        return sum(map(size_of, values))

    def growth(self, values: Values) -> int:
        return sum(map(size_of, values)) + 2 * SLOT_BYTES * len(values)


class FirstMethod(NumberedMethod[Placed]):
    """The value of the first item; None of nothing."""

    def fold(self, state: Placed | None, values: Values) -> Placed:
        placed = cast("Sequence[Placed]", values)  # numbered
        return self._one_of(placed if state is None else [state, *placed])

    def _one_of(self, placed: Sequence[Placed]) -> Placed:
        return min(placed, key=itemgetter(0))

    def merge(self, first: Placed, second: Placed) -> Placed:
        return self._one_of((first, second))

    def finish(self, state: Placed) -> object:
        return state[1]

    def dump(self, state: Placed) -> JsonValue:
        return cast("JsonValue", list(state))  # values are JSON, or the writer says that they are not

    def load(self, dumped: JsonValue) -> Placed:
        number, value = cast("tuple[int, object]", dumped)  # as written above
        return number, value

    def size(self, state: Placed) -> int:
        return 2 * SLOT_BYTES + size_of(state[1])

    def moved(self, state: Placed, by: int) -> Placed:
        return state[0] + by, state[1]


class LastMethod(FirstMethod):
    """The value of the last item; None of nothing."""

    def _one_of(self, placed: Sequence[Placed]) -> Placed:
        return max(placed, key=itemgetter(0))


class CollectMethod(NumberedMethod[list[Placed]]):
    """The list of all values, in the order of their items."""

    def fold(self, state: list[Placed] | None, values: Values) -> list[Placed]:
        placed = cast("Sequence[Placed]", values)  # numbered
        return list(placed) if state is None else self.merge(state, list(placed))

    def merge(self, first: list[Placed], second: list[Placed]) -> list[Placed]:
        if len(first) < len(second) and first and second[0][0] > first[-1][0]:
            return first + second
        in_order = not first or not second or first[-1][0] < second[0][0]
        first.extend(second)
        if not in_order:
            first.sort(key=itemgetter(0))
        return first

    def finish(self, state: list[Placed]) -> object:
        return [value for _, value in state]

    def nothing(self) -> object:
        return []

    def dump(self, state: list[Placed]) -> JsonValue:
        return cast("JsonValue", [list(each) for each in state])  # as in FirstMethod

    def load(self, dumped: JsonValue) -> list[Placed]:
        return [(number, value) for number, value in cast("list[Placed]", dumped)]  # as written above

    def size(self, state: list[Placed]) -> int:
        return sum(2 * SLOT_BYTES + size_of(value) for _, value in state)

    def moved(self, state: list[Placed], by: int) -> list[Placed]:
        return [(number + by, value) for number, value in state]

    def rows(self, state: list[Placed]) -> Iterator[JsonValue]:
        for start in range(0, len(state), _ROW):
            yield self.dump(state[start : start + _ROW])

    def joined(self, sources: Sequence[Iterator[JsonValue]]) -> Iterator[JsonValue]:
        return chain.from_iterable(sources)


class DistinctMethod(NumberedMethod[dict[object, Placed]]):
    """Every value once, in the order of their first items. 1, 1.0, true and "1" differ."""

    def check(self, values: Values) -> None:
        for index, value in enumerate(values):
            if type(value) not in _SCALARS:
                try:
                    _identity(value)
                except (TypeError, ValueError, RecursionError) as error:
                    raise ItemFault(index, f"expected a JSON value, found {kind_of(value)}: {error}") from None

    def fold(self, state: dict[object, Placed] | None, values: Values) -> dict[object, Placed]:
        known = {} if state is None else state
        for each in cast("Sequence[Placed]", values):  # numbered
            key = _identity(each[1])
            if key not in known or known[key][0] > each[0]:
                known[key] = each
        return known

    def merge(self, first: dict[object, Placed], second: dict[object, Placed]) -> dict[object, Placed]:
        return self.fold(first, list(second.values()))

    def finish(self, state: dict[object, Placed]) -> object:
        return [value for _, value in self._in_order(state)]

    def nothing(self) -> object:
        return []

    def dump(self, state: dict[object, Placed]) -> JsonValue:
        return cast("JsonValue", [list(each) for each in self._in_order(state)])  # as in FirstMethod

    def load(self, dumped: JsonValue) -> dict[object, Placed]:
        return self.fold(None, [(number, value) for number, value in cast("list[Placed]", dumped)])  # as written above

    def size(self, state: dict[object, Placed]) -> int:
        return sum(4 * SLOT_BYTES + 2 * size_of(value) for _, value in state.values())

    def moved(self, state: dict[object, Placed], by: int) -> dict[object, Placed]:
        return {key: (number + by, value) for key, (number, value) in state.items()}

    def rows(self, state: dict[object, Placed]) -> Iterator[JsonValue]:
        placed = self._in_order(state)
        for start in range(0, len(placed), _ROW):
            yield cast("JsonValue", [list(each) for each in placed[start : start + _ROW]])  # as in FirstMethod

    def joined(self, sources: Sequence[Iterator[JsonValue]]) -> Iterator[JsonValue]:
        return chain.from_iterable(sources)

    @staticmethod
    def _in_order(state: dict[object, Placed]) -> list[Placed]:
        return sorted(state.values(), key=itemgetter(0))


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def _identity(value: object) -> object:
    """Equal for equal JSON values only."""
    return value if type(value) in {str, int} else json.dumps(value, sort_keys=True).encode()


def kind_of(value: object) -> str:
    return "null" if value is None else type(value).__name__


def size_of(value: object) -> int:
    """About how many bytes a JSON value takes."""
    if isinstance(value, str):
        return SLOT_BYTES + len(value) * (1 if value.isascii() else 4)
    if isinstance(value, dict):
        return SLOT_BYTES * 4 + _sizes(value.values()) + sum(SLOT_BYTES + len(key) for key in map(str, value))
    if isinstance(value, list | tuple):
        return SLOT_BYTES + _sizes(value)
    if isinstance(value, int):
        return 32 + value.bit_length() // 7
    return 32


def _sizes(values: Iterable[object]) -> int:
    return sum(size_of(each) + 16 for each in values)
