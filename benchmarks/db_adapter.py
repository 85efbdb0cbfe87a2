"""CPU microseconds per statement by `DbAdapter.execute`, beside the same statement on the bare client, interleaved.

SQLite is compared with the same kind of worker thread without anything around it, PostgreSQL with psycopg_pool and dict
rows, MariaDB with asyncmy's pool and dict rows.

    python benchmarks/db_adapter.py [--postgres URL] [--mysql URL]
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from pydantic import JsonValue, SecretStr

from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.adapter import DbAdapter

CALL = UUID(int=1)
ROUNDS = 15
Run = Callable[[str, list[JsonValue]], Awaitable[object]]


def context(query: str, params: list[JsonValue]) -> ModelResolvedDbContext:
    operation = "select" if query.startswith("SELECT") else "insert"
    return ModelResolvedDbContext.model_validate(
        {"connection_name": "x", "query": query, "params": params, "operation": operation, "timeout_ms": 5000}
    )


class BareThread:
    """What a client of SQLite needs at the least: a thread, a queue, and a way back to the loop."""

    def __init__(self, path: str) -> None:
        self._jobs: SimpleQueue[tuple[asyncio.Future[object], str, dict[str, JsonValue]]] = SimpleQueue()
        threading.Thread(target=self._serve, args=(path,), daemon=True).start()

    def _serve(self, path: str) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        while True:
            future, sql, params = self._jobs.get()
            cursor = connection.execute(sql, params)
            rows = []
            if cursor.description is not None:
                names = [column[0] for column in cursor.description]
                rows = [dict(zip(names, row, strict=False)) for row in cursor.fetchall()]
            future.get_loop().call_soon_threadsafe(future.set_result, {"rows": rows, "rowCount": cursor.rowcount})

    async def run(self, sql: str, params: list[JsonValue]) -> object:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._jobs.put((future, sql, {str(number): value for number, value in enumerate(params, 1)}))
        return await future


async def compare(name: str, adapter: DbAdapter, bare: Run, query: str, params: list[JsonValue], *, count: int) -> None:
    resolved = context(query, params)

    async def ours() -> None:
        await adapter.execute(resolved_context=resolved, correlation_id=CALL)

    async def theirs() -> None:
        await bare(query, params)

    for call in (ours, theirs):
        for _ in range(50):
            await call()
    figures: dict[Callable[[], Awaitable[None]], list[float]] = {ours: [], theirs: []}
    for number in range(ROUNDS):
        for call in (ours, theirs) if number % 2 else (theirs, ours):
            begun = time.process_time()
            for _ in range(count):
                await call()
            figures[call].append((time.process_time() - begun) / count * 1e6)
    ratio = statistics.median(a / b for a, b in zip(figures[ours], figures[theirs], strict=True))
    adapter_us, bare_us = statistics.median(figures[ours]), statistics.median(figures[theirs])
    print(f"{name:24} adapter {adapter_us:7.1f} us   bare {bare_us:7.1f} us   ratio {ratio:.2f}")


async def all_statements(name: str, adapter: DbAdapter, bare: Run, *, key: str, count: int) -> None:
    await adapter.execute(context("DROP TABLE IF EXISTS onex_bench", []), CALL)
    await adapter.execute(context(f"CREATE TABLE onex_bench (id {key}, name varchar(50), n int)", []), CALL)
    insert = "INSERT INTO onex_bench (name, n) VALUES ($1, $2)"
    for number in range(100):
        await adapter.execute(context(insert, [f"name {number}", number]), CALL)
    one, many = "SELECT id, name, n FROM onex_bench WHERE id = $1", "SELECT id, name, n FROM onex_bench WHERE id <= $1"
    await compare(f"{name} SELECT 1 row", adapter, bare, one, [7], count=count)
    await compare(f"{name} SELECT 50 rows", adapter, bare, many, [50], count=count)
    await compare(f"{name} INSERT", adapter, bare, insert, ["bob", 5], count=count // 4)
    await adapter.execute(context("DROP TABLE onex_bench", []), CALL)


def adapter_on(url: str) -> DbAdapter:
    return DbAdapter(ModelSettings(connections={"x": ModelConnection(url=SecretStr(url))}))


async def sqlite() -> None:
    with tempfile.TemporaryDirectory() as directory:
        adapter = adapter_on(f"sqlite:///{directory}/bench.db")
        await adapter.ping("x")
        bare = BareThread(f"{directory}/bench.db")
        await all_statements("sqlite", adapter, bare.run, key="integer primary key", count=400)
        await adapter.aclose()


async def postgres(url: str) -> None:
    import psycopg
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    adapter = adapter_on(url)
    settings = {"autocommit": True, "cursor_factory": psycopg.AsyncRawCursor, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=1, max_size=10, kwargs=settings, open=False) as pool:

        async def bare(sql: str, params: list[JsonValue]) -> object:
            async with pool.connection() as connection:
                cursor = await connection.execute(sql.encode(), params)
                return await cursor.fetchall() if cursor.description else cursor.rowcount

        await all_statements("postgresql", adapter, bare, key="serial primary key", count=400)
    await adapter.aclose()


async def mysql(url: str) -> None:
    import asyncmy
    from asyncmy.cursors import DictCursor

    from omnibase_spi.db.mysql import _read_url

    target = _read_url("x", url)
    adapter = adapter_on(url)
    place = {"host": target.host, "port": target.port}
    pool_of: Any = asyncmy.create_pool  # its stubs know none of these names
    login = {"user": target.user, "password": target.password, "database": target.database}
    async with pool_of(**place, **login, autocommit=True) as pool:

        async def bare(sql: str, params: list[JsonValue]) -> object:
            for number in range(len(params)):
                sql = sql.replace(f"${number + 1}", "%s")
            async with pool.acquire() as connection, connection.cursor(cursor=DictCursor) as cursor:
                await cursor.execute(sql, params)
                return await cursor.fetchall()

        await all_statements("mysql", adapter, bare, key="integer auto_increment primary key", count=400)
    await adapter.aclose()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--postgres")
    arguments.add_argument("--mysql")
    given = arguments.parse_args()
    asyncio.run(sqlite())
    if given.postgres:
        asyncio.run(postgres(given.postgres))
    if given.mysql:
        asyncio.run(mysql(given.mysql))


if __name__ == "__main__":
    main()
