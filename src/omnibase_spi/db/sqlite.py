"""SQLite by the standard library, each connection in a thread of its own.

One connection writes and up to `pool_size - 1` read: writers of one process then queue fairly instead of polling the
lock of the file, and readers go on beside them (WAL). A reader has `PRAGMA query_only`; a `select` that turns out to
write is run again by the writer, unless it was `read_only`. `:memory:` is one connection for everything, and lives as
long as the adapter. Statements see `NOW()`: UTC, ISO-8601.
"""

import asyncio
import sqlite3
import threading
import weakref
from asyncio import get_running_loop
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.models.configuration.model_settings import ModelConnection
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.driver import (
    GRACE_SECONDS,
    Document,
    DuplicateColumnsError,
    SizeBudget,
    UnfitValueError,
    bind,
    column_names,
    configuration_error,
    read_options,
    read_pool_size,
    rows_as_json,
    unfit_text,
)
from omnibase_spi.db.faults import sqlite_fault

_Result = TypeVar("_Result")
_Job: TypeAlias = tuple[asyncio.Future[object], Callable[..., object], tuple[object, ...]]

_PARAMETER_NAMES = tuple(str(number) for number in range(1, 1000))
_JUDGED_BY_SQLITE3 = frozenset({int, str, bool, type(None)})
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class SqliteDriver:
    """Options: `pool_size` (default 10), `busy_timeout_ms` (default 5000): the wait for a lock of another process."""

    name = "sqlite"

    def __init__(self, label: str, path: str, connection: ModelConnection | None, max_response_bytes: int) -> None:
        known: dict[str, tuple[type, ...]] = {"pool_size": (int,), "busy_timeout_ms": (int,)}
        options = read_options(connection, label, known) if connection else {}
        pool_size = read_pool_size(options, label)
        timeout = options.get("busy_timeout_ms", 5000)
        if not isinstance(timeout, int) or not 0 <= timeout <= 600_000:
            raise configuration_error(f"{label}: option 'busy_timeout_ms' is {timeout!r}, but must be 0..600000.")
        self.label = label
        self.path = path
        self.busy_timeout_ms = timeout
        self.max_response_bytes = max_response_bytes
        self.in_memory = path == ":memory:"
        self.read_size = 0 if self.in_memory or pool_size == 1 else pool_size - 1
        self.write_size = 1
        self._only: SqliteConnection | None = None

    def effective_isolation(self, isolation_level: EnumIsolationLevel | None) -> EnumIsolationLevel:
        """Always serializable."""
        del isolation_level
        return EnumIsolationLevel.SERIALIZABLE

    async def connect(self, *, read_only: bool) -> "SqliteConnection":
        if self._only is not None:
            if self._only.lent:
                raise configuration_error(
                    f"{self.label}: an in-memory database cannot be shared by two event loops at once. Use a file."
                )
            self._only.lent = True
            return self._only
        connection = SqliteConnection(self, read_only=read_only)
        await connection.open()
        if self.in_memory:
            self._only = connection
        return connection

    def close(self) -> None:
        if self._only is not None:
            self._only.end()
            self._only = None


class SqliteConnection:
    """A connection and the thread that alone runs its statements."""

    def __init__(self, driver: SqliteDriver, *, read_only: bool) -> None:
        self._driver = driver
        self._label = driver.label
        self._read_only = read_only
        self._raw: sqlite3.Connection | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._finish = weakref.finalize(self, self._jobs.put, None)
        self.usable = True
        self.lent = True
        self._to_restore: list[str] = []
        self.committed: bool | None = None

    async def open(self) -> None:
        """Raises EffectFault, NOT_SENT, when the file cannot be opened."""
        holder: list[sqlite3.Connection] = []
        self._thread = threading.Thread(target=_serve, args=(self._jobs, holder), name="onex-sqlite", daemon=True)
        self._thread.start()
        try:
            await self._call(_open, holder, self._driver.path, self._driver.busy_timeout_ms, self._read_only)
        except sqlite3.Error as error:
            self.end()
            fault = sqlite_fault(error, f"opening {self._label}")
            fault.phase = EnumFaultPhase.NOT_SENT
            raise fault from None
        except OSError as error:
            self.end()
            raise self._no_directory(error) from None
        except BaseException:
            self.end()
            raise
        self._raw = holder[0]

    def _no_directory(self, error: OSError) -> EffectFault:
        directory = Path(self._driver.path).parent
        return EffectFault(
            f"opening {self._label}: the directory {directory} of its file cannot be made: {error.strerror or error}. "
            "Name one that can: in the connection's url, or for the embedded database in data_dir (ONEX_DATA_DIR).",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
            error_kind="DB_SETTINGS",
            phase=EnumFaultPhase.NOT_SENT,
        )

    @property
    def in_transaction(self) -> bool:
        return self._raw is not None and self._raw.in_transaction

    def is_alive(self) -> bool:
        return self.usable

    async def execute(self, context: ModelResolvedDbContext) -> Document:
        params = context.params
        fetch = None
        if context.fetch_size is not None:
            fetch = context.fetch_size, SizeBudget(self._driver.max_response_bytes, self._action(context))
        guarded = context.read_only and not self._read_only
        try:
            values = _bound(params) if params else None
            future: asyncio.Future[Document] = get_running_loop().create_future()
            job = future, _statement, (self._raw, context.query, values, guarded, fetch)
            self._jobs.put(job)  # type: ignore[arg-type]  # a queue is of one type of result
            try:
                return await future
            except asyncio.CancelledError:
                await self._interrupt()
                raise
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise sqlite_fault(error, self._action(context), params) from None
        except (OverflowError, UnicodeError) as error:
            raise self._unfit_fault(context, error) from None
        except (UnfitValueError, DuplicateColumnsError) as error:
            raise error.fault(self._action(context)) from None

    def _unfit_fault(self, context: ModelResolvedDbContext, error: Exception) -> EffectFault:
        """sqlite3 found a value that it cannot bind; looked for again, to name its number."""
        try:
            bind(context.params, _unfit)
        except UnfitValueError as found:
            return found.fault(self._action(context))
        return sqlite_fault(error, self._action(context), context.params)

    def _action(self, context: ModelResolvedDbContext) -> str:
        return f"{context.operation} on {self._label}"

    async def begin(self, isolation_level: EnumIsolationLevel | None, *, read_only: bool) -> None:
        """BEGIN IMMEDIATE for one that may write, so that it never has to give up halfway for want of the lock."""
        del isolation_level  # always serializable
        self._to_restore = ["PRAGMA query_only = 0"] if read_only and not self._read_only else []
        begin = (
            ["PRAGMA query_only = 1", "BEGIN"] if self._to_restore else ["BEGIN" if read_only else "BEGIN IMMEDIATE"]
        )
        await self._run(begin, "beginning a transaction")

    async def command(self, sql: str) -> None:
        if sql == "ROLLBACK":
            # after some errors (full disk, ON CONFLICT ROLLBACK) SQLite has rolled back by itself
            commands = [sql, *self._to_restore] if self.in_transaction else self._to_restore
        else:
            commands = [sql]
        await self._run(commands, sql.partition(" onex")[0])

    async def _run(self, commands: list[str], what: str) -> None:
        try:
            await self._call(_commands, self._raw, commands)
        except sqlite3.Error as error:
            raise sqlite_fault(error, f"{what} on {self._label}") from None

    async def commit(self) -> bool:
        self.committed = None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._jobs.put((future, _commit, (self._raw, self._to_restore)))
        try:
            outcome = await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future}, timeout=GRACE_SECONDS)
            if future.done() and future.exception() is None:
                self.committed = future.result() is None
            else:
                self.usable = False
            raise
        self.committed = outcome is None
        if isinstance(outcome, sqlite3.Error):
            fault = sqlite_fault(outcome, f"COMMIT on {self._label}")
            fault.phase = EnumFaultPhase.REJECTED
            raise fault from None
        return True

    async def _call(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Run a function in the thread. When cancelled: interrupt it, and wait until the thread is free."""
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._jobs.put((future, function, arguments))  # type: ignore[arg-type]  # a queue is of one type of result
        try:
            return await future
        except asyncio.CancelledError:
            await self._interrupt()
            raise

    async def _interrupt(self) -> None:
        """SQLite forgets an interrupt that comes between two statements; hence it is repeated until the thread is
        free.
        """
        loop = asyncio.get_running_loop()
        free: asyncio.Future[object] = loop.create_future()
        self._jobs.put((free, _nothing, ()))
        was_usable, self.usable = self.usable, False  # in case that this is cancelled too
        deadline = loop.time() + GRACE_SECONDS
        while not free.done() and loop.time() < deadline:
            if self._raw is not None:
                self._raw.interrupt()
            await asyncio.wait({free}, timeout=0.02)
        self.usable = was_usable and free.done()

    def retire(self) -> None:
        if not self._driver.in_memory:
            self.end()

    def close_now(self) -> None:
        if self._driver.in_memory and self.usable and not self.in_transaction:
            self.lent = False  # kept by the driver, for the next event loop
        else:
            self.end()

    async def close(self) -> None:
        if self._driver.in_memory:
            self.close_now()
        else:
            await self._call(_nothing)
            self.end()
            self._thread.join(GRACE_SECONDS)  # it has nothing left to do but to close

    def end(self) -> None:
        """Let the thread close the connection and end, once it has done what is queued."""
        self.usable = False
        self._finish()


def _serve(jobs: "SimpleQueue[_Job | None]", holder: list[sqlite3.Connection]) -> None:
    """The life of a thread. It holds no reference to its connection object, so that this can be collected."""
    while (job := jobs.get()) is not None:
        future, function, arguments = job
        result: object = None
        error: BaseException | None = None
        try:
            if not future.cancelled():
                result = function(*arguments)
        except BaseException as caught:  # noqa: BLE001 - every exception goes to who waits
            error = caught
        try:  # noqa: SIM105 - costs nothing, and this is the hot path
            future.get_loop().call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits
        job = future = function = arguments = result = error = None  # type: ignore[assignment]  # let go while it waits
    for raw in holder:
        raw.close()


def _settle(future: asyncio.Future[object], result: object, error: BaseException | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _nothing() -> None:
    """What a free thread does."""


def _open(holder: list[sqlite3.Connection], path: str, busy_timeout_ms: int, read_only: bool) -> None:
    if path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    raw = sqlite3.connect(
        path, timeout=busy_timeout_ms / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    holder.append(raw)
    raw.create_function("NOW", 0, _now)
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA journal_mode = WAL").fetchall()
    if read_only:
        raw.execute("PRAGMA query_only = 1")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _statement(
    raw: sqlite3.Connection,
    sql: str,
    values: dict[str, object] | None,
    guarded: bool,
    fetch: tuple[int, SizeBudget] | None,
) -> Document:
    """Runs in the thread. `guarded`: on a connection that may write, this statement may not."""
    if guarded:
        raw.execute("PRAGMA query_only = 1")
    try:
        cursor = raw.execute(sql, values) if values else raw.execute(sql)
        description = cursor.description
        if description is None:
            document: Document = {"rows": [], "rowCount": max(cursor.rowcount, 0)}
        else:
            names = column_names([column[0] for column in description])
            rows = rows_as_json(names, cursor.fetchall() if fetch is None else _fetched(cursor, *fetch))
            document = {"rows": rows, "rowCount": len(rows)}
    finally:
        if guarded:
            raw.execute("PRAGMA query_only = 0")
    return document


def _fetched(cursor: sqlite3.Cursor, batch: int, budget: SizeBudget) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = []
    while part := cursor.fetchmany(batch):
        budget.spend(part)
        rows += part
    return rows


def _commands(raw: sqlite3.Connection, commands: list[str]) -> None:
    for command in commands:
        raw.execute(command)


def _commit(raw: sqlite3.Connection, to_restore: list[str]) -> Exception | None:
    """COMMIT; when it is refused (deferred constraint, lock, disk), ROLLBACK in the same breath, so that the fault is
    true.

    Returns the refusal. Raises when not even the rollback could be carried out.
    """
    refusal = None
    try:
        raw.execute("COMMIT")
    except sqlite3.Error as error:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        refusal = error
    _commands(raw, to_restore)
    return refusal


def _bound(params: Sequence[JsonValue]) -> dict[str, object]:
    """`$n` is a parameter named `n`. What sqlite3 judges by itself is not looked at, for it costs too much."""
    names: Iterable[str] = _PARAMETER_NAMES if len(params) < 1000 else map(str, range(1, len(params) + 1))
    if _JUDGED_BY_SQLITE3.issuperset(map(type, params)):
        return dict(zip(names, params, strict=False))
    return dict(zip(names, bind(params, _unfit), strict=False))


def _unfit(value: JsonValue) -> str | None:
    if isinstance(value, str):
        return unfit_text(value)
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        return "is an integer beyond 64 bits, which SQLite cannot store"
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN, which SQLite would store as NULL
        return "is NaN, which SQLite would store as NULL"
    return None


def sqlite_path(label: str, url: str) -> str:
    """The file of `sqlite:///relative`, `sqlite:////absolute` or `sqlite:///:memory:`."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or "?" in path or "\x00" in path:
        raise configuration_error(
            f"{label}: the URL names no SQLite file. Write sqlite:///relative.db, sqlite:////absolute.db or "
            "sqlite:///:memory:, without a query."
        )
    return path


def writes(fault: EffectFault) -> bool:
    """Whether a reader refused a statement because it writes."""
    return fault.error_kind == "READ_ONLY" and fault.error_code is EnumCoreErrorCode.OPERATION_FAILED
