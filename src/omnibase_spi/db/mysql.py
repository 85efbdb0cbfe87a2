"""MySQL and MariaDB by asyncmy.

`$n` is rewritten to what asyncmy fills in, with values that it quotes; the permission to send several statements at
once is withdrawn from every connection. asyncmy gives up a connection whose statement is cancelled while the server
goes on; here a cancelled statement is ended by KILL QUERY over a second connection, and its answer is awaited.
`rowCount` counts rows found, also where an UPDATE changed nothing, as the other databases do; an upsert that updates
may count 2.
"""

import asyncio
import contextlib
import math
import select
from collections.abc import Coroutine, Sequence
from types import ModuleType
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import JsonValue

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.grammar.sql_placeholders import find_placeholders, leading_keyword, words
from omnibase_core.models.configuration.model_settings import ModelConnection
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.driver import (
    GRACE_SECONDS,
    Document,
    DuplicateColumnsError,
    SizeBudget,
    UnfitValueError,
    as_dicts,
    bind,
    column_names,
    configuration_error,
    read_options,
    read_pool_size,
    rows_as_json,
    unfit_text,
)
from omnibase_spi.db.faults import mysql_fault
from omnibase_spi.db.held import Held

_Result = TypeVar("_Result")
_URL_PARAMETERS = frozenset({"unix_socket", "ssl", "ssl_ca", "connect_timeout"})
_MAX_REWRITTEN = 1024
_IN_TRANSACTION = 1
"""SERVER_STATUS_IN_TRANS of the protocol's status flags."""
_BINARY = 63
"""The character set of columns that hold bytes."""
_STRINGS = frozenset({15, *range(249, 256)})
"""Types of the protocol that are text or bytes: VARCHAR, the BLOBs, VAR_STRING, STRING, GEOMETRY."""
_READING = frozenset({"select", "values", "table", "show", "explain", "describe", "desc", "with"})
_WRITING = frozenset({"insert", "update", "delete", "replace", "outfile", "dumpfile"})
_LOST_TRANSACTION = frozenset({1020, 1205, 1213})
"""After these InnoDB may have rolled back the whole transaction, and would run what follows outside of any."""


class RawField(Protocol):
    name: str
    charsetnr: int
    type_code: int


class RawResult(Protocol):
    fields: Sequence[RawField] | None
    rows: Sequence[Sequence[object]] | None
    description: Sequence[Sequence[object]] | None
    affected_rows: int
    has_next: int


class RawCursor(Protocol):
    description: Sequence[Sequence[object]] | None

    async def execute(self, query: str) -> int: ...

    async def fetchmany(self, size: int) -> Sequence[Sequence[object]]: ...


class Raw(Protocol):
    """What is used of asyncmy's connection; below its cursors, which would log the warnings of a statement with its
    data.
    """

    connected: bool
    server_status: int
    result: RawResult | None
    broken: bool

    def literal(self, value: object) -> str: ...

    def thread_id(self) -> int: ...

    def cursor(self, cursor: object) -> RawCursor: ...

    async def query(self, sql: str) -> int: ...

    async def next_result(self) -> int: ...

    def fileno(self) -> int: ...

    def drop(self) -> None: ...

    def close(self) -> None: ...

    async def ensure_closed(self) -> None: ...


class MysqlDriver:
    """Options: `pool_size` (default 10). URL parameters: `unix_socket`, `ssl=true`, `ssl_ca`, `connect_timeout`
    (seconds).
    """

    name = "mysql"
    read_size = 0

    def __init__(self, label: str, url: str, connection: ModelConnection, max_response_bytes: int) -> None:
        options = read_options(connection, label, {"pool_size": (int,)})
        self.write_size = read_pool_size(options, label)
        self.label = label
        self.max_response_bytes = max_response_bytes
        self._target = _read_url(label, url)
        self._rewritten: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}

    def effective_isolation(self, isolation_level: EnumIsolationLevel | None) -> EnumIsolationLevel:
        """What a transaction gets. Where nothing is asked for, the server's configuration decides: only the weakest
        is sure.
        """
        return isolation_level or EnumIsolationLevel.READ_COMMITTED

    async def connect(self, *, read_only: bool) -> "MysqlConnection":
        """Raises EffectFault of phase NOT_SENT."""
        del read_only  # one kind of connection
        return MysqlConnection(self, await self.open_raw())

    async def open_raw(self) -> Raw:
        client = _client(self.label)
        try:
            raw: Raw = await client.open_raw(self._target)
        except (*client.ERRORS, OSError, RuntimeError) as error:
            raise mysql_fault(error, f"connecting to {self.label}", connecting=True) from None
        return raw

    def rewritten(self, sql: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The pieces of a statement around its placeholders, and the numbers of these; cached."""
        plan = self._rewritten.get(sql)
        if plan is None:
            pieces, numbers, position = [], [], 0
            for placeholder in find_placeholders(sql, mysql=True):
                pieces.append(sql[position : placeholder.start])
                numbers.append(placeholder.number - 1)
                position = placeholder.end
            plan = (*pieces, sql[position:]), tuple(numbers)
            if len(self._rewritten) >= _MAX_REWRITTEN:
                self._rewritten.clear()
            self._rewritten[sql] = plan
        return plan

    def close(self) -> None:
        """Nothing outlives the pools."""


class MysqlConnection:
    """An asyncmy connection in autocommit mode."""

    def __init__(self, driver: MysqlDriver, raw: Raw) -> None:
        self._driver = driver
        self._label = driver.label
        self._raw = raw
        self._client = _client(driver.label)
        self._doubtful = False
        self._transaction_lost = False
        self._finishing = False
        self._poll = select.poll()
        self._poll.register(raw.fileno(), select.POLLIN)
        self.committed: bool | None = None

    @property
    def usable(self) -> bool:
        raw = self._raw  # whether the stream still stands, `is_alive` asks before the next statement
        return not self._doubtful and raw.connected and not raw.server_status & _IN_TRANSACTION

    def _connected(self) -> bool:
        return not self._doubtful and self._raw.connected and not self._raw.broken

    @property
    def in_transaction(self) -> bool:
        begun = self._raw.server_status & _IN_TRANSACTION
        return bool(begun) and not self._transaction_lost and self._connected()

    def is_alive(self) -> bool:
        """A server that went away has closed the stream or made the socket readable; an idle one says nothing."""
        return self._connected() and not self._poll.poll(0)

    async def execute(self, context: ModelResolvedDbContext) -> Document:
        params = context.params
        inside = self.in_transaction
        try:
            sql = self._filled(context.query, bind(params, _unfit)) if params else context.query
            if context.read_only:
                if not inside:
                    return await self._in_read_only_transaction(context, sql)
                self._refuse_writing(context)
            document = await self._run(context, sql)
        except UnfitValueError as error:
            raise error.fault(self._action(context)) from None
        except DuplicateColumnsError as error:
            raise error.fault(self._action(context)) from None
        except (*self._client.ERRORS, OSError, RuntimeError) as error:
            if error.args and error.args[0] in _LOST_TRANSACTION:
                self._transaction_lost = inside
            raise mysql_fault(error, self._action(context), params) from None
        if not inside and self._raw.server_status & _IN_TRANSACTION:
            self.close_now()  # the server rolls back what the statement has begun
            raise EffectFault(
                f"{self._action(context)}: it left a transaction open, which closing the connection rolls back.",
                error_kind="TRANSACTION_CONTROL",
                phase=EnumFaultPhase.AMBIGUOUS,
            )
        return document

    def _filled(self, sql: str, values: list[object]) -> str:
        pieces, numbers = self._driver.rewritten(sql)
        literal = self._raw.literal
        parts = [pieces[0]]
        for number, piece in zip(numbers, pieces[1:], strict=True):
            if not 0 <= number < len(values):
                raise UnfitValueError(number + 1, "is missing")
            parts += (literal(values[number]), piece)
        return "".join(parts)

    async def _in_read_only_transaction(self, context: ModelResolvedDbContext, sql: str) -> Document:
        await self._held(self._raw.query("START TRANSACTION READ ONLY"))
        try:
            return await self._run(context, sql)
        finally:
            if self._connected():
                await self._held(self._raw.query("COMMIT"))

    def _refuse_writing(self, context: ModelResolvedDbContext) -> None:
        """MySQL cannot forbid writing in the middle of a transaction, so that the statement's words are looked at."""
        if leading_keyword(context.query) not in _READING or words(context.query) & _WRITING:
            raise EffectFault(
                f"{self._action(context)}: the statement is read_only, but its words are not those of a query. "
                "Take read_only away or write a SELECT; nothing was sent.",
                error_kind="READ_ONLY",
                phase=EnumFaultPhase.NOT_SENT,
            )

    async def _run(self, context: ModelResolvedDbContext, sql: str) -> Document:
        if context.fetch_size is not None and leading_keyword(sql) in _READING:
            return await self._held(self._fetch(context, sql, context.fetch_size))
        return await self._held(self._query(sql))

    async def _query(self, sql: str) -> Document:
        raw = self._raw
        await raw.query(sql)
        result = raw.result
        if result is None:
            return {"rows": [], "rowCount": 0}
        latest: RawResult | None = result
        while latest is not None and latest.has_next:  # a procedure answers with several results
            await raw.next_result()
            latest = raw.result
        fields = result.fields
        if result.description is None or fields is None:
            return {"rows": [], "rowCount": result.affected_rows}
        names = column_names([field.name for field in fields])
        binary = [field for field in fields if field.charsetnr == _BINARY and field.type_code in _STRINGS]
        rows = rows_as_json(names, result.rows or ()) if binary else as_dicts(names, result.rows or ())
        return {"rows": rows, "rowCount": len(rows)}

    async def _fetch(self, context: ModelResolvedDbContext, sql: str, batch: int) -> Document:
        cursor = self._raw.cursor(self._client.UNBUFFERED)
        await cursor.execute(sql)
        budget = SizeBudget(self._driver.max_response_bytes, self._action(context))
        rows: list[JsonValue] = []
        self._doubtful = True  # until the last row is read
        names = column_names([str(column[0]) for column in cursor.description or ()])
        while part := await cursor.fetchmany(max(batch, 1)):
            budget.spend(part)
            rows += rows_as_json(names, part)
        self._doubtful = False
        return {"rows": rows, "rowCount": len(rows)}

    async def _held(self, coroutine: Coroutine[object, object, _Result]) -> _Result:
        held = Held(coroutine)
        try:
            return await held
        except asyncio.CancelledError:
            await self._settle(held)
            raise

    async def _settle(self, held: Held[_Result]) -> None:
        """Bring a running statement to its end, by killing it on the server unless it is a COMMIT."""
        self._doubtful = True
        try:
            async with asyncio.timeout(2 * GRACE_SECONDS):
                if not self._finishing:
                    killer = await self._driver.open_raw()
                    try:
                        await killer.query(f"KILL QUERY {self._raw.thread_id()}")
                    finally:
                        killer.close()
                with contextlib.suppress(self._client.ERRORS):
                    await held
                if not self._finishing:
                    with contextlib.suppress(self._client.ERRORS):
                        await self._raw.query("DO 0")  # takes the blow if KILL came after the statement's end
                self._doubtful = False
        except (TimeoutError, EffectFault, OSError):
            pass
        finally:
            if self._doubtful:
                held.close()
                self.close_now()

    def _action(self, context: ModelResolvedDbContext) -> str:
        return f"{context.operation} on {self._label}"

    async def begin(self, isolation_level: EnumIsolationLevel | None, *, read_only: bool) -> None:
        self._transaction_lost = False
        if isolation_level:
            await self.command(f"SET TRANSACTION ISOLATION LEVEL {isolation_level.sql}")
        await self.command(f"START TRANSACTION{' READ ONLY' if read_only else ''}")

    async def command(self, sql: str) -> None:
        try:
            await self._held(self._raw.query(sql))
        except (*self._client.ERRORS, OSError, RuntimeError) as error:
            raise mysql_fault(error, f"{sql.partition(' onex')[0]} on {self._label}") from None

    async def commit(self) -> bool:
        self.committed = None
        action = f"COMMIT on {self._label}"
        if not self.is_alive():
            self.close_now()
            raise _lost_before_commit(action)
        self._finishing = True
        try:
            await self._held(self._commit())
        except (*self._client.ERRORS, OSError, RuntimeError) as error:
            fault = mysql_fault(error, action)
            if fault.phase is EnumFaultPhase.REJECTED and fault.error_kind != "ETIMEDOUT" and self._connected():
                await self.command("ROLLBACK")
                self.committed = False
            elif fault.phase is not EnumFaultPhase.NOT_SENT:
                fault.phase, fault.transient = EnumFaultPhase.AMBIGUOUS, False
                self.close_now()
            raise fault from None
        finally:
            self._finishing = False
        return True

    async def _commit(self) -> None:
        await self._raw.query("COMMIT")
        self.committed = True

    def retire(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        self._doubtful = True
        self._raw.drop()

    async def close(self) -> None:
        if not self._connected():
            self.close_now()
            return
        with contextlib.suppress(TimeoutError, OSError, *self._client.ERRORS):
            async with asyncio.timeout(GRACE_SECONDS):
                await self._raw.ensure_closed()
        self.close_now()


def _lost_before_commit(action: str) -> EffectFault:
    return EffectFault(
        f"{action} was not sent: the connection was lost before. The server rolls the transaction back.",
        error_kind="ECONNRESET",
        phase=EnumFaultPhase.NOT_SENT,
    )


def _unfit(value: JsonValue) -> str | None:
    if isinstance(value, str):
        return unfit_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "is NaN or infinite, which MySQL cannot store"
    return None


class MysqlTarget(NamedTuple):
    """Where a URL leads; the password is in it, so that it is never shown."""

    host: str
    port: int
    user: str | None
    password: str
    database: str | None
    unix_socket: str | None
    connect_timeout_seconds: float
    verify_tls: bool
    ssl_ca: str | None

    def __repr__(self) -> str:
        return "MysqlTarget(values hidden)"


def _read_url(label: str, url: str) -> MysqlTarget:
    wanted = (
        f"{label}: the URL cannot be read. Write mysql://user:password@host:3306/database; special characters in the "
        f"password are percent-encoded; known parameters are {', '.join(sorted(_URL_PARAMETERS))}"
    )
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        port = parts.port or 3306
        timeout = float(query.get("connect_timeout", 10))
    except ValueError:
        raise configuration_error(f"{wanted}.") from None
    unknown = set(query) - _URL_PARAMETERS
    if unknown or not 0 < timeout <= 3600 or query.get("ssl", "true") not in {"true", "false"}:
        raise configuration_error(f"{wanted}{f', not {sorted(unknown)}' if unknown else ''}; ssl is true or false.")
    return MysqlTarget(
        host=unquote(parts.hostname or "localhost"),
        port=port,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")) or None,
        unix_socket=query.get("unix_socket"),
        connect_timeout_seconds=timeout,
        verify_tls=query.get("ssl") == "true" or "ssl_ca" in query,
        ssl_ca=query.get("ssl_ca"),
    )


def _client(label: str) -> ModuleType:
    try:
        from omnibase_spi.db import mysql_link
    except ImportError as error:
        raise configuration_error(
            f"{label}: asyncmy is missing or broken ({error}). Install it: pip install 'omnibase[mysql]'."
        ) from None
    return mysql_link
