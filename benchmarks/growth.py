"""Memory of one node that does nothing a million times: RSS in MiB at several points, as JSON. Nothing is traced."""

import asyncio
import gc
import json
import time

import psutil

from benchmarks.nodes import calling, no_op_container, node_of

PER_CALL = 10
POINTS = (100_000, 250_000, 500_000, 750_000, 1_000_000)


async def main() -> dict[str, float]:
    """Every operation has a placeholder that differs and a field to extract."""
    io_config: dict[str, object] = {
        "handler_type": "http",
        "method": "GET",
        "url_template": "http://127.0.0.1/items/${input.id}",
    }
    node = node_of(no_op_container(), io_config, PER_CALL, extract={"id": "$.id"})
    process = psutil.Process()
    found: dict[str, float] = {}
    started = time.process_time()
    done = 0
    for point in POINTS:
        while done < point:
            await calling(node, id=f"item-{done}")()
            done += PER_CALL
        gc.collect()
        found[str(point)] = process.memory_info().rss / 1024**2
    found["microseconds"] = (time.process_time() - started) / done * 1e6
    found["objects"] = len(gc.get_objects())
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
