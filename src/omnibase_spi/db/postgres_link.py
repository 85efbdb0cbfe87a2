"""The part of the PostgreSQL driver that subclasses psycopg; imported when the first connection is made."""

import asyncio
import json
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

import psycopg
from psycopg import pq, waiting
from psycopg.abc import PQGen
from psycopg.adapt import AdaptersMap, Buffer, Loader
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from omnibase_spi.db.driver import GRACE_SECONDS, as_base64, iso_offset, iso_timestamp

_Result = TypeVar("_Result")

ERRORS = (psycopg.Error, psycopg.Warning)
UNREADABLE_URL = psycopg.ProgrammingError
"""What libpq raises for a connection string that it cannot parse; its text may hold parts of it."""

_ACTIVE = pq.TransactionStatus.ACTIVE
_IDLE = pq.TransactionStatus.IDLE
_NEVER_SECONDS = 86_400.0
"""The interval at which psycopg wakes to look for Ctrl-C, for which asyncio has no need."""


class _Cursor(psycopg.AsyncRawCursor[tuple[object, ...]]):
    def _execute_send(self, query: Any, *, force_extended: bool = False, binary: bool | None = None) -> None:
        # psycopg would send a statement without parameters by the simple protocol, which runs several at once
        del force_extended
        super()._execute_send(query, force_extended=True, binary=binary)


class Link(psycopg.AsyncConnection[tuple[object, ...]]):
    """A connection whose cancelled statements are cancelled on the server in `GRACE_SECONDS`, or which is closed."""

    errors = ERRORS
    _finishing = False

    def __del__(self, _warn: object = None) -> None:  # psycopg's warns; a handler that is never closed must not
        if hasattr(self, "pgconn"):
            self.pgconn.finish()

    @property
    def is_idle(self) -> bool:
        return not self.closed and self.pgconn.transaction_status == _IDLE

    def is_closed(self) -> bool:
        return self.closed

    def has_transaction(self) -> bool:
        """Inside BEGIN .. COMMIT, aborted or not."""
        return self.pgconn.transaction_status != _IDLE and not self.closed

    def statement_cursor(self) -> _Cursor:
        return _Cursor(self)

    def close_quietly(self) -> None:
        self._closed = True
        self.pgconn.finish()

    async def finish_even_if_cancelled(self, coroutine: Coroutine[object, object, object]) -> None:
        """Run it; a cancellation does not stop it, but waits for its end for `GRACE_SECONDS` and then passes on."""
        self._finishing = True
        try:
            await coroutine
        finally:
            self._finishing = False

    async def wait(
        self,
        gen: PQGen[_Result],
        interval: float = _NEVER_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> _Result:
        """The wait of psycopg with another end: on cancellation it would wait for up to ten seconds."""
        del interval
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=_NEVER_SECONDS, timeout=timeout)
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == _ACTIVE:
                await self._settle(gen)
            raise

    async def _settle(self, gen: PQGen[_Result]) -> None:
        """Bring a running statement to its end, by cancelling it on the server unless it is a COMMIT."""
        settled = False
        try:
            if not self._finishing:
                await self.cancel_safe(timeout=GRACE_SECONDS)
            await waiting.wait_async(gen, self.pgconn.socket, interval=_NEVER_SECONDS, timeout=GRACE_SECONDS)
            settled = True
        except psycopg.Error:
            settled = not self.closed and self.pgconn.transaction_status != _ACTIVE
        finally:
            if not settled:
                self.close_quietly()


async def open_link(url: str, prepare_threshold: int | None) -> Link:
    link = await Link.connect(url, autocommit=True, prepare_threshold=prepare_threshold, context=_LOADERS)
    wanted = (
        (b"DateStyle", b"ISO", "SET datestyle = ISO"),
        (b"IntervalStyle", b"iso_8601", "SET intervalstyle = iso_8601"),
    )
    try:
        for name, value, command in wanted:
            if not (link.pgconn.parameter_status(name) or b"").startswith(value):
                await link.statement_cursor().execute(command)
    except BaseException:
        link.close_quietly()
        raise
    return link


class _TimestampLoader(Loader):
    def load(self, data: Buffer) -> str:
        return iso_timestamp(bytes(data).decode())


class _TimeWithZoneLoader(Loader):
    def load(self, data: Buffer) -> str:
        return iso_offset(bytes(data).decode())


class _BytesLoader(Loader):
    def load(self, data: Buffer) -> str:
        return as_base64(pq.Escaping().unescape_bytea(bytes(data)))


def _finite(text: str) -> float | str:
    """A number of a JSON column that is beyond a float stays the text that it is."""
    value = float(text)
    return value if math.isfinite(value) else text


def _loads(data: str | bytes) -> object:
    return json.loads(data, parse_float=_finite)


_AS_TEXT = (
    "numeric uuid date time interval inet cidr record int4range int8range numrange daterange tsrange tstzrange"
    " int4multirange int8multirange nummultirange datemultirange tsmultirange tstzmultirange"
)


class _Loaders:
    """What psycopg takes adapters from."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        for name in _AS_TEXT.split():
            self.adapters.register_loader(name, TextLoader)
        self.adapters.register_loader("timestamp", _TimestampLoader)
        self.adapters.register_loader("timestamptz", _TimestampLoader)
        self.adapters.register_loader("timetz", _TimeWithZoneLoader)
        self.adapters.register_loader("bytea", _BytesLoader)
        set_json_loads(_loads, self)


_LOADERS = _Loaders()
