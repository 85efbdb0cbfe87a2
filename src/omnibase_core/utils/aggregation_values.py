"""Methods that keep more than a value or a total: percentile, merge, and reducers of a program's own."""

import heapq
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, islice
from typing import Final, Protocol, TypeVar, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_aggregation import EnumConflictResolution
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import AlgorithmNotFoundError, ModelOnexError
from omnibase_core.utils.aggregation_methods import (
    SLOT_BYTES,
    Method,
    NumberedMethod,
    Placed,
    Values,
    kind_of,
    require_numbers,
    size_of,
)
from omnibase_core.utils.algorithm_registry import with_parameters
from omnibase_core.utils.algorithms import ItemFault, rank
from omnibase_core.utils.algorithms_ordered import Percentile
from omnibase_core.utils.contract_findings import did_you_mean

Number = int | float
_BLOCK: Final = 500
"""Numbers of one row on disk."""


class PercentileMethod(Method[list[Number]]):
    """See `Percentile`: exact, and so the same however the numbers came. Needs all of them; what memory cannot hold is
    sorted on disk.
    """

    def __init__(self, percentile: Number | Sequence[Number]) -> None:
        self._wanted = [percentile] if isinstance(percentile, int | float) else list(percentile)
        self._algorithm = Percentile(percentile=percentile)

    def check(self, values: Values) -> None:
        require_numbers(values)

    def fold(self, state: list[Number] | None, values: Values) -> list[Number]:
        known = [] if state is None else state
        known.extend(cast("Sequence[Number]", values))  # as checked
        return known

    def merge(self, first: list[Number], second: list[Number]) -> list[Number]:
        return first + second

    def finish(self, state: list[Number]) -> object:
        return self._algorithm.finish(sorted(state, key=rank))

    def nothing(self) -> object:
        return self._algorithm.finish([])

    def dump(self, state: list[Number]) -> JsonValue:
        return cast("JsonValue", sorted(state, key=rank))  # numbers

    def growth(self, values: Values) -> int:
        return 40 * len(values)

    def size(self, state: list[Number]) -> int:
        return 64 + 40 * len(state)

    def rows(self, state: list[Number]) -> Iterator[JsonValue]:
        return self._blocks(len(state), iter(sorted(state, key=rank)))

    def joined(self, sources: Sequence[Iterator[JsonValue]]) -> Iterator[JsonValue]:
        return self._blocks(*self._in_order(sources))

    def finished(self, sources: Sequence[Iterator[JsonValue]]) -> object:
        count, numbers = self._in_order(sources)
        places: set[int] = set()
        for percent in self._wanted:
            below = int(Fraction(percent) * (count - 1) / 100)
            places |= {below, min(below + 1, count - 1)}
        picked = {at: number for at, number in enumerate(numbers) if at in places}
        return self._algorithm.finish(cast("list[Number]", _Picked(picked, count)))  # looks at those places only

    @staticmethod
    def _blocks(count: int, numbers: Iterator[Number]) -> Iterator[JsonValue]:
        """How many there are, then the numbers, in order."""
        yield count
        for _ in range(0, count, _BLOCK):
            yield list(islice(numbers, _BLOCK))

    @staticmethod
    def _in_order(sources: Sequence[Iterator[JsonValue]]) -> tuple[int, Iterator[Number]]:
        """(how many, all of them in order): a block of each source is in memory."""
        counts = [cast("int", next(source)) for source in sources]  # the first row
        blocks = cast("Sequence[Iterator[list[Number]]]", sources)  # the others
        return sum(counts), heapq.merge(*map(chain.from_iterable, blocks), key=rank)


class _Picked(Sequence[Number]):
    """A sorted sequence of which a few places are known."""

    def __init__(self, known: Mapping[int, Number], length: int) -> None:
        self._known = known
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: int) -> Number:  # type: ignore[override]  # nobody asks for a slice
        return self._known[at]


Fields = dict[str, list[object]]
"""Path (names joined by NUL) -> the number of the item that decided, and the value; for objects the number alone."""
_JOINT: Final = "\0"


class MergeMethod(NumberedMethod[Fields]):
    """One object of all: the fields of each item laid over those of the items before it, or under them.

    last_write_wins: as `dict.update` does. first_write_wins: what is there stays. merge: objects within objects are
    merged as well, for all else the last counts. error: a field with two values is a fault. Keys come in order of
    their names.
    """

    def __init__(self, conflicts: EnumConflictResolution) -> None:
        self._first = conflicts is EnumConflictResolution.FIRST_WRITE_WINS
        self._strict = conflicts is EnumConflictResolution.ERROR
        self._deep = conflicts is EnumConflictResolution.MERGE

    def check(self, values: Values) -> None:
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise ItemFault(index, f"expected an object to merge, found {kind_of(value)}")

    def fold(self, state: Fields | None, values: Values) -> Fields:
        known: Fields = {} if state is None else state
        for number, value in cast("Sequence[Placed]", values):  # numbered
            self._lay(known, number, cast("dict[str, object]", value), "")  # as checked
        return known

    def _lay(self, known: Fields, number: int, value: dict[str, object], path: str) -> None:
        for name, inner in value.items():
            if self._deep and _JOINT in name:
                raise ValueError(f"item {number}: the name of a field to merge has no NUL character, found {name!r}")
            here = path + name
            if self._deep and isinstance(inner, dict):
                self._put(known, here + _JOINT, [number])
                self._lay(known, number, inner, here + _JOINT)
            else:
                self._put(known, here, [number, inner])

    def _put(self, known: Fields, path: str, entry: list[object]) -> None:
        old = known.get(path)
        if old is None:
            known[path] = entry
            return
        if self._strict and _differ(old[1], entry[1]):
            raise ValueError(
                f"field {path!r} has two values, in items {old[0]} and {entry[0]}, and conflict_resolution is 'error'; "
                "choose last_write_wins, first_write_wins or merge"
            )
        if (cast("int", entry[0]) < cast("int", old[0])) == (self._first or self._strict):  # numbers of items
            known[path] = entry

    def merge(self, first: Fields, second: Fields) -> Fields:
        for path, entry in second.items():
            self._put(first, path, entry)
        return first

    def finish(self, state: Fields) -> object:
        result: dict[str, object] = {}
        for path in sorted(path for path, entry in state.items() if self._lives(state, path, entry)):
            *outer, name = path.removesuffix(_JOINT).split(_JOINT) if self._deep else [path]
            inside = result
            for each in outer:
                inside = cast("dict[str, object]", inside.setdefault(each, {}))  # what else is there does not live
            if len(state[path]) == 1:
                inside.setdefault(name, {})
            else:
                inside[name] = state[path][1]
        return result

    @staticmethod
    def _lives(state: Fields, path: str, entry: list[object]) -> bool:
        """Whether no later item put an object in the place of this value, or a value in that of an object around it."""
        number = cast("int", entry[0])  # of the item
        rivals = [path + _JOINT] if len(entry) == 2 else [path.removesuffix(_JOINT)]
        parts = path.removesuffix(_JOINT).split(_JOINT)
        rivals += [_JOINT.join(parts[:length]) for length in range(1, len(parts))]
        return all(cast("int", state[rival][0]) < number for rival in rivals if rival in state)

    def nothing(self) -> object:
        return {}

    def dump(self, state: Fields) -> JsonValue:
        return cast("JsonValue", state)  # values are JSON, or the writer says that they are not

    def size(self, state: Fields) -> int:
        return sum(4 * SLOT_BYTES + 4 * len(path) + size_of(entry) for path, entry in state.items())

    def moved(self, state: Fields, by: int) -> Fields:
        return {path: [cast("int", entry[0]) + by, *entry[1:]] for path, entry in state.items()}  # numbers of items


def _differ(first: object, second: object) -> bool:
    return type(first) is not type(second) or first != second


State = TypeVar("State")


class Reducer(Protocol[State]):
    """An aggregation of a program's own: pure, its states are JSON values other than null.

    Values are added in the order of their items. States that are merged stand for items in their order, too, the
    earlier ones first; partial results of workers in any order need a `merge` for which that does not matter.
    """

    def init(self) -> State:
        """The state of nothing; a new one each time."""
        ...

    def add(self, state: State, value: object, /) -> State:
        """The state with one more value; `state` may be changed. Raises ItemFault(0, problem) for one that does not
        fit.
        """
        ...

    def merge(self, first: State, second: State, /) -> State:
        """The state of both, which may be changed."""
        ...

    def finish(self, state: State, /) -> object:
        """The result; the state stays as it is."""
        ...


Made = TypeVar("Made", bound=Callable[..., object])
_METHODS: Final = ("init", "add", "merge", "finish")
_registered: dict[str, Callable[..., object]] = {}


def reducer(name: str) -> Callable[[Made], Made]:
    """Make the decorated class a reducer of that name for the method `custom`; its constructor's keyword arguments are
    the contract's `parameters`. CONFIGURATION_ERROR when it lacks a method, or another class has the name.
    """

    def register(made: Made) -> Made:
        lacking = [each for each in _METHODS if not callable(getattr(made, each, None))]
        if lacking:
            raise ModelOnexError(
                f"reducer {name!r}: {made!r} lacks {', '.join(lacking)}; a reducer has {', '.join(_METHODS)}",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        known = _registered.get(name)
        if known is not None and _place(known) != _place(made):
            raise ModelOnexError(
                f"reducer {name!r} is {_place(known)} already, so it cannot be {_place(made)}; give it another name",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        _registered[name] = made
        return made

    return register


def _place(made: Callable[..., object]) -> str:
    module = inspect.getmodule(made)
    return f"{module.__name__ if module else '?'}.{getattr(made, '__qualname__', made)}"


class NumberedFault(ItemFault):
    """`index` is the number of the item among all."""


class CustomMethod(NumberedMethod[object]):
    """A `Reducer` by its name. What it raises is told with the item, ItemFault and ValueError as VALIDATION_ERROR."""

    def __init__(self, name: str, parameters: Mapping[str, object]) -> None:
        made = _registered.get(name)
        if made is None:
            hint = did_you_mean(name, _registered)
            raise AlgorithmNotFoundError(
                f"reducer {name!r} is not registered{'; ' if hint else ''}{hint}; registered: "
                f"{', '.join(sorted(_registered)) or 'none'}. Decorate its class by @reducer({name!r})",
                context={"reducer": name},
            )
        self._name = name
        self._reducer = cast("Reducer[object]", with_parameters(name, made, parameters))  # has its methods

    def fold(self, state: object | None, values: Values) -> object:
        folded = self._called(self._reducer.init) if state is None else state
        for number, value in cast("Sequence[Placed]", values):  # numbered
            try:
                folded = self._reducer.add(folded, value)
            except ItemFault as fault:
                raise NumberedFault(number, fault.problem) from None
            except Exception as error:
                raise self._failed("add", f", item {number} (counted from 0)", error) from error
        return folded

    def merge(self, first: object, second: object) -> object:
        return self._called(self._reducer.merge, first, second)

    def finish(self, state: object) -> object:
        return self._called(self._reducer.finish, state)

    def nothing(self) -> object:
        return self.finish(self._called(self._reducer.init))

    def size(self, state: object) -> int:
        return size_of(state)

    def _called(self, method: Callable[..., object], *arguments: object) -> object:
        try:
            return method(*arguments)
        except Exception as error:
            raise self._failed(method.__name__, "", error) from error

    def _failed(self, method: str, where: str, error: Exception) -> ModelOnexError:
        if isinstance(error, ModelOnexError):
            return error
        wrong = isinstance(error, ValueError)
        return ModelOnexError(
            f"reducer {self._name!r}{where}: {method} raised {type(error).__name__}: {error}",
            EnumCoreErrorCode.VALIDATION_ERROR if wrong else EnumCoreErrorCode.OPERATION_FAILED,
        )
