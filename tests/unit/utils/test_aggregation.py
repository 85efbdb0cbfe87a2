"""Methods, groups, windows and what is refused; that chunks and memory make no difference: tests/property."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import pytest
from pydantic import ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import AlgorithmNotFoundError, ModelOnexError, StateConsistencyError
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.utils.aggregation import Aggregation, aggregate
from omnibase_core.utils.aggregation_values import reducer
from tests.support.aggregations import Span, contract, sales

PAIRS = [{"k": "b", "v": 3}, {"k": "a", "v": 1}, {"k": "b", "v": 2.5}, {"k": "a", "v": 1}]


@pytest.mark.parametrize(
    ("method", "fields", "value", "of_nothing"),
    [
        ("sum", {}, 7.5, 0),
        ("average", {}, 1.875, None),
        ("count", {}, 4, 0),
        ("min", {}, 1, None),
        ("max", {}, 3, None),
        ("first", {}, 3, None),
        ("last", {}, 1, None),
        ("collect", {}, [3, 1, 2.5, 1], []),
        ("distinct", {}, [3, 1, 2.5], []),
        ("percentile", {}, 1.75, None),
        ("percentile", {"percentile": [0, 100]}, [1, 3], [None, None]),
    ],
)
def test_every_method_over_numbers(method: str, fields: dict[str, object], value: object, of_nothing: object) -> None:
    """The value over some items, and over none."""
    assert aggregate(contract(PAIRS, method, value_field="v", **fields)) == value
    assert aggregate(contract([], method, value_field="v", **fields)) == of_nothing


def test_sums_are_exact() -> None:
    """Rounded once: an int stays one, however large, and nothing is lost between."""
    assert aggregate(contract([1e16, 1.0, -1e16], "sum")) == 1.0
    assert aggregate(contract([2**80, 1], "sum")) == 2**80 + 1
    assert aggregate(contract([0.1] * 10, "average")) == 0.1
    assert aggregate(contract([5e-324, 1e308, -1e308] * 20, "sum"), chunk_size=7) == 1e-322
    assert aggregate(contract([2**80, 0.5] * 20, "sum")) == float(20 * 2**80 + 10)


@pytest.mark.parametrize(
    ("policy", "value"),
    [
        (None, {"a": 2, "in": {"q": 1}}),
        ("last_write_wins", {"a": 2, "in": {"q": 1}}),
        ("first_write_wins", {"a": 1, "in": {"p": 1}}),
        ("merge", {"a": 2, "in": {"p": 1, "q": 1}}),
    ],
)
def test_objects_are_merged_as_the_contract_says(policy: str | None, value: object) -> None:
    """Which of two values is kept; objects within objects are merged with `merge` only."""
    items = [{"a": 1, "in": {"p": 1}}, {"a": 2, "in": {"q": 1}}]

    assert aggregate(contract(items, "merge", conflict_resolution=policy)) == value


def test_a_merge_that_must_not_conflict() -> None:
    """Equal values are none; two values name the field and both items."""
    asked = contract([{"a": 1}, {"a": 1, "b": 2}], "merge", conflict_resolution="error")
    assert aggregate(asked) == {"a": 1, "b": 2}

    with pytest.raises(ModelOnexError, match="field 'b' has two values, in items 1 and 2, and conflict_resolution"):
        aggregate(contract([{"a": 1}, {"b": 2}, {"b": 3}], "merge", conflict_resolution="error"))
    with pytest.raises(ModelOnexError, match="has no NUL"):
        aggregate(contract([{"a": {"\0": 1}}], "merge", conflict_resolution="merge"))


def test_a_value_in_the_place_of_an_object_replaces_it() -> None:
    """And the other way round, as if the items had been laid over each other one by one."""

    def of(*items: dict[str, object]) -> object:
        return aggregate(contract(list(items), "merge", conflict_resolution="merge"), chunk_size=1)

    assert of({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert of({"a": {"b": 1}}, {"a": 2}, {"a": {"c": 3}}) == {"a": {"c": 3}}
    assert of({"a": 1}, {"a": {}}) == {"a": {}}


def test_groups_are_rows_in_order() -> None:
    """Null, false, true, numbers, text; 1, 1.0, true and "1" are four groups; one or several dotted fields."""
    keys: list[object] = ["b", 1, None, True, 1.0, "1", False, "a", -2.5, "b"]
    rows = aggregate(contract([{"k": key} for key in keys], "count", group_by="k"))
    assert json.dumps(rows) == json.dumps(
        [{"k": key, "value": 2 if key == "b" else 1} for key in [None, False, True, -2.5, 1, 1.0, "1", "a", "b"]]
    )

    items = [{"in": {"k": "x"}, "y": 2024, "v": 1}, {"in": {"k": "x"}, "y": 2025, "v": 2}]
    assert aggregate(contract(items, "sum", value_field="v", group_by=["in.k", "y"])) == [
        {"in.k": "x", "y": 2024, "value": 1},
        {"in.k": "x", "y": 2025, "value": 2},
    ]


def test_nulls_are_skipped_when_asked() -> None:
    """Missing fields too; items keep their numbers, and `count` of a field never counts them."""
    items = [{"v": 1}, {"v": None}, {}, {"v": 4}, {"v": "x"}]

    assert aggregate(contract(items[:4], "sum", value_field="v", null_values="skip")) == 5
    assert aggregate(contract(items[:4], "count", value_field="v")) == 2
    with pytest.raises(ModelOnexError, match=r"item 4 .*'v': expected a number, found str"):
        aggregate(contract(items, "sum", value_field="v", null_values="skip"))


@pytest.mark.parametrize(
    ("method", "items", "fields", "problem"),
    [
        ("sum", [{"v": 1}, {"v": "2"}], {}, "item 1 .*: field 'v': expected a number, found str"),
        ("sum", [{"v": 1}, {"v": True}], {}, "item 1 .*: field 'v': expected a number, found bool"),
        ("average", [{"v": None}], {}, "item 0 .*: field 'v': expected a number, found null"),
        ("sum", [{"v": 1.0}, {"v": float("nan")}], {}, "item 1 .*: field 'v': expected a finite number, found nan"),
        ("percentile", [{"v": float("inf")}], {}, "item 0 .*: field 'v': expected a finite number, found inf"),
        ("max", [{"v": 1}, {"v": 2}, {"v": "a"}], {}, "item 2 .*: field 'v': expected a number.*, found str"),
        ("min", [{"v": "a"}, {"v": 2}], {}, "item 1 .*: field 'v': expected text as before, found int"),
        ("sum", [{"v": 1}, {"w": 1}], {}, "item 1 .*: field 'v' is missing"),
        ("sum", [{"v": 1}, [1]], {}, "item 1 .*: field 'v': expected an object with 'v', found list"),
        ("count", [{"v": 1}, 3], {}, "item 1 .*: field 'v': expected an object with 'v', found int"),
        ("sum", [{"v": 1, "k": []}], {"group_by": "k"}, "item 0 .*'k': expected a scalar to group by, found list"),
        ("sum", [{"v": 1, "k": 1e999}], {"group_by": "k"}, "item 0 .*'k': expected a finite number to group by"),
        ("merge", [{"v": {}}, {"v": 3}], {}, "item 1 .*: field 'v': expected an object to merge, found int"),
        ("distinct", [{"v": []}, {"v": Decimal(1)}], {}, "item 1 .*: field 'v': expected a JSON value, found Decimal"),
        ("custom", [{"v": 3}, {"v": -1}], {"reducer": "span"}, "item 1 .*: field 'v': expected a natural number"),
    ],
)  # fmt: skip
def test_an_item_that_does_not_fit_is_named(
    method: str, items: list[object], fields: dict[str, object], problem: str
) -> None:
    """Its number, the field, what was expected and what was found, wherever the chunks are cut."""
    for size in (1, 10):
        with pytest.raises(ModelOnexError, match=problem) as caught:
            aggregate(contract(items, method, value_field="v", **fields), chunk_size=size)
        assert caught.value.error_code is Code.VALIDATION_ERROR
        assert isinstance(caught.value.context["item"], int)


@pytest.mark.parametrize("method", ["sum", "average"])
@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, ""),
        (
            {"group_by": "k", "window": {"type": "tumbling", "time_field": "t", "size_ms": 10}},
            ", k 'b', window_start 0, window_end 10",
        ),
    ],
)
def test_a_value_that_no_float_can_hold_is_refused(method: str, fields: dict[str, object], where: str) -> None:
    """With its group and window: JSON has no infinity."""
    items = [{"k": "a", "v": 1, "t": 0}, {"k": "b", "v": 10**400, "t": 0}, {"k": "b", "v": 0.5, "t": 0}]

    with pytest.raises(ModelOnexError, match=rf"^aggregation '{method}' of 'v'{where}: the result is beyond") as caught:
        aggregate(contract(items, method, value_field="v", **fields))

    assert caught.value.error_code is Code.VALIDATION_ERROR


def test_what_a_custom_reducer_raises() -> None:
    """The item is named, also where values waited by group; a ValueError is one of the input."""
    items = [{"k": "a", "v": 1}, {"k": "b", "v": 13}]
    for group_by in ((), "k"):
        with pytest.raises(
            ModelOnexError, match=r"reducer 'span', item 1 .*: add raised LookupError: no luck"
        ) as caught:
            aggregate(contract(items, "custom", value_field="v", group_by=group_by, reducer="span"))
        assert caught.value.error_code is Code.OPERATION_FAILED
    with pytest.raises(AlgorithmNotFoundError, match="did you mean 'span'"):
        aggregate(contract([], "custom", reducer="spam"))
    with pytest.raises(ModelOnexError, match="factor"):
        aggregate(contract([], "custom", reducer="span", parameters={"fuctor": 2}))
    with pytest.raises(ModelOnexError, match="lacks init, add, merge, finish"):
        reducer("empty")(object)
    with pytest.raises(ModelOnexError, match=r"'span' is .*Span already"):
        reducer("span")(type("Other", (Span,), {}))
    assert reducer("span")(Span) is Span
    assert aggregate(contract([], "custom", reducer="span")) == []


def at(*times: int) -> list[dict[str, object]]:
    return [{"t": time, "v": number} for number, time in enumerate(times)]


TUMBLING = {"type": "tumbling", "time_field": "t", "size_ms": 10}
SLIDING = {"type": "sliding", "time_field": "t", "size_ms": 10, "slide_ms": 5}
SESSION = {"type": "session", "time_field": "t", "gap_ms": 5}


@pytest.mark.parametrize(
    ("window", "times", "fields", "rows", "late"),
    [
        (TUMBLING, (1, 9, 10, 29), {}, {(0, 10): [0, 1], (10, 20): [2], (20, 30): [3]}, 0),
        (TUMBLING, (-1, 0), {}, {(-10, 0): [0], (0, 10): [1]}, 0),
        (TUMBLING, (1, 10, 2), {}, {(0, 10): [0], (10, 20): [1]}, 1),  # closed by the item at 10
        (TUMBLING, (1, 10, 2), {"watermark_ms": 1}, {(0, 10): [0, 2], (10, 20): [1]}, 0),
        (TUMBLING, (1, 11, 2), {"watermark_ms": 1}, {(0, 10): [0], (10, 20): [1]}, 1),
        (TUMBLING, (1, 99, 2), {"late_data_policy": "update"}, {(0, 10): [0, 2], (90, 100): [1]}, 0),
        (SLIDING, (7,), {}, {(0, 10): [0], (5, 15): [0]}, 0),
        (SLIDING, (7, 12, 8), {}, {(0, 10): [0], (5, 15): [0, 1, 2], (10, 20): [1]}, 0),  # late for one window
        (SLIDING, (7, 20, 8), {}, {(0, 10): [0], (5, 15): [0], (15, 25): [1], (20, 30): [1]}, 1),
        (SESSION, (1, 5, 10, 12), {}, {(1, 10): [0, 1], (10, 17): [2, 3]}, 0),
        (SESSION, (1, 9, 5), {"watermark_ms": 9}, {(1, 14): [0, 2, 1]}, 0),  # the third joins the two
        (SESSION, (1, 20, 2), {}, {(1, 6): [0], (20, 25): [1]}, 1),
        (SESSION, (1, 7, 5), {}, {(1, 6): [0], (5, 12): [1, 2]}, 0),  # the first is closed, and is not extended
        (SESSION, (1, 20, 2), {"late_data_policy": "update"}, {(1, 7): [0, 2], (20, 25): [1]}, 0),
    ],
)  # fmt: skip
def test_windows(
    window: dict[str, object],
    times: tuple[int, ...],
    fields: dict[str, object],
    rows: dict[tuple[int, int], list[int]],
    late: int,
) -> None:
    """Which items are in which window, and which are late, by event time alone."""
    aggregation = Aggregation(contract([], "collect", value_field="v", window=window, **fields))
    for item in at(*times):
        aggregation.add([item])
    found = {(row["window_start"], row["window_end"]): row["value"] for row in aggregation.rows()}

    assert found == {place: sorted(values) for place, values in rows.items()}
    assert aggregation.late == late


def test_late_items_are_put_aside_or_refused() -> None:
    """`side_output` keeps them with their number, `error` names the first."""
    aside = Aggregation(contract([], "count", window=TUMBLING, late_data_policy="side_output"))
    aside.add(at(1, 25, 2))
    assert aside.late_items == [{"event": "late_item", "number": 2, "event_time": 2, "item": {"t": 2, "v": 2}}]

    refused = Aggregation(contract([], "count", window=TUMBLING, late_data_policy="error"))
    with pytest.raises(ModelOnexError, match=r"item 2 .*field 't': event time 2 is late, windows are closed up to 25"):
        refused.add(at(1, 25, 2))

    full = Aggregation(contract([], "count", window=TUMBLING, late_data_policy="side_output", buffer_size_mb=1))
    with pytest.raises(ModelOnexError, match="late items fill a quarter") as caught:
        full.add([*at(99), *at(*[1] * 2_000)])
    assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE


def test_event_times_are_of_three_kinds() -> None:
    """Milliseconds, ISO 8601 with an offset, aware datetimes; all else names the item."""
    items = [
        {"t": 1_700_000_000_000},
        {"t": "2023-11-14T23:13:20.009+01:00"},
        {"t": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)},
    ]
    assert aggregate(contract(items, "count", window=TUMBLING)) == [
        {"window_start": 1_700_000_000_000, "window_end": 1_700_000_000_010, "value": 3}
    ]
    for wrong, found in (("2023-11-14", "found '2023-11-14'"), (1.5, "found 1.5"), (None, "found null"), ("x", "'x'")):
        with pytest.raises(ModelOnexError, match=f"item 1 .*field 't': expected an event time.*{found}"):
            aggregate(contract([items[0], {"t": wrong}], "count", window=TUMBLING))


def test_a_partial_state_fits_its_own_aggregation_only() -> None:
    """Another method, field or window is refused, and so is what is damaged."""
    state = Aggregation(contract([], "sum", value_field="v")).dump()
    for other in (contract([], "average", value_field="v"), contract([], "sum", value_field="w")):
        with pytest.raises(StateConsistencyError, match="not one of this aggregation"):
            Aggregation(other).absorb(state)
    damaged = cast("dict[str, object]", dict(cast("dict[str, object]", state)))
    damaged["rows"] = [[[], 0]]
    with pytest.raises(ModelOnexError):
        Aggregation(contract([], "sum", value_field="v")).absorb(damaged)  # type: ignore[arg-type]  # JSON
    with pytest.raises(StateConsistencyError):
        Aggregation(contract([], "sum")).absorb(None)


def test_windows_that_close_are_not_merged() -> None:
    """What is late depends on all items before; only an empty aggregation takes such a state."""
    asked = contract([], "count", window=TUMBLING)
    some = Aggregation(asked)
    some.add(at(1, 2))
    empty = Aggregation(asked)
    empty.absorb(some.dump())

    with pytest.raises(ModelOnexError, match="only with late_data_policy 'update'"):
        empty.absorb(some.dump())
    assert [row["value"] for row in empty.rows()] == [2]


def test_values_of_two_kinds_do_not_merge() -> None:
    """Text and numbers in two partial states of one group have no order."""
    states = []
    for value in (1, "a"):
        aggregation = Aggregation(contract([], "min"))
        aggregation.add([value])
        states.append(aggregation.dump())
    whole = Aggregation(contract([], "min"))
    whole.absorb(states[0])

    with pytest.raises(ModelOnexError, match="text and numbers have no common order"):
        whole.absorb(states[1])


def test_what_is_no_json_cannot_be_stored() -> None:
    """The result has it all the same."""
    aggregation = Aggregation(contract([], "collect"))
    aggregation.add([datetime(2024, 1, 1, tzinfo=UTC)])

    with pytest.raises(ModelOnexError, match=r"no JSON.*datetime"):
        aggregation.dump()
    assert aggregation.result() == [datetime(2024, 1, 1, tzinfo=UTC)]


def test_memory_without_files_is_limited_all_the_same() -> None:
    """An aggregation that cannot spill refuses to grow, and says what to change."""
    aggregation = Aggregation(contract([], "collect", group_by="k", buffer_size_mb=1))

    with pytest.raises(ModelOnexError, match=r"need more than memory_management.buffer_size_mb, 1 MiB") as caught:
        for start in range(0, 20_000, 1_000):
            aggregation.add([{"k": number} for number in range(start, start + 1_000)])
    assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"method": "custom"}, "reducer names the class"),
        ({"method": "sum", "reducer": "span"}, "reducer names the class"),
        ({"method": "sum", "parameters": {}}, "'sum' takes none"),
        ({"method": "sum", "percentile": 3}, "goes with the method 'percentile'"),
        ({"method": "sum", "group_by": ["a", "a"]}, "names a field twice"),
        ({"method": "sum", "group_by": "value"}, "cannot have 'value'"),
        ({"method": "sum", "window": {**TUMBLING, "gap_ms": 3}}, "tumbling window has size_ms and no other"),
        ({"method": "sum", "window": {"type": "session", "time_field": "t"}}, "has gap_ms .*found none"),
        ({"method": "sum", "window": {**SLIDING, "slide_ms": 11}}, "slide_ms is at most size_ms, 10"),
        ({"method": "sum", "window": {**SLIDING, "size_ms": 9_999, "slide_ms": 1}}, "would be in 9999 windows"),
        ({"method": "sum", "watermark_ms": 3}, "there is no window"),
        ({"method": "sum", "checkpoint_items": 3}, "checkpoint_items is about a stored state"),
        ({"method": "sum", "transaction_config": {"enabled": True}}, "transaction_config.enabled is about a stored"),
        ({"method": "sum", "backup_config": {"enabled": True}}, "needs backup_location"),
        (
            {"method": "sum", "window": TUMBLING, "state_key": "s", "conflict_resolution": "merge"},
            "choose late_data_policy 'update'",
        ),
        ({"method": "sum", "data": 3}, "input_data is a list, or an object with one list; found int"),
    ],
)  # fmt: skip
def test_rules_over_several_fields(fields: dict[str, object], problem: str) -> None:
    """ModelOnexError VALIDATION_ERROR names the fields and what to do."""
    given = {name: value for name, value in fields.items() if name not in {"method", "data"}}

    with pytest.raises(ModelOnexError, match=problem) as caught:
        contract(fields.get("data", []), str(fields["method"]), **given)
    assert caught.value.error_code is Code.VALIDATION_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        {"percentile": 101}, {"percentile": ()}, {"value_field": "a..b"}, {"group_by": [""]}, {"buffer_size_mb": 0},
        {"chunk_size": 0}, {"chunk_size": True}, {"null_values": "drop"}, {"unknown": 1}, {"state_key": ""},
    ],
)  # fmt: skip
def test_bounds_and_vocabularies(fields: dict[str, object]) -> None:
    """Those of one field are pydantic's."""
    with pytest.raises(ValidationError):
        contract([], "percentile", **fields)


def test_a_contract_is_frozen_and_keeps_what_it_was_given() -> None:
    """Its input is neither copied nor drawn from."""
    items = iter(sales(3))
    asked = contract(items, "sum", enabled=True)

    assert asked.input_data is items
    assert len(list(items)) == 3
    assert isinstance(asked, ModelContractReducer)
    with pytest.raises(ValidationError):
        asked.input_data = []  # type: ignore[misc]  # what is tested
