"""Ten thousand HTTP operations at once, of one node, against a server in another process. Prints JSON."""

import asyncio
import json
import sys
import time

from benchmarks.memory import peak_mib
from benchmarks.nodes import container_of, node_of
from omnibase_core.nodes import ModelEffectInput

CROWD = 10_000


async def main(base_url: str) -> dict[str, float]:
    container = container_of()
    io_config: dict[str, object] = {
        "handler_type": "http",
        "method": "GET",
        "url_template": f"{base_url}/items/${{input.id}}",
        "timeout_ms": 120_000,
    }
    node = node_of(container, io_config, extract={"ok": "$.ok"}, execution_mode="sequential_continue")
    started, cpu = time.monotonic(), time.process_time()
    calls = (node.process(ModelEffectInput(operation_data={"id": number})) for number in range(CROWD))
    outputs = await asyncio.gather(*calls, return_exceptions=True)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    await container.aclose()
    succeeded = 0
    reasons: dict[str, int] = {}
    for output in outputs:
        if not isinstance(output, BaseException) and output.failed_operation is None:
            succeeded += 1
        else:
            why = repr(output) if isinstance(output, BaseException) else str(output.operations[0].error_message)
            reasons[why[:200]] = reasons.get(why[:200], 0) + 1
    for why, count in reasons.items():
        print(count, why, file=sys.stderr)
    retries = sum(output.total_retry_count for output in outputs if not isinstance(output, BaseException))
    return {
        "finished": len(outputs),
        "succeeded": succeeded,
        "retries": retries,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mib": peak_mib(),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
