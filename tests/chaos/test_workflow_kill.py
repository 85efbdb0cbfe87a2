"""Workers of the workflow engine are killed, stopped and woken; their runs go on by themselves, each step done once."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.protocols.protocol_workflow_engine import RunFilter, StartRequest
from omnibase_spi.engine_dbos import DbosDriver
from tests.chaos.workflow_workers import EFFECTS, STEPS
from tests.support.databases import CORRELATION, adapter_on, context, until
from tests.support.workflow_runs import BUNDLE

REPOSITORY = Path(__file__).parents[2]
KILLS = 100
WORKERS = 2
IN_FLIGHT = 3
TTL_MS = 800
LIMIT_S = 170.0
PATIENCE = timedelta(seconds=60)


class Template:
    """The process that forks workers, and those of them that live."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path, tx_url: str) -> None:
        self._process = process
        self._arguments = (url, str(log), tx_url)
        self.log = log
        self.alive: list[int] = []

    async def spawn(self, ttl_ms: int = TTL_MS) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for _ in range(5):  # on a machine so busy that a lease runs out before dbos is up, a worker gives up
            self._process.stdin.write(f"spawn {' '.join(self._arguments)} {ttl_ms}\n".encode())
            answer = await asyncio.wait_for(self._process.stdout.readline(), 20)
            if answer.strip().isdigit():
                self.alive.append(int(answer))
                return int(answer)
        raise AssertionError(answer)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(pid, number)
        if number is signal.SIGKILL:
            self.alive.remove(pid)

    async def stop(self, pid: int) -> None:
        """Stop a worker that is not writing at this moment: SQLite has one writer, and all others wait for it."""
        path = self._arguments[0].removeprefix("sqlite:///")
        for _ in range(100):
            self.kill(pid, signal.SIGSTOP)
            if not path.startswith("/") or not _is_locked(path):
                return
            self.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.02)
        raise AssertionError(pid)

    async def close(self) -> None:
        for pid in [*self.alive]:
            self.kill(pid)
        self._process.kill()
        await self._process.wait()

    def events(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text(encoding="utf-8").splitlines()]


def _is_locked(path: str) -> bool:
    connection = sqlite3.connect(path, timeout=0.3, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


class Store:
    """A store with a driver that only watches, and the database of effects beside it."""

    def __init__(self, driver: DbosDriver, template: Template, tx_url: str) -> None:
        self.driver = driver
        self.template = template
        self._effects = adapter_on(tx_url)

    async def prepare(self) -> None:
        await self._effects.execute(context(EFFECTS), CORRELATION)

    async def effects(self) -> Counter[tuple[str, int]]:
        document = await self._effects.execute(
            context("SELECT run, step FROM effects", operation="select"), CORRELATION
        )
        return Counter((row["run"], row["step"]) for row in document["rows"])  # type: ignore[union-attr,index,call-overload,misc]  # rows of ours

    async def start(self, case: str) -> str:
        document: JsonValue = {"case": case}
        return (await self.driver.start(StartRequest(f"{case}-{uuid4().hex[:10]}", BUNDLE, document))).workflow_id

    async def close(self) -> None:
        await self.template.close()
        await self.driver.aclose()
        await self._effects.aclose()


@pytest.fixture(params=("sqlite", "postgresql"))
async def store(request: pytest.FixtureRequest, tmp_path: Path, database_of_its_own: str) -> AsyncIterator[Store]:
    url, tx_url = f"sqlite:///{tmp_path}/runs.db", f"sqlite:///{tmp_path}/effects.db"
    if request.param == "postgresql":
        url = tx_url = database_of_its_own
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.workflow_workers",
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Store(await DbosDriver.create(url), Template(process, url, tmp_path / "log", tx_url), tx_url)
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture
def database_of_its_own(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the PostgreSQL server, dropped afterwards; nothing where it is not asked for."""
    if "postgresql" not in request.node.callspec.id:
        yield ""
        return
    import psycopg

    url: str = request.getfixturevalue("postgres_url")
    name = f"kill_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield url.replace("/postgres?", f"/{name}?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_killed_at_a_hundred_moments(store: Store) -> None:
    """Each run resumes by itself, repeats no finished step, has each effect once, and ends right."""
    template, chance = store.template, random.Random(7)
    runs, kills = [await store.start("ten") for _ in range(IN_FLIGHT)], 0
    for _ in range(WORKERS):
        await template.spawn()
    deadline = time.monotonic() + LIMIT_S

    while kills < KILLS:
        assert time.monotonic() < deadline, f"{kills} kills"
        await asyncio.sleep(chance.random() * 0.2)
        running = await store.driver.list(RunFilter(status=EnumRunStatus.RUNNING, limit=1000))
        held = [pid for view in running for pid in template.alive if f"-{pid}-" in (view.holder or "")]
        runs += [await store.start("ten") for _ in range(IN_FLIGHT - len(held))]
        victims = sorted(set(held))
        if victims:
            template.kill(chance.choice(victims))
            kills += 1
            await template.spawn()
    for run in runs:
        view = await store.driver.wait(run, PATIENCE)
        assert (view.status, view.output) == (EnumRunStatus.COMPLETED, 2**STEPS - 1), view.error

    recorded, begun, again = set[tuple[str, str]](), Counter[tuple[str, str]](), list[object]()
    for kind, run, step, *_ in template.events():
        if kind == "begun":
            begun[run, step] += 1
            again += [(run, step)] if (run, step) in recorded else []
        elif kind == "recorded":
            recorded.add((run, step))
    assert again == []
    assert len(recorded) == len(runs) * STEPS
    assert max(begun.values()) > 1, "no step was in flight at any kill"
    assert await store.effects() == Counter((run, step) for run in runs for step in range(0, STEPS, 3))


async def test_a_dead_workers_run_is_taken_over_in_time(store: Store) -> None:
    """Another worker takes a killed one's runs within the lease and a second."""
    await store.template.spawn()
    run = await store.start("gate")

    async def begun_twice() -> bool:
        return sum(event[:2] == ["begun", run] for event in store.template.events()) == 2

    async def begun() -> bool:
        return store.template.log.exists() and ["begun", run] in [event[:2] for event in store.template.events()]

    await until(begun, "the step", 10)
    second = await store.template.spawn()
    store.template.kill(store.template.alive[0])
    killed = time.monotonic()
    await until(begun_twice, "the takeover", TTL_MS / 1000 + 1.0)
    took = time.monotonic() - killed

    view = await store.driver.wait(run, PATIENCE)
    assert (view.status, view.output) == (EnumRunStatus.COMPLETED, second)
    assert took <= TTL_MS / 1000 + 1.0


async def test_a_woken_worker_writes_nothing(store: Store) -> None:
    """A worker that was stopped past its lease finds all its writes refused; what the other wrote stands."""
    first = await store.template.spawn()
    run = await store.start("gate")

    async def said(*words: str) -> bool:
        log = store.template.log
        return log.exists() and any(event[: len(words)] == [*words] for event in store.template.events())

    await until(lambda: said("begun", run), "the step", 10)
    second = await store.template.spawn()
    await store.template.stop(first)
    await store.driver.wait(run, PATIENCE)

    async def told() -> bool:
        return (await store.driver.query(run)).progress == {"by": second}

    await until(told, "the progress of the second")
    view = await store.driver.query(run)
    records = await store.driver.steps(run)

    (store.template.log.parent / f"{run}.open").touch()
    store.template.kill(first, signal.SIGCONT)
    await until(lambda: said("stopped", run), "the woken worker", 10)

    assert view.output == second
    assert await store.driver.steps(run) == records
    assert await store.driver.query(run) == view
    assert not [event for event in store.template.events() if event[0] == "recorded" and event[-1] == str(first)]


async def test_a_woken_worker_is_given_a_new_lease(store: Store) -> None:
    """Nobody else is there: the worker takes a new lease by itself, and its run goes on from its records."""
    only = await store.template.spawn(400)
    run = await store.start("gate")

    async def begun() -> bool:
        return store.template.log.exists() and ["begun", run] in [event[:2] for event in store.template.events()]

    await until(begun, "the step", 10)
    await store.template.stop(only)
    await asyncio.sleep(0.8)
    (store.template.log.parent / f"{run}.open").touch()
    store.template.kill(only, signal.SIGCONT)

    view = await store.driver.wait(run, timedelta(seconds=10))

    kinds = [event[0] for event in store.template.events()]
    assert view.output == only
    assert kinds == ["begun", "through", "stopped", "begun", "recorded"]
