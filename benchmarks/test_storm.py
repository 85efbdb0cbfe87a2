"""A server that stalls for five seconds under 80 % load, in real time; `tests/chaos/test_storm.py` has virtual time."""

import asyncio
import time

from benchmarks.measure import Table
from benchmarks.nodes import container_of, node_of
from benchmarks.servers import Served, served
from omnibase_core.nodes import ModelEffectInput, NodeEffect

WORKERS = 10
WORK_SECONDS = 0.1
LOAD = 0.8 * WORKERS / WORK_SECONDS  # calls per second
STALL = (8.0, 13.0)
RECOVERED = STALL[1] + 65
END = RECOVERED + 10


def test_storm(table: Table) -> None:
    """Breaker and retries as a contract has them by default, the breaker enabled; attempts cut after a second."""
    with served("benchmarks.storm_server", *map(str, (WORKERS, WORK_SECONDS, *STALL))) as server:
        successes, originals = asyncio.run(_storm(f"http://127.0.0.1:{server.line}/work"))
    attempts = _attempts(server)

    before = _rate(successes, 2, STALL[0] - 1)
    after = _rate(successes, RECOVERED, END)
    table.add(
        "storm", "attempts per call", attempts / originals, "x", 1.3, note=f"{attempts} attempts, {originals} calls"
    )
    note = f"{before:.1f} per second before, {after:.1f} in the last 10 s"
    table.add(
        "storm",
        "throughput 65 s after the stall, of that before",
        100 * after / before,
        "%",
        90,
        at_least=True,
        note=note,
    )
    back = next(
        (second for second in range(int(STALL[1]), int(END)) if _rate(successes, second, second + 1) >= 0.9 * LOAD),
        None,
    )
    table.add("storm", "first second at 90 %, after the stall", float("nan") if back is None else back - STALL[1], "s")


async def _storm(url: str) -> tuple[list[float], int]:
    """Moments at which calls succeeded, in seconds after the beginning, and how many calls were made."""
    container = container_of()
    node = node_of(container, {"handler_type": "http", "method": "GET", "url_template": url, "timeout_ms": 1000})
    began = time.monotonic()
    successes: list[float] = []
    originals = 0
    async with asyncio.TaskGroup() as group:
        while (now := time.monotonic() - began) < END:
            while originals < now * LOAD:
                group.create_task(_call(node, successes, began))
                originals += 1
            await asyncio.sleep(0.005)
    await container.aclose()
    return successes, originals


async def _call(node: NodeEffect, successes: list[float], began: float) -> None:
    outcome = await asyncio.gather(node.process(ModelEffectInput(operation_data={})), return_exceptions=True)
    if not isinstance(outcome[0], BaseException):
        successes.append(time.monotonic() - began)


def _attempts(server: Served) -> int:
    attempts = server.last_words["attempts"]
    return int(attempts)


def _rate(moments: list[float], since: float, until: float) -> float:
    return sum(since <= moment < until for moment in moments) / (until - since)
