"""CEL: what is bound, what comes out, and what is said when something is wrong."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.cel_expressions import MAX_CHARACTERS, CelError, compile_cel, keys_read

NAMES = ("state", "payload", "meta")
ROOTS: dict[str, Mapping[str, object] | JsonValue] = {
    "state": {"a": {"b": 1, "c": 2}, "n": 3, "items": [1, 2.5, None, "x"], "text": "state.n"},
    "payload": {"amount": 10, "state": 7, "key": "n"},
    "meta": {},
}


class Watched(Mapping[str, object]):
    """A map that knows which of its keys were read."""

    def __init__(self, **values: object) -> None:
        self.values_ = values
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> object:
        self.read.add(key)
        return self.values_[key]

    def __contains__(self, key: object) -> bool:
        return key in self.values_

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("state.n > 2", True),
        ("state.n + payload.amount", 13),
        ("has(state.a.b)", True),
        ("has(state.z)", False),
        ("has(state.a.z)", False),
        ("state.a.b + state['a']['c']", 3),
        ('state["n"]', 3),
        ("state[payload.key]", 3),
        ("size(state)", 4),
        ("payload.state", 7),
        (".state.n", 3),
        ("[state.n].map(x, x + state.n)", [6]),
        ("state.items.size()", 4),
        ("state.items", [1, 2.5, None, "x"]),
        ("state.a", {"b": 1, "c": 2}),
        ("state.a.b == 1 && state.a == {'c': 2, 'b': 1}", True),
        ("state.a == {'c': 2, 'b': 1} && state.a.b == 1", True),
        ("'state.x' + payload.key", "state.xn"),
        (r"r'\d' + '''a'b''' + 'c'", r"\da'bc"),
        ("state.text // state.zzz", "state.n"),
        ("{'z': 1, 'a': {'y': 1, 'b': null}}", {"a": {"b": None, "y": 1}, "z": 1}),
        ("payload.amount * 1.5 > 1.0 ? 1 : 2", None),
        ("state.n == 3.0", True),
        ("2u", 2),
        ("1.5", 1.5),
        ("state.exists(state, state == 'n')", True),
        ("state.a.exists(k, k == 'c')", True),
    ],
)
def test_an_expression_gives_its_value_as_json(text: str, value: JsonValue) -> None:
    """Whatever way the names are used; maps are sorted; integers and doubles do not mix (None: it fails)."""
    program = compile_cel(text, NAMES)

    if value is None:
        with pytest.raises(ModelOnexError, match="overload"):
            program.evaluate(ROOTS)
    else:
        found = program.evaluate(ROOTS)
        assert found == value
        assert list(found) == list(value) if isinstance(found, dict) and isinstance(value, dict) else True


def test_only_the_leaves_that_are_read_are_bound() -> None:
    """A large state costs nothing but what the expression names, also below a key."""
    state = Watched(a={"b": {"c": 1}, "never": object()}, n=1, never=object())

    value = compile_cel("state.a.b.c + state.n", NAMES).evaluate({"state": state})

    assert (value, state.read) == (2, {"a", "n"})


def test_a_name_that_is_not_read_need_not_be_there() -> None:
    """`roots` tells what an evaluation needs."""
    program = compile_cel("state.n == 1", NAMES)

    assert program.roots == {"state"}
    assert program.holds({"state": {"n": 1}})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("state.zz", "zz"),
        ("1 / (state.n - 3)", "divide by zero"),
        ("state.n > 'a'", "overload"),
        ("9223372036854775807 + state.n", "overflow"),
        ("1.0 / 0.0", "not finite"),
        ("[timestamp('2026-01-01T00:00:00Z')]", "string"),
        ("duration('3s')", "no JSON form"),
        ("{1: 2}", "no JSON form"),
        ("state.big", "range"),
        ("state.many.all(x, state.many.exists(y, y == x))", "budget"),
        ("state.object", "Non-CEL"),
    ],
)
def test_an_expression_without_a_value_is_a_validation_error(text: str, reason: str) -> None:
    """It names the expression and what happened; a loop of loops ends within the engine's budget."""
    roots = {"state": {"n": 3, "big": 10**30, "many": list(range(3000)), "object": object()}}

    with pytest.raises(ModelOnexError, match=reason) as raised:
        compile_cel(text, NAMES).evaluate(roots)

    assert raised.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert raised.value.context == {"expression": text}


@pytest.mark.parametrize(("text", "reason"), [("state.text", "STRING"), ("state.zz", "zz"), ("state.n", "INT")])
def test_a_condition_gives_true_or_false(text: str, reason: str) -> None:
    """Nothing else counts as one."""
    program = compile_cel(text, NAMES, condition=True)

    with pytest.raises(ModelOnexError, match=reason):
        program.holds(ROOTS)


def test_a_text_that_looks_like_an_error_is_a_text() -> None:
    """Values and errors are told apart by type."""
    text = "NOT_FOUND: Key not found in map"

    assert compile_cel("state.t", NAMES).evaluate({"state": {"t": text}}) == text


@pytest.mark.parametrize(
    ("text", "offset", "message", "fix"),
    [
        ("stat.n > 1", 0, "undeclared name 'stat'", "did you mean 'state'"),
        ("state.my-stat.x == 1", 9, "undeclared name 'stat'", "is written state['my-stat']"),
        ("state.a.b-c > 1", 10, "undeclared name 'c'", "is written state.a['b-c']"),
        ("state.n - foo", 10, "undeclared name 'foo'", "names are"),
        ("state.n + 'ä' + foo.bar", 16, "undeclared name 'foo'", "'foo'"),
        ("state.n >\n  now()", 12, "undeclared name 'now'", ""),
        ("state.n +", 9, "mismatched input '<EOF>'", "mend"),
        ("state.n\n ) 1", 9, "extraneous|mismatched|Syntax", "mend"),
        ("(" * 400 + "1" + ")" * 400, 0, "recursion", ""),
        ("'" + "x" * MAX_CHARACTERS + "'", 0, "characters", "split"),
        ("'\ud800'", 1, "surrogate", ""),
    ],
)
def test_a_mistake_is_told_at_compile_with_its_place(text: str, offset: int, message: str, fix: str) -> None:
    """Syntax, undeclared names and functions, and what the engine cannot take."""
    with pytest.raises(CelError, match=message) as raised:
        compile_cel(text, NAMES)

    assert raised.value.offset == offset
    assert fix in raised.value.fix


def test_a_condition_of_another_type_is_a_mistake_of_its_text() -> None:
    """As far as the type is known."""
    with pytest.raises(CelError, match="gives INT"):
        compile_cel("1 + 1", NAMES, condition=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("state.m.map(k, k)", ["a", "b", "c"]),
        ("state . m // of letters\n . map (k, state.m[k] > 1, k)", ["a", "b"]),
        ("dyn(state.m).filter(k, state.m[k] > 1)", ["a", "b"]),
        ("[state.m][0].map(k, k).filter(k, k != 'b')", ["a", "c"]),
        ("{'z': 1, 'y': 2}.map(k, k)", ["y", "z"]),
        ("state.list.map(x, x + 1)", [3, 2]),
        ("state.nested.map(m, m.map(k, k))", [["a", "b"]]),
        ("[timestamp('2026-01-01T00:00:00Z')].map(t, t).map(t, string(t))", ["2026-01-01T00:00:00Z"]),
        ("state.map", "a key"),
    ],
)
def test_going_over_a_map_is_going_over_its_sorted_keys(text: str, value: JsonValue) -> None:
    """However the map is come by; lists keep their order, and keys that are called like a macro are keys."""
    state = {"m": {"c": 1, "a": 3, "b": 2}, "list": [2, 1], "nested": [{"b": 1, "a": 2}], "map": "a key"}

    assert compile_cel(text, NAMES).evaluate({"state": state}) == value


@pytest.mark.parametrize(
    "text", ["{1: 2, true: 3}.map(k, k)", "state.n.map(k, k)", "(state.n > 1 ? [duration('1s')] : []).map(d, 1)"]
)
def test_what_has_no_order_of_its_own_is_not_gone_over(text: str) -> None:
    """Maps with keys that are no texts, scalars, and lists of times that somebody computed."""
    with pytest.raises(ModelOnexError, match=r"map\(\) and filter\(\) go over"):
        compile_cel(text, NAMES).evaluate(ROOTS)


def test_an_expression_over_a_map_gives_the_same_in_every_process() -> None:
    """The engine's order differs from process to process, and from one evaluation to the next."""
    code = """
from omnibase_core.utils.cel_expressions import compile_cel
state = {"m": {f"k{n}": n for n in range(50)}}
for _ in range(3):
    for text in ("state.m.map(k, k)", "state.m.filter(k, state.m[k] > 9)", "state.m"):
        print(compile_cel(text, ("state",)).evaluate({"state": state}))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert len(said) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("steps.a.b + steps['c']", [("a", 6), ("c", 18)]),
        ("size(steps) + steps[state.key] + state.steps.x", []),
        ("[1].map(steps, steps.a)", []),
    ],
)
def test_constant_keys_below_a_name_are_known_with_their_places(text: str, found: list[tuple[str, int]]) -> None:
    """Not those below a key of the same name, nor below a variable of a macro."""
    assert list(keys_read(text, "steps")) == found


@pytest.mark.parametrize("leaf", [1, datetime(2026, 1, 1, tzinfo=UTC), {1}], ids=["plain", "a time", "no value of CEL"])
def test_what_is_nested_too_deep_is_refused_before_the_engine_overruns_its_stack(leaf: object) -> None:
    """It would end the process. Two hundred levels are no trouble."""
    program = compile_cel("size(state.items) == 1", NAMES, condition=True)
    endless: list[object] = []
    endless.append([endless, leaf])

    for value in (_nested(leaf, 300), _nested(leaf, 100_000), endless):
        with pytest.raises(ModelOnexError, match="nested deeper than 250") as raised:
            program.holds(ROOTS | {"state": {"items": value}})
        assert raised.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert program.holds(ROOTS | {"state": {"items": _nested(1, 200)}})


def _nested(leaf: object, depth: int) -> list[object]:
    value = [leaf]
    for _ in range(depth):
        value = [value]
    return value


def test_without_the_library_an_expression_is_a_configuration_error() -> None:
    """The message names the extra; importing the module needs no library."""
    code = """
import sys
sys.modules["cel_expr_python.cel"] = None
sys.modules["cel_expr_python"] = None
from omnibase_core.utils.cel_expressions import compile_cel
try:
    compile_cel("1", ())
except Exception as error:
    print(error.error_code.value, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("CONFIGURATION_ERROR")
    assert "pip install 'omnibase[cel]'" in done.stdout
