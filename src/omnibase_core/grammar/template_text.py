"""The grammar of `${...}` placeholders (section 2.4): text in, constants and holes out. Parsed once, at load."""

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pydantic import JsonValue

SOURCES: Final = ("input", "env", "secret", "output", "item", "index", "meta")

Segment = str
Template = tuple["str | Hole", ...]


class NoDefault:
    """Marks a hole without `:-default`."""

    __slots__ = ()


NO_DEFAULT: Final = NoDefault()


class Hole(NamedTuple):
    """One placeholder.

    path: keys and list indexes below the source, as written; a numeric segment is an index where a list stands.
    default: the value for a missing or null one, or NO_DEFAULT.
    text: the placeholder as written, for messages.
    offset: where it starts in the template, in characters.
    """

    source: str
    path: tuple[Segment, ...]
    default: JsonValue | NoDefault
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """One thing that is wrong in a template. `offset` counts characters from its start."""

    message: str
    offset: int = 0
    fix: str = ""
    code: str = "E-TEMPLATE"


class TemplateError(Exception):
    """A template that cannot be read or does not fit its place; holds every problem found."""

    def __init__(self, *problems: TemplateProblem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


# `$${`, or `${` and, unless it is malformed, source, path and what ends them: `}`, or `:-` before a default.
_OPENING = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][\w-]*)((?:\.[^\s.\[\]{}:$\"']+|\[[0-9]+\])*)(\}|:-))?")
_SEGMENT = re.compile(r"[^.\[\]]+")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"(?=\})')


@lru_cache(maxsize=4096)
def parse_template(text: str, sources: tuple[str, ...] = SOURCES, whole: tuple[str, ...] = ()) -> Template:
    """Split a text into constants and holes; `$${` becomes a constant `${`. `sources` may stand behind `${`, those of
    `whole` without a path too.

    Raises TemplateError with every unclosed or empty placeholder, unknown source and malformed path.
    """
    opening = _OPENING.search(text)
    if opening is None:
        return (text,) if text else ()
    parts: list[str | Hole] = []
    problems: list[TemplateProblem] = []
    constant = ""
    position = 0
    while opening is not None:
        constant += text[position : opening.start()]
        position = opening.end()
        if opening[0] == "$${":
            constant += "${"
        else:
            try:
                hole, position = _read_hole(text, opening, sources, whole)
            except TemplateError as error:
                problems += error.problems
            else:
                if constant:
                    parts.append(constant)
                    constant = ""
                parts.append(hole)
        opening = _OPENING.search(text, position)
    if problems:
        raise TemplateError(*problems)
    constant += text[position:]
    if constant:
        parts.append(constant)
    return tuple(parts)


def holes(template: Template) -> tuple[Hole, ...]:
    """The placeholders of a template, in order."""
    return tuple(part for part in template if not isinstance(part, str))


def _read_hole(text: str, opening: re.Match[str], sources: tuple[str, ...], whole: tuple[str, ...]) -> tuple[Hole, int]:
    start, end = opening.span()
    source, raw_path, closing = opening.groups()
    if source is None:
        raise _explain(text, start)
    if source not in sources:
        raise TemplateError(
            TemplateProblem(
                f"unknown source {source!r} in {_excerpt(text, start)}",
                start,
                f"use one of {', '.join(sources)}; a literal '${{' is written '$${{'",
            )
        )
    path = tuple(_SEGMENT.findall(raw_path))
    needed = {"index": 0, "item": 0, "state": 0, "payload": 0, "output": 2}.get(source, 1)
    if len(path) < needed and source not in whole:
        shown = "${output.<operation>.<field>}" if source == "output" else f"${{{source}.<name>}}"
        raise TemplateError(TemplateProblem(f"empty path in {_excerpt(text, start)}", start, f"write {shown}"))
    default: JsonValue | NoDefault = NO_DEFAULT
    if closing == ":-":
        default, end = _read_default(text, end, start)
    return Hole(source, path, default, text[start:end], start), end


def _read_default(text: str, position: int, start: int) -> tuple[JsonValue, int]:
    """The value of a default that begins at `position`, and where the placeholder ends."""
    quoted = _JSON_STRING.match(text, position)
    end = quoted.end() if quoted else text.find("}", position)
    if end < 0:
        raise _explain(text, start)
    raw = text[position:end]
    if not quoted and "${" in raw:
        raise TemplateError(
            TemplateProblem(
                f"a default takes no placeholder: {_excerpt(text, start)}",
                start,
                "write the default literally; a text that holds '${' goes between double quotes",
            )
        )
    try:
        value: JsonValue = json.loads(raw)
    except (ValueError, RecursionError):
        return raw, end + 1
    # Only JSON scalars have a type here; what the parser takes beyond JSON (NaN, Infinity, 1e999) stays the text it is.
    is_scalar = not isinstance(value, list | dict) and not (isinstance(value, float) and not math.isfinite(value))
    return (value if is_scalar else raw), end + 1


def _explain(text: str, start: int) -> TemplateError:
    excerpt = _excerpt(text, start)
    closing = text.find("}", start)
    if closing < 0:
        return TemplateError(
            TemplateProblem(f"placeholder {excerpt} is not closed", start, "add '}', or write '$${' for a literal")
        )
    if not text[start + 2 : closing].strip():
        return TemplateError(
            TemplateProblem("empty placeholder ${}", start, "write ${input.<name>}, or '$${' for a literal")
        )
    return TemplateError(
        TemplateProblem(
            f"malformed placeholder {excerpt}",
            start,
            "write ${source.key.0.key}, optionally with ':-default'; keys hold no spaces, quotes, brackets or braces",
        )
    )


def _excerpt(text: str, start: int) -> str:
    closing = text.find("}", start)
    end = closing + 1 if 0 <= closing <= start + 60 else start + 40
    return repr(text[start:end])
