"""`emit_log_event_sync`, its twin, and how events are written."""

import asyncio
import contextvars
import io
import json
import logging
import logging.handlers
import pickle
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import StringIO
from typing import TextIO, cast
from uuid import UUID, uuid4

import pytest

from omnibase_core.enums.enum_log_level import EnumLogLevel
from omnibase_core.logging.correlation import correlated
from omnibase_core.logging.log_formats import LineHandler
from omnibase_core.logging.logging_structured import (
    configure_logging,
    emit_log_event,
    emit_log_event_sync,
    reset_logging,
)
from omnibase_core.logging.redaction import register_secret
from tests.support.timing import cpu_bound
from tests.unit.logging.conftest import Emitted

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CORRELATION = UUID("11111111-2222-3333-4444-555555555555")


class Caught(logging.Handler):
    """A host's handler that keeps its records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def host() -> Iterator[Caught]:
    """A host program that logs everything by a handler of its own."""
    handler = Caught()
    logger = logging.getLogger("onex")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def console(message: str, context: dict[str, object] | None = None, stream: StringIO | None = None) -> str:
    out = StringIO() if stream is None else stream
    configure_logging("console", "debug", out)
    emit_log_event_sync("info", message, context)
    return out.getvalue()


def test_an_event_is_one_json_object(emitted: Emitted) -> None:
    """Time in UTC, level, event, logger, and the keys as they are."""
    line = emitted("effect.finished", {"attempt": 2, "host": "db", "ok": True, "parts": [1, {"a": None}]})

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line.pop("timestamp")))
    assert line == {
        "level": "info",
        "event": "effect.finished",
        "logger": "onex",
        "attempt": 2,
        "host": "db",
        "ok": True,
        "parts": [1, {"a": None}],
    }


def test_keys_that_an_event_has_itself_are_kept_apart(emitted: Emitted) -> None:
    """A key of the caller's never replaces one of the event's own; the correlation id is the caller's to give."""
    line = emitted("real", {"event": "forged", "level": "critical", "timestamp": 0, "correlation_id": CORRELATION})

    assert (line["event"], line["event_"], line["level"], line["level_"]) == ("real", "forged", "info", "critical")
    assert (line["timestamp_"], line["correlation_id"]) == (0, str(CORRELATION))


def test_the_ids_of_the_call_are_in_every_event(emitted: Emitted) -> None:
    """Correlation id, trace id and span id come from the context; what the caller gives goes before."""
    own = uuid4()

    with correlated(CORRELATION, f"00-{TRACE}-{SPAN}-01"):
        line = emitted()
        given = emitted("event", {"correlation_id": own})

    assert (line["correlation_id"], line["trace_id"], line["span_id"]) == (str(CORRELATION), TRACE, SPAN)
    assert (given["correlation_id"], given["trace_id"]) == (str(own), TRACE)
    assert emitted().keys().isdisjoint({"correlation_id", "trace_id", "span_id"})


FORGED = 'ok"}\n2026-01-01T00:00:00Z critical forged\r\x1b[2J\x1b]0;title\x07\u202eevil\u2066\u2028\x85\x00'


def test_an_event_cannot_forge_another() -> None:
    """Line ends, ANSI escapes and bidi controls in the event, in keys and in values are escaped, in every rendering."""
    for log_format in ("json", "console", "host"):
        stream = StringIO()
        if log_format == "host":
            reset_logging()
            handler: logging.Handler = logging.StreamHandler(stream)
            logging.getLogger("onex").addHandler(handler)
        else:
            configure_logging("json" if log_format == "json" else "console", "debug", stream)

        emit_log_event_sync("error", FORGED, {FORGED: FORGED, "list": [FORGED], "error": ValueError(FORGED)})

        text = stream.getvalue()
        assert text.endswith("\n")
        assert text[:-1].isprintable(), log_format
        if log_format == "host":
            logging.getLogger("onex").removeHandler(handler)
        if log_format == "json":
            assert json.loads(text)["event"] == FORGED


def test_a_console_line_is_for_people() -> None:
    """Time, level, event, keys; texts in quotes only where they need them."""
    with correlated(CORRELATION):
        line = console(
            "file saved", {"path": "a/b", "note": 'say "x"', "n": 1.5, "flag": True, "none": None, "l": ["ä"]}
        )

    assert re.sub(r"^\S+Z", "T", line) == (
        'T info     file saved path=a/b note="say \\"x\\"" n=1.5 flag=true none=null l=["ä"] '
        f"correlation_id={CORRELATION}\n"
    )


@pytest.mark.parametrize(
    ("environment", "terminal", "coloured"),
    [({}, True, True), ({}, False, False), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False)],
)
def test_colours(environment: dict[str, str], terminal: bool, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on a terminal, and not with NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert ("\x1b[" in console("x", stream=Terminal() if terminal else StringIO())) is coloured


def test_without_a_format_a_terminal_gets_the_console_and_a_pipe_json() -> None:
    """What fits the stream."""
    terminal, pipe = Terminal(), StringIO()
    configure_logging(stream=terminal)
    emit_log_event_sync("info", "x")
    configure_logging(stream=pipe)
    emit_log_event_sync("info", "x")

    assert not terminal.getvalue().startswith("{")
    assert json.loads(pipe.getvalue())["event"] == "x"


@pytest.mark.parametrize(
    ("level", "name"),
    [
        *((each, each.value) for each in EnumLogLevel),
        *(
            ("INFO", "info"),
            (" Warn ", "warning"),
            (logging.ERROR, "error"),
            ("no such", "info"),
            (None, "info"),
            ([], "info"),
        ),
    ],
)
def test_levels(level: EnumLogLevel, name: str) -> None:
    """A member, its name however written, or a number; anything else is info."""
    stream = StringIO()
    configure_logging("json", "debug", stream)

    emit_log_event_sync(level, "x")

    assert json.loads(stream.getvalue())["level"] == name


def test_a_level_that_is_off_costs_and_writes_nothing() -> None:
    """Below the configured level nothing is written, and no value is even looked at."""
    stream = StringIO()
    configure_logging("json", EnumLogLevel.WARNING, stream)

    class Untouched:
        def __str__(self) -> str:
            raise AssertionError

    emit_log_event_sync(EnumLogLevel.INFO, "x", {"value": Untouched()})

    assert stream.getvalue() == ""


class Breaks(io.TextIOBase):
    """A stream that raises."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def write(self, _text: str) -> int:
        raise self._error


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_stream_makes_it_raise(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Closed, broken or missing streams lose the event in silence."""
    closed = StringIO()
    closed.close()
    for stream in (closed, Breaks(BrokenPipeError), Breaks(RuntimeError), cast("TextIO", object())):
        configure_logging("json" if log_format == "json" else "console", "debug", cast("TextIO", stream))
        emit_log_event_sync("error", "x", {"a": "ä"})

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8"])
def test_every_encoding_of_a_stream_will_do(encoding: str) -> None:
    """What it cannot say is escaped; lone surrogates too."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    for log_format in ("json", "console"):
        configure_logging("json" if log_format == "json" else "console", "debug", stream)
        emit_log_event_sync("info", "snow ☃", {"face": "\U0001f600", "odd": "\ud800", "é": "ä"})

    json_line, console_line = raw.getvalue().decode(encoding).splitlines()
    assert json.loads(json_line)["face"] == "\U0001f600"
    assert "snow" in console_line
    assert ("☃" in console_line) is encoding.startswith("utf")
    stream.close()


def test_without_standard_error_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process started without that stream has None there."""
    configure_logging("json", "debug")
    monkeypatch.setattr(sys, "stderr", None)

    emit_log_event_sync("error", "x")


def test_no_argument_makes_it_raise(host: Caught) -> None:
    """Messages, contexts and values of any kind are taken."""

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

        def __bool__(self) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]  # unhashable

    calls: list[tuple[object, object, object]] = [
        (Bad(), Bad(), Bad()),
        ("info", None, []),
        ("info", 5, "text"),
        ("info", "x", {(): Bad(), Bad: 1}),
    ]
    for arguments in calls:
        emit_log_event_sync(*cast("tuple[str, str, dict[str, object]]", arguments))  # none of them is, on purpose

    assert len(host.records) == 4
    assert host.records[2].getMessage() == "5 context=text"


def test_a_host_handler_that_raises_does_not_reach_the_caller() -> None:
    """The host's own trouble is the host's."""

    class Raises(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError

    handler = Raises()
    logging.getLogger("onex").addHandler(handler)
    try:
        emit_log_event_sync("error", "x")
        asyncio.run(emit_log_event("error", "x"))
    finally:
        logging.getLogger("onex").removeHandler(handler)


def test_a_host_finds_the_parts_of_an_event(host: Caught) -> None:
    """In the message for plain formatters, as attributes for structured ones, with the caller's place."""
    register_secret("hunter2-hunter2")
    with correlated(CORRELATION, f"00-{TRACE}-{SPAN}-01"):
        emit_log_event_sync("warning", "100% done", {"a": "x y", "password": 1, "b": "hunter2-hunter2"})

    (record,) = host.records
    fields = record.__dict__
    assert record.getMessage() == (
        f'100% done a="x y" password=*** b=*** correlation_id={CORRELATION} trace_id={TRACE} span_id={SPAN}'
    )
    assert (fields["onex_event"], fields["onex_context"]) == ("100% done", {"a": "x y", "password": "***", "b": "***"})
    assert (fields["correlation_id"], fields["trace_id"], fields["span_id"]) == (str(CORRELATION), TRACE, SPAN)
    assert (record.name, record.levelno, record.filename) == ("onex", logging.WARNING, "test_logging_structured.py")
    assert record.funcName == "test_a_host_finds_the_parts_of_an_event"
    assert pickle.loads(pickle.dumps(record)).getMessage() == record.getMessage()


def test_a_message_without_keys_is_itself(host: Caught) -> None:
    """Nothing is put behind it, and `%` in it means nothing."""
    emit_log_event_sync("info", "50%s of %d")

    assert host.records[0].getMessage() == "50%s of %d"


def test_through_a_queue_to_another_thread(host: Caught) -> None:
    """The ids are taken where the event happened, so a queue handler loses none."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    logging.getLogger("onex").addHandler(handler)
    stream = StringIO()
    out = LineHandler(stream)
    configure_logging("json", "debug", stream)
    out.setFormatter(logging.getLogger("onex").handlers[-1].formatter)
    reset_logging()
    logging.getLogger("onex").setLevel(logging.DEBUG)
    with correlated(CORRELATION):
        emit_log_event_sync("info", "x", {"a": 1})
    logging.getLogger("onex").removeHandler(handler)

    thread = threading.Thread(target=lambda: out.handle(records.get()), name="writer")
    thread.start()
    thread.join()

    assert json.loads(stream.getvalue())["correlation_id"] == str(CORRELATION)
    assert json.loads(stream.getvalue())["a"] == 1


async def test_the_twin_does_the_same(host: Caught) -> None:
    """The same record at the caller's place, in order with the others."""
    emit_log_event_sync("info", "one")
    await emit_log_event(EnumLogLevel.INFO, "two", {"a": 1})
    emit_log_event_sync("info", "three")

    assert [record.getMessage() for record in host.records] == ["one", "two a=1", "three"]
    assert host.records[1].funcName == "test_the_twin_does_the_same"


def test_the_executors_own_logs_have_the_same_shape() -> None:
    """Records of the loggers below `onex`: message as event, `extra` as keys, ids of the context, secrets masked."""
    register_secret("hunter2-hunter2")
    stream = StringIO()
    configure_logging("json", "info", stream)
    log = logging.getLogger("onex.effect")

    with correlated(CORRELATION):
        log.info("operation %s: %s", "fetch", "hunter2-hunter2\n", extra={"attempt": 2, "token": "t"})
        log.warning("wrong %d", "arguments")
        try:
            raise ValueError("hunter2-hunter2")
        except ValueError:
            log.exception("failed")
        log.debug("too low")

    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["logger"], first["level"]) == ("operation fetch: ***\n", "onex.effect", "info")
    assert (first["attempt"], first["token"], first["correlation_id"]) == (2, "***", str(CORRELATION))
    assert second["event"] == "wrong %d"
    assert third["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert third["exception"].splitlines()[-1] == "ValueError: ***"


def test_a_traceback_on_the_console_stays_below_its_line() -> None:
    """Indented, so that no line of it can be taken for an event."""
    stream = StringIO()
    configure_logging("console", "info", stream)
    try:
        raise ValueError("one\n2026-01-01T00:00:00Z critical forged\x1b[2J")
    except ValueError:
        logging.getLogger("onex.effect").exception("failed")

    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("error    failed")
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_configuring_again_and_undoing_it() -> None:
    """The last call holds, each event is written once, and `reset_logging` leaves everything as it was."""
    logger = logging.getLogger("onex")
    before = (logger.level, logger.propagate, list(logger.handlers))
    first, second = StringIO(), StringIO()

    configure_logging("json", "debug", first)
    configure_logging("console", EnumLogLevel.ERROR, second)
    emit_log_event_sync("error", "x")
    emit_log_event_sync("warning", "y")
    reset_logging()
    reset_logging()

    assert (first.getvalue(), second.getvalue().count("\n")) == ("", 1)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


@pytest.mark.parametrize("arguments", [{"format": "xml"}, {"level": "loud"}])
def test_wrong_settings_are_refused(arguments: dict[str, str]) -> None:
    """The message says what is allowed, and nothing is changed."""
    with pytest.raises(ValueError, match=r"is unknown; allowed: (json|debug)"):
        configure_logging(**arguments)  # type: ignore[arg-type]  # wrong on purpose

    assert logging.getLogger("onex").propagate


def test_events_of_threads_do_not_mix() -> None:
    """Each line is whole."""
    stream = StringIO()
    configure_logging("json", "info", stream)

    def work(number: int) -> None:
        for turn in range(50):
            emit_log_event_sync("info", "x" * 50, {"number": number, "turn": turn})

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(work, n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    seen = {(line["number"], line["turn"]) for line in map(json.loads, stream.getvalue().splitlines())}
    assert seen == {(n, turn) for n in range(4) for turn in range(50)}


def _program(code: str) -> subprocess.CompletedProcess[str]:
    head = "from omnibase_core.logging.logging_structured import *\nimport logging\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code], capture_output=True, text=True, check=True
    )


def test_importing_configures_nothing() -> None:
    """No logger has a handler or a level because of the import."""
    code = (
        "root, onex = logging.getLogger(), logging.getLogger('onex')\n"
        "print(root.handlers, onex.handlers, onex.level, onex.propagate, root.level)"
    )

    assert _program(code).stdout.strip() == "[] [] 0 True 30"


def test_a_program_without_logging_gets_warnings_on_standard_error() -> None:
    """As the standard library does it, but structured; nothing stays configured, and info is off."""
    ended = _program(
        "emit_log_event_sync('info', 'quiet')\nemit_log_event_sync('warning', 'loud', {'password': 'x'})\n"
        "print(logging.getLogger('onex').handlers)"
    )

    line = json.loads(ended.stderr)
    assert (line["event"], line["password"], ended.stdout.strip()) == ("loud", "***", "[]")


def test_a_program_with_logging_set_up_gets_every_event_once() -> None:
    """By its own handlers, in its own format."""
    ended = _program(
        "logging.basicConfig(level='INFO', format='%(name)s|%(message)s')\nemit_log_event_sync('info', 'x', {'a': 1})"
    )

    assert ended.stderr == "onex|x a=1\n"


def test_an_event_that_is_off_costs_next_to_nothing() -> None:
    """Below a microsecond of CPU; the smallest of many measures, because others use the machine too."""
    configure_logging("json", "error", StringIO())
    context: dict[str, object] = {"a": 1}

    def once() -> float:
        start = time.process_time_ns()
        for _ in range(2000):
            emit_log_event_sync(EnumLogLevel.DEBUG, "x", context)
        return (time.process_time_ns() - start) / 2000

    assert min(once() for _ in range(20)) < cpu_bound(1000)
