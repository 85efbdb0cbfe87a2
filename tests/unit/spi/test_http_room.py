"""How many requests of the HTTP adapter are under way at once."""

import asyncio
import resource
from collections.abc import Iterator

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_spi.http import HttpRestAdapter
from tests.support.http_calls import send
from tests.support.http_server import FaultServer, Reply, after

DESCRIPTORS = 200


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """The process may open few files for as long as the test runs, though more than those that it has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
async def adapter(few_descriptors: None, fault_server: FaultServer) -> HttpRestAdapter:
    """An adapter that saw the low limit when its loop began; the limit is high again, for the server needs more."""
    adapter = HttpRestAdapter()
    await send(adapter, fault_server.url)
    fault_server.requests.clear()
    return adapter


@pytest.fixture
def gate(fault_server: FaultServer) -> asyncio.Event:
    """Answers to `/gate` wait for it."""
    gate = asyncio.Event()
    fault_server.route("/gate", after(gate, Reply(200, b"through")))
    return gate


async def test_no_more_requests_are_under_way_than_half_of_the_descriptors(
    adapter: HttpRestAdapter, fault_server: FaultServer, gate: asyncio.Event
) -> None:
    """More requests than that wait for their turn, and all of them are answered."""
    room = DESCRIPTORS // 2
    _allow_more()
    requests = [asyncio.create_task(send(adapter, f"{fault_server.url}/gate")) for _ in range(3 * room)]
    await fault_server.wait_for(room)
    arrived = len(fault_server.requests)
    gate.set()
    answers = await asyncio.gather(*requests)

    assert arrived == room
    assert [answer.status_code for answer in answers] == [200] * 3 * room
    assert fault_server.connections <= room
    await adapter.aclose()


async def test_a_wait_that_is_cut_off_says_that_nothing_was_sent(
    adapter: HttpRestAdapter, fault_server: FaultServer, gate: asyncio.Event
) -> None:
    """The cause of the cancellation is a fault of the phase NOT_SENT, and the place in the queue is given up."""
    room = DESCRIPTORS // 2
    _allow_more()
    requests = [asyncio.create_task(send(adapter, f"{fault_server.url}/gate")) for _ in range(room)]
    await fault_server.wait_for(room)
    waiting = asyncio.create_task(send(adapter, f"{fault_server.url}/gate"))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    fault = caught.value.__cause__
    assert isinstance(fault, EffectFault)
    assert (fault.phase, fault.error_code) == (EnumFaultPhase.NOT_SENT, EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
    gate.set()
    await asyncio.gather(*requests)
    assert (await send(adapter, f"{fault_server.url}/gate")).status_code == 200
    await adapter.aclose()


def _allow_more() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
