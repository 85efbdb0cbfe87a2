"""Streaming aggregation: items per second beside polars and a plain loop, and memory with few and with many groups."""

import asyncio
import importlib.util
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence

import pytest

from benchmarks.measure import Table
from benchmarks.servers import printed_by
from omnibase_core.mixins.aggregation_run import run_aggregation
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer

CHUNKS, CHUNK = 1_000, 1_000
GROUPED = 500_000
ROUNDS = 5
POLARS = importlib.util.find_spec("polars") is not None


def millions_a_second(items: int, call: Callable[[], object]) -> float:
    """By CPU time of the process, best of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return items / min(seconds) / 1e6


def ours(chunks: Iterable[Sequence[object]], **reduction: object) -> object:
    contract = ModelContractReducer.model_validate(
        {"input_data": iter(chunks), "reduction_config": reduction, "streaming_config": {"enabled": True}}
    )
    return asyncio.run(run_aggregation(contract, ModelONEXContainer())).aggregated_data


@pytest.mark.parametrize("kind", ["floats", "ints"])
def test_sum_and_average(table: Table, kind: str) -> None:
    """Exact, from an iterator of chunks of 1000."""
    source = random.Random(4)
    make = (lambda: source.uniform(-1e6, 1e6)) if kind == "floats" else (lambda: source.randrange(10**6))
    chunks = [[make() for _ in range(CHUNK)] for _ in range(CHUNKS)]
    count = CHUNKS * CHUNK

    def loop() -> float:
        total: float = 0
        for chunk in chunks:
            for item in chunk:
                total += item
        return total

    note = f"plain loop {millions_a_second(count, loop):.0f}"
    fsum = millions_a_second(count, lambda: math.fsum(item for chunk in chunks for item in chunk))
    note += f", math.fsum {fsum:.0f}"
    if POLARS:
        import polars as pl

        def by_polars() -> float:
            return sum(float(pl.Series(chunk).sum()) for chunk in chunks)

        note += f", polars {millions_a_second(count, by_polars):.0f} (not exact)"
    else:
        note += ", polars not installed"
    assert ours(chunks, aggregation_method="sum") == math.fsum(item for chunk in chunks for item in chunk)
    for method in ("sum", "average"):
        found = millions_a_second(count, lambda name=method: ours(chunks, aggregation_method=name))  # type: ignore[misc]  # bound now
        table.add("aggregation", f"streamed {method} of {kind}", found, "M items/s", 5, at_least=True, note=note)


def test_groups(table: Table) -> None:
    """A sum for each of 1000 groups, from chunks of objects."""
    source = random.Random(4)
    items: list[dict[str, str | float]] = [
        {"k": f"k{source.randrange(1_000)}", "v": source.random()} for _ in range(GROUPED)
    ]
    chunks = [items[start : start + 5_000] for start in range(0, GROUPED, 5_000)]

    def loop() -> dict[str, float]:
        totals: dict[str, float] = {}
        for item in items:
            key = str(item["k"])
            totals[key] = totals.get(key, 0.0) + float(item["v"])
        return totals

    note = f"plain loop {millions_a_second(GROUPED, loop):.2f} (not exact)"
    if POLARS:
        import polars as pl

        by_polars = millions_a_second(GROUPED, lambda: pl.DataFrame(items).group_by("k").agg(pl.col("v").sum()))
        note += f", polars {by_polars:.2f} (not exact, all in memory, most of it for taking the objects in)"
    else:
        note += ", polars not installed"
    found = millions_a_second(
        GROUPED, lambda: ours(chunks, aggregation_method="sum", value_field="v", group_by="k")
    )  # fmt: skip
    table.add("aggregation", "streamed sum by 1,000 groups", found, "M items/s", note=note)


def test_memory_of_100_000_groups(table: Table) -> None:
    """Ten million items in a program of its own; all of it counts, the interpreter too."""
    found = printed_by("benchmarks.aggregation", "10000000", "100000", "128")

    note = f"{found['rows']:.0f} groups, {10 / found['seconds']:.2f} M items/s; {found['base_mib']:.0f} MiB without"
    table.add("aggregation", "memory, 10 M items, 100,000 groups", found["peak_mib"], "MiB", 200, note=note)


def test_memory_of_groups_that_are_spilled(table: Table) -> None:
    """Most items have a group of their own; what the process grew by, and not only what was estimated."""
    found = printed_by("benchmarks.aggregation", "2000000", "2000000", "64")

    grown = found["peak_mib"] - found["base_mib"]
    note = f"{found['rows']:.0f} groups, {found['spilled_mib']:.0f} MiB on disk, {2 / found['seconds']:.2f} M items/s"
    table.add("aggregation", "memory, spilling, buffer of 64 MiB", grown, "MiB", 64, note=note)
