"""The state of a machine: frozen, layered, and a snapshot of four keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.fsm_state import FsmState, LayeredMap, layered, restore

KEYS = st.integers(0, 400).map(str)


@given(st.dictionaries(KEYS, st.integers(), max_size=400), st.lists(st.dictionaries(KEYS, st.integers()), max_size=60))
def test_a_layered_map_is_a_dict_that_is_copied_at_every_change(
    start: dict[str, int], changes: list[dict[str, int]]
) -> None:
    """Keys in order of first setting; older maps keep what they held."""
    plain: dict[str, int] = dict(start)
    layers = LayeredMap((dict(start),))
    history = []
    for change in changes:
        history.append((layers, dict(plain)))
        plain.update(change)
        layers = layers.updated(dict(change))

    assert list(layers.items()) == list(plain.items())
    assert (len(layers), "nothing" in layers, layers.get("nothing")) == (len(plain), False, None)
    for older, expected in history:
        assert list(older.items()) == list(expected.items())


def test_many_new_fields_make_few_layers() -> None:
    """A look-up asks a handful of dicts, and a change copies sixteen fields, however many there are."""
    layers = LayeredMap()
    for index in range(20_000):
        layers = layers.updated({f"k{index}": index})
        assert len(layers._layers) <= 8
        assert len(layers._layers[0]) <= 16

    assert layers.flat() == {f"k{index}": index for index in range(20_000)}


def test_a_state_cannot_be_changed() -> None:
    """Neither its attributes nor its data."""
    state = FsmState("A", layered({"n": [1]}, "x"))

    with pytest.raises(AttributeError, match="frozen"):
        state.state = "B"
    with pytest.raises(AttributeError, match="frozen"):
        del state.state
    with pytest.raises(TypeError):
        state.context["n"] = 1  # type: ignore[index]  # that is the point
    with pytest.raises(TypeError, match="unhashable"):
        hash(state)


def test_a_state_is_a_map_of_its_snapshot() -> None:
    """Equal to its JSON form; the repr shows no data."""
    state = FsmState("A", layered({"n": [1]}, "x"), 2, 1)

    assert dict(state) == state.snapshot()
    assert state == state.snapshot()
    assert state == {"state": "A", "context": {"n": [1]}, "version": 2, "history_length": 1}
    assert state != FsmState("A", layered({"n": [1]}, "x"), 3, 1)
    assert state.context == layered({"n": [1]}, "x")
    assert state != 1
    assert len(state) == 4
    assert repr(state) == "FsmState('A', version=2, 1 fields)"
    assert repr(state.context) == "Fields({'n': [1]})"
    assert restore(state) is state
    assert state.with_version(7) == restore({**state.snapshot(), "version": 7})
    with pytest.raises(KeyError):
        state["other"]
    with pytest.raises(KeyError):
        state.context["other"]


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        ({}, "found the keys none"),
        ({"state": "A", "other": 1}, "other"),
        ({"state": 1}, "state is int"),
        ({"state": "A", "context": []}, "context list"),
        ({"state": "A", "version": -1}, "counted from 0"),
        ({"state": "A", "history_length": True}, "counted from 0"),
        ({"state": "A", "context": {"n": float("nan")}}, "NaN"),
        ({"state": "A", "context": {"n": [{"m": float("inf")}]}}, "NaN"),
        ({"state": "A", "context": {"n": object()}}, "no JSON form"),
    ],
)
def test_what_is_no_snapshot_is_refused(snapshot: dict[str, object], reason: str) -> None:
    """It says what a snapshot is."""
    with pytest.raises(ModelOnexError, match=reason) as raised:
        restore(snapshot)

    assert raised.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
