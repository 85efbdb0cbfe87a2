"""Killed at any moment and started again, a program does what its intents say once."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.ledger_sql import SqlIntentLedger
from omnibase_spi.store_sql import SqlStateManager
from tests.support.databases import CORRELATION, adapter_on, context
from tests.support.intents import container_in
from tests.support.postgres import PostgresBackend

ORDERS = 40
KILLS = 6


@dataclass(frozen=True)
class Found:
    """What there is in the end."""

    rows: list[JsonValue]
    unknown: set[str]
    states: list[JsonValue]
    waiting: list[JsonValue]


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str | None]:
    """A database of its own; None is the embedded one in the directory of the test."""
    if request.param == "sqlite":
        yield None
        return
    backend: PostgresBackend = request.getfixturevalue("postgres_backend")
    name = f"kill_{uuid4().hex[:12]}"
    adapter = adapter_on(backend.url)
    await adapter.execute(context(f"CREATE DATABASE {name}"), CORRELATION)
    try:
        yield urlsplit(backend.url)._replace(path=f"/{name}").geturl()
    finally:
        await adapter.execute(context(f"DROP DATABASE {name} WITH (FORCE)"), CORRELATION)
        await adapter.aclose()


@pytest.mark.parametrize("way", ["outbox", "reducer"])
def test_killed_at_random_moments_each_intent_is_carried_out_once(tmp_path: Path, url: str | None, way: str) -> None:
    """One row, mail and event per order, and each action applied once; what cannot be repeated happens at most once,
    and is listed when unknown.
    """
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    command = [sys.executable, "-m", "tests.chaos.intent_worker", str(tmp_path), str(ORDERS), way]
    command += [] if url is None else [url]
    killed = 0
    for _ in range(KILLS):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.4))
            killed += worker.poll() is None
            worker.kill()

    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)

    assert killed, f"seed {seed}: the program was always faster than its killer"
    found = asyncio.run(_found(tmp_path, url))
    mails = list((tmp_path / "mail" / "new").iterdir())
    lines = Counter((tmp_path / "lines").read_text(encoding="utf-8").splitlines())
    assert found.rows == [{"number": number} for number in range(ORDERS)], f"seed {seed}"
    assert len(mails) == ORDERS, f"seed {seed}"
    assert {path.name for path in (tmp_path / "events").iterdir()} == {str(number) for number in range(ORDERS)}
    assert set(lines.values()) == {1}, f"seed {seed}"
    assert set(lines) | found.unknown == {f"line of order {number}" for number in range(ORDERS)}, f"seed {seed}"
    assert all(key.startswith("line") for key in found.unknown), f"seed {seed}"
    assert len(found.waiting) <= len(found.unknown), f"seed {seed}"
    if way == "reducer":
        assert found.states == [{"seen": ["PLACE", "PAY"]}] * ORDERS, f"seed {seed}"


async def _found(directory: Path, url: str | None) -> Found:
    async with container_in(directory, None, **({} if url is None else {"default": url})) as container:
        adapter = container.get_service(DbAdapter)

        async def rows(query: str) -> list[JsonValue]:
            found = (await adapter.execute(context(query, connection_name="default"), CORRELATION))["rows"]
            assert isinstance(found, list)
            return found

        unknown = await SqlIntentLedger(adapter).entries(EnumLedgerState.UNKNOWN)
        states = SqlStateManager(adapter)
        return Found(
            await rows("SELECT number FROM orders ORDER BY number"),
            {entry.key for entry in unknown},
            [(await states.get_state("Orders", str(number))).state for number in range(ORDERS)],
            await rows("SELECT position FROM onex_intent_outbox WHERE state = 'waiting'"),
        )
