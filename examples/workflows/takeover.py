"""Two workers on one database; one is killed in the middle, and the other finishes what it had begun."""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from examples.workflows.desk import bundle_of, container_for, make_tables, runs_url, shop_url
from examples.workflows.world import World
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.protocols.protocol_workflow_engine import StartRequest
from omnibase_spi.engine_dbos import DbosDriver

LEASE_MS: Final = 2_000
ORDERS: Final = 6
_STEPS_BEFORE_THE_KILL: Final = 8
_ANSWER_S: Final = 0.15
_LIMIT_S: Final = 30.0


@dataclass
class Worker:
    """A process `onex worker`, and what it has told so far: (seconds since the epoch, event, run)."""

    name: str
    process: asyncio.subprocess.Process
    told: list[tuple[float, str, str]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Read what it tells until it ends."""
        while self.process.stdout is not None and (line := await self.process.stdout.readline()):
            said = json.loads(line)
            self.told.append((time.time(), said["event"], said.get("run", "")))
            self.heard.set()

    async def until(self, event: str, times: int = 1) -> None:
        """Return once it has told of so many such events."""
        while sum(told[1] == event for told in self.told) < times:
            self.heard.clear()
            await self.heard.wait()

    def runs(self) -> set[str]:
        """Runs that are under way in it, as far as it has told."""
        taken = {run for _, event, run in self.told if event == "run_taken"}
        return taken - {run for _, event, run in self.told if event == "run_ended"}


def _environment(directory: Path, url: str, world_url: str) -> dict[str, str]:
    settings = {
        "ONEX_DATABASE_URL": url,
        "ONEX_WORKER_LEASE_MS": str(LEASE_MS),
        "ONEX_DATA_DIR": str(directory.absolute()),
        "ONEX_CONNECTIONS__SHOP__URL": shop_url(directory),
    }
    return {**os.environ, **settings, "WORLD_URL": world_url}


@asynccontextmanager
async def worker(name: str, directory: Path, url: str, world_url: str) -> AsyncIterator[Worker]:
    """A worker that is gone when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.workflows.worker", "--json", "--steps", "--drain-s", "3"),
        cwd=Path(__file__).parents[2],
        env=_environment(directory, url, world_url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Worker(name, process)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await listening


@dataclass(frozen=True)
class Takeover:
    """What was seen. Times in seconds after the kill; steps: recorded before it, and in all."""

    killed: str
    other: str
    runs: tuple[str, ...]
    taken_over_s: float
    finished_s: float
    completed: int
    rows: int
    shipped_rows: int
    payments: int
    parcels: int
    asked: int


async def take_over(directory: Path) -> Takeover:
    """Start orders, kill the worker that has most of them, and wait for the other one."""
    url = runs_url(directory)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(_ANSWER_S).running())
        async with container_for(directory, world.url) as container:
            await make_tables(container)
        engine = await DbosDriver.create(url)
        stack.push_async_callback(engine.aclose)
        workers = [await stack.enter_async_context(worker(name, directory, url, world.url)) for name in ("A", "B")]
        async with asyncio.timeout(_LIMIT_S):
            await asyncio.gather(*(each.until("worker_started") for each in workers))
            bundle = bundle_of("order")
            ids = [f"order-{number}" for number in range(1, ORDERS + 1)]
            for number, run in enumerate(ids, 1):
                await engine.start(StartRequest(run, bundle, {"order": f"o-{number}"}))
            victim = await _first([(each, each.until("step_ended", _STEPS_BEFORE_THE_KILL)) for each in workers])
            other = next(each for each in workers if each is not victim)
            victim.process.kill()
            killed_at = time.time()
            left = victim.runs()
            views = [await engine.wait(run, timedelta(seconds=_LIMIT_S)) for run in ids]
        finished_at = time.time()
        await other.until("run_ended", 1)
        taken = [at for at, event, run in other.told if event == "run_taken" and run in left]
    rows, shipped = _rows(directory)
    return Takeover(
        victim.name,
        other.name,
        tuple(sorted(left)),
        max(taken, default=killed_at) - killed_at,
        finished_at - killed_at,
        sum(view.status is EnumRunStatus.COMPLETED for view in views),
        rows,
        shipped,
        len(world.kept["payments"]),
        len(world.kept["shipments"]),
        world.asked["payments"] + world.asked["shipments"],
    )


async def _first(waits: list[tuple[Worker, Coroutine[object, object, None]]]) -> Worker:
    """The worker whose wait is over first; the others are waited for no longer."""
    tasks = {asyncio.create_task(wait): each for each, wait in waits}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return tasks[next(iter(done))]


def _rows(directory: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(directory / "shop.db")) as database:
        states = [state for (state,) in database.execute("SELECT state FROM orders")]
    return len(states), states.count("shipped")
