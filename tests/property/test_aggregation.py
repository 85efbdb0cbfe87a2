"""Aggregations: whatever the chunks, the order of merging and the memory, the result has the same bits."""

import json
import random
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.mixins.aggregation_files import SpillDirectory
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.utils.aggregation import Aggregation, aggregate
from tests.support.aggregations import contract

TEXTS = st.text("ab1\0é€😀", max_size=3)  # all of Unicode takes seconds to list, in the first test of a fresh clone
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(-1e306, 1e306),  # whose sum is a float as well
    st.sampled_from([0.0, -0.0, 0, 1, 1.0]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner)
)
OBJECTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 2), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=2), max_leaves=4
    ),
    max_size=3,
)
METHODS: dict[str, tuple[st.SearchStrategy[object], dict[str, object]]] = {
    "sum": (NUMBERS, {}),
    "average": (NUMBERS, {}),
    "count": (SCALARS, {}),
    "min": (NUMBERS, {}),
    "max": (NUMBERS, {}),
    "min of texts": (TEXTS, {}),
    "first": (VALUES, {}),
    "last": (VALUES, {}),
    "collect": (VALUES, {}),
    "distinct": (VALUES, {}),
    "percentile": (NUMBERS, {"percentile": (0, 12.5, 50, 99, 100)}),
    "merge": (OBJECTS, {}),
    "merge first": (OBJECTS, {"conflict_resolution": "first_write_wins"}),
    "merge deep": (OBJECTS, {"conflict_resolution": "merge"}),
    "custom": (st.integers(20, 99), {"reducer": "span", "parameters": {"factor": 2}}),
}
WINDOWS: tuple[dict[str, object], ...] = (
    {},
    {"window": {"type": "tumbling", "time_field": "t", "size_ms": 10}},
    {"window": {"type": "sliding", "time_field": "t", "size_ms": 10, "slide_ms": 4}},
    {"window": {"type": "session", "time_field": "t", "gap_ms": 5}},
)
TIMES = st.integers(-40, 40)
KEYS = st.one_of(st.sampled_from(["a", "b", 1]), st.sampled_from([1.0, True, False, None, "1", -0.0, 0.0]))


def text(value: object) -> str:
    """Tells 1 from 1.0 and -0.0 from 0.0."""
    return json.dumps(value)


def cut(items: Sequence[object], at: Sequence[int]) -> list[Sequence[object]]:
    """The items in pieces, some of them empty."""
    places = sorted(min(place, len(items)) for place in at)
    return [items[start:end] for start, end in zip([0, *places], [*places, len(items)], strict=True)]


def streamed(asked: ModelContractReducer, pieces: Sequence[Sequence[object]]) -> object:
    aggregation = Aggregation(asked)
    for piece in pieces:
        aggregation.add(piece)
    return aggregation.result()


def partial(asked: ModelContractReducer, piece: Sequence[object]) -> JsonValue:
    aggregation = Aggregation(asked)
    aggregation.add(piece)
    return stored(aggregation)


def stored(aggregation: Aggregation) -> JsonValue:
    """What comes back from a store."""
    found: JsonValue = json.loads(json.dumps(aggregation.dump()))
    return found


def merged(asked: ModelContractReducer, first: JsonValue, second: JsonValue) -> JsonValue:
    aggregation = Aggregation(asked)
    aggregation.absorb(first)
    aggregation.absorb(second)
    return stored(aggregation)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_streaming_equals_batch(name: str, data: st.DataObject) -> None:
    """For every method, with and without groups and windows, and wherever the chunks are cut."""
    values, fields = METHODS[name]
    items = data.draw(st.lists(st.fixed_dictionaries({"v": values, "k": KEYS, "j": KEYS, "t": TIMES}), max_size=25))
    window = data.draw(st.sampled_from(WINDOWS))
    late = {"late_data_policy": data.draw(st.sampled_from(["drop", "side_output", "update"])), "watermark_ms": 3}
    group_by = data.draw(st.sampled_from([(), ("k",), ("k", "j")]))
    asked = contract(
        items, name.split()[0], value_field="v", group_by=group_by, **window, **(late if window else {}), **fields
    )

    pieces = cut(items, data.draw(st.lists(st.integers(0, 25), max_size=5)))

    assert text(streamed(asked, pieces)) == text(aggregate(asked))


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_partial_states_merge_in_any_grouping(name: str, data: st.DataObject) -> None:
    """Neighbours are put together in any order of steps, each state stored as JSON in between."""
    values, fields = METHODS[name]
    items = data.draw(st.lists(st.fixed_dictionaries({"v": values, "k": KEYS, "t": TIMES}), max_size=20))
    window = data.draw(st.sampled_from(WINDOWS))
    late = {"late_data_policy": "update"} if window else {}
    group_by = data.draw(st.sampled_from([(), ("k",)]))
    asked = contract(items, name.split()[0], value_field="v", group_by=group_by, **window, **late, **fields)
    states = [partial(asked, piece) for piece in cut(items, data.draw(st.lists(st.integers(0, 20), max_size=5)))]

    while len(states) > 1:
        at = data.draw(st.integers(0, len(states) - 2))
        states[at : at + 2] = [merged(asked, states[at], states[at + 1])]
    whole = Aggregation(asked)
    whole.absorb(states[0])

    assert text(whole.result()) == text(aggregate(asked))


@pytest.mark.parametrize("name", ["sum", "average", "count", "min", "max", "percentile", "custom"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_partial_states_merge_in_any_order(name: str, data: st.DataObject) -> None:
    """Where the order of items does not count, that of their partial states does not either."""
    values, fields = METHODS[name]
    items = data.draw(st.lists(st.fixed_dictionaries({"v": values, "k": KEYS}), max_size=20))
    asked = contract(items, name, value_field="v", group_by=data.draw(st.sampled_from([(), ("k",)])), **fields)
    states = [partial(asked, piece) for piece in cut(items, data.draw(st.lists(st.integers(0, 20), max_size=5)))]

    whole = Aggregation(asked)
    whole.absorb(reduce(lambda one, two: merged(asked, one, two), data.draw(st.permutations(states))))

    assert text(whole.result()) == text(aggregate(asked))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("window", WINDOWS, ids=["none", "tumbling", "sliding", "session"])
@pytest.mark.parametrize("late_data_policy", ["drop", "update"])
def test_what_is_spilled_equals_what_stays_in_memory(
    name: str, window: dict[str, object], late_data_policy: str, tmp_path: Path
) -> None:
    """For every method: a run for every few items, and merges of runs."""
    _, fields = METHODS[name]
    source = random.Random(name)
    makes: dict[str, object] = {
        "min of texts": lambda: source.choice("abcdef"),
        "custom": lambda: source.randrange(20, 99),
        "merge": lambda: {source.choice("abc"): source.choice([1, {source.choice("ab"): source.randrange(3)}])},
    }
    make = makes.get(name, makes["merge"] if name.startswith("merge") else lambda: source.uniform(-1e9, 1e9))
    assert callable(make)
    is_session = "gap_ms" in str(window)
    count = 600 if is_session else 150
    items = [
        {"v": make(), "k": source.choice(["a", "b", 1, 1.0, None]), "t": at * 2 + source.randrange(6)}
        for at in range(count)
    ]
    late = {"late_data_policy": late_data_policy} if window else {}
    asked = contract(items, name.split()[0], value_field="v", group_by="k", **window, **late, **fields)

    with SpillDirectory(str(tmp_path)) as files:
        small = Aggregation(asked, files)
        small._limit = 9_000 if is_session else 1_500  # bytes: a few groups
        for piece in cut(items, range(0, count, 20)):
            small.add(piece)
            small._make_room()
        found = list(small.rows())

    assert files.written_bytes > 0
    assert text(found) == text(aggregate(asked))
    assert list(tmp_path.iterdir()) == []
