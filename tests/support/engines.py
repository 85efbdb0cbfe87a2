"""Workflow engines under one suite: how each is opened, and how its process dies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import uuid4

import pytest

from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunWorkflow
from omnibase_spi.engine_dbos import DbosDriver
from omnibase_spi.engine_dbos_link import QueueLimits as DbosQueueLimits
from omnibase_spi.engine_dbos_store import DbosStore
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.engine_memory_store import MemoryStore, QueueLimits

T = TypeVar("T")
QUEUE = "narrow"
"""A queue in which one run goes on at a time."""


async def until(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """Ask an engine until its answer is the one that is waited for; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not holds(found := await ask()):  # noqa: ASYNC110  # engines tell of some changes only when they are asked
            await asyncio.sleep(0.02)
    return found


class EngineSource(Protocol):
    """A place where runs are kept, and the engines that are opened on it one after another."""

    async def open(self, run: RunWorkflow, bus: ProtocolEventBus | None = None) -> EngineDriver:
        """An engine that runs by `run`, takes up what was left, and limits `QUEUE` to one run at a time."""
        ...

    async def crash(self, engine: EngineDriver) -> None:
        """End an engine as if its process had been killed: nothing more is written by it."""
        ...


class MemorySource:
    """Engines in memory on one store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self._open: list[MemoryEngine] = []

    async def open(self, run: RunWorkflow, bus: ProtocolEventBus | None = None) -> EngineDriver:
        events = None if bus is None else RunEvents(lambda: bus)
        engine = MemoryEngine(run, self.store, queues={QUEUE: QueueLimits(concurrency=1)}, events=events)
        self._open.append(engine)
        await engine.recover()
        return engine

    async def crash(self, engine: EngineDriver) -> None:
        assert isinstance(engine, MemoryEngine)
        await engine.crash()

    async def aclose(self) -> None:
        for engine in self._open:
            await engine.aclose()


@asynccontextmanager
async def memory_source(_folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[EngineSource]:
    """In memory."""
    source = MemorySource()
    try:
        yield source
    finally:
        await source.aclose()


class DbosSource:
    """Engines of dbos on one database, with a lease so short that nobody waits for what a dead one left."""

    def __init__(self, url: str, schema: str = "onex") -> None:
        self._url = url
        self._schema = schema
        self._open: list[DbosDriver] = []

    async def open(self, run: RunWorkflow, bus: ProtocolEventBus | None = None) -> EngineDriver:
        queues = [DbosQueueLimits(QUEUE, concurrency=1)]
        engine = await DbosDriver.create(
            self._url, run, lease_ttl_ms=1_500, queues=queues, bus=bus, schema=self._schema
        )
        self._open.append(engine)
        return engine

    async def crash(self, engine: EngineDriver) -> None:
        """The lease is neither kept nor given back, and nothing is written without it."""
        assert isinstance(engine, DbosDriver)
        await engine.crash()

    async def aclose(self) -> None:
        for engine in self._open:
            await engine.aclose()


@asynccontextmanager
async def dbos_sqlite_source(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[EngineSource]:
    """An SQLite file of the test's own."""
    source = DbosSource(f"sqlite:///{folder}/runs.db")
    try:
        yield source
    finally:
        await source.aclose()


@asynccontextmanager
async def dbos_postgresql_source(_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[EngineSource]:
    """A database of the test's own, copied from one whose tables are made."""
    source = DbosSource(request.getfixturevalue("engine_database"))
    try:
        yield source
    finally:
        await source.aclose()


@pytest.fixture(scope="session")
def engine_template(postgres_url: str) -> Iterator[str]:
    """A database with the tables of the engine, to be copied."""
    import psycopg

    name = f"engine_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = postgres_url.replace("/postgres?", f"/{name}?")
    store = DbosStore(url, "onex")
    store.open([])
    store.close()
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}".encode())


@pytest.fixture
def engine_database(postgres_url: str, engine_template: str) -> Iterator[str]:
    """The URL of a database of the test's own."""
    import psycopg

    name = f"engine_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {engine_template}".encode())
    yield postgres_url.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


ENGINES: dict[str, Callable[[Path, pytest.FixtureRequest], object]] = {
    "memory": memory_source,
    "dbos-sqlite": dbos_sqlite_source,
    "dbos-postgresql": dbos_postgresql_source,
}
"""By name, what makes an async context manager of an `EngineSource`; the folder is the test's own."""
