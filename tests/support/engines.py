"""Workflow engines under one suite: how each is opened, and how its process dies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunWorkflow
from omnibase_spi.engine_memory import MemoryEngine, QueueLimits
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.engine_memory_store import MemoryStore

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
async def memory_source(_folder: Path) -> AsyncIterator[EngineSource]:
    """In memory."""
    source = MemorySource()
    try:
        yield source
    finally:
        await source.aclose()


ENGINES: dict[str, Callable[[Path], object]] = {"memory": memory_source}
"""By name, what makes an async context manager of an `EngineSource`; the folder is the test's own."""
