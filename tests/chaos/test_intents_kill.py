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
KILLS = 5


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


def test_killed_at_random_moments_each_intent_is_carried_out_once(tmp_path: Path, url: str | None) -> None:
    """One row, mail and event per order; what cannot be repeated happens at most once, and is listed when unknown."""
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    command = [sys.executable, "-m", "tests.chaos.intent_worker", str(tmp_path), str(ORDERS)]
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
    _check(tmp_path, url, ORDERS, f"seed {seed}")


def test_killed_at_any_statement_no_state_is_without_its_intents(tmp_path: Path, url: str | None) -> None:
    """Before and after each statement of storing and relaying an order: then started again, every state change has had
    its intents carried out once.
    """
    command = [sys.executable, "-m", "tests.chaos.dying_worker", str(tmp_path), *([] if url is None else [url])]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    moments = int(done.stdout.split()[-1])
    assert moments > 60, done.stderr
    found = _check(tmp_path, url, moments)
    assert found.states == [{"seen": ["PLACE", "PAY"]}] * moments


def _check(directory: Path, url: str | None, orders: int, note: str = "") -> Found:
    found = asyncio.run(_found(directory, url, orders))
    mails = list((directory / "mail" / "new").iterdir())
    lines = Counter((directory / "lines").read_text(encoding="utf-8").splitlines())
    assert found.rows == [{"number": number} for number in range(orders)], note
    assert len(mails) == orders, note
    assert {path.name for path in (directory / "events").iterdir()} == {str(number) for number in range(orders)}, note
    assert set(lines.values()) == {1}, note
    assert set(lines) | found.unknown == {f"line of order {number}" for number in range(orders)}, note
    assert all(key.startswith("line") for key in found.unknown), note
    assert len(found.waiting) <= len(found.unknown), note
    return found


async def _found(directory: Path, url: str | None, orders: int) -> Found:
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
            [(await states.get_state("Orders", str(number))).state for number in range(orders)],
            await rows("SELECT row_id FROM onex_intent_outbox WHERE state = 'waiting'"),
        )
