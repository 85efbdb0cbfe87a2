"""Templates as closures: one getter and one encoder per placeholder, made at load (sections 2.4 and house 5.1).

A `Scope` is what placeholders read. An encoder turns one value into text for the place where it goes; it refuses what
cannot be made safe there. Substituted values are never scanned again, because only constants and holes are joined.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Final, cast

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import NO_DEFAULT, Hole, Template


@dataclass(slots=True)
class Scope:
    """What the placeholders of one call read; `output` grows as operations finish."""

    input: Mapping[str, object]
    output: dict[str, Mapping[str, object]] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=lambda: os.environ)
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    meta: Mapping[str, object] = field(default_factory=dict)
    item: object = None
    index: int = 0


Getter = Callable[[Scope], object]
Encoder = Callable[[object, Hole], str]
Renderer = Callable[[Scope], str]
Part = str | Renderer

_ROOT_ATTRIBUTE: Final = {
    "input": "input",
    "output": "output",
    "secret": "secrets",
    "env": "env",
    "meta": "meta",
    "item": "item",
    "index": "index",
}


def refuse(hole: Hole, why: str, code: EnumCoreErrorCode = EnumCoreErrorCode.VALIDATION_ERROR) -> ModelOnexError:
    """The error of a value that cannot go where its placeholder stands; it never shows the value."""
    return ModelOnexError(f"template {hole.text}: {why}", code, {"template": hole.text})


# --- getters -------------------------------------------------------------------------------------------------------


def compile_getter(hole: Hole) -> Getter:
    """A function that reads the hole's value; a missing one raises VALIDATION_ERROR with the keys that exist there."""
    root = attrgetter(_ROOT_ATTRIBUTE[hole.source])
    path = hole.path
    default = hole.default
    if len(path) == 1:
        key = path[0]

        def get_one(scope: Scope) -> object:
            here = root(scope)
            try:
                value = here[key]
            except (KeyError, TypeError, IndexError):
                value = _step(here, key, hole, 0) if default is NO_DEFAULT or isinstance(here, list) else None
            return default if value is None and default is not NO_DEFAULT else value

        return get_one

    def get(scope: Scope) -> object:
        value = root(scope)
        for depth, key in enumerate(path):
            try:
                value = value[key]
            except (KeyError, TypeError, IndexError):
                if default is not NO_DEFAULT and not isinstance(value, Sequence):
                    return default
                value = _step(value, key, hole, depth)
        return default if value is None and default is not NO_DEFAULT else value

    return get


def _step(here: object, key: str, hole: Hole, depth: int) -> object:
    """A step that was not a plain key: a list index, or what is missing."""
    is_list = isinstance(here, Sequence) and not isinstance(here, str | bytes)
    if is_list and key.isascii() and key.isdigit() and int(key) < len(cast("Sequence[object]", here)):
        return cast("Sequence[object]", here)[int(key)]  # isinstance above; mypy does not follow the flag
    if hole.default is not NO_DEFAULT:
        return None
    place = ".".join((hole.source, *hole.path[:depth]))
    if isinstance(here, Mapping):
        if hole.source in {"env", "secret"}:
            there = ""  # the names of an environment are nobody's business
        else:
            there = f"; keys there: {', '.join(sorted(map(str, here))[:20]) or 'none'}"
    elif is_list:
        there = f"; it is a list of {len(cast('Sequence[object]', here))}"
    else:
        there = f"; it is {type(here).__name__}"
    raise refuse(hole, f"{key!r} is missing in {place}{there}")


# --- encoders ------------------------------------------------------------------------------------------------------


def json_like(value: object, hole: Hole) -> JsonValue:
    """The value as JSON knows it: UUIDs, datetimes, decimals, enums and the like become text."""
    try:
        return cast("JsonValue", to_jsonable_python(value))  # its result is JSON by definition, its type says Any
    except (PydanticSerializationError, ValueError) as error:
        raise refuse(hole, f"a value of type {type(value).__name__} has no JSON form") from error


def scalar_text(value: object, hole: Hole) -> str:
    """A scalar the way JSON writes it, a string as it is; lists, maps, NaN and lone surrogates are refused."""
    if type(value) is str:
        if not value.isascii():
            _check_unicode(value, hole)
        return value
    if type(value) is int:
        return _digits(value, hole)
    if isinstance(value, list | dict | tuple | set | Mapping):
        raise refuse(hole, f"found {type(value).__name__}, but inside a text only a scalar can stand")
    if not isinstance(value, str | int | float | None):
        value = json_like(value, hole)
        if isinstance(value, list | dict):
            raise refuse(hole, f"found {type(value).__name__}, but inside a text only a scalar can stand")
    if isinstance(value, str):
        text = str.__str__(value)
        _check_unicode(text, hole)
        return text
    return json_value(value, hole)


def _digits(value: int, hole: Hole) -> str:
    try:
        return str(value)
    except ValueError as error:  # more digits than the interpreter is willing to write
        raise refuse(hole, "the integer has too many digits to be written as text") from error


def _check_unicode(text: str, hole: Hole) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refuse(hole, "the text holds a lone surrogate, which UTF-8 cannot carry") from error


def json_string_inside(value: object, hole: Hole) -> str:
    """A scalar between quotes that the template itself has."""
    return encode_basestring(scalar_text(value, hole))[1:-1]


def json_value(value: object, hole: Hole) -> str:
    """Any value as JSON text; NaN and infinities are refused (RFC 8259, 6)."""
    if type(value) is str:
        if not value.isascii():
            _check_unicode(value, hole)
        return encode_basestring(value)
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if type(value) is int:
        return _digits(value, hole)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except TypeError:
        text = json_value(json_like(value, hole), hole)
    except (ValueError, RecursionError) as error:
        raise refuse(hole, "NaN, Infinity and circular values have no JSON form") from error
    if not text.isascii():
        _check_unicode(text, hole)
    return text


def single_body(value: object, hole: Hole) -> str:
    """A body that is exactly one placeholder: a string as it is, anything else as JSON."""
    return scalar_text(value, hole) if isinstance(value, str) else json_value(value, hole)


def header_value(value: object, hole: Hole) -> str:
    """Visible ASCII, space and tab (RFC 9110, 5.5, without the obsolete bytes)."""
    text = scalar_text(value, hole)
    if not (text.isascii() and text.replace("\t", " ").isprintable()):
        raise refuse(hole, "a header value holds visible ASCII, space and tab only (no CR, LF, NUL)")
    return text


def path_piece(value: object, hole: Hole) -> str:
    """A piece of a file path: no `..`, no NUL, not absolute."""
    text = scalar_text(value, hole)
    if ".." in text or "\0" in text or text.startswith("/"):
        raise refuse(
            hole,
            "a value in a file path may not contain '..' or NUL, nor start with '/'",
            EnumCoreErrorCode.SECURITY_VIOLATION,
        )
    return text


def whole_path(value: object, hole: Hole) -> str:
    """A file path that is one placeholder: it may be absolute, and must lie under a root when it runs."""
    text = scalar_text(value, hole)
    if "\0" in text or ".." in text.replace("\\", "/").split("/") or not text:
        raise refuse(hole, "a file path may not be empty nor contain '..' or NUL", EnumCoreErrorCode.SECURITY_VIOLATION)
    return text


# --- composition ---------------------------------------------------------------------------------------------------


def render_hole(hole: Hole, encode: Encoder) -> Renderer:
    """The closure of one placeholder."""
    get = compile_getter(hole)
    return lambda scope: encode(get(scope), hole)


def join(parts: Sequence[Part]) -> Part:
    """A constant when all parts are constants, else a closure that joins them."""
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    if not merged:
        return ""
    if len(merged) == 1:
        return merged[0]
    if len(merged) == 2:
        first, second = merged
        if isinstance(first, str) and not isinstance(second, str):
            return lambda scope: first + second(scope)
    pieces = tuple(merged)
    return lambda scope: "".join([piece if type(piece) is str else piece(scope) for piece in pieces])  # type: ignore[operator]  # a piece that is no str is a closure


def text_of(template: Template, encode: Encoder) -> Part:
    """The template with every placeholder encoded the same way."""
    return join([part if isinstance(part, str) else render_hole(part, encode) for part in template])


def value_of(template: Template) -> tuple[bool, object]:
    """(is constant, the constant text or a getter): a template that is one placeholder keeps the value's type."""
    if len(template) == 1 and isinstance(template[0], Hole):
        return False, compile_getter(template[0])
    text = text_of(template, scalar_text)
    return isinstance(text, str), text


def path_of(template: Template) -> Part:
    """A file path. Values are judged piece by piece, and the whole once more: two harmless dots make a harmful pair."""
    if len(template) == 1 and isinstance(template[0], Hole):
        return render_hole(template[0], whole_path)
    text = text_of(template, path_piece)
    if isinstance(text, str):
        return text
    render = text
    dots = sum(part.count("..") for part in template if isinstance(part, str))
    first = next(part for part in template if not isinstance(part, str))

    def checked(scope: Scope) -> str:
        path = render(scope)
        if path.count("..") != dots:
            raise refuse(first, "the values put together make '..'", EnumCoreErrorCode.SECURITY_VIOLATION)
        return path

    return checked
