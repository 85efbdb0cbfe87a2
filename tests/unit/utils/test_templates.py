"""Getters, encoders and their composition."""

import enum
import json
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import Hole, parse_template
from omnibase_core.utils import templates
from omnibase_core.utils.templates import Scope, compile_getter, join, path_of, render_hole, text_of


def _hole(text: str) -> Hole:
    (hole,) = parse_template(text)
    assert isinstance(hole, Hole)
    return hole


def _get(text: str, **scope: object) -> object:
    return compile_getter(_hole(text))(Scope(**({"input": {}} | scope)))  # type: ignore[arg-type]  # the test knows the fields


def _refusal(run: Callable[[], object]) -> ModelOnexError:
    with pytest.raises(ModelOnexError) as caught:
        run()
    assert caught.value.__cause__ is None
    return caught.value


def _encoded(encode: templates.Encoder, value: object) -> str:
    return render_hole(_hole("${input.v}"), encode)(Scope({"v": value}))


def _rendered(part: templates.Part) -> templates.Renderer:
    assert isinstance(part, templates.Text)
    return part.emit()


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Old(str, enum.Enum):  # noqa: UP042  # the older spelling, which prints differently
    A = "a"


class Number(enum.IntEnum):
    TWO = 2


@dataclass
class Point:
    x: int
    tags: list[str]


class User(BaseModel):
    name: str
    mail: str = Field("m@example.org", alias="eMail")


MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
ID = UUID("12345678-1234-5678-1234-567812345678")

OBJECTS: list[tuple[object, object]] = [
    (ID, str(ID)),
    (MOMENT, "2024-05-06T07:08:09Z"),
    (date(2024, 5, 6), "2024-05-06"),
    (Decimal("1.50"), "1.50"),
    (Path("a/b"), "a/b"),
    (b"abc", "abc"),
    (Colour.RED, "red"),
    (Colour.ONE, 1),
    (Word.A, "a"),
    (Old.A, "a"),
    (Number.TWO, 2),
]


# getters


@pytest.mark.parametrize(
    ("text", "data", "value"),
    [
        ("${input.a}", {"a": 1}, 1),
        ("${input.a.b}", {"a": {"b": [1]}}, [1]),
        ("${input.a.0}", {"a": ["x", "y"]}, "x"),
        ("${input.a[1]}", {"a": ["x", "y"]}, "y"),
        ("${input.a.1.b}", {"a": (0, {"b": 2})}, 2),
        ("${input.a.0}", {"a": {"0": "zero"}}, "zero"),
        ("${input.a[0]}", {"a": {"0": "zero"}}, "zero"),
        ("${input.0}", {"0": "zero"}, "zero"),
        ("${input.a}", {"a": None}, None),
        ("${input.a.name}", {"a": User(name="Ann", eMail="x")}, "Ann"),
        ("${input.a.eMail}", {"a": User(name="Ann", eMail="x")}, "x"),
        ("${input.a.tags.0}", {"a": Point(1, ["t"])}, "t"),
        ("${input.a.b}", {"a": MappingProxyType({"b": 1})}, 1),
        ("${input.a.b}", {"a": UserDict({"b": 1})}, 1),
    ],
)
def test_a_path_is_keys_and_indexes(text: str, data: dict[str, object], value: object) -> None:
    """A segment is a key of a map, an index of a list in both spellings, or a field of a model or dataclass."""
    assert _get(text, input=data) == value


@pytest.mark.parametrize(
    "data", [{}, {"a": None}, {"a": {}}, {"a": {"b": None}}, {"a": 5}, {"a": "text"}, {"a": []}, {"a": Point(1, [])}]
)
def test_a_default_stands_for_missing_and_null(data: dict[str, object]) -> None:
    """A default has its own type and stands for a missing or null value at any depth."""
    assert _get("${input.a.b:-5}", input=data) == 5


@pytest.mark.parametrize(
    ("data", "value"), [({}, 7), ({"a": None}, 7), ({"a": 0}, 0), ({"a": ""}, ""), ({"a": False}, False)]
)
def test_a_default_does_not_replace_what_is_merely_empty(data: dict[str, object], value: object) -> None:
    """Zero, false and the empty text are values."""
    assert _get("${input.a:-7}", input=data) == value


@pytest.mark.parametrize("items", [["x"], ("x",)])
def test_an_index_counts_under_a_default(items: object) -> None:
    """A default does not hide an element that is there."""
    assert _get("${item.0:-none}", item=items) == "x"
    assert _get("${input.a.0:-none}", input={"a": items}) == "x"
    assert _get("${input.a.1:-none}", input={"a": items}) == "none"


@pytest.mark.parametrize(
    ("text", "data", "said"),
    [
        ("${input.b}", {"a": 1, "c": 2}, "'b' is missing in input; keys there: a, c"),
        ("${input.a.b}", {"a": {"x": "hidden-value"}}, "'b' is missing in input.a; keys there: x"),
        ("${input.a.b}", {"a": {}}, "keys there: none"),
        ("${input.a.5}", {"a": ["hidden-value"]}, "'5' is missing in input.a; it is a list of 1"),
        ("${input.a.-1}", {"a": ["hidden-value"]}, "it is a list of 1"),
        ("${input.a." + "9" * 5_000 + "}", {"a": [1]}, "it is a list of 1"),
        ("${input.a.b}", {"a": "hidden-value"}, "'b' is missing in input.a; it is str"),
        ("${input.a.0}", {"a": "hidden-value"}, "it is str"),
        ("${input.a.0}", {"a": b"hidden-value"}, "it is bytes"),
        ("${input.a.b}", {"a": None}, "it is NoneType"),
        ("${input.a.b}", {"a": User(name="hidden-value")}, "keys there: eMail, name"),
        ("${input.b}", {"a\nb" + "x" * 100: 1}, r"keys there: 'a\nb" + "x" * 57 + "'"),
    ],
    ids=range(12),
)
def test_a_missing_value_names_template_path_and_keys(text: str, data: dict[str, object], said: str) -> None:
    """The error names the template, the place, and what is there instead, and never a value."""
    error = _refusal(lambda: _get(text, input=data))

    assert error.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert text in error.message
    assert said in error.message
    assert "hidden-value" not in error.message


def test_many_keys_are_cut() -> None:
    """A message shows twenty keys at most."""
    error = _refusal(lambda: _get("${input.x}", input={f"k{i:03}": i for i in range(1_000)}))

    assert error.message.endswith("k018, k019, ...")


@pytest.mark.parametrize("text", ["${env.NOPE}", "${secret.NOPE}", "${env.A.b}", "${env.\ud800}"])
def test_names_of_the_environment_are_not_told(text: str) -> None:
    """A missing variable or secret names itself only, neither the others nor a value."""
    import os

    error = _refusal(
        lambda: _get(text, env={"A": "hidden-value"} if "A" in text else os.environ, secrets={"A": "hidden-value"})
    )

    assert "keys there" not in error.message
    assert "hidden-value" not in error.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env.A}", "from env"),
        ("${secret.A}", "from secrets"),
        ("${output.create.id}", 7),
        ("${output.create.result.items.0.x}", "deep"),
        ("${meta.operation_id}", ID),
        ("${item}", {"k": 1}),
        ("${item.k}", 1),
        ("${index}", 3),
    ],
)
def test_every_source_is_read(text: str, value: object) -> None:
    """Each source reads its own part of the scope."""
    output = {"create": {"id": 7, "result": {"items": [{"x": "deep"}]}}}

    found = _get(
        text,
        env={"A": "from env"},
        secrets={"A": "from secrets"},
        output=output,
        meta={"operation_id": ID},
        item={"k": 1},
        index=3,
    )

    assert found == value


# encoders


@pytest.mark.parametrize(("value", "form"), OBJECTS, ids=repr)
def test_objects_from_python_become_what_json_makes_of_them(value: object, form: object) -> None:
    """UUIDs, dates, decimals, paths and enums are written in their JSON form in every place."""
    text = form if isinstance(form, str) else json.dumps(form)

    assert _encoded(templates.scalar_text, value) == text
    assert _encoded(templates.json_string_inside, value) == text
    assert _encoded(templates.header_value, value) == text
    assert _encoded(templates.path_piece, value) == text
    assert json.loads(_encoded(templates.json_value, value)) == form
    assert json.loads(_encoded(templates.json_value, [value])) == [form]
    assert _encoded(templates.single_body, value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (12, "12"),
        (2**200, str(2**200)),
        (1.5, "1.5"),
        (1e22, "1e+22"),
    ],
)
def test_scalars_render_as_json_does(value: object, text: str) -> None:
    """An embedded scalar is written as JSON writes it."""
    assert _encoded(templates.scalar_text, value) == text
    assert _encoded(templates.json_value, value) == text


@pytest.mark.parametrize(
    "value", [[], {}, (), {1}, [1], {"a": 1}, Point(1, []), User(name="a"), MappingProxyType({})], ids=repr
)
def test_only_scalars_stand_inside_a_text(value: object) -> None:
    """A list or map inside a text is refused by its type."""
    error = _refusal(lambda: _encoded(templates.scalar_text, value))

    assert error.error_code is EnumCoreErrorCode.VALIDATION_ERROR


def _circle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


def _deep() -> object:
    tree: object = 1
    for _ in range(20_000):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [object()],
        b"\xff",
        "\ud800",
        ["\ud800"],
        {"\ud800": 1},
        Point(1, ["\ud800"]),
        float("nan"),
        [float("inf")],
        Point(1, [float("nan")]),  # type: ignore[list-item]  # a dataclass does not check
        10**5_000,
        [10**5_000],
        _circle(),
        _deep(),
        SecretStr("hidden-value"),
        SecretBytes(b"hidden-value"),
        {1, object()},
    ],
    ids=range(17),
)
def test_what_has_no_json_form_is_refused_cleanly(value: object) -> None:
    """Whatever cannot be written ends as VALIDATION_ERROR that names the template and shows no value."""
    error = _refusal(lambda: _encoded(templates.json_value, value))

    assert error.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert "${input.v}" in error.message
    assert "hidden-value" not in error.message


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        ("text", ("text", True)),
        (ID, (str(ID), True)),
        ({"a": 1}, ('{"a": 1}', False)),
        (5, ("5", False)),
        (None, ("null", False)),
    ],
)
def test_a_whole_body_says_whether_it_is_text(value: object, pair: tuple[str, bool]) -> None:
    """A string is sent as it is, all else as JSON."""
    assert templates.body_and_kind(value, _hole("${input.v}")) == pair


@pytest.mark.parametrize("value", ["\r", "\n", "a\r\nb", "\0", "\x7f", "\x1b", "é", "\u2028"])
def test_a_header_value_is_visible_ascii(value: str) -> None:
    """Nothing that could end a header line goes into one."""
    assert "header value" in _refusal(lambda: _encoded(templates.header_value, value)).message
    assert _encoded(templates.header_value, "a\tb c~!") == "a\tb c~!"


@pytest.mark.parametrize("value", ["..", "a/../b", "a..b", "/etc", "\0", "../x"])
def test_a_piece_of_a_path_stays_below(value: str) -> None:
    """`..`, NUL and an absolute value are SECURITY_VIOLATION."""
    error = _refusal(lambda: _encoded(templates.path_piece, value))

    assert error.error_code is EnumCoreErrorCode.SECURITY_VIOLATION


@pytest.mark.parametrize("value", ["..", "a/../b", "a..b", "a\\..\\b", "\0", ""])
def test_a_whole_path_may_be_absolute_and_no_more(value: str) -> None:
    """A path that is one placeholder may be absolute, and holds neither `..` nor NUL."""
    path = _rendered(path_of(parse_template("${input.v}")))

    assert path(Scope({"v": "/etc/x"})) == "/etc/x"
    assert _refusal(lambda: path(Scope({"v": value}))).error_code is EnumCoreErrorCode.SECURITY_VIOLATION


@pytest.mark.parametrize(
    ("template", "a", "b"),
    [
        ("d/${input.a}${input.b}/x", ".", "."),
        ("d/.${input.a}/x", ".", ""),
        ("d/.${input.a}./x", "", ""),
        ("${input.a}/etc/x", "", ""),
    ],
)
def test_pieces_that_add_up_are_refused(template: str, a: str, b: str) -> None:
    """Two harmless values may not make `..`, nor an empty one an absolute path."""
    path = _rendered(path_of(parse_template(template)))

    error = _refusal(lambda: path(Scope({"a": a, "b": b})))

    assert error.error_code is EnumCoreErrorCode.SECURITY_VIOLATION


def test_dots_of_the_contract_itself_stay() -> None:
    """`..` that the contract writes is the contract's word; the roots judge it."""
    path = _rendered(path_of(parse_template("../${input.a}/v1..v2/${input.b}")))

    assert path(Scope({"a": "x", "b": "y.txt"})) == "../x/v1..v2/y.txt"
    assert path_of(parse_template("/fixed/../x")) == "/fixed/../x"


def test_a_wrapped_secret_is_unwrapped_where_a_secret_is_asked_for() -> None:
    """`${secret.X}` may be given as SecretStr; anywhere else one is refused rather than sent as asterisks."""
    scope = Scope({"v": SecretStr("hidden-value")}, secrets={"S": SecretStr("s3"), "B": SecretBytes(b"b3")})  # type: ignore[dict-item]  # that is the test
    for encode in (templates.scalar_text, templates.header_value, templates.single_body, templates.json_string_inside):
        assert render_hole(_hole("${secret.S}"), encode)(scope) == "s3"
        assert render_hole(_hole("${secret.B}"), encode)(scope) == "b3"
        assert "SecretStr" in _refusal(lambda: render_hole(_hole("${input.v}"), encode)(scope)).message  # noqa: B023  # called at once
    assert render_hole(_hole("${secret.S}"), templates.json_value)(scope) == '"s3"'


# composition


def test_constants_join_to_a_constant() -> None:
    """Parts without a placeholder need no closure."""
    assert join([]) == ""
    assert join(["", ""]) == ""
    assert join(["a", "", "b"]) == "ab"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("${input.a}", "1"),
        ("x${input.a}", "x1"),
        ("${input.a}x", "1x"),
        ("${input.a}${input.a}", "11"),
        ("x${input.a}y${input.b}z", "x1y${input.a}z"),
    ],
)
def test_substituted_values_are_never_scanned_again(text: str, made: str) -> None:
    """A value that looks like a placeholder is only a value."""
    render = _rendered(text_of(parse_template(text), templates.scalar_text))

    assert render(Scope({"a": 1, "b": "${input.a}"})) == made
