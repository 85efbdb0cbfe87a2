"""What a node written in Python costs around an effect that does nothing, and what looking a service up costs."""

import asyncio

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Table
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.nodes import ModelEffectInput, NodeEffect

CALLS = 1000


class NoOp(NodeEffect):
    """Does nothing, in a transaction."""

    async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
        return {"done": transaction is not None}


def test_process(benchmark: BenchmarkFixture, table: Table) -> None:
    """`process()` with retry, breaker and transaction on; the input is built for every call."""
    node = NoOp(ModelONEXContainer())

    async def thousand() -> None:
        for _ in range(CALLS):
            await node.process(
                ModelEffectInput(operation_data={"a": 1}, retry_enabled=True, circuit_breaker_enabled=True)
            )

    with asyncio.Runner() as runner:
        benchmark(lambda: runner.run(thousand()))

    assert benchmark.stats is not None
    per_call = benchmark.stats.stats.min / CALLS * 1e6
    table.add("code-driven node", "process() of a no-op, retry, breaker, transaction", per_call, "us", 40)


def test_look_up(benchmark: BenchmarkFixture, table: Table) -> None:
    """`get_service` of a service that has been made."""
    container = ModelONEXContainer()
    container.register_service("Service", object())
    get = container.get_service

    def million() -> None:
        for _ in range(100_000):
            get("Service")

    benchmark(million)

    assert benchmark.stats is not None
    table.add("container", "look-up of a service", benchmark.stats.stats.min / 100_000 * 1e6, "us", 0.5)
