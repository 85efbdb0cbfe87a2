"""The part of the MySQL driver that needs asyncmy; imported when the first connection is made."""

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, cast

from asyncmy import converters, errors
from asyncmy.connection import Connection
from asyncmy.constants import CLIENT, FIELD_TYPE
from asyncmy.cursors import SSCursor

if TYPE_CHECKING:
    from omnibase_spi.db.mysql import MysqlTarget, Raw

ERRORS = (errors.MySQLError,)
UNBUFFERED = SSCursor


def _timestamp(text: str) -> str:
    return text.replace(" ", "T", 1)


def _bit(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _conversions() -> dict[object, object]:
    """Those of asyncmy, but decimal and date and time stay the exact text of the server, and BIT is a number."""
    conversions: dict[object, object] = dict(converters.conversions)
    for kind in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DATE, FIELD_TYPE.TIME):
        conversions.pop(kind, None)
    conversions[FIELD_TYPE.DATETIME] = conversions[FIELD_TYPE.TIMESTAMP] = _timestamp
    conversions[FIELD_TYPE.BIT] = _bit
    conversions[FIELD_TYPE.JSON] = json.loads
    return conversions


_CONVERSIONS = _conversions()


class _Raw(Connection):
    """A connection that runs one statement at a time, with names for what is used of its inside."""

    _client_flag: int
    _result: object
    _stream_broken: bool
    _transport: asyncio.Transport

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]  # the stubs of asyncmy leave its types out
        # asyncmy always asks for it; what is not asked for at log-in, the server refuses
        self._client_flag &= ~CLIENT.MULTI_STATEMENTS

    @property
    def result(self) -> object:
        return self._result

    @property
    def broken(self) -> bool:
        return self._stream_broken

    def fileno(self) -> int:
        descriptor: int = self._transport.get_extra_info("socket").fileno()
        return descriptor

    def drop(self) -> None:
        """Close at once, also when the loop is closed; its transport could only warn then."""
        transport = self._transport
        try:
            self.close()
        except RuntimeError:
            raw_socket = getattr(transport, "_sock", None)
            if raw_socket is not None:
                vars(transport)["_sock"] = None  # asyncio's own attribute, by which it warns
                raw_socket.close()


async def _connected(connection: _Raw) -> None:
    """Log in. asyncmy waits with `asyncio.wait_for`, which up to Python 3.11 can swallow a cancellation that comes with
    the result; in a task of its own it is cancelled until it ends.
    """
    task = asyncio.ensure_future(connection.connect())
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.05)
        connection.drop()
        if not task.cancelled():
            task.exception()  # seen
        raise
    task.result()


async def open_raw(target: "MysqlTarget") -> "Raw":
    """A connection in autocommit mode."""
    connection = _Raw(
        host=target.host,
        port=target.port,
        user=target.user,
        password=target.password.encode(),  # bytes, because of text it would make latin-1
        database=target.database,
        unix_socket=target.unix_socket,
        connect_timeout=target.connect_timeout_seconds,
        autocommit=True,
        client_flag=CLIENT.FOUND_ROWS,
        conv=_CONVERSIONS,
        ssl=ssl.create_default_context(cafile=target.ssl_ca) if target.verify_tls else None,
    )
    await _connected(connection)
    return cast("Raw", connection)  # its protocol gives types to what is inherited
