"""Structured log events: one name and keys, with the ids of the call, without secrets, on the standard `logging`.

The core may import pydantic and PyYAML only, so this is its own small formatter and no logging library. Events are
records of the logger `onex`, whose level and handlers are the host program's business, like those of `onex.effect` and
the other loggers below it. Importing configures nothing. A program without any logging set up gets warnings and worse
on standard error, as the standard library does it; `configure_logging` is for programs that want ONEX's own rendering.
"""

import logging
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Final, TextIO

from omnibase_core.enums.enum_log_level import EnumLogLevel
from omnibase_core.logging.log_formats import (
    ContextTail,
    LineHandler,
    LogFormat,
    current_ids,
    formatter_for,
)
from omnibase_core.logging.log_values import clean_mapping, printable, text_of

if TYPE_CHECKING:
    from pydantic import JsonValue

_LEVELS: Final[dict[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_log: Final = logging.getLogger("onex")
_lock: Final = threading.Lock()
_last_resort: Final = LineHandler()  # attached to nothing: for programs that set no logging up
_installed: tuple[LineHandler, int, bool] | None = None  # our handler, and the logger's level and propagation before it


def emit_log_event_sync(level: EnumLogLevel | str, message: str, context: Mapping[str, object] | None = None) -> None:
    """Log an event. Needs no event loop, and never raises, whatever the level, the keys and the values are.

    message: the event's name, best a constant; what varies goes into `context`, of which any object is taken: long,
    deep and many values are cut with a note. Values under keys like `password` or `token` and known secrets are masked.
    An unknown level counts as info. Costs a fraction of a microsecond when the level is off.
    """
    try:
        number = _number_of(level)
        if _log.isEnabledFor(number):
            _emit(number, message, context, sys._getframe(1))  # noqa: SLF001  # the caller's line belongs to the record
    except Exception:  # noqa: BLE001, S110  # promised: a log call breaks no program; a host's own handler may have raised
        pass


async def emit_log_event(level: EnumLogLevel | str, message: str, context: Mapping[str, object] | None = None) -> None:
    """`emit_log_event_sync` for who must await something. It does not suspend, so events keep their order.

    A host whose handlers are slow puts a `logging.handlers.QueueHandler` before them.
    """
    try:
        number = _number_of(level)
        if _log.isEnabledFor(number):
            _emit(number, message, context, sys._getframe(1))  # noqa: SLF001  # as above
    except Exception:  # noqa: BLE001, S110  # as above
        pass


def configure_logging(
    format: LogFormat | None = None,  # noqa: A002  # what everybody calls it
    level: EnumLogLevel | str = EnumLogLevel.INFO,
    stream: TextIO | None = None,
) -> None:
    """Have all loggers below `onex` rendered by ONEX: for programs, not for libraries.

    format: None means `console` on a terminal, else `json`. stream: None means standard error, as it is at each event.
    The host's handlers no longer get these records; `reset_logging` gives them back. A second call replaces the first.
    Raises ValueError for another format or level.
    """
    if format not in {None, "json", "console"}:
        raise _wrong("format", format, "json, console, or None for what fits the stream")
    number = _LEVELS.get(str(level).lower())
    if number is None:
        raise _wrong("level", level, ", ".join(EnumLogLevel))
    handler = LineHandler(stream)
    handler.setFormatter(formatter_for(format, stream))
    global _installed  # noqa: PLW0603  # the process has one logging
    with _lock:
        before = (_log.level, _log.propagate) if _installed is None else _installed[1:]
        if _installed is not None:
            _log.removeHandler(_installed[0])
        _log.addHandler(handler)
        _log.setLevel(number)
        _log.propagate = False
        _installed = (handler, *before)


def reset_logging() -> None:
    """Undo `configure_logging`."""
    global _installed  # noqa: PLW0603  # the process has one logging
    with _lock:
        if _installed is not None:
            handler, level, propagate = _installed
            _log.removeHandler(handler)
            _log.setLevel(level)
            _log.propagate = propagate
            _installed = None


def _emit(number: int, message: object, context: object, frame: FrameType) -> None:
    event = text_of(message)
    keys: dict[str, JsonValue] = {}
    if context is not None:
        keys = clean_mapping(context if isinstance(context, Mapping) else {"context": context})
    ids = current_ids()
    given = keys.pop("correlation_id", None)
    if given is not None:
        ids["correlation_id"] = text_of(given)
    text = printable(event)
    args: tuple[object, ...] = ()
    if keys or ids:
        text, args = f"{text.replace('%', '%%')}%s", (ContextTail(keys, ids),)
    code = frame.f_code
    record = logging.getLogRecordFactory()(
        "onex", number, code.co_filename, frame.f_lineno, text, args, None, code.co_name
    )
    fields = record.__dict__
    fields["onex_event"] = event
    fields["onex_context"] = keys
    fields["correlation_id"] = ids.get("correlation_id")
    fields["trace_id"] = ids.get("trace_id")
    fields["span_id"] = ids.get("span_id")
    if _log.hasHandlers():
        _log.handle(record)
    elif _log.filter(record):
        _last_resort.setFormatter(formatter_for(None, None))
        _last_resort.handle(record)


def _number_of(level: object) -> int:
    """The number of a level; a number is one itself, and what is none is info."""
    if not isinstance(level, str):
        return level if isinstance(level, int) and not isinstance(level, bool) else logging.INFO
    return _LEVELS.get(level) or _LEVELS.get(level.strip().lower(), logging.INFO)


def _wrong(what: str, found: object, allowed: str) -> ValueError:
    return ValueError(f"configure_logging: {what} {found!r} is unknown; allowed: {allowed}")
