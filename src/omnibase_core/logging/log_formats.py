"""How a log record becomes a line: JSON for machines, or a console line for people; and the handler that writes it.

What `emit_log_event_sync` adds to a record, for handlers of the host too: `onex_event` and `onex_context`, the event's
name and keys without secrets, not yet escaped; `correlation_id`, `trace_id` and `span_id`, texts or None.
"""

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TextIO
from uuid import UUID

from pydantic_core import to_json

from omnibase_core.logging.correlation import current_correlation_id, current_traceparent, trace_ids
from omnibase_core.logging.log_values import clean_mapping, clean_text, printable

if TYPE_CHECKING:
    from pydantic import JsonValue

LogFormat = Literal["json", "console"]

_encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode
_RESERVED: Final = frozenset({"timestamp", "level", "event", "logger", "exception"})
_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEVEL_NAMES: Final = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
_COLOURS: Final = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_NEEDS_QUOTES: Final = frozenset(' "=')
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"


class ContextTail:
    """The keys of an event behind its name, for formatters that know only messages; made when it is asked for."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: "dict[str, JsonValue]") -> None:
        self._parts = parts

    def __str__(self) -> str:
        return "".join(f" {printable(key)}={_shown(value)}" for part in self._parts for key, value in part.items())

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (str(self),)  # records are pickled for other processes


class JsonFormatter(logging.Formatter):
    """One JSON object a line, ASCII only: `timestamp` (UTC), `level`, `event`, `logger`, the ids, and the keys.

    A key that has one of these names has an underscore behind it. Records of others than `emit_log_event_sync` come out
    in the same shape: their message is the event, their `extra` the keys.
    """

    def format(self, record: logging.LogRecord) -> str:
        event, ids, context = _parts(record)
        line: dict[str, JsonValue] = {
            "timestamp": f"{_second(int(record.created))}.{int(record.created % 1 * 1_000_000):06d}Z",
            "level": _level(record),
            "event": event,
            "logger": record.name,
        }
        line.update(ids)
        if _RESERVED.isdisjoint(context) and ids.keys().isdisjoint(context):
            line.update(context)
        else:
            for key, value in context.items():
                line[f"{key}_" if key in _RESERVED or key in ids else key] = value
        trouble = _trouble(record)
        if trouble is not None:
            line["exception"] = trouble
        return _json(line)


class ConsoleFormatter(logging.Formatter):
    """`time level event key=value ...`; colours when asked for. A traceback follows on indented lines."""

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        event, ids, context = _parts(record)
        time = f"{_second(int(record.created))}.{int(record.created % 1 * 1_000):03d}Z"
        level = _level(record)
        rest = str(ContextTail(context, ids))
        if self._colours:
            time, rest = f"{_DIM}{time}{_RESET}", f"{_DIM}{rest}{_RESET}"
            level = f"{_COLOURS.get(level, '')}{level:<8}{_RESET}"
        line = f"{time} {level:<8} {printable(event)}{rest}"
        trouble = _trouble(record)
        if trouble is not None:
            line += "".join(f"\n    {printable(part)}" for part in trouble.splitlines())
        return line


class LineHandler(logging.Handler):
    """Writes each record as a line, and never raises or complains: a log that cannot be written is lost.

    stream: None means `sys.stderr` as it is at that moment. What its encoding cannot say is written escaped.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        stream: TextIO | None = self._stream or sys.stderr  # None in a process started without standard error
        if stream is None:
            return
        try:
            line = self.format(record) + "\n"
            try:
                stream.write(line)
            except UnicodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
            stream.flush()
        except Exception:  # noqa: BLE001, S110  # closed, full, or broken: there is no better place to say so
            pass


def formatter_for(log_format: LogFormat | None, stream: TextIO | None) -> logging.Formatter:
    """The formatter of that name; None means console on a terminal, else JSON.

    Colours only on a terminal, and not with NO_COLOR set (to anything but nothing) or TERM=dumb.
    """
    terminal = _is_terminal(stream)
    if log_format == "json" or (log_format is None and not terminal):
        return JsonFormatter()
    return ConsoleFormatter(colours=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def _json(line: "dict[str, JsonValue]") -> str:
    """ASCII only, so that any stream takes it and nothing in it steers a terminal (the fast encoder keeps letters)."""
    try:
        text = to_json(line).decode()
    except ValueError:  # lone surrogates
        return _encode(line)
    return text if text.isascii() and text.isprintable() else _encode(line)


@lru_cache(maxsize=2)
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_last_ids: "tuple[UUID | None, str | None, dict[str, JsonValue]]" = (None, None, {})
"""The ids of the event before; most events of a call follow one of the same call."""


def current_ids() -> "dict[str, JsonValue]":
    """The ids of the current context, as far as there are any; a dict of the caller's own."""
    global _last_ids  # noqa: PLW0603  # replaced as a whole, so that readers need no lock
    correlation_id, header = current_correlation_id.get(), current_traceparent.get()
    last_correlation_id, last_header, ids = _last_ids
    if correlation_id is not last_correlation_id or header is not last_header:
        ids = {} if correlation_id is None else {"correlation_id": str(correlation_id)}
        trace = trace_ids()
        if trace is not None:
            ids["trace_id"], ids["span_id"] = trace
        _last_ids = (correlation_id, header, ids)
    return ids.copy()


def _parts(record: logging.LogRecord) -> "tuple[str, dict[str, JsonValue], dict[str, JsonValue]]":
    """Event, ids and keys of any record."""
    values = record.__dict__
    if "onex_event" in values:
        ids = {name: values[name] for name in ("correlation_id", "trace_id", "span_id") if values[name] is not None}
        return values["onex_event"], ids, values["onex_context"]
    try:
        event = clean_text(record.getMessage())
    except Exception:  # noqa: BLE001  # arguments that do not fit the message, or that cannot be shown
        event = (
            clean_text(f"{record.msg!s:.1000}") if isinstance(record.msg, str) else "<a message that cannot be shown>"
        )
    extra = {key: value for key, value in values.items() if key not in _OF_EVERY_RECORD}
    context = clean_mapping(extra) if extra else {}
    ids = current_ids()
    if isinstance(given := context.pop("correlation_id", None), str):
        ids["correlation_id"] = given
    return event, ids, context


def _level(record: logging.LogRecord) -> str:
    return _LEVEL_NAMES.get(record.levelno) or clean_text(record.levelname.lower())


def _trouble(record: logging.LogRecord) -> str | None:
    """The traceback that belongs to a record, without secrets."""
    if record.exc_info and record.exc_info[1] is not None:
        try:
            return clean_text("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        except Exception as error:  # noqa: BLE001  # an exception's own text may raise
            return f"<{type(record.exc_info[1]).__name__}: {type(error).__name__} while it was shown>"
    return clean_text(record.exc_text) if record.exc_text else None


def _shown(value: "JsonValue") -> str:
    """A value for people: texts as they are where that is clear, else in quotes."""
    if type(value) is int or type(value) is float:
        return repr(value)
    if isinstance(value, str):
        plain = value and value.isprintable() and _NEEDS_QUOTES.isdisjoint(value)
        return value if plain else '"' + printable(value.replace('"', '\\"')) + '"'
    return printable(json.dumps(value, ensure_ascii=False))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return (stream or sys.stderr).isatty()
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False
