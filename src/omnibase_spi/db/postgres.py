"""PostgreSQL by psycopg 3.

Statements go by the extended protocol, also without parameters: the server itself then refuses a text of several
statements, and reads `$n` natively. Text parameters have no type, so that the server casts them to what the column
wants. Columns arrive as the text that PostgreSQL writes wherever JSON has no such type, which is exact: numerics keep
all digits, months of an interval stay months, and dates that Python lacks (`infinity`, years BC) are no error.
"""

import asyncio
import select
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import JsonValue

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.grammar.sql_placeholders import leading_keyword
from omnibase_core.models.configuration.model_settings import ModelConnection
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.driver import (
    Document,
    DuplicateColumnsError,
    SizeBudget,
    UnfitValueError,
    all_finite,
    as_dicts,
    bind,
    column_names,
    configuration_error,
    plain_value,
    read_options,
    read_pool_size,
    unfit_text,
)
from omnibase_spi.db.faults import postgres_fault

if TYPE_CHECKING:
    from psycopg import AsyncRawCursor

    from omnibase_spi.db.postgres_link import Link

_FETCHABLE = frozenset({"select", "values", "table", "with"})
_FLOATS = frozenset({700, 701, 1021, 1022})
"""Types whose values may be NaN or Infinity: float4, float8 and arrays of them."""


class PostgresDriver:
    """Options: `pool_size` (default 10) and `prepare_threshold` (default 5; null for poolers that share sessions).

    The URL goes to libpq as it is, with all its parameters (`sslmode`, `connect_timeout`, `application_name`, ...).
    """

    name = "postgresql"
    read_size = 0

    def __init__(self, label: str, url: str, connection: ModelConnection, max_response_bytes: int) -> None:
        known: dict[str, tuple[type, ...]] = {"pool_size": (int,), "prepare_threshold": (int, type(None))}
        options = read_options(connection, label, known)
        threshold = options.get("prepare_threshold", 5)
        if isinstance(threshold, int) and not 0 <= threshold <= 1_000_000:
            raise configuration_error(f"{label}: option 'prepare_threshold' is {threshold!r}, but must be 0..1000000.")
        self.write_size = read_pool_size(options, label)
        self.label = label
        self.max_response_bytes = max_response_bytes
        self._threshold = threshold if isinstance(threshold, int) else None
        self._url = url

    def effective_isolation(self, isolation_level: EnumIsolationLevel | None) -> EnumIsolationLevel:
        """What a transaction gets; READ COMMITTED where nothing is asked for, PostgreSQL's default at the weakest."""
        return isolation_level or EnumIsolationLevel.READ_COMMITTED

    async def connect(self, *, read_only: bool) -> "PostgresConnection":
        """Raises EffectFault of phase NOT_SENT."""
        del read_only  # one kind of connection
        link_module = _link_module(self.label)
        try:
            link = await link_module.open_link(self._url, self._threshold)
        except link_module.UNREADABLE_URL:
            raise configuration_error(
                f"{self.label}: libpq cannot read the URL. Write postgresql://user:password@host:5432/database; "
                "special characters in the password are percent-encoded."
            ) from None
        except (*link_module.ERRORS, OSError) as error:
            raise postgres_fault(error, f"connecting to {self.label}", connecting=True) from None
        return PostgresConnection(self, link)

    def close(self) -> None:
        """Nothing outlives the pools."""


class PostgresConnection:
    """A psycopg connection in autocommit mode, with one cursor for all its statements."""

    def __init__(self, driver: PostgresDriver, link: "Link") -> None:
        self._driver = driver
        self._label = driver.label
        self._link = link
        self._cursor: AsyncRawCursor[tuple[object, ...]] = link.statement_cursor()
        self._poll = select.poll()
        self._poll.register(link.fileno(), select.POLLIN)
        self.committed: bool | None = None
        self._cursors = 0

    @property
    def usable(self) -> bool:
        return self._link.is_idle

    @property
    def in_transaction(self) -> bool:
        return self._link.has_transaction()

    def is_alive(self) -> bool:
        """One system call: an idle server says nothing, and one that went away has made the socket readable.

        A changed setting that the server announces counts too; that costs a new connection, and nothing else.
        """
        return not self._link.is_closed() and not self._poll.poll(0)

    async def execute(self, context: ModelResolvedDbContext) -> Document:
        link = self._link
        params = context.params
        try:
            values = bind(params, _unfit) if params else ()
            if link.has_transaction():
                if context.read_only:
                    return await self._guarded(context, values)
                return await self._run(context, values)
            if context.read_only or _in_batches(context):
                return await self._in_own_transaction(context, values)
            document = await self._run(context, values)
        except UnfitValueError as error:
            raise error.fault(self._action(context)) from None
        except DuplicateColumnsError as error:
            raise error.fault(self._action(context)) from None
        except (*link.errors, OSError, UnicodeError) as error:
            raise self._fault(error, self._action(context), params) from None
        if link.has_transaction():
            link.close_quietly()  # the server rolls back what the statement has begun
            raise _left_open(self._action(context))
        return document

    async def _run(self, context: ModelResolvedDbContext, values: Sequence[object]) -> Document:
        if _in_batches(context):
            return await self._fetch(context, values)
        cursor = self._cursor
        await cursor.execute(context.query, values)
        result = cursor.pgresult
        if result is None or not result.nfields:
            return {"rows": [], "rowCount": max(cursor.rowcount, 0)}
        names = column_names([_text(result.fname(index)) for index in range(result.nfields)])
        rows = await cursor.fetchall()
        return {"rows": _as_dicts(names, rows, _has_floats(cursor)), "rowCount": len(rows)}

    async def _in_own_transaction(self, context: ModelResolvedDbContext, values: Sequence[object]) -> Document:
        """READ ONLY is a property of a transaction, and a cursor of the server lives in one."""
        await self._cursor.execute("BEGIN READ ONLY" if context.read_only else "BEGIN")
        try:
            document = await self._run(context, values)
        except asyncio.CancelledError:
            self._link.close_quietly()  # the quickest rollback
            raise
        except BaseException:
            if self._link.has_transaction():
                await self._cursor.execute("ROLLBACK")
            raise
        await self._cursor.execute("COMMIT")
        return document

    async def _guarded(self, context: ModelResolvedDbContext, values: Sequence[object]) -> Document:
        """A statement that must not write, in a transaction that may: rolling back to the savepoint lifts the ban
        again.
        """
        await self._cursor.execute("SAVEPOINT onex_read_only")
        try:
            await self._cursor.execute("SET LOCAL transaction_read_only = on")
            return await self._run(context, values)
        except asyncio.CancelledError:
            self._link.close_quietly()
            raise
        finally:
            if self._link.has_transaction():
                await self._cursor.execute("ROLLBACK TO SAVEPOINT onex_read_only")
                await self._cursor.execute("RELEASE SAVEPOINT onex_read_only")

    async def _fetch(self, context: ModelResolvedDbContext, values: Sequence[object]) -> Document:
        """By a cursor of the server, `fetch_size` rows at a time."""
        cursor = self._cursor
        self._cursors += 1
        name = f"onex_{self._cursors}"
        budget = SizeBudget(self._driver.max_response_bytes, self._action(context))
        declare = f"DECLARE {name} NO SCROLL CURSOR FOR {context.query}"
        await cursor.execute(declare, values)
        rows: list[JsonValue] = []
        while True:
            await cursor.execute(f"FETCH FORWARD {context.fetch_size or 1} FROM {name}")
            result = cursor.pgresult
            names = column_names([_text(result.fname(index)) for index in range(result.nfields)]) if result else []
            batch = await cursor.fetchall()
            budget.spend(batch)
            rows += _as_dicts(names, batch, _has_floats(cursor))
            if len(batch) < (context.fetch_size or 1):
                break
        await cursor.execute(f"CLOSE {name}")
        return {"rows": rows, "rowCount": len(rows)}

    def _action(self, context: ModelResolvedDbContext) -> str:
        return f"{context.operation} on {self._label}"

    def _fault(self, error: BaseException, action: str, params: Sequence[object] = ()) -> EffectFault:
        fault = postgres_fault(error, action, params)
        if fault.sqlstate == "0A000" and "cached plan" in fault.message:
            # a table changed under a prepared statement; nothing ran, and a new connection prepares anew, as does this
            # one after a rollback
            fault.transient = True
            if not self._link.has_transaction():
                self._link.close_quietly()
        return fault

    async def begin(self, isolation_level: EnumIsolationLevel | None, *, read_only: bool) -> None:
        level = f" ISOLATION LEVEL {isolation_level.sql}" if isolation_level else ""
        await self.command(f"BEGIN{level}{' READ ONLY' if read_only else ''}")

    async def command(self, sql: str) -> None:
        try:
            await self._link.finish_even_if_cancelled(self._cursor.execute(sql))
        except (*self._link.errors, OSError) as error:
            raise postgres_fault(error, f"{sql.partition(' onex')[0]} on {self._label}") from None

    async def commit(self) -> bool:
        self.committed = None
        link = self._link
        action = f"COMMIT on {self._label}"
        if not self.is_alive():
            link.close_quietly()
            raise _lost_before_commit(action)
        try:
            await link.finish_even_if_cancelled(self._cursor.execute("COMMIT"))
        except asyncio.CancelledError:
            self.committed = self._commit_outcome()
            raise
        except (*link.errors, OSError) as error:
            fault = postgres_fault(error, action)
            if link.is_idle and fault.error_kind != "ECONNRESET":
                self.committed = False
                fault.phase = EnumFaultPhase.REJECTED
            else:
                fault.phase, fault.transient = EnumFaultPhase.AMBIGUOUS, False
                link.close_quietly()
            raise fault from None
        self.committed = self._commit_outcome()
        return self.committed is True

    def _commit_outcome(self) -> bool | None:
        """What the server answered: COMMIT, or ROLLBACK for a transaction that had failed before."""
        return {"COMMIT": True, "ROLLBACK": False}.get(self._cursor.statusmessage or "") if self.usable else None

    def retire(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        self._link.close_quietly()

    async def close(self) -> None:
        self._link.close_quietly()  # libpq says goodbye to the server without waiting


def _in_batches(context: ModelResolvedDbContext) -> bool:
    return context.fetch_size is not None and leading_keyword(context.query) in _FETCHABLE


def _text(name: bytes | None) -> str:
    return name.decode() if name is not None else ""


def _has_floats(cursor: "AsyncRawCursor[tuple[object, ...]]") -> bool:
    result = cursor.pgresult
    return result is not None and any(result.ftype(index) in _FLOATS for index in range(result.nfields))


def _as_dicts(names: list[str], rows: Sequence[tuple[object, ...]], floats: bool) -> list[JsonValue]:
    if floats and not all(all_finite(row) and list not in map(type, row) for row in rows):
        return [dict(zip(names, map(plain_value, row), strict=True)) for row in rows]
    return as_dicts(names, rows)


def _unfit(value: JsonValue) -> str | None:
    if isinstance(value, str):
        if "\x00" in value:
            return "holds a NUL character, which PostgreSQL cannot store in text"
        return unfit_text(value)
    return None


def _left_open(action: str) -> EffectFault:
    return EffectFault(
        f"{action}: the statement left a transaction open, which was rolled back by closing the connection.",
        error_kind="TRANSACTION_CONTROL",
        phase=EnumFaultPhase.AMBIGUOUS,
    )


def _lost_before_commit(action: str) -> EffectFault:
    return EffectFault(
        f"{action} was not sent: the connection was lost before. The server rolls the transaction back.",
        error_kind="ECONNRESET",
        phase=EnumFaultPhase.NOT_SENT,
    )


def _link_module(label: str) -> ModuleType:
    try:
        from omnibase_spi.db import postgres_link
    except ImportError as error:
        raise configuration_error(
            f"{label}: psycopg is missing or broken ({error}). Install it: pip install 'omnibase[postgres]'."
        ) from None
    return postgres_link
