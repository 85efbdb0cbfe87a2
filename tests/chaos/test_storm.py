"""A server that stalls for five seconds under 80 % load must not be finished off by its clients' retries."""

import asyncio

from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.nodes.node_effect import NodeEffect
from omnibase_spi.testing import ScriptedHandler, container_with, run_virtual
from tests.support.effects import GET, contract, node_of, operation

WORKERS = 10
SERVICE_S = 0.1
CAPACITY = WORKERS / SERVICE_S  # requests per second
LOAD = 0.8 * CAPACITY
STALL = (20.0, 25.0)
END = 110.0


class _Server:
    """So many workers, a fixed service time, and a stall in which nothing is answered."""

    def __init__(self) -> None:
        self.workers = asyncio.Semaphore(WORKERS)
        self.started = asyncio.get_running_loop().time()
        self.attempts: list[float] = []
        self.answers: list[float] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.started

    async def answer(self, _context: ResolvedIOContext) -> object:
        self.attempts.append(self.now())
        async with self.workers:
            ends = self.now() + SERVICE_S
            if STALL[0] <= ends and self.now() < STALL[1]:
                ends = STALL[1] + SERVICE_S
            await asyncio.sleep(ends - self.now())
        self.answers.append(self.now())
        return {"ok": True}


async def _storm(breaker: dict[str, object]) -> tuple[_Server, int]:
    server = _Server()
    container = container_with(http=ScriptedHandler(server.answer))
    node = node_of(container, contract(operation("ask", {**GET, "timeout_ms": 1000}, circuit_breaker=breaker)))
    originals = 0
    async with asyncio.TaskGroup() as group:
        while server.now() < END:
            group.create_task(_ask(node))
            originals += 1
            await asyncio.sleep(1 / LOAD)
    return server, originals


async def _ask(node: NodeEffect) -> None:
    node_call = node.process(ModelEffectInput(operation_data={}))
    await asyncio.gather(node_call, return_exceptions=True)


def _rate(server: _Server, since: float, until: float) -> float:
    return sum(since <= moment < until for moment in server.answers) / (until - since)


def test_with_a_breaker_the_target_recovers_within_65_seconds() -> None:
    """Attempts stay under 1.3 times the originals, throughput is back to 90 % 65 s after the stall began."""
    server, originals = run_virtual(_storm({"enabled": True}))

    assert len(server.attempts) < 1.3 * originals
    assert _rate(server, 5, STALL[0]) > 0.99 * LOAD
    assert _rate(server, STALL[0] + 65, END) >= 0.9 * LOAD


def test_without_a_breaker_the_retry_budget_alone_holds_the_storm() -> None:
    """The same bounds: what the breaker does not stop, the budget does."""
    server, originals = run_virtual(_storm({"enabled": False}))

    assert len(server.attempts) < 1.3 * originals
    during = sum(STALL[0] <= moment < STALL[1] + 10 for moment in server.attempts)
    assert during < 1.3 * LOAD * (STALL[1] + 10 - STALL[0])
    assert _rate(server, STALL[0] + 65, END) >= 0.9 * LOAD
