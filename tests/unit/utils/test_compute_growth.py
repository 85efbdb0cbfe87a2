"""How much work a pipeline may be: which inputs are small, and which contracts never are."""

from bisect import bisect_left
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.utils.compute_growth import growth_of, is_small
from tests.support.compute import plan_of, transformation

Config = dict[str, object]


def growth(*steps: dict[str, object], **fields: object) -> float:
    plan = plan_of(list(steps), **fields)
    return growth_of(plan.subcontract, plan.documents)


def branches(**lists: list[dict[str, object]]) -> dict[str, object]:
    return {"step_name": "p", "step_type": "parallel", "branches": lists}


def choice(when: str, then: dict[str, object]) -> dict[str, object]:
    return {"step_name": "c", "step_type": "conditional", "when": when, "then": [then]}


def mapping(**paths: str) -> dict[str, object]:
    return {"step_name": "m", "step_type": "mapping", "mapping_config": {"field_mappings": paths}}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (transformation("trim"), 1.0),
        (transformation("sort"), 1.0),
        (transformation("sort", key="$.a"), 2.0),
        (transformation("unique", key="$..a"), 31.0),
        (transformation("regex", pattern="a", replacement="aaaa"), 5.0),
        (transformation("split"), 17.0),
        (transformation("join", separator="x" * 16), 2.0),
        (transformation("template", template="${item}${item} " + "x" * 17), 5.0),
        (transformation("json_path", path="$.a[*,*]"), 4.0),
        (transformation("json_path", path="$..a..b"), inf),
        (transformation("json_path", path="$..[?@.a]"), inf),
        (transformation("json_path", path="$.a[?count($.a[*]) < 0]"), inf),
        (transformation("sort", key="$[?@ == $.a]"), inf),
        (transformation("arithmetic", expression="value +    value"), 3.0),
        (transformation("arithmetic", expression="value.map(x, x)"), inf),
        (transformation("arithmetic", expression="value" + " " * 600), inf),
        (transformation("filter", expression="item     == 'ab'"), 2.0),
        (transformation("map", expression="input"), inf),
        (mapping(a="$.input", b="$.input.a"), 3.0),
        (choice("value     == 'ab'", transformation("split")), 1.0),
        (branches(a=[transformation("trim")], b=[transformation("split", "s")]), 19.0),
        ({**transformation("split"), "enabled": False}, 1.0),
    ],
)
def test_every_step_has_its_growth(step: dict[str, object], expected: float) -> None:
    """How much larger than what it gets that is which it makes or goes through, at most."""
    found = growth(step)

    assert found == pytest.approx(expected) or (
        step.get("step_type") == "conditional" and found == pytest.approx(17 * (1 + 17 / 16))
    )


def test_growths_of_steps_multiply() -> None:
    """Disabled steps do not count."""
    copies = [transformation("regex", f"r{n}", pattern="a", replacement="aaa") for n in range(3)]

    assert growth(*copies) == 4.0**3


@pytest.mark.parametrize("field", ["input_schema", "output_schema", "step"])
def test_a_schema_that_refers_to_parts_of_itself_is_never_small(field: str) -> None:
    """Nobody knows how often it goes through a value; one without references goes once."""
    recursive = {"properties": {"a": {"anyOf": [{"$ref": "#"}]}}}
    check: dict[str, object] = {"step_name": "v", "step_type": "validation", "validation_config": {"schema_ref": "s"}}
    steps = [check] if field == "step" else [transformation("identity")]

    for schema, expected in ((recursive, inf), ({"required": ["a"]}, 1.0)):
        fields: Config = {"schemas": {"s": schema}} if field == "step" else {field: schema}
        assert growth(*steps, **fields) == expected


def test_the_shortest_limit_tells_what_is_small() -> None:
    """Those of disabled steps do not count; without limits nothing is watched."""
    trim = transformation("trim")

    assert plan_of([trim]).small_input is None
    assert plan_of([trim], pipeline_timeout_ms=10).small_input == 50_000
    assert plan_of([{**trim, "timeout_ms": 2}], pipeline_timeout_ms=10).small_input == 10_000
    assert plan_of([trim, {**trim, "step_name": "b", "timeout_ms": 2, "enabled": False}]).small_input is None
    assert plan_of([trim], pipeline_timeout_ms=3_600_000).small_input == 1_000_000
    assert plan_of([transformation("map", expression="input")], pipeline_timeout_ms=10).small_input == 0


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 16),
        (1.5, 16),
        ("abc", 19),
        ([], 16),
        ([1, [2, "a"]], 16 * 5 + 1),
        ({"ab": {"c": True}}, 16 * 3 + 3),
        (1 << 400, 16 + 100),
    ],
)
def test_a_value_counts_for_sixteen_and_its_characters(value: JsonValue, size: int) -> None:
    """Keys count too, and large numbers for their digits."""
    assert is_small(value, size)
    assert not is_small(value, size - 1)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_small_stays_so_with_more_room(value: JsonValue) -> None:
    """The answer is one threshold, whatever the value is."""
    size = bisect_left(range(10_000_000), True, key=lambda limit: is_small(value, limit))

    assert not is_small(value, size - 1)
    assert is_small(value, size + 1)


def test_what_is_no_json_is_never_small() -> None:
    """And a list without end, or one that holds itself, is told soon."""
    loop: list[object] = []
    loop.append(loop)

    assert not is_small({1, 2}, 1e9)
    assert not is_small([object()], 1e9)
    assert not is_small(loop, 10_000)
