"""One small pool for all drivers.

psycopg_pool is not used, because its worker tasks outlive calls; this pool has no task at all: connections are made and
closed by the calls that need them. It belongs to one event loop.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_spi.db.driver import DbConnection


class Pool:
    """At most `size` connections: the one used last is lent first, and who waits longest is served first."""

    def __init__(self, size: int, connect: Callable[[], Awaitable[DbConnection]]) -> None:
        self._size = size
        self._connect = connect
        self._idle: list[DbConnection] = []
        self._open: set[DbConnection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[DbConnection | None]] = deque()
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Idle and lent ones, and those being opened."""
        return len(self._open) + self._opening

    def take(self) -> DbConnection | None:
        """An idle connection that still stands, without waiting."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                return connection
            self._close(connection)
        return None

    async def acquire(self) -> DbConnection:
        """An idle connection, else a new one, else the first that is given back.

        Waits without limit: the caller's deadline cuts it. A cancelled waiter leaves no trace. Raises EffectFault when
        the database cannot be reached (NOT_SENT) or the pool is closed.
        """
        if self._closed:
            raise _closed()
        if not self._waiters:
            if (connection := self.take()) is not None:
                return connection
            if self.open_connections < self._size:
                self._opening += 1
                return await self._make()
        return await self._wait() or await self._make()

    async def _make(self) -> DbConnection:
        """A new connection in the place that `_opening` keeps for it."""
        try:
            connection = await self._connect()
        except BaseException:
            self._opening -= 1
            self._wake()
            raise
        self._opening -= 1
        self._open.add(connection)
        return connection

    async def _wait(self) -> DbConnection | None:
        """A connection lent by who gave it back, or None when a place for a new one is kept."""
        waiter: asyncio.Future[DbConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiters.remove(waiter)
            elif waiter.exception() is None:
                if (connection := waiter.result()) is None:
                    self._opening -= 1
                    self._wake()
                else:
                    self.give_back(connection)
            raise

    def _wake(self) -> None:
        """Keep a free place for the first waiter, and tell it."""
        while self._waiters and self.open_connections < self._size:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._opening += 1
                waiter.set_result(None)
                return

    def give_back(self, connection: DbConnection) -> None:
        """Lend it on, keep it, or close it when it is not usable or the pool is closed."""
        usable = connection.usable and not self._closed
        if usable and not self._waiters:
            self._idle.append(connection)
            return
        if not usable:
            self._close(connection)
            self._wake()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def _close(self, connection: DbConnection) -> None:
        self._open.discard(connection)
        connection.close_now()

    def close_now(self) -> None:
        """Close everything at once; for a loop that is gone. What is lent is closed under its borrower, who is gone
        too.
        """
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            self._close(connection)
        self._waiters.clear()

    async def close(self) -> None:
        """Close what is idle in good order; what is lent is closed when it is given back. Waiters get a fault."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(_closed())
        self._waiters.clear()
        idle, self._idle = self._idle, []
        for connection in idle:
            self._open.discard(connection)
            await connection.close()


def _closed() -> EffectFault:
    return EffectFault(
        "The database adapter is closed; nothing was sent. Make a new one.",
        EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        error_kind="CLOSED",
        phase=EnumFaultPhase.NOT_SENT,
    )
