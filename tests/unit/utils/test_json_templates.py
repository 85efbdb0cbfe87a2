"""JSON texts with placeholders."""

import json

import pytest

from omnibase_core.grammar.template_text import TemplateError, parse_template
from omnibase_core.utils.json_templates import json_text, json_tree, nearly_json_text
from omnibase_core.utils.templates import Part, Scope

SCOPE = Scope({"s": 'a"b\\', "n": 5, "m": {"k": [1, None]}, "e": ""})


def _text(part: Part) -> str:
    return part if isinstance(part, str) else part.emit()(SCOPE)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ('{"a": "${input.s}"}', {"a": 'a"b\\'}),
        ('{"a": "${input.n}"}', {"a": "5"}),
        ('{"a": ${input.n}, "b": ${input.m}}', {"a": 5, "b": {"k": [1, None]}}),
        ('{"a": ${input.s}}', {"a": 'a"b\\'}),
        ('["x${input.s}y${input.n}"]', ['xa"b\\y5']),
        ('["\\"${input.s}\\""]', ['"a"b\\"']),
        ('["\\\\${input.s}"]', ['\\a"b\\']),
        ('["${input.s}", "${input.s}"]', ['a"b\\', 'a"b\\']),
        ("${input.m}", {"k": [1, None]}),
        ('"${input.s}"', 'a"b\\'),
        ('{"$${x}": "$${input.s}"}', {"${x}": "${input.s}"}),
        ('{"a": 1}', {"a": 1}),
    ],
)
def test_quotes_decide(template: str, value: object) -> None:
    """Between quotes all is a string, escaped; a bare placeholder becomes any JSON value."""
    assert json.loads(_text(json_text(parse_template(template)))) == value


def test_the_output_keeps_the_structure_of_the_template() -> None:
    """Spaces, order and spelling of the constants stay as written."""
    assert _text(json_text(parse_template('{ "b" :${input.n},\n"a":1.0e1 }'))) == '{ "b" :5,\n"a":1.0e1 }'


@pytest.mark.parametrize(
    "template",
    [
        '{"a": ${input.n}',
        '{"a": ${input.n}${input.n}}',
        '{"a": -${input.n}}',
        '{"a": 1${input.n}}',
        '{"a": "x"${input.s}}',
        '{"a": NaN}',
        '{"a": "line\nbreak ${input.s}"}',
        "",
        "[" * 100_000,
        "9" * 5_000,
    ],
    ids=range(10),
)
def test_what_does_not_parse_is_refused(template: str) -> None:
    """A text that is no JSON with placeholders as holes is E-JSON."""
    with pytest.raises(TemplateError) as caught:
        json_text(parse_template(template))

    assert caught.value.problems[0].code == "E-JSON"


@pytest.mark.parametrize(
    "template",
    [
        '{"${input.s}": 1}',
        '{"x${input.s}y": 1}',
        "{${input.s}: 1}",
        '[{"a": {${input.s}: 1}}]',
        '{"a": 1, ${input.s}: 2}',
    ],
)
def test_a_placeholder_is_no_key(template: str) -> None:
    """Keys are the contract's own, quoted or bare."""
    with pytest.raises(TemplateError) as caught:
        json_text(parse_template(template))

    assert caught.value.problems[0].code == "E-JSON-KEY"


@pytest.mark.parametrize("template", ['{"a": "\\${input.s}"}', '{"a": "\\\\\\${input.s}",', '["x\\${input.s}'])
def test_no_placeholder_behind_a_backslash(template: str) -> None:
    """A backslash would eat the escape of what is put in, and let it end the string."""
    for compile_text in (json_text, nearly_json_text):
        with pytest.raises(TemplateError) as caught:
            compile_text(parse_template(template))
        assert caught.value.problems[0].code == "E-JSON-ESCAPE"


def test_nearly_json_is_escaped_in_quotes_only() -> None:
    """A text that only looks like JSON is still escaped inside quotes, and plain outside."""
    assert (
        _text(nearly_json_text(parse_template('{ f(a: "${input.s}", b: ${input.n}) }')))
        == '{ f(a: "a\\"b\\\\", b: 5) }'
    )


@pytest.mark.parametrize(
    ("tree", "value"),
    [
        (
            {"a": "${input.n}", "b": ["${input.m}", "x${input.n}", 1, None, True, 1.5]},
            {"a": 5, "b": [{"k": [1, None]}, "x5", 1, None, True, 1.5]},
        ),
        ("${input.s}", 'a"b\\'),
        ("", ""),
        ([], []),
        ({}, {}),
        (None, None),
        ({'k"': "$${input.s}", "$${x": "é\n"}, {'k"': "${input.s}", "${x": "é\n"}),
    ],
)
def test_a_tree_keeps_types(tree: object, value: object) -> None:
    """A leaf that is one placeholder keeps the value's type; any other is a string."""
    part, problems = json_tree(tree)  # type: ignore[arg-type]  # the cases are JSON

    assert problems == []
    assert json.loads(_text(part)) == value


@pytest.mark.parametrize(
    ("tree", "codes"),
    [
        ({"${input.s}": 1}, ["E-JSON-KEY"]),
        ({"a": {"x${": "${nope}"}}, ["E-JSON-KEY", "E-TEMPLATE"]),
        ([float("nan"), "${}"], ["E-JSON", "E-TEMPLATE"]),
        (["\ud800", {"\ud800": 1}], ["E-JSON", "E-JSON"]),
        (10**5_000, ["E-JSON"]),
    ],
    ids=range(5),
)
def test_all_problems_of_a_tree_are_found(tree: object, codes: list[str]) -> None:
    """Keys with placeholders, malformed leaves and values without a JSON form are reported together."""
    _, problems = json_tree(tree)  # type: ignore[arg-type]  # most of the cases are JSON

    assert [problem.code for problem in problems] == codes
