"""From YAML text to a plan that can run: read, judged, compiled."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contracts import cold_texts, contract_text
from benchmarks.measure import Table
from omnibase_core.utils.contract_loader import load_contract


@pytest.mark.parametrize(("operations", "limit_ms", "goal_ms"), [(1, None, None), (50, 5.0, 4.0)])
def test_contract_load(
    benchmark: BenchmarkFixture, table: Table, operations: int, limit_ms: float | None, goal_ms: float | None
) -> None:
    """The texts are of a realistic mix: HTTP, SQL, Kafka and files with placeholders, policies and extraction.

    Each load reads one whose names were not seen before.
    """
    texts = iter(cold_texts(operations))
    benchmark.pedantic(load_contract, setup=lambda: ((next(texts),), {}), rounds=60)  # type: ignore[no-untyped-call]  # the library types only half of itself

    assert benchmark.stats is not None
    milliseconds = benchmark.stats.stats.min * 1e3
    kilobytes = len(contract_text(operations, 1)) / 1000
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
