"""JSON texts with placeholders: quotes decide, and the output keeps the template's own structure (section 2.4)."""

import json
import re
from json.encoder import encode_basestring

from pydantic import JsonValue

from omnibase_core.grammar.template_text import Hole, Template, TemplateError, TemplateProblem, parse_template
from omnibase_core.utils.templates import Part, Piece, join, json_string_inside, json_value, scalar_text

_ESCAPE = re.compile(r"\\.", re.DOTALL)
_OPEN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
_MARK = "\ue000\ue001\ue000"
"""Stands for a placeholder inside a string while the structure is judged; a private-use text that nobody writes."""


def json_text(template: Template) -> Part:
    """A text that is JSON. Raises TemplateError when it does not parse, or has a placeholder as key."""
    parts, sample = _by_quotes(template, bare_is_json=True)
    try:
        _judge_json(sample)
    except TemplateError:
        raise
    except (ValueError, RecursionError) as error:
        detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise TemplateError(
            TemplateProblem(
                f"the text is no JSON: {detail}",
                fix="a placeholder stands for a whole value, or between quotes; mend the text, or use body_json",
                code="E-JSON",
            )
        ) from None
    return join(parts)


def nearly_json_text(template: Template) -> Part:
    """A text that looks like JSON but does not parse: still escaped inside quotes, plain outside.

    Raises TemplateError for a placeholder behind a backslash, where nothing can be escaped.
    """
    return join(_by_quotes(template, bare_is_json=False)[0])


def json_tree(tree: JsonValue) -> tuple[Part, list[TemplateProblem]]:
    """A tree whose string leaves are templates, as JSON text, and what is wrong in it."""
    parts: list[Piece] = []
    problems: list[TemplateProblem] = []
    _write_tree(tree, parts, problems)
    return join(parts), problems


def _write_tree(tree: JsonValue, parts: list[Piece], problems: list[TemplateProblem]) -> None:
    if isinstance(tree, str):
        try:
            template = parse_template(tree)
        except TemplateError as error:
            problems += error.problems
            return
        problems += _surrogates(tree)
        parts += leaf_parts(template)
    elif isinstance(tree, list):
        parts.append("[")
        for index, child in enumerate(tree):
            parts.append(", " if index else "")
            _write_tree(child, parts, problems)
        parts.append("]")
    elif isinstance(tree, dict):
        parts.append("{")
        for index, (key, child) in enumerate(tree.items()):
            problems += _surrogates(key)
            if "${" in key.replace("$${", ""):
                problems.append(_key_problem(key))
            parts.append((", " if index else "") + encode_basestring(key.replace("$${", "${")) + ": ")
            _write_tree(child, parts, problems)
        parts.append("}")
    else:
        try:
            parts.append(json.dumps(tree, allow_nan=False))
        except ValueError:
            shown = f"{tree!r}" if isinstance(tree, float) else f"the {type(tree).__name__}"
            problems.append(TemplateProblem(f"{shown} has no JSON form", code="E-JSON"))


def _surrogates(text: str) -> list[TemplateProblem]:
    try:
        text.encode()
    except UnicodeEncodeError:
        return [TemplateProblem(f"{text!r} holds a lone surrogate, which UTF-8 cannot carry", code="E-JSON")]
    return []


def leaf_parts(template: Template) -> list[Piece]:
    """A string leaf: alone a placeholder keeps its value's type, else all is one string."""
    if len(template) == 1 and isinstance(template[0], Hole):
        return [(template[0], json_value)]
    inside: list[Piece] = [
        encode_basestring(part)[1:-1] if isinstance(part, str) else (part, json_string_inside) for part in template
    ]
    return ['"', *inside, '"']


def _by_quotes(template: Template, *, bare_is_json: bool) -> tuple[list[Piece], str]:
    parts: list[Piece] = []
    sample: list[str] = []
    inside = False
    for part in template:
        if isinstance(part, str):
            quotes = _ESCAPE.sub("", part) if "\\" in part else part
            inside ^= quotes.count('"') % 2 == 1
            parts.append(part)
            sample.append(part)
        elif inside:
            before = parts[-1]  # the opening quote at least
            if isinstance(before, str) and _OPEN_ESCAPE.search(before):
                raise TemplateError(
                    TemplateProblem(
                        f"a backslash stands before {part.text} and would escape what is put in",
                        part.offset,
                        "write two backslashes for a literal one",
                        "E-JSON-ESCAPE",
                    )
                )
            parts.append((part, json_string_inside))
            sample.append(_MARK)
        else:
            parts.append((part, json_value if bare_is_json else scalar_text))
            sample.append(f'"{_MARK}"')  # a string, so that a placeholder as a key is found out
    return parts, "".join(sample)


def _no_hole_in_keys(pairs: list[tuple[str, object]]) -> None:
    for key, _ in pairs:
        if _MARK in key:
            raise TemplateError(_key_problem(key.replace(_MARK, "${...}")))


def _no_constant(name: str) -> None:
    message = f"{name} is no JSON"
    raise ValueError(message)


_judge_json = json.JSONDecoder(object_pairs_hook=_no_hole_in_keys, parse_constant=_no_constant).decode


def _key_problem(key: str) -> TemplateProblem:
    return TemplateProblem(
        f"placeholder as key {key!r}: keys are the contract's own",
        fix="write the key literally; a map with free keys can be a value as a whole",
        code="E-JSON-KEY",
    )
