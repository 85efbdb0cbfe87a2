"""Each test begins without secrets and without ONEX's own rendering, and leaves none behind."""

import json
from collections.abc import Callable, Iterator
from io import StringIO

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_log_level import EnumLogLevel
from omnibase_core.logging.logging_structured import configure_logging, emit_log_event_sync, reset_logging
from omnibase_core.logging.redaction import forget_secrets

Emitted = Callable[..., dict[str, JsonValue]]


@pytest.fixture(autouse=True)
def _as_at_the_start() -> Iterator[None]:
    forget_secrets()
    yield
    reset_logging()
    forget_secrets()


@pytest.fixture
def emitted() -> Emitted:
    """Emit an event and return its JSON line, decoded."""

    def emit(message: str = "event", context: dict[object, object] | None = None) -> dict[str, JsonValue]:
        stream = StringIO()
        configure_logging("json", "debug", stream)
        emit_log_event_sync(EnumLogLevel.INFO, message, context)  # type: ignore[arg-type]  # keys of any kind are the point
        (line,) = stream.getvalue().splitlines()
        assert line.isascii()
        decoded: dict[str, JsonValue] = json.loads(line)
        return decoded

    return emit
