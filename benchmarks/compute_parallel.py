"""Wall time of one computation in this process, in two of ours, of `concurrent.futures` and of joblib, as JSON.

Beside it: items per second of the exact sums on one core, and of a plain loop and `math.fsum` over the same chunks.
"""

import asyncio
import json
import math
import multiprocessing
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from typing import cast

from omnibase_core.mixins.chunk_worker import Work
from omnibase_core.mixins.compute_parallel import run_chunks
from omnibase_core.utils.algorithms import Mean, Stddev, Sum
from omnibase_core.utils.chunking import Chunk, chunk_at, chunk_ranges

ITEMS = 200
SECONDS = 1.0
ROUNDS = 4
TURNS = 5_000_000


def spin(chunk: Chunk, rounds: int) -> int:
    """Work for the processor: so many turns for each item."""
    total = 0
    for _ in chunk:
        for turn in range(rounds):
            total += turn & 3
    return total


def in_pool(work: Callable[[Chunk], int], chunks: list[Chunk]) -> list[int]:
    """What one does without us."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, chunks))


def in_joblib(work: Callable[[Chunk], int], chunks: list[Chunk]) -> list[int] | None:
    """The usual library for it, which keeps its processes from call to call; None where it is not installed."""
    try:
        joblib = import_module("joblib")  # of the extra `bench`
    except ImportError:
        return None
    return cast("list[int]", joblib.Parallel(n_jobs=2)(joblib.delayed(work)(chunk) for chunk in chunks))  # untyped


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def speed_up() -> dict[str, float]:
    """Best of a few rounds each, in turn."""
    items = list(range(ITEMS))
    probe = min(timed(partial(spin, Chunk([0]), TURNS)) for _ in range(5))
    work = partial(spin, rounds=int(1.1 * TURNS * SECONDS / ITEMS / probe))  # rather more than less
    chunks = [chunk_at(items, place, at) for at, place in enumerate(chunk_ranges(ITEMS, 2))]

    def ours() -> list[int]:
        return asyncio.run(run_chunks(Work(work, "benchmark"), items, workers=2, backend="processes"))

    assert sum(ours()) == work(Chunk(items)) == sum(in_pool(work, chunks))
    known = in_joblib(work, chunks)
    assert known is None or sum(known) == sum(ours())
    times: dict[str, list[float]] = {"one": [], "two": [], "pool": []}
    if known is not None:
        times["joblib"] = []
    for _ in range(ROUNDS):
        times["one"].append(timed(lambda: work(Chunk(items))))
        times["two"].append(timed(ours))
        times["pool"].append(timed(lambda: in_pool(work, chunks)))
        if known is not None:
            times["joblib"].append(timed(lambda: in_joblib(work, chunks)))
    return {name: min(each) for name, each in times.items()}


def throughput() -> dict[str, float]:
    """Millions of floats a second, out of chunks of a thousand."""
    source = random.Random(4)
    chunks = [[source.uniform(-1e6, 1e6) for _ in range(1000)] for _ in range(200)]

    def by(algorithm: Sum | Mean | Stddev) -> float | None:
        state = algorithm.process_chunk([])
        for chunk in chunks:
            state = algorithm.merge(state, algorithm.process_chunk(chunk))
        return algorithm.finish(state)

    def loop() -> float:
        total = 0.0
        for chunk in chunks:
            for item in chunk:
                total += item
        return total

    def fsum() -> float:
        return math.fsum(item for chunk in chunks for item in chunk)

    assert by(Sum()) == fsum()
    calls: dict[str, Callable[[], object]] = {
        "sum": partial(by, Sum()),
        "mean": partial(by, Mean()),
        "stddev": partial(by, Stddev()),
        "loop": loop,
        "fsum": fsum,
    }
    return {name: 0.2 / min(timed(call) for _ in range(10)) for name, call in calls.items()}


if __name__ == "__main__":
    print(json.dumps({**speed_up(), **throughput()}))
