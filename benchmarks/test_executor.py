"""What the executor costs around an operation that does nothing: one in a call, and ten in a call."""

import asyncio

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Table
from benchmarks.nodes import calling, no_op_container, node_of

OPERATIONS = 1000
BOUNDS = {1: (40, 25), 10: (25, 15)}
"""Operations per call: limit and goal, microseconds."""
PLAIN = {"handler_type": "http", "method": "GET", "url_template": "http://127.0.0.1/items/1"}
TYPICAL = {**PLAIN, "url_template": "http://127.0.0.1/items/${input.id}"}


@pytest.mark.parametrize("per_call", BOUNDS)
@pytest.mark.parametrize("mode", ["sequential_abort", "parallel_continue"])
@pytest.mark.parametrize("kind", ["plain", "typical"])
def test_executor(benchmark: BenchmarkFixture, table: Table, kind: str, mode: str, per_call: int) -> None:
    """Plain: constants only. Typical: a placeholder in the URL and a field out of the answer."""
    extract = {"id": "$.id"} if kind == "typical" else None
    io_config: dict[str, object] = dict(TYPICAL if kind == "typical" else PLAIN)
    call = calling(node_of(no_op_container(), io_config, per_call, extract=extract, execution_mode=mode), id=5)

    async def thousand() -> None:
        for _ in range(OPERATIONS // per_call):
            await call()

    with asyncio.Runner() as runner:
        benchmark(lambda: runner.run(thousand()))

    assert benchmark.stats is not None
    limit, goal = BOUNDS[per_call]
    table.add(
        "executor",
        f"{kind} no-op, {per_call} per call, {mode}",
        benchmark.stats.stats.min / OPERATIONS * 1e6,
        "us",
        limit,
        goal=goal,
    )
