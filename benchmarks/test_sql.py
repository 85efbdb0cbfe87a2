"""SQL operations beside the same statement by the driver that we use ourselves.

PostgreSQL: psycopg's pool, autocommit, rows as dicts. SQLite: a connection in a thread of its own, as an executor of
one worker; and, for comparison only, as a thread that is fed by a bare queue, which is the least one can do (`lean`).
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from benchmarks.measure import Run, Table, Times, one_by_one, paired
from benchmarks.nodes import calling, container_of, node_of
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings

TABLE = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, total REAL)"
ROW = "INSERT INTO items VALUES (5, 'five', 5.5)"
SELECT = "SELECT id, name, total FROM items WHERE id = $1"
INSERT = "INSERT INTO log (item, note) VALUES ($1, $2)"
LOG = "CREATE TABLE log (item INTEGER, note TEXT)"

Rows = list[dict[str, object]]
Statement = Callable[[str, tuple[object, ...]], Awaitable[Rows]]
_Job = tuple[asyncio.Future[Rows], str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class _Bare:
    """statement: alone, as a transaction of its own. ten: ten of them, between BEGIN and COMMIT. lean: see above."""

    statement: Statement
    ten: Callable[[str, tuple[object, ...]], Awaitable[object]]
    lean: Statement | None = None


def test_sqlite(tmp_path: Path, table: Table) -> None:
    """A SELECT by key of one row, and an INSERT, with the journal in WAL mode as the adapter sets it."""
    path = tmp_path / "measured.db"
    with sqlite3.connect(path) as made:
        made.execute("PRAGMA journal_mode = WAL")
        for statement in (TABLE, ROW, LOG):
            made.execute(statement)
    made.close()

    _report("sqlite", table, asyncio.run(_measure(f"sqlite:///{path}", _sqlite(path))))


def test_postgres(postgres_url: str, table: Table) -> None:
    """The same statements on a private server."""
    with psycopg.connect(postgres_url) as made:
        for name in ("items", "log"):
            made.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in (TABLE, ROW, LOG):
            made.execute(statement.encode())

    _report("postgres", table, asyncio.run(_measure(postgres_url, _postgres(postgres_url))))


def _report(group: str, table: Table, found: Times) -> None:
    for kind in ("select", "insert"):
        alone, ten = (found.compare(f"{kind} {calls}", f"{kind} bare") for calls in ("alone", "ten"))
        table.add_comparison(group, f"{kind}, 1 per call", alone, ratio=1.7, added_us=45)
        table.add_comparison(group, f"{kind}, 10 per call", ten, ratio=1.4, added_us=35)
    block = found.compare("transaction", "transaction bare")
    table.add_comparison(group, "10 inserts in a transaction", block, ratio=1.4, added_us=35)
    if "select lean" in found.rounds:
        for calls in ("alone", "ten"):
            lean = found.compare(f"select {calls}", "select lean")
            note = f"{lean.ours:.1f} us beside {lean.bare:.1f}; added {lean.added:.1f}"
            table.add(group, f"select, {calls}, beside a lean thread", lean.ratio, "x", note=note)


async def _measure(url: str, bare_client: AbstractAsyncContextManager[_Bare]) -> Times:
    container = container_of(ModelSettings(connections={"main": ModelConnection(url=SecretStr(url))}))
    select = _io("select", SELECT, ["${input.id}"])
    insert = _io("insert", INSERT, ["${input.id}", "${input.note}"])
    fields = {"name": "$.rows[0].name"}
    data: Mapping[str, object] = {"id": 5, "note": "a note"}

    def ours(
        io_config: dict[str, object], operations: int, extract: dict[str, str] | None = None, **more: object
    ) -> Run:
        node = node_of(container, io_config, operations, extract=extract, **more)
        return one_by_one(calling(node, **data), operations)

    async with bare_client as bare:
        subjects = {
            "select bare": one_by_one(lambda: bare.statement(SELECT, (5,))),
            "select alone": ours(select, 1, fields),
            "select ten": ours(select, 10, fields),
            "insert bare": one_by_one(lambda: bare.statement(INSERT, (5, "a note"))),
            "insert alone": ours(insert, 1),
            "insert ten": ours(insert, 10),
            "transaction bare": one_by_one(lambda: bare.ten(INSERT, (5, "a note")), 10),
            "transaction": ours(insert, 10, transaction={"enabled": True}),
        }
        if (lean := bare.lean) is not None:
            subjects["select lean"] = one_by_one(partial(lean, SELECT, (5,)))
        times = await paired(subjects, operations=100)
    await container.aclose()
    return times


def _io(operation: str, query: str, params: list[str]) -> dict[str, object]:
    return {
        "handler_type": "db",
        "operation": operation,
        "connection_name": "main",
        "query_template": query,
        "query_params": params,
    }


def _query(raw: sqlite3.Connection, sql: str, params: tuple[object, ...]) -> Rows:
    cursor = raw.execute(sql, {str(number): value for number, value in enumerate(params, 1)})
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@asynccontextmanager
async def _sqlite(path: Path) -> AsyncIterator[_Bare]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as worker, _lean_thread(path) as jobs:
        raw = await loop.run_in_executor(worker, _connect, path)

        async def statement(sql: str, params: tuple[object, ...]) -> Rows:
            return await loop.run_in_executor(worker, _query, raw, sql, params)

        async def ten(sql: str, params: tuple[object, ...]) -> None:
            await statement("BEGIN IMMEDIATE", ())
            for _ in range(10):
                await statement(sql, params)
            await statement("COMMIT", ())

        async def lean(sql: str, params: tuple[object, ...]) -> Rows:
            future: asyncio.Future[Rows] = loop.create_future()
            jobs.put((future, sql, params))
            return await future

        yield _Bare(statement, ten, lean)
        await loop.run_in_executor(worker, raw.close)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


@contextmanager
def _lean_thread(path: Path) -> Iterator["SimpleQueue[_Job | None]"]:
    jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def work() -> None:
        raw = _connect(path)
        while (job := jobs.get()) is not None:
            future, sql, params = job
            future.get_loop().call_soon_threadsafe(future.set_result, _query(raw, sql, params))
        raw.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield jobs
    finally:
        jobs.put(None)
        thread.join()


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[_Bare]:
    def native(sql: str) -> bytes:
        return sql.replace("$1", "%s").replace("$2", "%s").encode()

    kwargs = {"autocommit": True, "row_factory": dict_row}
    pool: AsyncConnectionPool[psycopg.AsyncConnection[DictRow]] = AsyncConnectionPool(
        url, kwargs=kwargs, min_size=1, max_size=10, open=False
    )
    statements = {sql: native(sql) for sql in (SELECT, INSERT)}

    async def statement(sql: str, params: tuple[object, ...]) -> Rows:
        async with pool.connection() as connection:
            cursor = await connection.execute(statements[sql], params)
            return await cursor.fetchall() if cursor.description else []

    async def ten(sql: str, params: tuple[object, ...]) -> None:
        async with pool.connection() as connection, connection.transaction():
            for _ in range(10):
                await connection.execute(statements[sql], params)

    async with pool:
        yield _Bare(statement, ten)
