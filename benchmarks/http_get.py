"""CPU time of one GET of a small JSON body: `HttpRestAdapter.execute` against bare aiohttp, paired and interleaved.

The server runs in a process of its own. `python benchmarks/http_get.py` prints microseconds per request (medians over
rounds) and the median of the ratios of neighbouring rounds. Two bare clients: as its documentation shows it (`bare`),
and with everything switched off that the adapter does itself (`lean`).
"""

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import aiohttp
from pydantic_core import from_json
from yarl import URL

from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedHttpContext
from omnibase_spi.http import HttpRestAdapter

ROUNDS = 30
REQUESTS = 400


async def measure(port: int) -> None:
    """Run all three clients in turn against the server on `port` and print the result."""
    url = f"http://127.0.0.1:{port}/items/1"
    lean_url = URL(url, encoded=True)
    context = ModelResolvedHttpContext(url=url, timeout_ms=30_000)
    correlation_id = uuid4()
    adapter = HttpRestAdapter()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, connect=5)
    async with (
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout, auto_decompress=False
        ) as lean_session,
    ):

        async def bare() -> object:
            async with session.get(url) as response:
                return json.loads(await response.read())

        async def lean() -> object:
            async with lean_session.get(lean_url, allow_redirects=False) as response:
                return from_json(await response.read())

        async def ours() -> object:
            return (await adapter.execute(resolved_context=context, correlation_id=correlation_id)).document

        report(await run({"bare": bare, "lean": lean, "adapter": ours}))
    await adapter.aclose()


async def run(clients: dict[str, Callable[[], Awaitable[object]]]) -> dict[str, list[float]]:
    """Microseconds of process CPU time per request, per client and round."""
    names = list(clients)
    for request in clients.values():
        for _ in range(REQUESTS):
            await request()
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            request = clients[name]
            started = time.process_time()
            for _ in range(REQUESTS):
                await request()
            times[name].append((time.process_time() - started) / REQUESTS * 1e6)
    return times


def report(times: dict[str, list[float]]) -> None:
    for name, values in times.items():
        print(f"{name:8} {statistics.median(values):6.1f} us")
    for name in ("bare", "lean"):
        pairs = list(zip(times["adapter"], times[name], strict=True))
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        added = statistics.median(ours - theirs for ours, theirs in pairs)
        print(f"adapter / {name}: {ratio:.3f}, added {added:+.1f} us")


if __name__ == "__main__":
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.http_server"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        asyncio.run(measure(int(server.stdout.readline())))
        server.communicate()
