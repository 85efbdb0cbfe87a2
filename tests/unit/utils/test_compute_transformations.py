"""Every transformation of compute pipelines: what it gives, what it refuses, and that it changes nothing."""

import copy
import time
from decimal import Decimal
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.utils.compute_executor import execute_pipeline
from tests.support.compute import findings, plan_of, run, transformation

PEOPLE: JsonValue = [{"n": "b", "a": 2}, {"n": "a", "a": 2}, {"n": "c", "a": 1}]

GIVES: list[tuple[str, dict[str, object], JsonValue, JsonValue]] = [
    ("identity", {}, {"a": [1]}, {"a": [1]}),
    ("regex", {"pattern": "a+", "replacement": "-"}, "caat", "c-t"),
    ("regex", {"pattern": "(?P<x>b)(c)", "replacement": r"\2\g<x>"}, "abcd", "acbd"),
    ("regex", {"pattern": "A.c", "flags": ["IGNORECASE", "DOTALL"]}, "xa\ncx", "xx"),
    ("regex", {"pattern": "^a", "replacement": "b", "flags": ["MULTILINE"]}, "a\na", "b\nb"),
    ("case_conversion", {"mode": "uppercase"}, "straße", "STRASSE"),
    ("case_conversion", {"mode": "lowercase"}, "ABC", "abc"),
    ("case_conversion", {"mode": "titlecase"}, "ab cd", "Ab Cd"),
    ("trim", {}, " a \n", "a"),
    ("trim", {"mode": "left"}, " a ", "a "),
    ("trim", {"mode": "right"}, " a ", " a"),
    ("normalize_unicode", {}, "e\u0301", "\u00e9"),
    ("normalize_unicode", {"form": "NFKD"}, "\ufb01", "fi"),
    ("json_path", {"path": "$.a[0].b"}, {"a": [{"b": None}]}, None),
    ("json_path", {"path": "$.a[*].b"}, {"a": [{"b": 1}, {}, {"b": 2}]}, [1, 2]),
    ("json_path", {"path": "$.a[?@.b > 1]"}, {"a": []}, []),
    ("json_path", {"path": "$..x"}, "text", []),
    ("json_path", {"path": "$['\\u0061']"}, {"a": 5}, 5),
    ("split", {}, "a,b,,c", ["a", "b", "", "c"]),
    ("split", {"separator": "--", "max_splits": 1}, "a--b--c", ["a", "b--c"]),
    ("join", {}, ["a", "b"], "a,b"),
    ("join", {"separator": ""}, [], ""),
    ("template", {"template": "constant"}, 1, "constant"),
    ("template", {"template": "<${item}>"}, "a", "<a>"),
    ("template", {"template": "${input.n} ${input.m:-7}"}, {"n": "${item}"}, "${item} 7"),
    ("type_conversion", {"target_type": "text"}, 1.5, "1.5"),
    ("type_conversion", {"target_type": "text"}, True, "true"),
    ("type_conversion", {"target_type": "text"}, "a", "a"),
    ("type_conversion", {"target_type": "integer"}, "-12", -12),
    ("type_conversion", {"target_type": "integer"}, 3.0, 3),
    ("type_conversion", {"target_type": "integer"}, 3, 3),
    ("type_conversion", {"target_type": "number"}, "1e3", 1000.0),
    ("type_conversion", {"target_type": "number"}, "12", 12),
    ("type_conversion", {"target_type": "number"}, 0.5, 0.5),
    ("type_conversion", {"target_type": "boolean"}, "true", True),
    ("type_conversion", {"target_type": "boolean"}, False, False),
    ("filter", {"expression": "item > input[0]"}, [1, 2, 0, 3], [2, 3]),
    ("map", {"expression": "item * 2"}, [1, 2], [2, 4]),
    ("sort", {}, ["b", "a"], ["a", "b"]),
    ("sort", {}, [2, 1.5], [1.5, 2]),
    ("sort", {}, [], []),
    ("sort", {"key": "$.a"}, PEOPLE, [{"n": "c", "a": 1}, {"n": "b", "a": 2}, {"n": "a", "a": 2}]),
    (
        "sort",
        {"key": "$.a", "order": "descending"},
        PEOPLE,
        [{"n": "b", "a": 2}, {"n": "a", "a": 2}, {"n": "c", "a": 1}],
    ),
    ("group_by", {"key": "$.k"}, [{"k": "a"}, {"k": 1}, {"k": "a"}], {"a": [{"k": "a"}, {"k": "a"}], "1": [{"k": 1}]}),
    ("group_by", {"key": "$.k"}, [{"k": True}], {"true": [{"k": True}]}),
    ("flatten", {}, [1, [2, [3]]], [1, 2, [3]]),
    ("flatten", {"depth": 9}, [1, [2, [3]]], [1, 2, 3]),
    ("unique", {}, [1, True, 1.0, "1", [1], [1.0], None], [1, True, "1", [1], None]),
    ("unique", {"key": "$.a"}, [{"a": 1, "b": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 1}]),
    ("limit", {"count": 2}, [1, 2, 3], [1, 2]),
    ("limit", {"count": 2, "offset": 2}, [1, 2, 3], [3]),
    ("arithmetic", {"expression": "value.a * 2 + input.b"}, {"a": 2, "b": 1}, 5),
]


@pytest.mark.parametrize(("kind", "config", "data", "expected"), GIVES)
def test_a_transformation_gives(kind: str, config: dict[str, object], data: JsonValue, expected: JsonValue) -> None:
    """What the specification says, and the input is what it was."""
    before = copy.deepcopy(data)

    result = run([transformation(kind, "step", **config)], data)

    assert result.error_message is None
    assert repr(result.output) == repr(expected)
    assert data == before
    assert result.step_results["step"].transformation_type == kind


REFUSES: list[tuple[str, dict[str, object], JsonValue, str]] = [
    ("regex", {"pattern": "a"}, 1, "must be a text, found a number"),
    ("case_conversion", {"mode": "uppercase"}, None, "must be a text, found null"),
    ("trim", {}, [], "must be a text, found a list"),
    ("normalize_unicode", {}, {}, "must be a text, found a mapping"),
    ("json_path", {"path": "$.a"}, {"b": 1}, "nothing at $.a"),
    ("json_path", {"path": "$['\\u0061']"}, {"b": 1}, "nothing at $['\\u0061']"),
    ("split", {}, True, "must be a text, found a boolean"),
    ("join", {}, "ab", "must be a list, found a text"),
    ("join", {}, ["a", 1], "item 1 must be a text, found a number"),
    ("template", {"template": "${item}"}, [], "only a scalar can stand"),
    ("template", {"template": "${input.x}"}, {}, "'x' is missing"),
    ("template", {"template": "${input.x}"}, 5, "'x' is missing"),
    ("type_conversion", {"target_type": "text"}, None, "found null"),
    ("type_conversion", {"target_type": "text"}, float("nan"), "has no text"),
    ("type_conversion", {"target_type": "integer"}, True, "found a boolean"),
    ("type_conversion", {"target_type": "integer"}, 1.5, "nothing is rounded"),
    ("type_conversion", {"target_type": "integer"}, "1.5", "no whole number"),
    ("type_conversion", {"target_type": "integer"}, None, "found null"),
    ("type_conversion", {"target_type": "number"}, "NaN", "no number as JSON"),
    ("type_conversion", {"target_type": "number"}, "1e999", "beyond the range"),
    ("type_conversion", {"target_type": "number"}, False, "found a boolean"),
    ("type_conversion", {"target_type": "boolean"}, "yes", "neither true nor false"),
    ("type_conversion", {"target_type": "boolean"}, 1, "found a number"),
    ("filter", {"expression": "item.a"}, [{"a": 1}], "item 0: CEL"),
    ("map", {"expression": "1 / item"}, [1, 0], "item 1: CEL"),
    ("map", {"expression": "item"}, {}, "must be a list"),
    ("sort", {}, ["a", 1], "item 1 must be a text, found a number"),
    ("sort", {}, [1, "a"], "item 1 must be a number, found a text"),
    ("sort", {}, [True], "found a boolean"),
    ("sort", {}, [1.0, float("nan")], "has no place in an order"),
    ("sort", {"key": "$.a"}, [{"a": 1}, {}], "nothing at $.a in item 1"),
    ("group_by", {"key": "$.k"}, [{"k": 1.5}], "$.k of item 0 must be"),
    ("group_by", {"key": "$.k"}, [{"k": "1"}, {"k": 1}], "is a text in one item and not in another"),
    ("flatten", {}, "a", "must be a list"),
    ("unique", {}, {}, "must be a list"),
    ("limit", {"count": 1}, "abc", "must be a list"),
    ("arithmetic", {"expression": "value + 1"}, "a", "CEL"),
]


@pytest.mark.parametrize(("kind", "config", "data", "words"), REFUSES)
def test_a_transformation_refuses(kind: str, config: dict[str, object], data: JsonValue, words: str) -> None:
    """A value that it cannot take; the message names step and type, what was expected and what was found."""
    result = run([transformation(kind, "step", **config)], data)

    assert not result.success
    assert result.output is None
    assert result.error_step == "step"
    assert result.error_message is not None
    assert result.error_message.startswith(f"step 'step' ({kind}): ")
    assert words in result.error_message
    assert result.error_type in {"VALIDATION_ERROR", "EXTRACTION_ERROR"}


@pytest.mark.parametrize(
    ("kind", "config"), [("trim", {}), ("sort", {}), ("type_conversion", {"target_type": "text"}), ("join", {})]
)
def test_what_is_no_json_is_called_by_its_type(kind: str, config: dict[str, object]) -> None:
    """What rows of a database bring, such as decimals."""
    data = cast("JsonValue", Decimal("1.5"))  # what is tested

    result = run([transformation(kind, "step", **config)], data)

    assert result.error_type == "VALIDATION_ERROR"
    assert "found Decimal, which is no JSON" in str(result.error_message)


@pytest.mark.parametrize(
    ("kind", "config", "code", "words"),
    [
        ("regex", {"pattern": "(a"}, "E-REGEX", "missing )"),
        ("regex", {"pattern": "(a)", "replacement": r"\2"}, "E-REGEX", "replacement"),
        ("regex", {"pattern": "a", "replacement": r"\g<x>"}, "E-REGEX", "unknown group"),
        ("regex", {"pattern": "(?P<x>a)", "replacement": r"\g<x"}, "E-REGEX", "replacement"),
        ("regex", {"pattern": "a", "flags": ["VERBOSE"]}, "E-VALUE", "VERBOSE"),
        ("json_path", {"path": "a.b"}, "E-PATH", "path cannot be read"),
        ("json_path", {"path": "$.a[?"}, "E-PATH", "path cannot be read"),
        ("sort", {"key": "$["}, "E-PATH", "path cannot be read"),
        ("template", {"template": "${item"}, "E-TEMPLATE", ""),
        ("template", {"template": "${env.HOME}"}, "E-PURE", "reads nothing from outside"),
        ("template", {"template": "${output.other.output}"}, "E-UNKNOWN-STEP", "no earlier step 'other'"),
        ("filter", {"expression": "items > 1"}, "E-CEL", "undeclared name 'items'"),
        ("map", {"expression": "item +"}, "E-CEL", ""),
        ("arithmetic", {"expression": "item"}, "E-CEL", "undeclared name 'item'"),
        ("limit", {"count": -1}, "E-BOUNDS", "count"),
        ("limit", {}, "E-MISSING-FIELD", "count is missing"),
        ("trim", {"side": "left"}, "E-UNKNOWN-FIELD", "side"),
    ],
)
def test_a_config_that_cannot_work_is_refused_at_load(
    kind: str, config: dict[str, object], code: str, words: str
) -> None:
    """At its place, before anything runs."""
    (finding,) = findings([transformation(kind, "step", **config)])

    assert finding.code == code
    assert words in finding.message
    assert finding.key_path.startswith("compute_subcontract.pipeline[0].transformation_config")
    assert finding.line == 1
    assert finding.column > 1


@pytest.mark.parametrize("path", ["$[?search(@, '(a|a)*b')]", "$[?match(@, '(a|a)*b')]"])
def test_a_regular_expression_in_a_path_ends(path: str) -> None:
    """Its functions search under the same limit of time as the regex transformation."""
    began = time.monotonic()

    result = run([{**transformation("json_path", path=path), "timeout_ms": 100}], ["a" * 40])

    assert result.error_type == "TIMEOUT" or result.output == []  # an engine may be clever enough
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$[?search(@, 'b.')]", ["abc", "bc"]),
        ("$[?match(@, 'b.')]", ["bc"]),
        ("$[?match(@, '(')]", []),
        ("$[?match(@, @)]", ["abc", "bc"]),
    ],
)
def test_functions_of_a_path_match(path: str, expected: JsonValue) -> None:
    """As RFC 9535 says: what is no text and what is no pattern is no match."""
    assert run([transformation("json_path", path=path)], ["abc", "bc", 5, "["]).output == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, width=16) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("kan"), inner, max_size=3),
    max_leaves=12,
)
PLANS = {
    f"{index} {kind}": plan_of([transformation(kind, "step", **config)])
    for index, (kind, config, _, _) in enumerate(GIVES)
}


@given(name=st.sampled_from(sorted(PLANS)), data=JSON)
def test_no_transformation_changes_its_input_and_each_is_deterministic(name: str, data: JsonValue) -> None:
    """Whatever goes in: afterwards it is what it was, and a second run gives the same."""
    before = repr(data)

    first, second = (execute_pipeline(PLANS[name], data) for _ in range(2))

    assert repr(data) == before
    assert repr(first.output) == repr(second.output)
    assert (first.success, first.error_type, first.error_message) == (
        second.success,
        second.error_type,
        second.error_message,
    )
    assert first.error_type in {None, "VALIDATION_ERROR", "EXTRACTION_ERROR"}
