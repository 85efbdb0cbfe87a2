"""Templates as closures: one getter and one encoder per placeholder (section 2.4).

A text is judged at load and kept as a `Text`; its closures are built when it is first rendered, with nothing left to
judge. A `Scope` is what placeholders read. An encoder turns one value into text for the place where it goes; it refuses
what cannot be made safe there. Substituted values are never scanned again, because only constants and holes are joined.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from json.encoder import encode_basestring
from math import isfinite
from operator import attrgetter
from typing import Final, cast

from pydantic import BaseModel, JsonValue, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

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
Value = Callable[[Scope], object]
Renderer = Callable[[Scope], str]


class Late:
    """A part of a plan that was judged at load and becomes a closure at first use."""

    __slots__ = ()

    def emit(self) -> Value:
        """Build the closure; nothing is left to judge."""
        raise NotImplementedError


class Made(Late):
    """A closure that a function builds."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make

    def emit(self) -> Value:
        return self._make()


Piece = str | tuple[Hole, Encoder]


class Text(Late):
    """A text with placeholders, each of which has the encoder of its place."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces

    def emit(self) -> Renderer:
        return _join([piece if isinstance(piece, str) else render_hole(*piece) for piece in self.pieces])


Part = str | Text

_JSON_TYPES: Final = (str, int, float, list, dict, type(None))
_WHERE_TO_PUT: Final = {
    "env": "; set the variable (where the policy has env_names, they must hold it), or give a default with ':-'",
    "secret": "; put it into the secrets directory (ONEX_SECRETS_DIR) or the environment, under that name",
}
"""What helps against a missing value of these sources, whose other names are nobody's business."""
_ROOT_ATTRIBUTE: Final = {
    "input": "input",
    "output": "output",
    "secret": "secrets",
    "env": "env",
    "meta": "meta",
    "item": "item",
    "index": "index",
    "state": "state",  # these two in the templates of state machines (`fsm_plan`)
    "payload": "input",
    "steps": "steps",  # these three in those of workflows (`workflow_values`)
    "workflow": "workflow",
    "event": "event",
}


def refuse(hole: Hole, why: str, code: EnumCoreErrorCode = EnumCoreErrorCode.VALIDATION_ERROR) -> ModelOnexError:
    """The error of a value that cannot go where its placeholder stands; it never shows the value."""
    return ModelOnexError(f"template {hole.text}: {why}", code, {"template": hole.text})


# getters


def compile_getter(hole: Hole) -> Getter:
    """A function that reads the hole's value; a missing one raises VALIDATION_ERROR with the keys that exist there."""
    path = hole.path
    default = hole.default
    if len(path) == 1 and hole.source == "input" and default is NO_DEFAULT:
        return _input_getter(path[0], hole)
    root = attrgetter(_ROOT_ATTRIBUTE[hole.source])

    def get(scope: Scope) -> object:
        value = root(scope)
        for depth, key in enumerate(path):
            try:
                value = value[key]
            except (LookupError, TypeError, ValueError):  # ValueError: a name that no environment can hold
                value = _step(value, key, hole, depth)
                if value is None and default is not NO_DEFAULT:
                    break
        return default if value is None and default is not NO_DEFAULT else value

    return get


def _input_getter(key: str, hole: Hole) -> Getter:
    """The commonest placeholder, `${input.name}`, in the fewest steps."""

    def get(scope: Scope) -> object:
        try:
            return scope.input[key]
        except (LookupError, TypeError, ValueError):
            return _step(scope.input, key, hole, 0)

    return get


def _step(here: object, key: str, hole: Hole, depth: int) -> object:
    """A step that was not a plain key: a list index, a field of an object from Python, or what is missing."""
    if isinstance(here, BaseModel) or is_dataclass(here):
        here = json_like(here, hole)
        if isinstance(here, dict) and key in here:
            return here[key]
    items = here if isinstance(here, Sequence) and not isinstance(here, str | bytes | bytearray) else None
    if items is not None and is_index(key, len(items)):
        return items[int(key)]
    if hole.default is not NO_DEFAULT:
        return None
    place = ".".join((hole.source, *hole.path[:depth]))
    if isinstance(here, Mapping):
        there = _WHERE_TO_PUT.get(hole.source) or f"; keys there: {key_names(here)}"
    elif items is not None:
        there = f"; it is a list of {len(items)}"
    else:
        there = f"; it is {type(here).__name__}"
    raise refuse(hole, f"{key!r} is missing in {place}{there}")


def is_index(key: str, length: int) -> bool:
    """Whether a path segment is an index into a list of that length."""
    return key.isascii() and key.isdigit() and len(key) < 19 and int(key) < length


def key_names(here: Mapping[str, object]) -> str:
    """Up to twenty keys for a message, in order; long ones are cut, and control characters are written as escapes."""
    names = sorted(str(key)[:60] for key in here)
    shown = [name if name.isprintable() else ascii(name) for name in names[:20]]
    return ", ".join(shown + (["..."] if len(names) > len(shown) else [])) or "none"


# encoders


def json_like(value: object, hole: Hole) -> JsonValue:
    """The value as JSON knows it: UUIDs, datetimes, decimals, enums and the like become text."""
    if isinstance(value, SecretStr | SecretBytes):
        if hole.source == "secret":
            value = value.get_secret_value()
            return value if isinstance(value, str) else json_like(value, hole)
        raise refuse(hole, f"a {type(value).__name__} has asterisks for a JSON form; use ${{secret.NAME}} for secrets")
    try:
        form = to_jsonable_python(value, by_alias=True)
    except (ValueError, RecursionError):  # PydanticSerializationError is a ValueError; its text may show the value
        raise refuse(hole, f"a value of type {type(value).__name__} has no JSON form") from None
    return cast("JsonValue", form)  # JSON by definition, its type says Any


def scalar_text(value: object, hole: Hole) -> str:
    """A scalar the way JSON writes it, a string as it is; lists, maps, NaN and lone surrogates are refused."""
    if type(value) is str:
        if not value.isascii():
            check_unicode(value, hole)
        return value
    if type(value) is int or type(value) is float:
        return json_value(value, hole)
    if isinstance(value, list | dict | tuple | set | Mapping):
        raise refuse(hole, f"found {type(value).__name__}, but inside a text only a scalar can stand")
    if not isinstance(value, str | int | float | None):
        value = json_like(value, hole)
        if isinstance(value, list | dict):
            raise refuse(hole, f"found {type(value).__name__}, but inside a text only a scalar can stand")
    if isinstance(value, str):
        text = str.__str__(value)
        check_unicode(text, hole)
        return text
    return json_value(value, hole)


def _digits(value: int, hole: Hole) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than the interpreter is willing to write
        raise refuse(hole, "the integer has too many digits to be written as text") from None


def check_unicode(text: str, hole: Hole) -> None:
    """Refuse a lone surrogate. The codec's error is dropped, because it holds the whole text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refuse(hole, "the text holds a lone surrogate, which UTF-8 cannot carry") from None


def json_string_inside(value: object, hole: Hole) -> str:
    """A scalar between quotes that the template itself has."""
    return encode_basestring(scalar_text(value, hole))[1:-1]


_encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_value(value: object, hole: Hole) -> str:
    """Any value as JSON text; NaN and infinities are refused (RFC 8259, 6)."""
    if type(value) is str:
        if not value.isascii():
            check_unicode(value, hole)
        return encode_basestring(value)
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if type(value) is int:
        return _digits(value, hole)
    if type(value) is float and isfinite(value):
        return repr(value)
    try:
        text = _encode_json(value)
    except TypeError:
        text = json_value(json_like(value, hole), hole)
    except (ValueError, RecursionError):
        raise refuse(hole, "NaN, Infinity, circular and very deep values have no JSON form") from None
    if not text.isascii():
        check_unicode(text, hole)
    return text


def single_body(value: object, hole: Hole) -> str:
    """A body that is exactly one placeholder: a string as it is, anything else as JSON."""
    return body_and_kind(value, hole)[0]


def body_and_kind(value: object, hole: Hole) -> tuple[str, bool]:
    """(text of a body that is one placeholder, whether it is a string; a UUID, a date and the like are strings)."""
    if not isinstance(value, _JSON_TYPES):
        value = json_like(value, hole)
    if isinstance(value, str):
        return scalar_text(value, hole), True
    return json_value(value, hole), False


def header_value(value: object, hole: Hole) -> str:
    """Visible ASCII, space and tab (RFC 9110, 5.5, without the obsolete bytes)."""
    text = scalar_text(value, hole)
    if not is_header_text(text):
        raise refuse(hole, "a header value holds visible ASCII, space and tab only (no CR, LF, NUL)")
    return text


def is_header_text(text: str) -> bool:
    """Whether a text holds visible ASCII, space and tab only."""
    return text.isascii() and text.replace("\t", " ").isprintable()


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
    if "\0" in text or ".." in text or not text:
        raise refuse(hole, "a file path may not be empty nor contain '..' or NUL", EnumCoreErrorCode.SECURITY_VIOLATION)
    return text


_PLAIN_KEPT: Final = frozenset({scalar_text, json_string_inside, header_value, path_piece})
"""Encoders that leave letters and digits of ASCII as they are."""


# composition


def render_hole(hole: Hole, encode: Encoder) -> Renderer:
    """The closure of one placeholder."""
    get = compile_getter(hole)
    if encode in _PLAIN_KEPT:

        def render(scope: Scope) -> str:
            value = get(scope)
            if type(value) is str and value.isascii() and value.isalnum():
                return value
            return encode(value, hole)

        return render
    return lambda scope: encode(get(scope), hole)


def join(parts: Iterable[Part | tuple[Hole, Encoder]]) -> Part:
    """The parts as one: a constant when all of them are."""
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, Text):
            pieces += part.pieces
        else:
            pieces.append(part)
    return Text(pieces) if tuple in map(type, pieces) else "".join(map(str, pieces))


def _join(pieces: Sequence[str | Renderer]) -> Renderer:
    """The closure that joins constants and what closures give; at least one piece is a closure."""
    merged: list[str | Renderer] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, str) and isinstance(last, str):
            merged[-1] = last + piece
        elif piece != "":
            merged.append(piece)
    first, *others = merged
    if not others and not isinstance(first, str):
        return first
    if len(others) == 1:
        second = others[0]
        if isinstance(first, str) and not isinstance(second, str):
            return lambda scope: first + second(scope)
    fixed = tuple(merged)
    return lambda scope: "".join([piece if type(piece) is str else piece(scope) for piece in fixed])  # type: ignore[operator]  # a piece that is no str is a closure


def text_of(template: Template, encode: Encoder) -> Part:
    """The template with every placeholder encoded the same way."""
    if len(template) == 1 and isinstance(template[0], str):
        return template[0]
    return Text([part if isinstance(part, str) else (part, encode) for part in template]) if template else ""


def path_of(template: Template) -> Part:
    """A file path. Values are judged piece by piece, and the whole once more: two harmless dots make a harmful pair."""
    if len(template) == 1 and isinstance(template[0], Hole):
        return Text([(template[0], whole_path)])
    text = text_of(template, path_piece)
    return text if isinstance(text, str) else _PathText(text.pieces)


class _PathText(Text):
    __slots__ = ()

    def emit(self) -> Renderer:
        render = super().emit()
        dots = sum(piece.count("..") for piece in self.pieces if isinstance(piece, str))
        first = next(piece[0] for piece in self.pieces if not isinstance(piece, str))
        absolute = isinstance(self.pieces[0], str) and self.pieces[0].startswith("/")

        def checked(scope: Scope) -> str:
            path = render(scope)
            if path.count("..") != dots:
                raise refuse(first, "the values put together make '..'", EnumCoreErrorCode.SECURITY_VIOLATION)
            if path.startswith("/") and not absolute:
                raise refuse(first, "an empty value makes the path absolute", EnumCoreErrorCode.SECURITY_VIOLATION)
            return path

        return checked
