"""The built-in algorithms, one rule each, and that neither chunks nor the order of merging change a bit."""

import json
import math
import pickle
import random
import statistics
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.utils import algorithms as adding
from omnibase_core.utils import algorithms_ordered as ordered
from omnibase_core.utils.algorithms import Algorithm, ItemFault
from omnibase_core.utils.algorithms_ordered import BUILT_IN
from omnibase_core.utils.chunking import Chunk, chunk_at, chunk_ranges, merge_all
from omnibase_core.utils.exact_sums import BeyondFloatsError, root_of_quotient

finite = st.floats(allow_nan=False, allow_infinity=False)
number = finite | st.integers() | st.sampled_from([0, 0.0, -0.0, 1, 1.0, 5e-324, 1.7e308, -1.7e308, 2**1030])
records = st.fixed_dictionaries(
    {
        "g": st.sampled_from([None, True, False, 1, 1.0, -0.0, 0, "a", "1", "null"]),
        "v": number,
        "t": st.text(max_size=3),
    }
)

OF_NUMBERS: list[tuple[str, dict[str, object]]] = [
    ("sum", {}),
    ("mean", {}),
    ("stddev", {}),
    ("stddev", {"ddof": 0}),
    ("count", {}),
    ("min", {}),
    ("max", {}),
    ("median", {}),
    ("percentile", {"percentile": [0, 12.5, 99, 100]}),
    ("percentile", {"percentile": 33}),
    ("histogram", {}),
    ("histogram", {"low": -1.5, "high": 7, "bins": 3}),
    ("histogram", {"edges": [-5, 0, 0.5, 10**6]}),
    ("sort", {}),
    ("sort", {"descending": True}),
    ("top_k", {"k": 3}),
    ("top_k", {"k": 2, "descending": False}),
]
EVERYTHING: dict[str, object] = {
    f"{name}{at}": {"algorithm": name, "field": "v", **parameters} for at, (name, parameters) in enumerate(OF_NUMBERS)
}
OF_RECORDS: list[tuple[str, dict[str, object]]] = [
    *((name, {"field": "v", **parameters}) for name, parameters in OF_NUMBERS),
    ("min", {"field": "t"}),
    ("max", {"field": "t"}),
    ("sort", {"field": "t"}),
    ("top_k", {"field": "t", "k": 2}),
    ("count", {"field": "g"}),
    ("group_aggregate", {"group_by": "g"}),
    ("group_aggregate", {"group_by": "g", "aggregates": EVERYTHING}),
]


def made(name: str, parameters: dict[str, object]) -> Algorithm[object]:
    return cast("Algorithm[object]", BUILT_IN[name](**parameters))


def whole(name: str, items: Sequence[object], **parameters: object) -> object:
    algorithm = made(name, parameters)
    return algorithm.finish(algorithm.process_chunk(Chunk(items)))


def bits(value: object) -> object:
    """A form in which -0.0, 0.0 and 0 differ."""
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, list):
        return [bits(each) for each in value]
    if isinstance(value, dict):
        return [(key, bits(each)) for key, each in value.items()]
    return type(value), value


def judged(make: Callable[[], object]) -> object:
    """The bits of a result, or that no float can hold it."""
    try:
        return bits(make())
    except BeyondFloatsError as error:
        return str(error)


def in_pieces(algorithm: Algorithm[object], items: Sequence[object], cuts: set[int], seed: int) -> object:
    """Chunks between the cuts, some of them empty, sent through pickle, merged pairwise at random."""
    edges = [0, *sorted(cut % (len(items) + 1) for cut in cuts), len(items)]
    states = [
        pickle.loads(pickle.dumps(algorithm.process_chunk(Chunk(items[first:last], first))))
        for first, last in pairwise(edges)
    ]
    shuffled = random.Random(seed)
    while len(states) > 1:
        shuffled.shuffle(states)
        states.append(algorithm.merge(states.pop(), states.pop()))
    return algorithm.finish(states[0])


def test_every_built_in_algorithm_is_under_the_property() -> None:
    """So that a new one cannot be forgotten."""
    assert {name for name, _ in OF_RECORDS} == set(BUILT_IN)


@pytest.mark.parametrize(("name", "parameters"), OF_NUMBERS, ids=lambda each: str(each)[:60])
@given(items=st.lists(number, max_size=30), cuts=st.sets(st.integers(0, 100), max_size=6), seed=st.integers(0, 99))
def test_numbers_give_the_same_bits_in_any_pieces(
    name: str, parameters: dict[str, object], items: list[object], cuts: set[int], seed: int
) -> None:
    """Whatever the chunks, and in whatever order they are merged."""
    algorithm = made(name, parameters)

    pieces = judged(lambda: in_pieces(algorithm, items, cuts, seed))

    assert pieces == judged(lambda: whole(name, items, **parameters))


@pytest.mark.parametrize(("name", "parameters"), OF_RECORDS, ids=lambda each: str(each)[:60])
@given(items=st.lists(records, max_size=12), cuts=st.sets(st.integers(0, 100), max_size=5), seed=st.integers(0, 99))
def test_records_give_the_same_bits_in_any_pieces(
    name: str, parameters: dict[str, object], items: list[object], cuts: set[int], seed: int
) -> None:
    """The same for fields of records, with groups and text."""
    algorithm = made(name, parameters)

    pieces = judged(lambda: in_pieces(algorithm, items, cuts, seed))

    assert pieces == judged(lambda: whole(name, items, **parameters))


@given(items=st.lists(number, max_size=30), seed=st.integers(0, 99))
def test_sums_do_not_depend_on_the_order_of_items(items: list[float], seed: int) -> None:
    """Sum, mean and stddev are those of the set of numbers."""
    mixed = random.Random(seed).sample(items, len(items))

    for name in ("sum", "mean", "stddev", "min", "max", "median"):
        assert judged(partial(whole, name, items)) == judged(partial(whole, name, mixed))


@given(items=st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=30))
def test_results_are_those_of_exact_arithmetic(items: list[float]) -> None:
    """Against fsum and fractions."""
    assert whole("sum", items) == math.fsum(items)
    assert whole("mean", items) == float(sum(map(Fraction, items)) / len(items))
    assert whole("stddev", items) == statistics.stdev(map(Fraction, items))
    assert whole("stddev", items, ddof=0) == statistics.pstdev(map(Fraction, items))


@given(numerator=st.integers(0, 10**40), denominator=st.integers(1, 10**40))
def test_a_root_is_the_nearest_float(numerator: int, denominator: int) -> None:
    """Its square is at least as near as those of its neighbours."""
    root = root_of_quotient(numerator, denominator)

    below = (Fraction(root) + Fraction(math.nextafter(root, 0.0))) / 2
    above = (Fraction(root) + Fraction(math.nextafter(root, math.inf))) / 2
    assert below**2 <= Fraction(numerator, denominator) <= above**2


def test_roots_of_huge_and_tiny_quotients() -> None:
    """Out of the range in which a division would do."""
    assert root_of_quotient(10**600, 1) == 1e300
    assert root_of_quotient(1, 10**600) == 1e-300
    with pytest.raises(BeyondFloatsError):
        root_of_quotient(10**700, 1)


@pytest.mark.parametrize(
    ("name", "items", "parameters", "expected"),
    [
        ("sum", [1, 2, 3], {}, 6),
        ("sum", [0.1] * 10, {}, 1.0),
        ("sum", [2**53, 1.0], {}, float(2**53)),
        ("sum", [10**400, 1], {}, 10**400 + 1),
        ("sum", [1.7e308, 1.7e308, -1.7e308], {}, 1.7e308),
        ("sum", [], {}, 0),
        ("mean", [1, 2], {}, 1.5),
        ("mean", [], {}, None),
        ("stddev", [1, 3], {}, math.sqrt(2)),
        ("stddev", [1, 3], {"ddof": 0}, 1.0),
        ("stddev", [1], {}, None),
        ("stddev", [5, 5, 5], {}, 0.0),
        ("stddev", [2.0**-1000, 3 * 2.0**-1000], {"ddof": 0}, 2.0**-1000),
        ("count", [None, 1, "x"], {}, 3),
        ("count", [{"a": 1}, {"a": None}, {}, 5], {"field": "a"}, 1),
        ("min", ["b", "a"], {}, "a"),
        ("min", [], {}, None),
        ("max", [], {}, None),
        ("max", [1, 2.5], {}, 2.5),
        ("median", [3, 1, 2], {}, 2),
        ("median", [1, 2], {}, 1.5),
        ("median", [], {}, None),
        ("percentile", [1, 2, 3, 4, 5], {"percentile": 25}, 2),
        ("percentile", [1, 2], {"percentile": 10}, 1.1),
        ("percentile", [], {"percentile": [5, 50]}, [None, None]),
        ("percentile", [], {}, None),
        ("percentile", [4, 4], {"percentile": 30}, 4),
        (
            "histogram",
            [0, 1, 2, 3, 4, -1, 9],
            {"low": 0, "high": 4, "bins": 2},
            {"edges": [0, 2.0, 4], "counts": [2, 3], "below": 1, "above": 1},
        ),
        ("histogram", [1, 2, 2], {"edges": [1, 2]}, {"edges": [1, 2], "counts": [3], "below": 0, "above": 0}),
        ("histogram", [0, 10], {"bins": 2}, {"edges": [0, 5.0, 10], "counts": [1, 1], "below": 0, "above": 0}),
        ("histogram", [7, 7], {}, {"edges": [7, 7], "counts": [2], "below": 0, "above": 0}),
        ("histogram", [], {}, {"edges": [], "counts": [], "below": 0, "above": 0}),
        ("sort", [3, 1, 2], {}, [1, 2, 3]),
        (
            "sort",
            [{"k": 1, "n": 0}, {"k": 0}, {"k": 1, "n": 1}],
            {"field": "k", "descending": True},
            [{"k": 1, "n": 0}, {"k": 1, "n": 1}, {"k": 0}],
        ),
        ("top_k", [3, 1, 2], {"k": 2}, [3, 2]),
        ("top_k", [3, 1, 2], {"k": 2, "descending": False}, [1, 2]),
        (
            "group_aggregate",
            [{"g": "b", "v": 1}, {"g": None, "v": 2}, {"g": "b", "v": 3}, {"g": True, "v": 4}, {"g": 2, "v": 5}],
            {"group_by": "g", "aggregates": {"total": {"algorithm": "sum", "field": "v"}}},
            [{"g": None, "total": 2}, {"g": True, "total": 4}, {"g": 2, "total": 5}, {"g": "b", "total": 4}],
        ),
        ("group_aggregate", [{"g": 1}, {"g": 1}], {"group_by": "g"}, [{"g": 1, "count": 2}]),
    ],
)
def test_results(name: str, items: list[object], parameters: dict[str, object], expected: object) -> None:
    """Of known items."""
    result = whole(name, items, **parameters)

    assert result == expected
    assert type(result) is type(expected)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("sum", [1.7e308, 1.7e308]),
        ("sum", [-1.7e308, -1.7e308]),
        ("sum", [10**400, 0.5]),
        ("mean", [10**400]),
        ("stddev", [1.7e308, -1.7e308]),
        ("median", [10**400, 10**400 + 1]),
        ("histogram", [0, 10**400]),
    ],
)
def test_a_result_that_no_float_can_hold_is_refused(name: str, items: list[object]) -> None:
    """Because JSON has no infinity."""
    with pytest.raises(BeyondFloatsError, match=r"beyond the range of floats, which ends at 1\.8e\+308"):
        whole(name, items)


def test_the_least_of_equals_is_always_the_same() -> None:
    """-0.0 before 0.0, and the int before the float."""
    assert bits(whole("min", [0.0, 0, -0.0])) == bits(-0.0)
    assert bits(whole("max", [1, 1.0, 1])) == bits(1.0)


@pytest.mark.parametrize(
    ("name", "parameters", "items", "index", "problem"),
    [
        ("sum", {}, [1, "2"], 1, "expected a number, found str"),
        ("sum", {}, [1.5, True], 1, "expected a number, found bool"),
        ("sum", {}, [None], 0, "expected a number, found null"),
        ("sum", {}, [1.0, math.nan], 1, "expected a finite number, found nan"),
        ("sum", {}, [math.inf, -math.inf], 0, "expected a finite number, found inf"),
        ("stddev", {}, [1.0, math.inf], 1, "expected a finite number, found inf"),
        ("min", {}, [1, math.nan], 1, "expected a finite number, found nan"),
        ("sort", {}, [[1]], 0, "expected a number or text, found list"),
        ("median", {}, [1.0, math.nan], 1, "expected a finite number, found nan"),
        ("histogram", {"edges": [0, 1]}, [math.inf], 0, "expected a finite number, found inf"),
        ("sum", {"field": "v"}, [{"v": 1}, {}], 1, "field 'v' is missing"),
        ("sum", {"field": "v"}, [{"v": 1}, 7], 1, "expected an object with field 'v', found int"),
        ("group_aggregate", {"group_by": "g"}, [{"g": 1}, {"g": []}], 1, "expected a scalar in 'g', found list"),
        (
            "group_aggregate",
            {"group_by": "g", "aggregates": {"s": {"algorithm": "sum", "field": "v"}}},
            [{"g": 1, "v": 1}, {"g": 2, "v": 1}, {"g": 1, "v": "x"}],
            2,
            "expected a number, found str",
        ),
    ],
)
def test_an_item_that_does_not_fit_is_named(
    name: str, parameters: dict[str, object], items: list[object], index: int, problem: str
) -> None:
    """By its place in the chunk, with what was expected and found."""
    with pytest.raises(ItemFault) as caught:
        made(name, parameters).process_chunk(items)

    assert (caught.value.index, str(caught.value)) == (index, problem)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.index, again.problem) == (index, problem)


@pytest.mark.parametrize(
    ("items", "index", "problem"),
    [
        ([1, 2.5, "a", 3, "b"], 2, "expected a number as before, found text"),
        (["a", "b", "c", 1, "d"], 3, "expected text as before, found a number"),
    ],
)
@pytest.mark.parametrize("name", ["min", "max", "sort", "top_k", "group_aggregate"])
@given(cuts=st.sets(st.integers(0, 100), max_size=5), seed=st.integers(0, 99))
def test_the_first_of_another_kind_is_named_however_items_are_cut(
    name: str, items: list[object], index: int, problem: str, cuts: set[int], seed: int
) -> None:
    """Numbers and text have no common order; in groups the first in all of them is named."""
    parameters: dict[str, object] = {}
    if name == "group_aggregate":
        aggregates = {each: {"algorithm": each, "field": "v"} for each in ("min", "max", "sort", "top_k")}
        parameters = {"group_by": "g", "aggregates": aggregates}
        items = [record for item in items for record in ({"g": "a", "v": item}, {"g": 0, "v": item})]
        index *= 2

    with pytest.raises(ItemFault) as caught:
        in_pieces(made(name, parameters), items, cuts, seed)

    assert (caught.value.index, caught.value.problem) == (index, problem)


@pytest.mark.parametrize(
    ("name", "parameters", "problem"),
    [
        ("stddev", {"ddof": 2}, "ddof is 0 or 1, found 2"),
        ("percentile", {"percentile": 101}, "from 0 to 100"),
        ("percentile", {"percentile": [1, "x"]}, "found 'x'"),
        ("percentile", {"percentile": True}, "found True"),
        ("histogram", {"bins": 0}, "bins is a number from 1"),
        ("histogram", {"low": 1}, "low and high are numbers that are given together"),
        ("histogram", {"low": 1, "high": 1}, "low first"),
        ("histogram", {"low": "1", "high": "2"}, "found '1' and '2'"),
        ("histogram", {"low": 0, "high": math.inf}, "found 0 and inf"),
        ("histogram", {"low": 0, "high": 10**400}, "found 0 and 1000"),
        ("histogram", {"low": math.nan, "high": 1}, "found nan and 1"),
        ("histogram", {"low": False, "high": True}, "found False and True"),
        ("histogram", {"edges": "ab"}, "edges are two numbers"),
        ("histogram", {"edges": ["a", "b"]}, "edges are two numbers"),
        ("histogram", {"edges": 5}, "edges are two numbers"),
        ("histogram", {"edges": [0, math.inf]}, "edges are two numbers"),
        ("histogram", {"edges": [0, 1], "bins": 3}, "edges and bins exclude each other; found bins 3"),
        ("histogram", {"edges": [0, 1], "low": 0}, "edges and low exclude each other"),
        ("sort", {"descending": "no"}, "descending is true or false, found 'no'"),
        ("top_k", {"descending": 0}, "descending is true or false, found 0"),
        *(
            (name, {"field": ["a"]}, r"field is the name of a field, found \['a'\]")
            for name in BUILT_IN
            if name[0] != "g"
        ),
        ("count", {"field": ""}, "field is the name of a field, found ''"),
        ("histogram", {"edges": [1]}, "edges are two numbers"),
        ("histogram", {"edges": [1, 1]}, "ascending"),
        ("top_k", {"k": 0}, "k is a number from 1 on"),
        ("group_aggregate", {"group_by": ""}, "group_by is the name of a field"),
        ("group_aggregate", {"group_by": "g", "aggregates": {}}, "aggregates maps names"),
        ("group_aggregate", {"group_by": "g", "aggregates": {"g": {"algorithm": "sum"}}}, "cannot be named 'g'"),
        ("group_aggregate", {"group_by": "g", "aggregates": {"a": {"algorithm": "no"}}}, "is one of count"),
        ("group_aggregate", {"group_by": "g", "aggregates": {"a": 5}}, "found None"),
        ("group_aggregate", {"group_by": "g", "aggregates": {"a": {"algorithm": "sum", "x": 1}}}, "aggregates.a: "),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(name: str, parameters: dict[str, object], problem: str) -> None:
    """When the algorithm is made."""
    with pytest.raises(ValueError, match=problem):
        made(name, parameters)


def test_chunks_cover_every_item_once_in_order() -> None:
    """Any 0 to 1000 items, 1 to 16 workers; none empty, and none longer than its neighbour by more than one."""
    for workers in range(1, 17):
        for length in range(1001):
            places = chunk_ranges(length, workers)
            edges = [0, *(place.stop for place in places)]

            assert [place.start for place in places] == edges[:-1]
            assert edges[-1] == length
            sizes = {len(place) for place in places}
            assert not sizes or (min(sizes) > 0 and max(sizes) - min(sizes) <= 1)


@pytest.mark.parametrize("size", [1, 3, 7, 100, 10_000])
def test_chunks_of_a_given_size(size: int) -> None:
    """The last may be shorter."""
    items = list(range(100))

    chunks = [chunk_at(items, place, at) for at, place in enumerate(chunk_ranges(100, 2, size))]

    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert [chunk.start for chunk in chunks] == list(range(0, 100, size))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))


@pytest.mark.parametrize("arguments", [(-1, 1, None), (1, 0, None), (1, 1, 0)])
def test_senseless_chunks_are_refused(arguments: tuple[int, int, int | None]) -> None:
    """Instead of losing items."""
    with pytest.raises(ValueError, match="make no sense"):
        chunk_ranges(*arguments)


def test_neighbours_are_merged_in_their_order() -> None:
    """So that a merge which is only associative gives the right result as well."""
    for count in range(1, 40):
        letters = [chr(65 + each) for each in range(count)]

        assert merge_all(letters, lambda a, b: a + b) == "".join(letters)


def test_partial_states_of_sums_stay_small() -> None:
    """However many numbers went in."""
    state = adding.total_of([1.7e308, 5e-324] * 10_000, squares=True)

    assert len(pickle.dumps(state)) < 2000
    assert ordered.TopK(k=2).process_chunk(list(range(1000))).items[0][0] == 999
