"""The two costs that grow unnoticed, as JSON: microseconds per no-op operation, milliseconds per contract load.

CPU time, the best of several short rounds; about a second in all. For `tests/house/test_cost.py`.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable

from benchmarks.contracts import best_ms, cold_texts
from benchmarks.nodes import calling, no_op_container, node_of
from omnibase_core.utils.contract_loader import load_contract

OPERATIONS = 500


def best(run: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the fastest round, after one that does not count."""
    run()
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def executor_us(per_call: int) -> float:
    """Microseconds per operation that does nothing, with a placeholder and a field to extract."""
    io_config: dict[str, object] = {
        "handler_type": "http",
        "method": "GET",
        "url_template": "http://127.0.0.1/items/${input.id}",
    }
    call = calling(node_of(no_op_container(), io_config, per_call, extract={"id": "$.id"}), id=5)

    async def round_of_calls() -> None:
        for _ in range(OPERATIONS // per_call):
            await call()

    with asyncio.Runner() as runner:
        return best(lambda: runner.run(round_of_calls()), 15) / OPERATIONS * 1e6


def load_ms() -> float:
    """Milliseconds per load of a contract of 50 operations whose names were not seen before."""
    return best_ms(load_contract, cold_texts(50), rounds=20)


if __name__ == "__main__":
    logging.getLogger("onex.contract").setLevel(logging.ERROR)  # the text draws lint warnings
    print(json.dumps({"alone_us": executor_us(1), "in_ten_us": executor_us(10), "load_50_ms": load_ms()}))
