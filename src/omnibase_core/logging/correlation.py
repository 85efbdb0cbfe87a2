"""The correlation id and the trace of the current call, for logs and for calls made inside it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from uuid import UUID

current_correlation_id: ContextVar[UUID | None] = ContextVar("onex_correlation_id", default=None)

current_traceparent: ContextVar[str | None] = ContextVar("onex_traceparent", default=None)
"""A W3C `traceparent` header, as it was received or will be sent on; one that is not well formed counts as none."""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


@contextmanager
def correlated(correlation_id: UUID | None = None, traceparent: str | None = None) -> Iterator[None]:
    """Set what is given for the block, and put back what was there before."""
    correlation = None if correlation_id is None else current_correlation_id.set(correlation_id)
    trace = None if traceparent is None else current_traceparent.set(traceparent)
    try:
        yield
    finally:
        if correlation is not None:
            current_correlation_id.reset(correlation)
        if trace is not None:
            current_traceparent.reset(trace)


def trace_ids() -> tuple[str, str] | None:
    """(trace id, span id) of the current traceparent; None when there is none, or none that is well formed.

    Versions above 00 may have more behind a dash, which is ignored; version ff is not allowed.
    """
    header = current_traceparent.get()
    if header is None:
        return None
    match = _TRACEPARENT.fullmatch(header)
    if match is None or header.startswith("ff") or (header.startswith("00") and len(header) != 55):
        return None
    return match[1], match[2]
