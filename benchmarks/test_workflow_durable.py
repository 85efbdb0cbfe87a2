"""Durable steps per second at each durability, beside bare dbos doing the same work, and how fast work is taken over.

A hundred pure steps of one compute contract. Each subject is a process of its own, because dbos is a singleton; they
take turns, and the fastest round of each counts. Time is that of the steps, without what starts and ends a workflow.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.durable_worker import SCHEMA, STEPS
from benchmarks.measure import Table
from omnibase_spi.engine_dbos import DbosDriver
from tests.chaos.test_workflow_kill import Store, Template
from tests.support.databases import until

ROOT = Path(__file__).parents[1]
OURS = ("step", "level", "run")
ROUNDS = 8
BOUNDS = {"step": (0.9, 1.0), "level": (8.0, 15.0), "run": (8.0, 15.0)}
TTL_MS = 2_000


class Subject:
    """A process that carries out a round when it is asked to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.wall = inf
        self.cpu = inf

    @classmethod
    async def start(cls, name: str, url: str) -> "Subject":
        arguments = ("-m", "benchmarks.durable_worker", name, url)
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=ROOT,
                stdin=pipe,
                stdout=pipe,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    async def round(self) -> bool:
        """Whether there was an answer; none comes from a process that has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        words = (await asyncio.wait_for(self._process.stdout.readline(), 120)).split()
        if len(words) == 2:
            self.wall, self.cpu = min(self.wall, float(words[0])), min(self.cpu, float(words[1]))
        return len(words) == 2

    async def end(self) -> None:
        """With the server that it may have started, which holds its pipes open."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    @property
    def per_second(self) -> float:
        return STEPS / self.wall

    @property
    def told(self) -> str:
        return f"{self.cpu / STEPS * 1e6:.0f} us of CPU a step"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/runs.db"
        return
    import psycopg

    given: str = request.getfixturevalue("postgres_url")
    yield given
    with psycopg.connect(given, autocommit=True) as connection:
        for name in ("bare", *OURS):
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA}_{name} CASCADE".encode())


async def test_durable_steps(table: Table, url: str) -> None:
    """Steps per second, and how many times those of bare dbos that is."""
    store = url.partition(":")[0]
    names = ("bare", *OURS)
    subjects = {name: await Subject.start(name, url.replace("/runs.db", f"/{name}.db")) for name in names}
    try:
        for subject in subjects.values():
            assert await subject.round()  # makes tables, and warms up
            subject.wall = subject.cpu = inf
        for _ in range(ROUNDS):
            for name, subject in subjects.items():
                assert await subject.round(), name
    finally:
        for subject in subjects.values():
            await subject.end()

    bare = subjects["bare"]
    table.add("durable", f"{store}: bare dbos", bare.per_second, "steps/s", note=bare.told)
    for name in OURS:
        ours, (limit, goal) = subjects[name], BOUNDS[name]
        table.add("durable", f"{store}: durability {name}", ours.per_second, "steps/s", note=ours.told)
        ratio = ours.per_second / bare.per_second
        table.add("durable", f"{store}: {name} beside bare", ratio, "x", limit, goal=goal, at_least=True)
        assert ratio >= limit, f"{store} {name}: {ratio:.2f}"


async def test_prefect(table: Table) -> None:
    """The same flow in Prefect, on its own local server."""
    pytest.importorskip("prefect", reason="prefect is not installed")
    subject = await Subject.start("prefect", "none")
    try:
        for _ in range(3):
            if not await subject.round():
                table.add("durable", "prefect", float("nan"), "", note="its server does not start as installed here")
                return
    finally:
        await subject.end()
    table.add("durable", "prefect, local server", subject.per_second, "steps/s", note="its own SQLite, no WAL setting")


async def test_takeover(table: Table, tmp_path: Path) -> None:
    """From the death of a process to the moment at which another one works at its run."""
    url, tx_url = f"sqlite:///{tmp_path}/runs.db", f"sqlite:///{tmp_path}/effects.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.workflow_workers",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    store = Store(await DbosDriver.create(url), Template(process, url, tmp_path / f"log-{uuid4().hex}", tx_url), tx_url)
    worst = 0.0
    try:
        await store.template.spawn(TTL_MS)
        for _ in range(3):
            run = await store.start("gate")

            async def works(times: int, run: str = run) -> bool:
                log = store.template.log
                return log.exists() and sum(e[:2] == ["begun", run] for e in store.template.events()) == times

            await until(lambda: works(1), "the step", 10)
            await store.template.spawn(TTL_MS)
            store.template.kill(store.template.alive[0])
            killed = time.monotonic()
            await until(lambda: works(2), "the takeover", 10)
            worst = max(worst, time.monotonic() - killed)
    finally:
        await store.close()

    limit = TTL_MS / 1000 + 1.0
    table.add("durable", "takeover, lease 2 s, worst of 3", worst * 1000, "ms", limit * 1000)
    assert worst <= limit
