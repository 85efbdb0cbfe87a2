"""Leases and fenced writes beside the bare statement: the same change of a row by the driver alone, unfenced, unlogged.

Microseconds are CPU time of this process. The bare statement of SQLite runs in a thread of its own, as here; that of
PostgreSQL on one connection. A fenced write besides proves lease, token and epoch and keeps the action in the audit.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psycopg
from pydantic import JsonValue, SecretStr

from benchmarks.measure import Run, Table, Times, one_by_one, paired
from omnibase_core.enums.enum_action import EnumActionTarget, EnumActionType
from omnibase_core.errors import LeaseConflictError
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_actions import WorkflowStateManager
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.protocols.protocol_lease import ProtocolLeaseStore
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.lease_memory import MemoryLeaseStore
from omnibase_spi.lease_sql import SqlLeaseStore

STATE: JsonValue = {"order": "o-17", "lines": [{"article": f"a-{number}", "count": number} for number in range(10)]}
TEXT = json.dumps(STATE)
TABLE = "CREATE TABLE bare_states (id INTEGER PRIMARY KEY, epoch INTEGER, state TEXT)"
UPDATE = "UPDATE bare_states SET epoch = epoch + 1, state = $1 WHERE id = 1"
TAKEOVER_TTL_MS = 500

Statement = Callable[[], Awaitable[object]]


def test_memory(table: Table) -> None:
    """Without a database there is nothing to stand beside."""
    found = asyncio.run(_measure(MemoryLeaseStore(), None))

    for name in ("acquire and release", "renew", "fenced write"):
        table.add("leases, memory", name, found.best(name), "us")


def test_sqlite(tmp_path: Path, table: Table) -> None:
    """A file with its journal in WAL mode."""
    path = tmp_path / "measured.db"

    async def measured() -> Times:
        async with _sqlite(path) as bare, _store(f"sqlite:///{path}") as store:
            return await _measure(store, bare)

    _report("leases, sqlite", table, asyncio.run(measured()))
    _report_takeover("leases, sqlite", table, f"sqlite:///{path}")


def test_postgres(postgres_url: str, table: Table) -> None:
    """A private server."""

    async def measured() -> Times:
        async with _postgres(postgres_url) as bare, _store(postgres_url) as store:
            return await _measure(store, bare)

    _report("leases, postgres", table, asyncio.run(measured()))
    _report_takeover("leases, postgres", table, postgres_url)


def _report(group: str, table: Table, found: Times) -> None:
    for name in ("renew", "fenced write", "acquire and release"):
        table.add_comparison(group, f"{name}, beside a bare update", found.compare(name, "bare"))


def _report_takeover(group: str, table: Table, url: str) -> None:
    """From the moment at which the last renewal was made until another has the lease, asking every 10 ms."""

    async def measured() -> float:
        async with _store(url) as store:
            first, second = (LeaseManager(store, ttl_ms=TAKEOVER_TTL_MS) for _ in range(2))
            await first.acquire_lease("takeover")
            began = time.monotonic()
            while True:
                try:
                    await second.acquire_lease("takeover")
                except LeaseConflictError:
                    await asyncio.sleep(0.01)
                else:
                    return (time.monotonic() - began) * 1000

    took = asyncio.run(measured())
    table.add(group, "takeover of a lease of 500 ms", took, "ms", TAKEOVER_TTL_MS + 1_000)


async def _measure(store: ProtocolLeaseStore, bare: Statement | None) -> Times:
    manager = LeaseManager(store, ttl_ms=600_000)
    states = WorkflowStateManager(manager)
    lease = await manager.acquire_lease("measured")

    async def write() -> None:
        action = manager.issue(lease, EnumActionType.UPDATE_STATE, EnumActionTarget.REDUCER)
        await states.update_state_with_action(action, STATE)

    async def take() -> None:
        taken = await manager.acquire_lease("taken")
        await manager.release_lease("taken", taken.lease_id)

    subjects: dict[str, Run] = {
        "renew": one_by_one(partial(manager.renew_lease, lease)),
        "fenced write": one_by_one(write),
        "acquire and release": one_by_one(take),
    }
    if bare is not None:
        subjects["bare"] = one_by_one(bare)
    return await paired(subjects, operations=100, rounds=20)


@asynccontextmanager
async def _store(url: str) -> AsyncIterator[SqlLeaseStore]:
    adapter = DbAdapter(ModelSettings(connections={"main": ModelConnection(url=SecretStr(url))}))
    try:
        yield SqlLeaseStore(adapter, "main")
    finally:
        await adapter.aclose()


@asynccontextmanager
async def _sqlite(path: Path) -> AsyncIterator[Statement]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as worker:
        raw = await loop.run_in_executor(worker, partial(sqlite3.connect, path, isolation_level=None))
        for statement in ("PRAGMA journal_mode = WAL", TABLE, "INSERT INTO bare_states VALUES (1, 0, '')"):
            await loop.run_in_executor(worker, raw.execute, statement)

        async def update() -> None:
            await loop.run_in_executor(worker, raw.execute, UPDATE, {"1": TEXT})

        yield update
        await loop.run_in_executor(worker, raw.close)


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[Statement]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("DROP TABLE IF EXISTS bare_states")
        await connection.execute(TABLE.encode())
        await connection.execute("INSERT INTO bare_states VALUES (1, 0, '')")
        text = UPDATE.replace("$1", "%s").encode()
        yield lambda: connection.execute(text, (TEXT,))
