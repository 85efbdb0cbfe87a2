"""The order example, killed at a hundred moments, or at any statement, and run again, does everything once."""

import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from examples.orders.__main__ import seen_in
from examples.orders.world import World, order_of
from tests.support import backends

REPOSITORY = Path(__file__).parents[2]
ORDERS = 6
KILLS = 100
LIMIT_S = 240.0


class Run(NamedTuple):
    """One killed run and the one after it.

    moment: in seconds, or counted. standing: ledger and outbox in between. ended_s: below 0 for a failure.
    """

    shop: str
    killed: int
    moment: float
    standing: dict[str, int]
    ended_s: float


@pytest.fixture
def home() -> Iterator[Path]:
    """In memory where there is such a directory: a kill is the same there, and thousands of fsyncs cost nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


async def _runs(home: Path, shop_url: str, mail_url: str, kills: int, seed: int) -> list[Run]:
    arguments = (str(home), shop_url, mail_url, str(kills), str(seed))
    runner = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.orders_runs",
        *arguments,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaints = await asyncio.wait_for(runner.communicate(), LIMIT_S)
    finally:
        if runner.returncode is None:
            runner.kill()
            await runner.wait()
    assert runner.returncode == 0, complaints.decode()
    assert b"Traceback" not in complaints, complaints.decode()
    return [Run(**json.loads(line)) for line in said.splitlines()]


async def _as_slow_as_mail_servers_are() -> None:
    """Between filing a mail and saying so, where a kill leaves nobody who knows."""
    await asyncio.sleep(0.005)


async def test_killed_at_a_hundred_moments_each_order_has_one_row_one_mail_and_one_event(home: Path) -> None:
    """Counted in the database and in the mailbox."""
    seed = random.randrange(2**32)
    world = World(home / "world", ORDERS)
    world.mailbox.on_filed = _as_slow_as_mail_servers_are

    async with world.running() as addresses:
        runs = await _runs(home, addresses.shop, addresses.mail, KILLS, seed)

    kills = sum(run.killed for run in runs)
    under_way = Counter(kind for run in runs for kind in run.standing if kind.endswith(" running"))
    in_the_middle = sum(0 < run.standing.get("row completed", 0) < ORDERS for run in runs)
    twice = sum(times - 1 for times in world.mailbox.received.values())
    backends.ran_against(
        "kill of the order example",
        f"{kills} kills, seed {seed}, {in_the_middle} after the first and before the last order, under way: "
        f"{dict(under_way)}, mails sent again and filed once: {twice}",
    )
    assert kills >= KILLS, f"seed {seed}: the example was too often faster than its killer"
    assert in_the_middle >= KILLS // 10, f"seed {seed}: hardly a kill hit anything"
    assert twice, f"seed {seed}: no mail was under way and taken when the program died"
    _each_order_once(home, runs, ORDERS)


async def test_killed_before_and_after_any_statement_each_order_has_one_row_one_mail_and_one_event(home: Path) -> None:
    """A process for each of them, with one order."""
    world = World(home / "world", 1)

    async with world.running() as addresses:
        runs = await _runs(home, addresses.shop, addresses.mail, 0, 0)

    *killed, last = runs
    under_way = Counter(kind for run in runs for kind in run.standing if kind.endswith(" running"))
    backends.ran_against(
        "kill of the order example at statements", f"{len(killed)} kills, under way: {dict(under_way)}"
    )
    assert [run for run in killed if not run.killed] == []
    assert not last.killed
    assert set(under_way) == {"mail running", "event running"}
    _each_order_once(home, runs, 1)


def _each_order_once(home: Path, runs: list[Run], orders: int) -> None:
    """Also every run after a killed one ended well, and the states are as if nothing had been killed."""
    assert [run for run in runs if run.ended_s < 0] == []
    for run in runs:
        found = {order.order: order for order in seen_in(home / run.shop, home / "world" / "mail")}
        counts = {name: (order.rows, order.mails, order.events) for name, order in found.items()}
        wanted = [order_of(run.shop, place) for place in range(1, orders + 1)]
        assert counts == {str(order["id"]): (1, 1, 1) for order in wanted}, run
        assert [order.state for order in found.values()] == [_state(str(order["history"])) for order in wanted], run


def _state(history: str) -> str:
    last = history.split()[-1]
    return {"placed": "ORDER_PLACED", "paid": "PAYMENT_CONFIRMED"}.get(last, last.upper())
