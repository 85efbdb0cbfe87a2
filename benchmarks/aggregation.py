"""One aggregation in a program of its own: memory and time as JSON.

`groups ITEMS GROUPS BUFFER_MB`: sums by group over made-up items, streamed in chunks.
"""

import asyncio
import json
import math
import sys
import time
from collections.abc import Iterator

from benchmarks.memory import peak_mib
from omnibase_core.mixins.aggregation_files import SpilledRows
from omnibase_core.mixins.aggregation_run import run_aggregation
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.models.model_reducer_output import ModelReducerOutput

CHUNK = 5_000


def items(count: int, groups: int) -> Iterator[list[dict[str, object]]]:
    """Chunks of items; groups come in an order without a pattern that a sort could use."""
    at = 0
    for start in range(0, count, CHUNK):
        chunk: list[dict[str, object]] = []
        for number in range(start, start + CHUNK):
            at = (at * 1_103_515_245 + 12_345) % 2_147_483_648
            chunk.append({"group": f"customer-{at % groups}", "amount": number * 0.01})
        yield chunk


def aggregated(count: int, groups: int, buffer_mb: int) -> ModelReducerOutput:
    contract = ModelContractReducer.model_validate(
        {
            "input_data": items(count, groups),
            "reduction_config": {"aggregation_method": "sum", "value_field": "amount", "group_by": "group"},
            "streaming_config": {"enabled": True},
            "memory_management": {"buffer_size_mb": buffer_mb},
        }
    )
    return asyncio.run(run_aggregation(contract, ModelONEXContainer()))


def measured(count: int, groups: int, buffer_mb: int) -> dict[str, float]:
    """base_mib: of the program after a small aggregation, so that what is imported and made once is in it."""
    aggregated(2 * CHUNK, 10, 1)
    base = peak_mib()
    started = time.process_time()
    for _ in items(count, groups):
        pass
    making = time.process_time() - started
    started = time.process_time()
    output = aggregated(count, groups, buffer_mb)
    seconds = time.process_time() - started - making
    rows = output.aggregated_data
    assert isinstance(rows, list | SpilledRows)
    return {
        "base_mib": base,
        "peak_mib": peak_mib(),
        "rows": len(rows),
        "total": math.fsum(float(str(row["value"])) for row in rows),
        "seconds": seconds,
        "spilled_mib": int(output.metadata.get("spilled_bytes", "0")) / 1024**2,
    }


if __name__ == "__main__":
    print(json.dumps(measured(*map(int, sys.argv[1:4]))))
