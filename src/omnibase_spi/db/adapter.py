"""SQL over named connections: PostgreSQL, MySQL or MariaDB, SQLite."""

import asyncio
import contextlib
import weakref
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar, Token
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.grammar.sql_placeholders import leading_keyword
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
    ResolvedIOContext,
)
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction
from omnibase_spi.db.driver import (
    SESSION_WORDS,
    DbConnection,
    Document,
    Driver,
    configuration_error,
    refuse_transaction_control,
)
from omnibase_spi.db.mysql import MysqlDriver
from omnibase_spi.db.pool import Pool
from omnibase_spi.db.postgres import PostgresDriver
from omnibase_spi.db.sqlite import SqliteDriver, sqlite_path
from omnibase_spi.db.transaction import Transaction

_EMBEDDED = frozenset({"default", "embedded"})
_MAX_LOOKED_AT = 4096
_NO_CORRELATION = UUID(int=0)

_ambient: ContextVar[dict[tuple[int, str], Transaction] | None] = ContextVar("onex_db_transactions", default=None)
"""The open transactions of this context, by adapter and connection name. Never changed in place: tasks inherit it."""


class ConnectionHolder(Protocol):
    """Something that borrows connections for longer than a call."""

    async def aclose(self) -> None:
        """Give back what was borrowed in this event loop."""
        ...


class DbAdapter:
    """The handler of `db` operations (`ProtocolEffectHandler`, `ProtocolTransactionalHandler`).

    Connections are made when they are first used and belong to the event loop that uses them: when the loop shuts down
    (`asyncio.run` does it) they are closed, so that an adapter that is never closed leaves nothing behind. An in-memory
    SQLite database outlives loops, and ends with the adapter.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        self._settings = settings or ModelSettings()
        self._drivers: dict[str, Driver] = {}
        self._loops: dict[asyncio.AbstractEventLoop, _LoopPools] = {}
        self._current: _LoopPools | None = None
        self._retires: dict[str, bool] = {}
        """The statements that were looked at, and whether each costs its connection."""
        self.holders: weakref.WeakSet[ConnectionHolder] = weakref.WeakSet()
        """What keeps transactions open between calls; closed before the adapter is, so that nothing stays lent."""
        weakref.finalize(self, _let_go, self._drivers, self._loops)

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> Document:
        """Run one statement and return `{"rows": [{column: value}], "rowCount": n}`.

        In an ambient transaction of this connection the statement joins it, else it is its own transaction. `rowCount`
        is the number of rows returned, or changed where none are. With `fetch_size` rows are fetched in batches of so
        many and `policy.max_response_bytes` bounds them all; without it the result is held as the driver gives it.

        Raises EffectFault, and ModelOnexError CONFIGURATION_ERROR for a connection that is set up wrongly.
        """
        if not isinstance(resolved_context, ModelResolvedDbContext):
            raise configuration_error(
                f"DbAdapter got a {type(resolved_context).__name__}; it takes a ModelResolvedDbContext. "
                "Look at the handler registered for this kind."
            )
        name = resolved_context.connection_name
        if name == "embedded":
            name = self._canonical(name)
        try:
            retires = self._retires.get(resolved_context.query)
            if retires is None:
                retires = self._look_at(resolved_context)
            ambient = _ambient.get()
            if ambient is not None and (transaction := ambient.get((id(self), name))) is not None:
                transaction.root.retire |= retires
                return await transaction.execute(resolved_context)
            loop = get_running_loop()
            pools = self._current
            if pools is None or pools.loop is not loop:
                pools = self._pools(loop)
            lanes = pools.by_name.get(name) or self._lanes(pools, name)
            reading = resolved_context.read_only or resolved_context.operation == "select"
            pool = lanes.read if reading else lanes.write
            connection = pool.take() or await pool.acquire()
            try:
                return await connection.execute(resolved_context)
            except EffectFault as fault:
                if fault.error_kind != "READ_ONLY" or resolved_context.read_only or pool is lanes.write:
                    raise
            finally:
                if retires:
                    connection.retire()
                pool.give_back(connection)
            # a `select` that writes: the reader refused it, the writer may do it
            return await _on(lanes.write, resolved_context)
        except EffectFault as fault:
            raise self._in_context(fault, correlation_id, resolved_context.connection_name) from None

    def _in_context(self, fault: EffectFault, correlation_id: UUID, name: str) -> EffectFault:
        """The fault with what its reader needs to find the call."""
        fault.correlation_id = correlation_id
        fault.context.setdefault("connection", name)
        if (driver := self._drivers.get(self._canonical(name))) is not None:
            fault.context.setdefault("database", driver.name)
        return fault

    def _look_at(self, context: ModelResolvedDbContext) -> bool:
        """What is seen once for each text. Raises EffectFault for one that controls transactions."""
        word = leading_keyword(context.query)
        refuse_transaction_control(word, f"{context.operation} on {context.connection_name!r}")
        if len(self._retires) >= _MAX_LOOKED_AT:
            self._retires.clear()
        self._retires[context.query] = word in SESSION_WORDS
        return self._retires[context.query]

    def transaction(
        self,
        connection_name: str,
        *,
        isolation_level: EnumIsolationLevel | None = None,
        read_only: bool = False,
    ) -> AbstractAsyncContextManager[ProtocolDbTransaction]:
        """Open a transaction, or a savepoint inside the ambient one (see `ProtocolTransactionalHandler`).

        An inner one cannot ask for more than the outer one has: a stronger isolation level, or read_only inside a
        writing one, is CONFIGURATION_ERROR.
        """
        return self._transaction(connection_name, isolation_level, read_only)

    @asynccontextmanager
    async def _transaction(
        self, name: str, isolation_level: EnumIsolationLevel | None, read_only: bool
    ) -> AsyncIterator[ProtocolDbTransaction]:
        asked, name = name, self._canonical(name)
        key = (id(self), name)
        outer = (_ambient.get() or {}).get(key)
        if outer is not None:
            weaker = isolation_level is not None and outer.isolation_level.strength < isolation_level.strength
            if weaker or (read_only and not outer.read_only):
                raise configuration_error(
                    f"Transaction on {asked!r}: one is open already, {outer.isolation_level.value} and "
                    f"{'read only' if outer.read_only else 'writing'}; what is asked for inside it is a savepoint, "
                    "which cannot be stronger. Ask for it on the outer transaction."
                )
            async with (await outer.nested()).block() as inner:
                token = _ambient.set({**(_ambient.get() or {}), key: inner})
                try:
                    yield inner
                finally:
                    _leave(token)
            return
        driver = self._driver(name)
        level = driver.effective_isolation(isolation_level)
        if isolation_level is not None and level.strength < isolation_level.strength:
            raise configuration_error(
                f"Transaction on {asked!r}: {driver.name} has no isolation as strong as {isolation_level.value}."
            )
        lanes = self._lanes(self._pools(get_running_loop()), name)
        pool = lanes.read if read_only else lanes.write
        connection = pool.take() or await pool.acquire()
        opened = None
        try:
            await self._begin(connection, isolation_level, read_only=read_only)
            label = driver.label
            opened = Transaction(connection, label, read_only=read_only, isolation_level=level)
            async with opened.block() as transaction:
                token = _ambient.set({**(_ambient.get() or {}), key: transaction})
                try:
                    yield transaction
                finally:
                    _leave(token)
        finally:
            if connection.in_transaction:
                connection.close_now()
            elif opened is not None and opened.retire:
                connection.retire()
            pool.give_back(connection)

    def ambient(self, connection_name: str) -> Transaction | None:
        """The transaction that statements of this context on the connection join."""
        return (_ambient.get() or {}).get((id(self), self._canonical(connection_name)))

    async def _begin(
        self, connection: DbConnection, isolation_level: EnumIsolationLevel | None, *, read_only: bool
    ) -> None:
        """A BEGIN that failed or was cancelled halfway leaves a state in doubt."""
        try:
            await connection.begin(isolation_level, read_only=read_only)
        except BaseException:
            if connection.in_transaction:
                connection.close_now()
            raise

    def check_connection(self, connection_name: str) -> None:
        """Raise like `execute` for a name that is unknown or set up wrongly; nothing is connected."""
        self._driver(self._canonical(connection_name))

    async def ping(self, connection_name: str) -> None:
        """Ask the database for an answer. Raises EffectFault, or ModelOnexError when the connection is set up
        wrongly.
        """
        context = ModelResolvedDbContext(connection_name=connection_name, query="SELECT 1 AS answer", timeout_ms=5_000)
        await self.execute(context, _NO_CORRELATION)

    def driver_name(self, connection_name: str) -> str:
        """`postgresql`, `mysql` or `sqlite`, as OpenTelemetry names them. Raises like `execute` for an unknown name."""
        return self._driver(self._canonical(connection_name)).name

    def _canonical(self, name: str) -> str:
        """`embedded` is another name of `default` as long as neither is set up: one file must have one writer."""
        connections = self._settings.connections
        return "default" if name == "embedded" and not _EMBEDDED & connections.keys() else name

    async def aclose(self) -> None:
        """Close all idle connections of this event loop, and let go of those of others. Statements in flight finish.

        The adapter can be used again afterwards; it then connects anew.
        """
        for holder in list(self.holders):
            await holder.aclose()
        loop = get_running_loop()
        for other, pools in list(self._loops.items()):
            if other is loop:
                await pools.close()
            else:
                pools.close_now()
        self._loops.clear()
        self._current = None
        for driver in self._drivers.values():
            driver.close()
        self._drivers.clear()

    def _pools(self, loop: asyncio.AbstractEventLoop) -> "_LoopPools":
        """The pools of a loop; those of loops that are closed are dropped on the way."""
        pools = self._loops.get(loop)
        if pools is None:
            for other in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(other).close_now()
            pools = self._loops[loop] = _LoopPools(loop)
        if pools.ended:
            pools = self._loops[loop] = _LoopPools(loop)
        self._current = pools
        return pools

    def _lanes(self, pools: "_LoopPools", name: str) -> "_Lanes":
        lanes = pools.by_name.get(name)
        if lanes is None:
            lanes = pools.by_name[name] = _Lanes(self._driver(name))
        return lanes

    def _driver(self, name: str) -> Driver:
        driver = self._drivers.get(name)
        if driver is None:
            driver = self._drivers[name] = self._make_driver(name)
        return driver

    def _make_driver(self, name: str) -> Driver:
        connection = self._settings.connections.get(name)
        limit = self._settings.policy.max_response_bytes
        if connection is None:
            if name not in _EMBEDDED:
                known = ", ".join(repr(known) for known in sorted({*self._settings.connections, *_EMBEDDED}))
                raise EffectFault(
                    f"Unknown database connection {name!r}. Known are {known}. Add [connections.{name}] with a url "
                    f"to the settings, or set ONEX_CONNECTIONS__{name.upper()}__URL.",
                    EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
                    {"connection": name},
                    error_kind="UNKNOWN_CONNECTION",
                    phase=EnumFaultPhase.NOT_SENT,
                )
            path = str(Path(self._settings.data_dir) / "embedded.db")
            return SqliteDriver("the embedded database (sqlite)", path, None, limit)
        return _driver_of_url(name, connection, limit)


def _leave(token: Token[dict[tuple[int, str], Transaction] | None]) -> None:
    """What ends a transaction from another context, such as the shutdown of the loop, never had it as ambient."""
    with contextlib.suppress(ValueError):
        _ambient.reset(token)


def _driver_of_url(name: str, connection: ModelConnection, limit: int) -> Driver:
    url = connection.url.get_secret_value()
    scheme = url.partition(":")[0].lower()
    match scheme:
        case "postgresql" | "postgres":
            return PostgresDriver(_label(name, "postgresql"), url, connection, limit)
        case "mysql" | "mariadb":
            return MysqlDriver(_label(name, "mysql"), url, connection, limit)
        case "sqlite":
            label = _label(name, "sqlite")
            return SqliteDriver(label, sqlite_path(label, url), connection, limit)
        case _:
            shown = repr(scheme) if scheme.isalnum() and len(scheme) <= 20 else "that it has"
            raise configuration_error(
                f"Connection {name!r} is no database: its URL must start with postgresql://, mysql:// or sqlite:///, "
                f"not with the scheme {shown}."
            )


def _label(name: str, driver_name: str) -> str:
    return f"connection {name!r} ({driver_name})"


async def _on(pool: Pool, context: ModelResolvedDbContext) -> Document:
    connection = pool.take() or await pool.acquire()
    try:
        return await connection.execute(context)
    finally:
        pool.give_back(connection)


class _Lanes:
    """The pools of one named connection: one for both ways, or one for each."""

    def __init__(self, driver: Driver) -> None:
        self.write = Pool(driver.write_size, partial(driver.connect, read_only=False))
        self.read = Pool(driver.read_size, partial(driver.connect, read_only=True)) if driver.read_size else self.write

    @property
    def pools(self) -> tuple[Pool, ...]:
        return (self.write,) if self.read is self.write else (self.read, self.write)


class _LoopPools:
    """All pools of one event loop, closed when the loop shuts down."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.by_name: dict[str, _Lanes] = {}
        self.ended = False
        self._guard = _until_shutdown(weakref.ref(self))
        # a loop that shuts down closes the asynchronous generators that were started in it; this runs it to its yield
        with contextlib.suppress(StopIteration):
            self._guard.__anext__().send(None)

    async def close(self) -> None:
        await self.close_pools()
        await self._guard.aclose()

    async def close_pools(self) -> None:
        self.ended = True
        for lanes in self.by_name.values():
            for pool in lanes.pools:
                await pool.close()
        self.by_name.clear()

    def close_now(self) -> None:
        self.ended = True
        for lanes in self.by_name.values():
            for pool in lanes.pools:
                pool.close_now()
        self.by_name.clear()
        with contextlib.suppress(StopIteration, StopAsyncIteration):
            self._guard.aclose().send(None)


async def _until_shutdown(pools: "weakref.ref[_LoopPools]") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        still_there = pools()
        if still_there is not None and not still_there.ended:
            await still_there.close_pools()


def _let_go(drivers: dict[str, Driver], loops: dict[asyncio.AbstractEventLoop, "_LoopPools"]) -> None:
    """The end of an adapter that was not closed."""
    for pools in list(loops.values()):
        pools.close_now()
    for driver in drivers.values():
        driver.close()
