"""Any Python value as something that a log line can hold: JSON of bounded size, without secrets, and never an error."""

import re
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

from omnibase_core.logging.redaction import MASK, redact
from omnibase_core.logging.secret_names import is_secret_name

if TYPE_CHECKING:
    from pydantic import JsonValue

MAX_TEXT: Final = 8192
MAX_ITEMS: Final = 100
MAX_DEPTH: Final = 6
_MAX_SEARCHED: Final = 1 << 20
_MAX_SECRET: Final = 1 << 17
_MAX_INT_BITS: Final = 1024
_MAX_NAME: Final = 200  # of a key's end, by which it is judged
_USER_PASSWORD: Final = re.compile(r"(://[^/\s:@]*:)[^/\s]+@")
_SCHEMES: Final = ("bearer ", "basic ", "digest ")
_AUTHORIZATION: Final = re.compile(r"\b(bearer|basic|digest)( +)[\w.~+/=\-]{8,}", re.IGNORECASE)
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_busy = threading.local()


def printable(text: str) -> str:
    r"""`text` with everything that is not printable escaped: line ends, ANSI escapes, bidi controls, lone surrogates.

    So one event stays one line, and none can forge another. `\n` of the text itself is not told apart from the escape.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def clean_text(text: str) -> str:
    """`text` without secrets (known ones, passwords in URLs, Authorization values), at most 8,192 characters long."""
    length = len(text)
    if length > _MAX_SEARCHED:
        text = text[:_MAX_SEARCHED]
    text = redact(text)
    if "://" in text and "@" in text:
        text = _USER_PASSWORD.sub(rf"\1{MASK}@", text)
    if " " in text and any(map(text.casefold().__contains__, _SCHEMES)):
        text = _AUTHORIZATION.sub(rf"\1\2{MASK}", text)
    if (
        length > _MAX_SEARCHED
    ):  # the cut may have gone through a secret, and masks may have drawn its first half forward
        return f"{text[: min(MAX_TEXT, max(0, len(text) - _MAX_SECRET))]}... (of {length})"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} more)"


def clean_mapping(context: Mapping[str, object] | Mapping[object, object]) -> "dict[str, JsonValue]":
    """The context of an event, cleaned. Whatever its keys and values do, this returns."""
    return _mapping(context, 0)


def clean(value: object, depth: int = 0) -> "JsonValue":
    """A JSON value that stands for `value`: texts redacted, too deep, too long or too many cut with a note."""
    kind = type(value)
    if kind is str:
        return clean_text(value)  # type: ignore[arg-type]  # its type is str
    if value is None or kind is bool:
        return value  # type: ignore[return-value]  # None or a bool
    if kind is int:
        return _number(value)  # type: ignore[arg-type]  # its type is int
    try:
        return _other(value, depth)
    except Exception as error:  # noqa: BLE001  # a value's own code may raise anything; the event is written all the same
        return f"<{kind.__name__}: {type(error).__name__} while it was shown>"


def text_of(value: object) -> str:
    """`str(value)`, or a note of what it raised."""
    return clean_text(value if type(value) is str else _guarded(str, value))


def _other(value: object, depth: int) -> "JsonValue":
    if isinstance(value, Enum):
        return clean(value.value, depth)
    if isinstance(value, str):
        return clean_text(str.__str__(value))
    if isinstance(value, int):
        return _number(int(value))
    if isinstance(value, float):
        number = float(value)
        return number if number - number == 0 else repr(number)  # NaN and the infinities are no JSON
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return clean_text(f"{type(value).__name__}: {_guarded(str, value)}")
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}, too deep>"
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        items = [clean(item, depth + 1) for _, item in zip(range(MAX_ITEMS), value, strict=False)]
        return items if len(value) <= MAX_ITEMS else [*items, f"... ({len(value) - MAX_ITEMS} more)"]
    fields = getattr(type(value), "model_fields", None) or getattr(type(value), "__dataclass_fields__", None)
    if isinstance(fields, dict):  # a model or a dataclass: by its fields, so that their names can hide their values
        return _mapping({name: getattr(value, name, None) for name in fields}, depth)
    return clean_text(_guarded(str, value))


def _number(value: int) -> "JsonValue":
    if -(1 << 63) <= value < 1 << 64:
        return value if not _is_known(value) else MASK
    bits = value.bit_length()
    return clean_text(str(value)) if bits <= _MAX_INT_BITS else f"<int of {bits} bits>"


def _is_known(value: int) -> bool:
    return (value >= 10_000_000 or value <= -10_000_000) and redact(str(value)) != str(value)


def _mapping(mapping: Mapping[str, object] | Mapping[object, object], depth: int) -> "dict[str, JsonValue]":
    cleaned: dict[str, JsonValue] = {}
    try:
        for key, value in mapping.items():
            if len(cleaned) >= MAX_ITEMS:
                cleaned["..."] = f"{len(mapping) - MAX_ITEMS} more"
                break
            name = redact(key) if type(key) is str and len(key) <= _MAX_NAME else clean_text(_guarded(str, key))
            if is_secret_name(name[-_MAX_NAME:]) and value is not None:
                cleaned[name] = MASK
            else:
                cleaned[name] = clean_text(value) if type(value) is str else clean(value, depth + 1)
    except Exception as error:  # noqa: BLE001  # a mapping of somebody's own
        cleaned["..."] = f"<{type(error).__name__} while it was read>"
    return cleaned


def _guarded(show: Callable[[object], str], value: object) -> str:
    """What `show` makes of the value, or a note. A value that logs while it is shown is not shown again inside that."""
    if getattr(_busy, "showing", False):
        return f"<{type(value).__name__}>"
    _busy.showing = True
    try:
        return str.__str__(show(value))
    except Exception as error:  # noqa: BLE001  # any object may come here
        return f"<{type(value).__name__}: {type(error).__name__} while it was shown>"
    finally:
        _busy.showing = False


def _escape(char: str) -> str:
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
