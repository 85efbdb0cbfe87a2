"""The HTTP adapter: several event loops, one after another and at once, closed or not."""

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase_spi.http import HttpRestAdapter
from tests.support.http_calls import fault_of, send
from tests.support.http_server import FaultServer


@pytest.fixture
def outer_server() -> Iterator[str]:
    """A server in a process of its own, for tests that run loops by hand; gives its URL."""
    command = [sys.executable, "-m", "tests.support.http_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


def sockets() -> int:
    gc.collect()
    return sum(str(link).startswith("socket:") for link in _links())


def _links() -> Iterator[Path]:
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            yield descriptor.readlink()
        except OSError:
            continue  # the descriptor of the listing itself


def test_serves_several_runs(outer_server: str) -> None:
    """One adapter that is never closed serves several `asyncio.run` calls and leaves no descriptor and no warning."""
    adapter = HttpRestAdapter()
    before = sockets()

    for _ in range(4):
        response = asyncio.run(send(adapter, outer_server))

        assert response.status_code == 200
        assert sockets() == before


def test_survives_loops_that_are_closed_by_hand(outer_server: str) -> None:
    """A loop that ends without shutting its generators down costs nothing either, once the next one is used."""
    adapter = HttpRestAdapter()
    before = sockets()

    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(send(adapter, outer_server))
        loop.run_until_complete(send(adapter, outer_server, host_from_data=False))
        loop.close()
    del loop
    asyncio.run(send(adapter, outer_server))

    assert sockets() == before


def test_a_dropped_adapter_lets_go(outer_server: str) -> None:
    """An adapter that is forgotten after its loop was closed by hand closes its connections quietly."""
    before = sockets()
    adapter = HttpRestAdapter()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send(adapter, outer_server))
    loop.close()

    del adapter, loop

    assert sockets() == before


async def test_a_dropped_adapter_lets_go_in_a_running_loop(fault_server: FaultServer) -> None:
    """An adapter that is forgotten while its loop runs closes its connections."""
    adapter = HttpRestAdapter()
    await send(adapter, fault_server.url)

    del adapter
    gc.collect()

    await fault_server.wait_idle()


async def test_aclose_closes_and_allows_more(fault_server: FaultServer) -> None:
    """After `aclose` no connection is open, a second one is harmless, and the adapter can be used again."""
    adapter = HttpRestAdapter()
    await send(adapter, fault_server.url)

    await adapter.aclose()
    await adapter.aclose()
    await fault_server.wait_idle()
    response = await send(adapter, fault_server.url)

    assert response.status_code == 200
    assert fault_server.connections == 2
    await adapter.aclose()


def test_aclose_in_a_later_loop(outer_server: str) -> None:
    """Closing from another loop lets go of what an ended one left."""
    adapter = HttpRestAdapter()
    before = sockets()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(send(adapter, outer_server))
    loop.close()

    asyncio.run(adapter.aclose())

    assert sockets() == before


def test_serves_loops_of_several_threads(outer_server: str) -> None:
    """Loops that run at the same time have connections of their own."""
    adapter = HttpRestAdapter()
    statuses: list[int | None] = []

    async def several() -> None:
        statuses.extend([(await send(adapter, outer_server)).status_code for _ in range(20)])

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 60


async def test_leaves_no_task(fault_server: FaultServer) -> None:
    """Between calls no task of the adapter's runs."""
    adapter = HttpRestAdapter()
    await send(adapter, fault_server.url.replace("127.0.0.1", "localhost"))

    tasks = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]  # a coroutine

    assert not [name for name in tasks if "FaultServer" not in name and "test_leaves_no_task" not in name]
    await adapter.aclose()


def test_is_silent_at_the_end_of_the_process(outer_server: str) -> None:
    """A program that never closes its adapter ends without a word on standard error, in development mode as well."""
    code = (
        "import asyncio, sys, aiohttp\n"
        "from omnibase_spi.http import HttpRestAdapter\n"
        "from tests.support.http_calls import send\n"
        "adapter = HttpRestAdapter()\n"
        "asyncio.run(send(adapter, sys.argv[1]))\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(send(adapter, sys.argv[1]))\n"
        "loop.close()\n"
    )

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code, outer_server], check=True, capture_output=True, text=True
    )

    assert done.stderr == ""


async def test_concurrent_requests_do_not_queue(fault_server: FaultServer) -> None:
    """The adapter bounds no concurrency: 150 requests hang at the same time."""
    adapter = HttpRestAdapter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(send(adapter, f"{fault_server.url}/hang")) for _ in range(150)]
        await fault_server.wait_for(150)
        for task in tasks:
            task.cancel()

    assert fault_server.connections == 150
    await fault_server.wait_idle()
    await adapter.aclose()


async def test_a_fault_frees_its_connection(fault_server: FaultServer) -> None:
    """Faults in a row do not pile up connections."""
    adapter = HttpRestAdapter()

    for _ in range(20):
        await fault_of(adapter, f"{fault_server.url}/reset")

    await fault_server.wait_idle()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    await adapter.aclose()
