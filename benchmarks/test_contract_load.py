"""From YAML text to a plan that can run: read, judged, compiled."""

import pytest

from benchmarks.contracts import best_ms, cold_texts, contract_text
from benchmarks.measure import Table
from omnibase_core.utils.contract_loader import load_contract


@pytest.mark.parametrize(("operations", "limit_ms", "goal_ms"), [(1, None, None), (50, 5.0, 4.0)])
def test_contract_load(table: Table, operations: int, limit_ms: float | None, goal_ms: float | None) -> None:
    """The texts are of a realistic mix: HTTP, SQL, Kafka and files with placeholders, policies and extraction.

    Each load reads one whose names were not seen before; CPU time, the fastest of 60.
    """
    milliseconds = best_ms(load_contract, cold_texts(operations))

    kilobytes = len(contract_text(operations, 1)) / 1000
    plural = "" if operations == 1 else "s"
    table.add("contract", f"load {operations} operation{plural}, {kilobytes:.1f} kB", milliseconds, "ms")
    table.add(
        "contract",
        f"load {operations} operation{plural}, per 25 kB",
        milliseconds / kilobytes * 25,
        "ms",
        limit_ms,
        goal=goal_ms,
    )
