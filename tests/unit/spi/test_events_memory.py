"""What the memory bus promises beyond the contract of all buses: event loops, delays, windows, bounds."""

import asyncio
import contextlib
import gc
import itertools
import logging
import random
import subprocess
import sys
import threading
from collections import Counter
from contextvars import ContextVar

import pytest
from pydantic import BaseModel

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import forget_secrets, register_secret
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_envelope import (
    ModelEnvelopeMetadata,
    ModelEventEnvelope,
    ModelOnexEnvelope,
)
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import RecordingBus, run_virtual

Event = ModelEventEnvelope[object]


class Ping(BaseModel):
    number: int


def event(number: int, event_type: str = "T") -> Event:
    return ModelEventEnvelope[object](event_type=event_type, payload=number)


def no_jitter() -> float:
    return 0.0


# Nothing lost, nothing doubled


def test_handlers_that_fail_a_tenth_of_the_time_lose_and_double_nothing() -> None:
    """20,000 events, two groups, 100 keys: each event has its effect once in each group, in the order of its key."""
    chance = random.Random(20_240_607)
    effects: dict[str, list[int]] = {"one": [], "two": []}
    failures = Counter[str]()

    async def run() -> MemoryEventBus:
        bus = MemoryEventBus(max_attempts=12, jitter=chance.random)

        def handler(group: str) -> object:
            async def handle(got: Event) -> None:
                if chance.random() < 0.05:
                    await asyncio.sleep(0.001)
                if chance.random() < 0.1:
                    failures[group] += 1
                    message = "one in ten"
                    raise ConnectionError(message)
                effects[group].append(int(str(got.payload)))

            return handle

        for group in effects:
            for _member in range(2):
                bus.subscribe("T", handler(group), group, concurrency=4)  # type: ignore[arg-type]  # made just above
        for number in range(20_000):
            await bus.publish(event(number), key=f"k{number % 100}")
        assert await bus.aclose(1e6) == []
        return bus

    statistics = run_virtual(run()).statistics()

    for group, numbers in effects.items():
        assert sorted(numbers) == list(range(20_000))
        for key in range(100):
            of_key = [number for number in numbers if number % 100 == key]
            assert of_key == sorted(of_key)
        assert failures[group] > 1_500
        assert statistics.groups[group].retried == failures[group]
    assert statistics.dead_letters == 0


# Event loops


def test_a_bus_serves_one_event_loop_after_another() -> None:
    """What one loop left, queued, in hand or waiting to be repeated, goes on in the next, in order."""
    bus = MemoryEventBus(base_delay_s=3600, jitter=no_jitter)
    handled: list[object] = []
    hang = True

    async def handler(got: Event) -> None:
        if got.payload == 0 and hang:
            await asyncio.Event().wait()
        handled.append(got.payload)

    failed: list[object] = []

    def fail_once(got: Event) -> None:
        if len(failed) == 0:
            failed.append(got.payload)
            message = "once"
            raise ValueError(message)
        handled.append(f"again {got.payload}")

    bus.subscribe("T", handler, "g")
    bus.subscribe("U", fail_once, "u")

    async def first() -> None:
        for number in range(3):
            await bus.publish(event(number), key="k")
        await bus.publish(event(7, "U"))
        await asyncio.sleep(0.01)

    async def second() -> None:
        await bus.publish(event(3), key="k")
        assert await bus.drain(5)

    asyncio.run(first())
    assert handled == []
    hang = False
    asyncio.run(second())
    asyncio.run(bus.aclose())

    assert [each for each in handled if isinstance(each, int)] == [0, 1, 2, 3]
    assert "again 7" in handled
    numbers = bus.statistics().groups
    assert (numbers["g"].acknowledged, numbers["g"].lag) == (4, 0)
    assert numbers["u"].acknowledged == 1


def test_a_bus_that_is_never_closed_leaves_no_warning() -> None:
    """With a handler that hangs, a publisher that waits and an event that is to be repeated, when the loop ends."""
    code = """
import asyncio
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_spi.events_memory import MemoryEventBus

async def hang(event):
    await asyncio.Event().wait()

def fail(event):
    raise ValueError

async def main():
    bus = MemoryEventBus(buffer=1)
    bus.subscribe("T", hang)
    bus.subscribe("U", fail)
    await bus.publish(ModelEventEnvelope(event_type="U", payload=1))
    await bus.publish(ModelEventEnvelope(event_type="T", payload=1))
    asyncio.create_task(bus.publish(ModelEventEnvelope(event_type="T", payload=2)))
    await asyncio.sleep(0.01)

asyncio.run(main(), debug=True)
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert done.stderr == ""


def test_an_idle_bus_has_no_task() -> None:
    """After the last event its tasks end, so that a loop can end without anybody closing the bus."""

    async def run() -> None:
        bus = MemoryEventBus()
        bus.subscribe("T", lambda _got: asyncio.sleep(0), concurrency=3)
        for number in range(10):
            await bus.publish(event(number))
        assert await bus.drain(5)
        await asyncio.sleep(0)

        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_loop_that_was_closed_without_cancelling_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The event that was in hand is delivered again, once. (asyncio itself complains of such a loop.)"""
    caplog.set_level(logging.CRITICAL, "asyncio")
    bus = MemoryEventBus()
    handled: list[object] = []
    hang = True

    async def handler(got: Event) -> None:
        if hang:
            await asyncio.sleep(3600)
        handled.append(got.payload)

    bus.subscribe("T", handler)
    loop = asyncio.new_event_loop()

    async def first() -> None:
        await bus.publish(event(1), key="k")
        await bus.publish(event(2), key="k")
        await asyncio.sleep(0)

    loop.run_until_complete(first())
    loop.close()
    hang = False

    asyncio.run(_drained(bus))
    del loop
    gc.collect()
    asyncio.run(_published(bus, event(3)))

    assert handled == [1, 2, 3]
    assert bus.statistics().total.lag == 0


async def _published(bus: MemoryEventBus, got: Event) -> None:
    await bus.publish(got, key="k")
    assert await bus.drain(5)


async def _drained(bus: MemoryEventBus) -> None:
    assert await bus.drain(5)


def test_two_loops_at_once_are_refused() -> None:
    """CONFIGURATION_ERROR says how to publish from another thread."""
    bus = MemoryEventBus()
    found: list[ModelOnexError] = []

    async def elsewhere() -> None:
        with pytest.raises(ModelOnexError, match="run_coroutine_threadsafe") as caught:
            await bus.publish(event(2))
        found.append(caught.value)

    async def here() -> None:
        await bus.publish(event(1))
        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await asyncio.to_thread(thread.join)

    asyncio.run(here())

    assert found[0].error_code is Code.CONFIGURATION_ERROR


def test_subscribing_needs_no_loop_and_runs_in_the_subscribers_context() -> None:
    """Context variables are those of the subscriber, not of whoever happens to publish."""
    variable: ContextVar[str] = ContextVar("variable", default="none")
    found: list[str] = []
    bus = MemoryEventBus()
    token = variable.set("subscriber")
    bus.subscribe("T", lambda _got: found.append(variable.get()))
    variable.reset(token)

    async def run() -> None:
        variable.set("publisher")
        await bus.publish(event(1))
        assert await bus.drain(5)

    asyncio.run(run())

    assert found == ["subscriber"]


# Delays


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, [1, 2, 4, 5, 5]), (1.0, [0.5, 1, 2, 2.5, 2.5])])
def test_the_delay_doubles_up_to_its_limit(jitter: float, expected: list[float]) -> None:
    """Shortened by up to a half at random."""
    times: list[float] = []

    async def run() -> None:
        bus = MemoryEventBus(max_attempts=6, base_delay_s=1, max_delay_s=5, jitter=lambda: jitter)

        def handler(_got: Event) -> None:
            times.append(asyncio.get_running_loop().time())
            message = "always"
            raise ValueError(message)

        bus.subscribe("T", handler)
        await bus.publish(event(1))
        assert await bus.drain(100)

    run_virtual(run())

    assert [round(after - before, 6) for before, after in itertools.pairwise(times)] == expected


def test_an_event_that_waits_to_be_repeated_holds_up_its_own_key_only() -> None:
    """The subscription goes on with others meanwhile, although it handles one at a time."""
    handled: list[object] = []

    async def run() -> None:
        bus = MemoryEventBus(base_delay_s=10)
        failed: list[object] = []

        def handler(got: Event) -> None:
            if got.payload == 0 and not failed:
                failed.append(got.payload)
                message = "once"
                raise ValueError(message)
            handled.append(got.payload)

        bus.subscribe("T", handler)
        for number, key in enumerate(["a", "a", "b", None]):
            await bus.publish(event(number), key=key)
        await asyncio.sleep(1)
        assert handled == [2, 3]
        assert await bus.drain(100)

    run_virtual(run())

    assert handled == [2, 3, 0, 1]


# Windows and bounds


def test_an_id_is_forgotten_after_the_window() -> None:
    """And not before."""

    async def run() -> list[object]:
        bus = MemoryEventBus(dedup_window_s=60)
        handled: list[object] = []
        bus.subscribe("T", lambda got: handled.append(got.payload), "g")
        again = event(1)
        for pause in (0, 59.9, 0.2):
            await asyncio.sleep(pause)
            await bus.publish(again)
            assert await bus.drain(5)
        return handled

    assert run_virtual(run()) == [1, 1]


@pytest.mark.parametrize(
    ("options", "times"), [({"dedup_ids": 2}, 2), ({"dedup_ids": 3}, 1), ({"dedup_window_s": 0}, 2)]
)
async def test_the_ids_that_are_kept_are_bounded(options: dict[str, int], times: int) -> None:
    """The oldest goes first; nothing is kept when the window is nothing."""
    bus = MemoryEventBus(**options)  # type: ignore[arg-type]  # the two options take whole numbers
    handled: list[object] = []
    bus.subscribe("T", lambda got: handled.append(got.payload))
    first = event(1)

    for each in (first, event(2), event(3), first):
        await bus.publish(each)
    assert await bus.drain(5)

    assert handled.count(1) == times


async def test_dead_letters_are_bounded_and_counted() -> None:
    """The oldest are forgotten."""
    bus = MemoryEventBus(max_attempts=1, max_dead_letters=2)
    bus.subscribe("T", _fail)
    for number in range(5):
        await bus.publish(event(number))
    assert await bus.drain(5)

    assert [letter.envelope.payload for letter in await bus.dead_letters()] == [3, 4]
    assert bus.statistics().forgotten_dead_letters == 3


def _fail(_got: Event) -> None:
    message = "wrong password: hunter2-hunter2"
    raise ValueError(message)


async def test_the_reason_of_a_dead_letter_holds_no_known_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither there nor in the log."""
    register_secret("hunter2-hunter2")
    try:
        bus = MemoryEventBus(max_attempts=1)
        bus.subscribe("T", _fail)
        await bus.publish(event(1))
        assert await bus.drain(5)
    finally:
        forget_secrets()

    (letter,) = await bus.dead_letters()
    assert letter.reason == "wrong password: ***"
    assert "is a dead letter" in caplog.text
    assert "hunter2" not in caplog.text


async def test_handlers_that_publish_without_end_are_refused() -> None:
    """RATE_LIMITED beyond buffer and overflow, which is a failure of the handler like any other."""
    bus = MemoryEventBus(buffer=2, overflow=3, max_attempts=1)
    refused: list[object] = []
    once = asyncio.Event()

    async def handler(got: Event) -> None:
        try:
            for _ in range(100):
                await bus.publish(event(int(str(got.payload)) + 1))
        except ModelOnexError as error:
            refused.append(error.error_code)
            once.set()
            raise

    subscription = bus.subscribe("T", handler)

    await bus.publish(event(0))
    await asyncio.wait_for(once.wait(), 5)
    lag = bus.statistics().groups[subscription.group].lag
    await subscription.unsubscribe()

    assert refused[0] is Code.RATE_LIMITED
    assert lag <= 2 + 3


async def test_what_a_handler_started_waits_like_anybody_once_the_handler_has_ended() -> None:
    """Only a running handler is kept from waiting, because only that could wait for itself."""
    bus = MemoryEventBus(buffer=1)
    gate = asyncio.Event()
    later: list[asyncio.Task[None]] = []

    async def publish_later() -> None:
        await asyncio.sleep(0.01)
        await bus.publish(event(1, "U"))
        await bus.publish(event(2, "U"))

    async def starts(_got: Event) -> None:
        later.append(asyncio.create_task(publish_later()))

    async def slow(_got: Event) -> None:
        await gate.wait()

    bus.subscribe("T", starts)
    bus.subscribe("U", slow)
    await bus.publish(event(0))
    assert await bus.drain(5)

    done, _waiting = await asyncio.wait(later, timeout=0.05)
    gate.set()
    await asyncio.wait_for(later[0], 5)
    await bus.aclose()

    assert not done


async def test_a_place_that_was_given_to_a_publisher_that_is_cancelled_is_not_lost() -> None:
    """Cancelled between the moment in which it got the place and the one in which it would have used it."""
    bus = MemoryEventBus(buffer=1)
    gate = asyncio.Event()
    handled: list[object] = []

    async def handler(got: Event) -> None:
        await gate.wait()
        handled.append(got.payload)

    bus.subscribe("T", handler, "g")
    await bus.publish(event(1))
    waiting = asyncio.create_task(bus.publish(event(2)))
    await asyncio.sleep(0)
    gate.set()
    while not handled:  # noqa: ASYNC110 # the very turn of the loop in which the handler ends
        await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(bus.publish(event(3)), 5)
    assert await bus.drain(5)

    assert handled == [1, 3]


async def test_a_group_that_nobody_can_join_again_is_forgotten() -> None:
    """Once its last event is done; its counts stay in the total."""
    bus = MemoryEventBus()
    gate, begun = asyncio.Event(), asyncio.Event()

    async def handler(_got: Event) -> None:
        begun.set()
        await gate.wait()

    subscription = bus.subscribe("T", handler)
    await bus.publish(event(1))
    await begun.wait()
    ended = subscription.unsubscribe()
    during = subscription.group in bus.statistics().groups
    gate.set()
    await ended

    statistics = bus.statistics()
    assert during
    assert statistics.groups == {}
    assert (statistics.total.queued, statistics.total.acknowledged, statistics.total.lag) == (1, 1, 0)


async def test_what_is_queued_for_a_name_that_nobody_hears_any_more_is_dropped_and_counted() -> None:
    """Also what waits to be repeated; and publishers that waited for the group go on."""
    bus = MemoryEventBus(buffer=3, base_delay_s=3600)
    begun, gate = asyncio.Event(), asyncio.Event()

    async def handler(got: Event) -> None:
        if got.payload == 0:
            message = "parked"
            raise ValueError(message)
        begun.set()
        await gate.wait()

    subscription = bus.subscribe("T", handler, "g")
    await bus.publish(event(0), key="a")
    await bus.publish(event(1), key="b")
    await bus.publish(event(2), key="b")
    waiting = asyncio.create_task(bus.publish(event(3), key="a"))
    await begun.wait()

    ended = subscription.unsubscribe()
    receipt = await asyncio.wait_for(waiting, 5)
    gate.set()
    await ended
    assert await bus.drain(5)

    numbers = bus.statistics().groups["g"]
    assert receipt.groups == 0
    assert (numbers.queued, numbers.acknowledged, numbers.dropped, numbers.lag) == (3, 1, 2, 0)


async def test_a_handler_may_leave_while_it_runs() -> None:
    """It waits for other running handlers of the subscription, not for itself."""
    bus = MemoryEventBus()
    handled: list[object] = []

    async def handler(got: Event) -> None:
        handled.append(got.payload)
        await subscription.unsubscribe()

    subscription = bus.subscribe("T", handler)
    await bus.publish(event(1))
    await bus.publish(event(2))
    assert await bus.drain(5)

    assert handled == [1]


async def test_a_key_is_kept_in_mind_up_to_a_bound() -> None:
    """Beyond it the key that was quiet for longest may get another member; order holds all the same."""
    bus = MemoryEventBus(max_keys=2)
    handled: list[int] = []

    async def handler(got: Event) -> None:
        await asyncio.sleep(0)
        handled.append(int(str(got.payload)))

    for _ in range(2):
        bus.subscribe("T", handler, "g", concurrency=2)
    for number in range(60):
        await bus.publish(event(number), key=f"k{number % 6}")
    assert await bus.drain(5)

    for key in range(6):
        of_key = [number for number in handled if number % 6 == key]
        assert of_key == sorted(of_key)
    assert len(handled) == 60


# Closing


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_closing_for_ever() -> None:
    """After a second it is left alone, and its event is among what was left."""
    bus = MemoryEventBus()
    gate = asyncio.Event()

    async def stubborn(_got: Event) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    bus.subscribe("T", stubborn)
    await bus.publish(event(1))
    left = await asyncio.wait_for(bus.aclose(0.01), 3)
    gate.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await task

    assert [letter.envelope.payload for letter in left] == [1]


async def test_a_handler_that_swallows_its_cancellation_gets_no_further_event() -> None:
    """What it had in hand counts as handled, because it returned."""
    bus = MemoryEventBus()
    begun: list[object] = []

    async def swallows(got: Event) -> None:
        begun.append(got.payload)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    bus.subscribe("T", swallows)
    for number in range(3):
        await bus.publish(event(number))
    left = await bus.aclose(0.01)

    assert begun == [0]
    assert [letter.envelope.payload for letter in left] == [1, 2]


async def test_closing_can_be_cancelled_and_still_stops_the_handlers() -> None:
    """Nothing of the bus runs on afterwards."""
    bus = MemoryEventBus()

    async def hangs(_got: Event) -> None:
        await asyncio.Event().wait()

    bus.subscribe("T", hangs)
    await bus.publish(event(1))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bus.aclose(), 0.01)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await bus.aclose() == []


async def test_what_waited_to_be_repeated_is_among_what_was_left() -> None:
    """With the attempts that it had."""
    bus = MemoryEventBus(base_delay_s=3600)
    bus.subscribe("T", _fail)
    await bus.publish(event(1))
    await bus.drain(0.01)

    (letter,) = await bus.aclose(0.01)

    assert (letter.attempts, letter.reason) == (1, "not handled when the bus was closed")


# Around the bus


@pytest.mark.parametrize(
    "wrong", [{"buffer": 0}, {"max_attempts": 0}, {"base_delay_s": -1.0}, {"dedup_ids": -1}, {"overflow": -1}]
)
def test_senseless_options_are_refused(wrong: dict[str, int]) -> None:
    """CONFIGURATION_ERROR names the option and its least value."""
    with pytest.raises(ModelOnexError, match=next(iter(wrong))) as caught:
        MemoryEventBus(**wrong)  # type: ignore[arg-type]  # what is under test

    assert caught.value.error_code is Code.CONFIGURATION_ERROR


async def test_the_container_has_a_memory_bus_and_closes_it() -> None:
    """By name or by protocol, the same one each time."""
    async with ModelONEXContainer() as container:
        bus = container.get_service("ProtocolEventBus")

        assert isinstance(bus, MemoryEventBus)
        assert isinstance(bus, ProtocolEventBus)
        assert container.get_service(ProtocolEventBus) is bus

    with pytest.raises(ModelOnexError, match="closed"):
        await bus.publish(event(1))


async def test_an_onex_envelope_is_published_as_its_event() -> None:
    """With the ids of its metadata; the class name of the payload stands in for a missing event type."""
    bus = RecordingBus()
    metadata = ModelEnvelopeMetadata(subject="s")

    await bus.publish(ModelOnexEnvelope[Ping](payload=Ping(number=1), metadata=metadata))

    ((sent, topic, key),) = bus.published
    assert (sent.envelope_id, sent.subject, sent.event_type) == (metadata.envelope_id, "s", "Ping")
    assert (topic, key) == ("Ping", None)


async def test_a_recording_bus_remembers_and_delivers() -> None:
    """What nobody subscribes to is remembered as well."""
    bus = RecordingBus()
    found: list[object] = []
    bus.subscribe(Ping, lambda got: found.append(got.payload))

    await bus.publish(Ping(number=1), key="k")
    await bus.publish(event(2))
    assert await bus.drain(5)

    assert found == [Ping(number=1)]
    assert bus.payloads() == [Ping(number=1), 2]
    assert bus.payloads("T") == [2]
    assert [(topic, key) for _envelope, topic, key in bus.published] == [("Ping", "k"), ("T", None)]
