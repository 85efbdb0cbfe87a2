"""The grammar of placeholders."""

import pytest

from omnibase_core.grammar.template_text import NO_DEFAULT, Hole, TemplateError, holes, parse_template


def _hole(text: str) -> Hole:
    (hole,) = parse_template(text)
    assert isinstance(hole, Hole)
    return hole


def _problem(text: str) -> str:
    with pytest.raises(TemplateError) as caught:
        parse_template(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "source", "path"),
    [
        ("${input.a}", "input", ("a",)),
        ("${input.a.0.b}", "input", ("a", "0", "b")),
        ("${input.a[0].b}", "input", ("a", "0", "b")),
        ("${input.a[0][12]}", "input", ("a", "0", "12")),
        ("${env.API_BASE}", "env", ("API_BASE",)),
        ("${secret.api-key}", "secret", ("api-key",)),
        ("${output.create.result.id}", "output", ("create", "result", "id")),
        ("${item}", "item", ()),
        ("${item.name}", "item", ("name",)),
        ("${index}", "index", ()),
        ("${meta.correlation_id}", "meta", ("correlation_id",)),
        ("${input.größe}", "input", ("größe",)),
        ("${input.a-b_c@d}", "input", ("a-b_c@d",)),
        ("${input.-1}", "input", ("-1",)),
    ],
)
def test_sources_and_paths(text: str, source: str, path: tuple[str, ...]) -> None:
    """A path is keys and indexes, an index in either spelling."""
    hole = _hole(text)

    assert (hole.source, hole.path, hole.default, hole.text, hole.offset) == (source, path, NO_DEFAULT, text, 0)


@pytest.mark.parametrize(
    ("default", "value"),
    [
        ("5", 5),
        ("1.5", 1.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ('"5"', "5"),
        ('"a}b"', "a}b"),
        ('"${x}"', "${x}"),
        (r'"a\"}b"', 'a"}b'),
        ("", ""),
        ("plain words", "plain words"),
        ("a:-b", "a:-b"),
        ("[1, 2]", "[1, 2]"),
        ("{", "{"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("True", "True"),
        ('"open', '"open'),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5_000, "9" * 5_000),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_default_is_a_json_scalar_or_a_text(default: str, value: object) -> None:
    """What reads as a JSON scalar has its type; all else is the text as written."""
    found = _hole(f"${{input.a:-{default}}}").default

    assert found == value
    assert type(found) is type(value)


def test_constants_and_holes_in_order() -> None:
    """A template is split where the placeholders stand, with their offsets."""
    template = parse_template("a${input.b}c$${d}${env.E}")

    assert [part if isinstance(part, str) else part.text for part in template] == [
        "a", "${input.b}", "c${d}", "${env.E}",
    ]  # fmt: skip
    assert [hole.offset for hole in holes(template)] == [1, 17]


@pytest.mark.parametrize(
    ("text", "constant"),
    [
        ("", ""),
        ("a", "a"),
        ("$", "$"),
        ("$$", "$$"),
        ("}", "}"),
        ("$${", "${"),
        ("$${input.a}", "${input.a}"),
        ("$$${", "$${"),
    ],
)
def test_what_is_no_placeholder_stays(text: str, constant: str) -> None:
    """`$${` is a literal `${`; a lone `$` or `}` is itself."""
    assert parse_template(text) == ((constant,) if constant else ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${", "not closed"),
        ("a ${input.b", "not closed"),
        ("${input.b:-x", "not closed"),
        ("${}", "empty placeholder"),
        ("${ }", "empty placeholder"),
        ("${input}", "empty path"),
        ("${env}", "empty path"),
        ("${output.a}", "empty path"),
        ("${inptu.a}", "unknown source 'inptu'"),
        ("${a}", "unknown source"),
        ("${input.}", "malformed"),
        ("${input..a}", "malformed"),
        ("${input.a b}", "malformed"),
        ("${input.a[x]}", "malformed"),
        ("${input.a[\u0663]}", "malformed"),
        ("${input.a[-1]}", "malformed"),
        ("${.a}", "malformed"),
        ("${1}", "malformed"),
        ("${input.${env.X}}", "malformed"),
        ("${input.a:-${env.B}}", "default takes no placeholder"),
    ],
)
def test_a_malformed_placeholder_is_refused(text: str, said: str) -> None:
    """A malformed placeholder is named, with what to write instead."""
    assert said in _problem(text)


def test_all_problems_are_found_in_one_go() -> None:
    """A template with three mistakes reports three, each with its offset and a fix."""
    with pytest.raises(TemplateError) as caught:
        parse_template("${x.a} ${} ${input.ok} ${input}")

    assert [problem.offset for problem in caught.value.problems] == [0, 7, 23]
    assert all(problem.fix for problem in caught.value.problems)


def test_a_long_placeholder_is_cut_in_messages() -> None:
    """Messages show the beginning of an endless placeholder only."""
    assert len(_problem("${input." + "a " * 5_000 + "}")) < 100
