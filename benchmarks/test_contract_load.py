"""From YAML text to a plan that can run: read, judged, compiled."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contracts import contract_text
from benchmarks.measure import Table
from omnibase_core.utils.contract_loader import load_contract


@pytest.mark.parametrize(("operations", "limit_ms", "goal_ms"), [(1, None, None), (50, 5.0, 4.0)])
def test_contract_load(
    benchmark: BenchmarkFixture, table: Table, operations: int, limit_ms: float | None, goal_ms: float | None
) -> None:
    """The texts are of a realistic mix: HTTP, SQL, Kafka and files with placeholders, policies and extraction."""
    text = contract_text(operations)
    benchmark(load_contract, text)

    assert benchmark.stats is not None
    milliseconds = benchmark.stats.stats.min * 1e3
    kilobytes = len(text) / 1000
    plural = "" if operations == 1 else "s"
    table.add(
        "contract",
        f"load {operations} operation{plural}, {kilobytes:.1f} kB",
        milliseconds,
        "ms",
        limit_ms,
        goal=goal_ms,
    )
    table.add(
        "contract",
        f"load {operations} operation{plural}, per kB",
        milliseconds / kilobytes,
        "ms",
        0.15 if operations > 1 else None,
    )
