"""What every event bus promises (section 6.2). Relies on `ProtocolEventBus` alone: a new bus is a row in `BUSES`."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from pydantic import BaseModel, JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.models.events.event_handler import event_handler
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus, ProtocolSubscription
from tests.support.buses import BUSES, MakeBus

SECONDS = 5.0
"""For what must happen; reached only by a bus that is broken."""

Event = ModelEventEnvelope[object]


class OrderPlaced(BaseModel):
    number: int
    customer: str = "c"


class OrderPaid(BaseModel):
    number: int


@pytest.fixture(params=BUSES, name="make_bus")
def _make_bus(request: pytest.FixtureRequest) -> MakeBus:
    return BUSES[request.param]


@pytest.fixture(name="bus")
async def _bus(make_bus: MakeBus) -> AsyncIterator[ProtocolEventBus]:
    async with make_bus() as bus:
        yield bus


class Inbox:
    """A handler that remembers what it was given."""

    def __init__(self, *, fail_first: int = 0) -> None:
        self.events: list[Event] = []
        self.handled: list[object] = []
        self._fail_first = fail_first

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        await asyncio.sleep(0)
        if len(self.events) <= self._fail_first:
            message = f"failure {len(self.events)}"
            raise ValueError(message)
        self.handled.append(number(event))


class Gate:
    """A handler that waits in the middle until it is opened."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.handled: list[object] = []

    async def __call__(self, event: Event) -> None:
        self.begun.set()
        await self.open.wait()
        self.handled.append(number(event))


def number(event: Event) -> object:
    """Payloads are models or JSON, depending on the bus."""
    payload = event.payload
    return payload.get("number") if isinstance(payload, dict) else getattr(payload, "number", None)


async def ready(*subscriptions: ProtocolSubscription) -> None:
    for subscription in subscriptions:
        await subscription.ready()


async def all_handled(bus: ProtocolEventBus) -> None:
    assert await bus.drain(SECONDS)


# Publishing and subscribing


async def test_a_model_is_an_event_of_its_class_name(bus: ProtocolEventBus) -> None:
    """Publishing a pydantic model calls the subscribers of its class name with an envelope."""
    inbox = Inbox()
    await ready(bus.subscribe("OrderPlaced", inbox))

    receipt = await bus.publish(OrderPlaced(number=7))
    await all_handled(bus)

    (event,) = inbox.events
    assert receipt.groups in {1, None}
    assert (receipt.topic, receipt.envelope_id) == ("OrderPlaced", event.envelope_id)
    assert (event.event_type, number(event)) == ("OrderPlaced", 7)


async def test_an_envelope_arrives_with_all_that_it_carries(bus: ProtocolEventBus) -> None:
    """Ids, source, subject, time, headers and version are what was published; JSON payloads of any shape too."""
    inbox = Inbox()
    await ready(bus.subscribe("t", inbox))
    payload: JsonValue = {"a": [1, 2.5, None, True, "ä"], "b": {}}
    sent = ModelEventEnvelope[object](
        event_type="t",
        payload=payload,
        causation_id=uuid4(),
        source="/shop",
        subject="order 1",
        headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Tenant": "a b"},
        schema_version="2.1.0",
    )

    await bus.publish(sent)
    await all_handled(bus)

    assert inbox.events == [sent]


async def test_an_event_is_found_by_its_topic_and_by_its_type(bus: ProtocolEventBus) -> None:
    """A subscription names either; one group that names both hears of the event once."""
    by_topic, by_type, both, other = Inbox(), Inbox(), Inbox(), Inbox()
    await ready(
        bus.subscribe("orders", by_topic),
        bus.subscribe("OrderPlaced", by_type),
        bus.subscribe("orders", both, "both"),
        bus.subscribe("OrderPlaced", both, "both"),
        bus.subscribe("OrderPaid", other),
    )

    await bus.publish(OrderPlaced(number=1), topic="orders")
    await all_handled(bus)

    assert [len(each.events) for each in (by_topic, by_type, both, other)] == [1, 1, 1, 0]


async def test_an_event_that_nobody_subscribes_to_is_counted_and_dropped(make_bus: MakeBus) -> None:
    """It is never waited for, however many there are."""
    async with make_bus(buffer=2) as bus:
        for at in range(10):
            receipt = await asyncio.wait_for(bus.publish(OrderPaid(number=at)), SECONDS)
            assert receipt.groups in {0, None}

        statistics = bus.statistics()

        assert statistics.published == 10
        assert statistics.dropped in {0, 10}  # a broker keeps it, and does not know


async def test_what_is_neither_envelope_nor_model_is_refused(bus: ProtocolEventBus) -> None:
    """JSON has no class name and so no event type; the message says what to write."""
    with pytest.raises(ModelOnexError, match="ModelEventEnvelope") as caught:
        await bus.publish({"number": 1})  # type: ignore[arg-type]  # what is under test

    assert caught.value.error_code is Code.VALIDATION_ERROR


async def test_a_subscription_by_class_gets_that_class(bus: ProtocolEventBus) -> None:
    """JSON is read as the model that the subscription names; what does not fit is a dead letter at once."""
    found: list[OrderPlaced] = []

    def handler(event: ModelEventEnvelope[OrderPlaced]) -> None:
        found.append(event.payload)

    await ready(bus.subscribe(OrderPlaced, handler, "typed"))

    await bus.publish(ModelEventEnvelope(event_type="OrderPlaced", payload={"number": 1, "customer": "x"}))
    await bus.publish(ModelEventEnvelope(event_type="OrderPlaced", payload={"number": "many"}))
    await bus.publish(OrderPlaced(number=2))
    await all_handled(bus)

    (letter,) = await bus.dead_letters("typed")
    assert sorted(found, key=lambda each: each.number) == [OrderPlaced(number=1, customer="x"), OrderPlaced(number=2)]
    assert "number" in letter.reason
    assert "many" not in letter.reason


@pytest.mark.parametrize("event", ["", 7, object, None])
async def test_a_subscription_needs_a_name(bus: ProtocolEventBus, event: object) -> None:
    """VALIDATION_ERROR for what names neither a topic nor an event type."""
    with pytest.raises(ModelOnexError) as caught:
        bus.subscribe(event, Inbox())  # type: ignore[arg-type]  # what is under test

    assert caught.value.error_code is Code.VALIDATION_ERROR


@pytest.mark.parametrize("wrong", [{"handler": None}, {"concurrency": 0}, {"group": ""}])
async def test_a_subscription_needs_a_handler_and_sound_options(
    bus: ProtocolEventBus, wrong: dict[str, object]
) -> None:
    """VALIDATION_ERROR for no callable, a concurrency below 1, a group without a name."""
    options: dict[str, object] = {"handler": Inbox(), **wrong}

    with pytest.raises(ModelOnexError) as caught:
        bus.subscribe("t", **options)  # type: ignore[arg-type]  # what is under test

    assert caught.value.error_code is Code.VALIDATION_ERROR


async def test_a_plain_function_handles_as_well(bus: ProtocolEventBus) -> None:
    """Its return value is not looked at."""
    found: list[object] = []

    def handler(event: Event) -> str:
        found.append(number(event))
        return "x"

    await ready(bus.subscribe("OrderPaid", handler))

    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)

    assert found == [1]


# Marked handlers


class Billing:
    """Two marked methods and one that is not."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @event_handler("OrderPlaced")
    async def placed(self, event: Event) -> None:
        self.found.append(f"placed {number(event)}")

    @event_handler(OrderPaid, "OrderRefunded")
    def paid(self, event: Event) -> None:
        self.found.append(f"{event.event_type} {number(event)}")

    def unmarked(self, event: Event) -> None:
        self.found.append(f"unmarked {event}")


MODULE_FOUND: list[object] = []


@event_handler("ModuleEvent")
def module_handler(event: Event) -> None:
    MODULE_FOUND.append(number(event))


async def test_marked_methods_are_attached_and_others_are_not(bus: ProtocolEventBus) -> None:
    """One subscription for each event that a mark names."""
    billing = Billing()
    subscriptions = bus.subscribe_handlers(billing, "billing")
    await ready(*subscriptions)

    await bus.publish(OrderPlaced(number=1))
    await bus.publish(OrderPaid(number=2))
    await bus.publish(ModelEventEnvelope(event_type="OrderRefunded", payload={"number": 3}))
    await all_handled(bus)

    assert len(subscriptions) == 3
    assert sorted(billing.found) == ["OrderPaid 2", "OrderRefunded 3", "placed 1"]


async def test_a_module_may_hold_marked_functions(bus: ProtocolEventBus) -> None:
    """A mark alone attaches nothing."""
    await bus.publish(ModelEventEnvelope(event_type="ModuleEvent", payload={"number": 1}))
    await ready(*bus.subscribe_handlers(sys.modules[__name__]))

    await bus.publish(ModelEventEnvelope(event_type="ModuleEvent", payload={"number": 2}))
    await all_handled(bus)

    assert MODULE_FOUND == [2]


async def test_nothing_marked_is_an_error(bus: ProtocolEventBus) -> None:
    """Somebody forgot the decorator."""
    with pytest.raises(ModelOnexError, match="event_handler"):
        bus.subscribe_handlers(Inbox())


# Groups


async def test_every_group_gets_every_event_and_members_share(bus: ProtocolEventBus) -> None:
    """Subscriptions without a group are groups of their own."""
    alone, also_alone, first, second = Inbox(), Inbox(), Inbox(), Inbox()
    await ready(
        bus.subscribe("OrderPlaced", alone),
        bus.subscribe("OrderPlaced", also_alone),
        bus.subscribe("OrderPlaced", first, "shared"),
        bus.subscribe("OrderPlaced", second, "shared"),
    )

    for at in range(40):
        await bus.publish(OrderPlaced(number=at), key=f"k{at}")
    await all_handled(bus)

    everything = list(range(40))
    assert sorted(map(int, map(str, alone.handled))) == everything
    assert sorted(map(int, map(str, also_alone.handled))) == everything
    assert sorted(map(int, map(str, [*first.handled, *second.handled]))) == everything
    assert first.handled
    assert second.handled


async def test_a_key_stays_with_its_member(bus: ProtocolEventBus) -> None:
    """While the members live, all events of a key go to one of them."""
    inboxes = [Inbox() for _ in range(3)]
    await ready(*(bus.subscribe("OrderPlaced", inbox, "shared") for inbox in inboxes))

    for at in range(60):
        await bus.publish(OrderPlaced(number=at % 6), key=f"k{at % 6}")
    await all_handled(bus)

    owners = Counter(each for inbox in inboxes for each in set(inbox.handled))
    assert owners == dict.fromkeys(range(6), 1)


async def test_what_a_group_cannot_handle_does_not_trouble_another(bus: ProtocolEventBus) -> None:
    """Each group has its own attempts and its own dead letters."""
    broken, sound = Inbox(fail_first=100), Inbox()
    await ready(bus.subscribe("OrderPaid", broken, "broken"), bus.subscribe("OrderPaid", sound, "sound"))

    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)

    assert sound.handled == [1]
    assert len(sound.events) == 1
    assert [letter.group for letter in await bus.dead_letters()] == ["broken"]


async def test_the_rest_of_a_member_that_leaves_goes_to_the_others(bus: ProtocolEventBus) -> None:
    """Nothing that was queued for it is lost; what it had in hand it may finish."""
    leaving, staying = Gate(), Inbox()
    left = bus.subscribe("OrderPlaced", leaving, "shared")
    await ready(left)
    for at in range(5):
        await bus.publish(OrderPlaced(number=at), key="k")
    await asyncio.wait_for(leaving.begun.wait(), SECONDS)

    await ready(bus.subscribe("OrderPlaced", staying, "shared"))
    ended = left.unsubscribe()
    leaving.open.set()
    await ended
    await all_handled(bus)

    assert [*leaving.handled, *staying.handled] == [0, 1, 2, 3, 4]


async def test_keys_of_a_member_that_leaves_go_to_the_others(bus: ProtocolEventBus) -> None:
    """Also those that had not had their turn."""
    leaving, staying = Gate(), Inbox()
    left = bus.subscribe("OrderPlaced", leaving, "shared")
    await ready(left)
    for at in range(6):
        await bus.publish(OrderPlaced(number=at), key=f"k{at}")
    await asyncio.wait_for(leaving.begun.wait(), SECONDS)

    await ready(bus.subscribe("OrderPlaced", staying, "shared"))
    ended = left.unsubscribe()
    leaving.open.set()
    await ended
    await all_handled(bus)

    assert leaving.handled == [0]
    assert sorted(map(str, staying.handled)) == list("12345")


async def test_after_unsubscribe_nothing_comes(bus: ProtocolEventBus) -> None:
    """Unsubscribing twice is no error."""
    inbox = Inbox()
    subscription = bus.subscribe("OrderPaid", inbox)
    await ready(subscription)
    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)

    await subscription.unsubscribe()
    await subscription.unsubscribe()
    await bus.publish(OrderPaid(number=2))
    await all_handled(bus)

    assert inbox.handled == [1]


# Order


async def test_events_of_a_key_are_handled_in_order_also_while_one_is_repeated(bus: ProtocolEventBus) -> None:
    """The next one of the key waits until the one before is acknowledged."""
    inbox = Inbox(fail_first=2)
    await ready(bus.subscribe("OrderPlaced", inbox, concurrency=4))

    for at in range(10):
        await bus.publish(OrderPlaced(number=at), key="k")
    await all_handled(bus)

    assert inbox.handled == list(range(10))
    assert [number(event) for event in inbox.events[:3]] == [0, 0, 0]


async def test_the_key_of_an_envelope_is_its_header(bus: ProtocolEventBus) -> None:
    """`partitionkey`, as CloudEvents has it, unless `publish` names another."""
    inbox = Inbox(fail_first=1)
    await ready(bus.subscribe("t", inbox, concurrency=4))

    for at in range(5):
        envelope = ModelEventEnvelope[object](event_type="t", payload={"number": at}, headers={"partitionkey": "k"})
        await bus.publish(envelope)
    await all_handled(bus)

    assert inbox.handled == list(range(5))


async def test_a_subscription_handles_as_many_at_a_time_as_it_says(bus: ProtocolEventBus) -> None:
    """One by default; `concurrency` of different keys."""
    running = Counter[str]()
    most = Counter[str]()

    def counting(name: str) -> object:
        async def handler(_event: Event) -> None:
            running[name] += 1
            most[name] = max(most[name], running[name])
            for _ in range(5):
                await asyncio.sleep(0)
            running[name] -= 1

        return handler

    await ready(
        bus.subscribe("OrderPaid", counting("one")),  # type: ignore[arg-type]  # made just above
        bus.subscribe("OrderPaid", counting("three"), concurrency=3),  # type: ignore[arg-type]  # as above
    )

    for at in range(12):
        await bus.publish(OrderPaid(number=at), key=str(at))
    await all_handled(bus)

    assert most == {"one": 1, "three": 3}


# Acknowledgement, repetition, dead letters


async def test_an_event_is_acknowledged_after_it_was_handled(bus: ProtocolEventBus) -> None:
    """While the handler runs, it counts as lag."""
    gate = Gate()
    await ready(bus.subscribe("OrderPaid", gate, "g"))
    await bus.publish(OrderPaid(number=1))
    await asyncio.wait_for(gate.begun.wait(), SECONDS)

    before = bus.statistics().groups["g"]
    gate.open.set()
    await all_handled(bus)
    after = bus.statistics().groups["g"]

    assert (before.delivered, before.acknowledged, before.lag) == (1, 0, 1)
    assert (after.delivered, after.acknowledged, after.lag) == (1, 1, 0)


async def test_a_failure_is_repeated_until_it_succeeds(bus: ProtocolEventBus) -> None:
    """With the same envelope."""
    inbox = Inbox(fail_first=2)
    await ready(bus.subscribe("OrderPaid", inbox, "g"))

    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)

    numbers = bus.statistics().groups["g"]
    assert inbox.handled == [1]
    assert len({event.envelope_id for event in inbox.events}) == 1
    assert (numbers.delivered, numbers.retried, numbers.acknowledged, numbers.dead) == (3, 2, 1, 0)


async def test_what_keeps_failing_is_a_dead_letter_with_its_reason(bus: ProtocolEventBus) -> None:
    """After the last attempt; the next event of the key goes on."""
    inbox = Inbox(fail_first=3)
    await ready(bus.subscribe("OrderPaid", inbox, "g"))

    await bus.publish(OrderPaid(number=1), topic="payments", key="k")
    await bus.publish(OrderPaid(number=2), topic="payments", key="k")
    await all_handled(bus)

    (letter,) = await bus.dead_letters("g")
    assert inbox.handled == [2]
    assert (letter.group, letter.topic, letter.key, letter.attempts) == ("g", "payments", "k", 3)
    assert (letter.reason, letter.error_type) == ("failure 3", "ValueError")
    assert number(letter.envelope) == 1
    assert bus.statistics().groups["g"].dead == 1
    assert await bus.dead_letters("another") == []


async def test_a_dead_letter_can_be_delivered_again(bus: ProtocolEventBus) -> None:
    """To its own group, with all attempts anew, although the group has seen its id; it then is dead no more."""
    inbox, other = Inbox(fail_first=4), Inbox()
    await ready(bus.subscribe("OrderPaid", inbox, "g"), bus.subscribe("OrderPaid", other, "other"))
    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)
    (letter,) = await bus.dead_letters()

    redelivered = await bus.redeliver(letter)
    await all_handled(bus)
    again = await bus.redeliver(letter)

    assert (redelivered, again) == (True, False)
    assert inbox.handled == [1]
    assert len(other.events) == 1
    assert await bus.dead_letters() == []


async def test_a_dead_letter_waits_for_somebody_who_takes_it(bus: ProtocolEventBus) -> None:
    """Without a subscription it stays, and the error says what to do."""
    subscription = bus.subscribe("OrderPaid", Inbox(fail_first=9), "g")
    await ready(subscription)
    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)
    await subscription.unsubscribe()
    (letter,) = await bus.dead_letters()

    with pytest.raises(ModelOnexError, match="subscribe") as caught:
        await bus.redeliver(letter)

    assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE
    assert await bus.dead_letters() == [letter]


async def test_a_cancellation_of_the_handlers_own_is_a_failure(bus: ProtocolEventBus) -> None:
    """Something that it awaited was cancelled; the bus goes on."""
    calls: list[object] = []

    async def handler(event: Event) -> None:
        calls.append(number(event))
        if len(calls) == 1:
            raise asyncio.CancelledError

    await ready(bus.subscribe("OrderPaid", handler))

    await bus.publish(OrderPaid(number=1))
    await bus.publish(OrderPaid(number=2))
    await all_handled(bus)

    assert Counter(calls) == {1: 2, 2: 1}


async def test_an_id_that_a_group_has_seen_is_not_handled_again(bus: ProtocolEventBus) -> None:
    """Whether the first one is still queued or long done; for another group it is new."""
    inbox, late = Inbox(), Inbox()
    await ready(bus.subscribe("OrderPaid", inbox, "g"))
    event = ModelEventEnvelope.of(OrderPaid(number=1))

    await bus.publish(event)
    await bus.publish(event)
    await all_handled(bus)
    await ready(bus.subscribe("OrderPaid", late, "late"))
    await bus.publish(event)
    await all_handled(bus)

    assert inbox.handled == [1]
    assert late.handled in ([1], [1, 1])  # where a broker keeps old events, but each once
    assert bus.statistics().groups["g"].duplicates == 2


# Context


async def test_a_handler_has_the_correlation_id_of_its_event(bus: ProtocolEventBus) -> None:
    """As the current one, so that logs and calls inside carry it."""
    found: list[object] = []

    async def handler(_event: Event) -> None:
        await asyncio.sleep(0)
        found.append(current_correlation_id.get())

    await ready(bus.subscribe("OrderPaid", handler))
    events = [ModelEventEnvelope.of(OrderPaid(number=at)) for at in range(3)]

    for event in events:
        await bus.publish(event)
    await all_handled(bus)

    assert sorted(map(str, found)) == sorted(str(event.correlation_id) for event in events)
    assert current_correlation_id.get() is None


async def test_an_event_published_by_a_handler_says_what_caused_it(bus: ProtocolEventBus) -> None:
    """Correlation id and trace context go on; `causation_id` is the id of the event that was handled."""
    inbox = Inbox()

    async def handler(event: Event) -> None:
        await bus.publish(OrderPaid(number=2))
        await bus.publish(event.reply({"number": 3}, event_type="OrderPaid"))

    await ready(bus.subscribe("OrderPlaced", handler), bus.subscribe("OrderPaid", inbox))
    headers = {"traceparent": "00-a-b-01"}
    first = ModelEventEnvelope[object](event_type="OrderPlaced", payload={"number": 1}, headers=headers)

    await bus.publish(first)
    await all_handled(bus)

    assert len(inbox.events) == 2
    for event in inbox.events:
        assert (event.correlation_id, event.causation_id) == (first.correlation_id, first.envelope_id)
        assert event.headers["traceparent"] == "00-a-b-01"


# Backpressure


async def test_publish_waits_while_a_buffer_is_full(make_bus: MakeBus) -> None:
    """It goes on when an event was acknowledged."""
    async with make_bus(buffer=2) as bus:
        gate = Gate()
        await ready(bus.subscribe("OrderPaid", gate))

        async def publish_all() -> None:
            for at in range(50):
                await bus.publish(OrderPaid(number=at), key="k")

        publishing = asyncio.create_task(publish_all())
        await asyncio.wait_for(gate.begun.wait(), SECONDS)
        for _ in range(20):
            await asyncio.sleep(0)
        waited = not publishing.done()
        gate.open.set()
        await asyncio.wait_for(publishing, SECONDS)
        await all_handled(bus)

        assert waited
        assert gate.handled == list(range(50))


async def test_a_publish_that_is_cancelled_while_it_waits_publishes_nothing(make_bus: MakeBus) -> None:
    """Neither for the full group nor for one that had room; and its place is not lost."""
    async with make_bus(buffer=1) as bus:
        gate, roomy = Gate(), Inbox()
        await ready(bus.subscribe("roomy", roomy), bus.subscribe("OrderPaid", gate))
        await bus.publish(OrderPaid(number=0))
        await asyncio.wait_for(gate.begun.wait(), SECONDS)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bus.publish(OrderPaid(number=1), topic="roomy"), 0.01)
        await asyncio.wait_for(bus.publish(OrderPlaced(number=2), topic="roomy"), SECONDS)
        gate.open.set()
        await asyncio.wait_for(bus.publish(OrderPaid(number=3), topic="roomy"), SECONDS)
        await all_handled(bus)

        assert gate.handled == [0, 3]
        assert roomy.handled == [2, 3]


async def test_a_group_never_holds_more_than_its_buffer(make_bus: MakeBus) -> None:
    """However many publishers wait at once; and an event that it has seen is not waited for."""
    async with make_bus(buffer=2) as bus:
        gate = Gate()
        await ready(bus.subscribe("OrderPaid", gate, "g"))
        seen = ModelEventEnvelope.of(OrderPaid(number=0))
        await bus.publish(seen, key="k")
        lags: list[int] = []

        async def watched(number_: int) -> None:
            await bus.publish(OrderPaid(number=number_), key="k")
            lags.append(bus.statistics().groups["g"].lag)

        async with asyncio.TaskGroup() as tasks:
            for at in range(1, 30):
                tasks.create_task(watched(at))
            await asyncio.wait_for(gate.begun.wait(), SECONDS)
            await asyncio.wait_for(bus.publish(seen, key="k"), SECONDS)
            gate.open.set()
        await all_handled(bus)

        assert max(lags) <= 2
        assert sorted(map(int, map(str, gate.handled))) == list(range(30))


async def test_handlers_that_publish_into_full_buffers_do_not_lock_up(make_bus: MakeBus) -> None:
    """Also in a ring of two that feed each other, and in a task that the handler awaits."""
    async with make_bus(buffer=1) as bus:
        handled: list[object] = []

        async def ping(event: Event) -> None:
            for at in range(3):
                await bus.publish(OrderPaid(number=at))
            handled.append(number(event))

        async def pong(event: Event) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(bus.publish(ModelEventEnvelope(event_type="end", payload={"number": 1})))
            handled.append(number(event))

        async def end(event: Event) -> None:
            handled.append(number(event))

        await ready(bus.subscribe("OrderPlaced", ping), bus.subscribe("OrderPaid", pong), bus.subscribe("end", end))

        for at in range(5):
            await asyncio.wait_for(bus.publish(OrderPlaced(number=at)), SECONDS)
        await all_handled(bus)

        assert len(handled) == 5 + 15 + 15


# Draining and closing


async def test_drain_says_whether_everything_was_handled(bus: ProtocolEventBus) -> None:
    """False when the time ran out; the events are not lost by that."""
    gate = Gate()
    await ready(bus.subscribe("OrderPaid", gate))
    await bus.publish(OrderPaid(number=1))

    in_time = await bus.drain(0.01)
    gate.open.set()
    in_the_end = await bus.drain(SECONDS)

    assert (in_time, in_the_end) == (False, True)
    assert gate.handled == [1]


async def test_closing_waits_for_what_was_queued(make_bus: MakeBus) -> None:
    """Repetitions and what handlers publish meanwhile included."""
    async with make_bus() as bus:
        inbox = Inbox(fail_first=2)
        chained = Inbox()

        async def chain(event: Event) -> None:
            await asyncio.sleep(0)
            await bus.publish(event.reply(OrderPlaced(number=9)))

        await ready(
            bus.subscribe("OrderPaid", inbox), bus.subscribe("OrderPaid", chain), bus.subscribe("OrderPlaced", chained)
        )
        for at in range(5):
            await bus.publish(OrderPaid(number=at), key="k")

        left = await bus.aclose(SECONDS)

        assert left == []
        assert inbox.handled == list(range(5))
        assert len(chained.handled) == 5


async def test_closing_is_bounded_and_says_what_was_left(make_bus: MakeBus) -> None:
    """The handler in hand is cancelled; what it had, and what waited behind it, is returned."""
    async with make_bus() as bus:
        gate = Gate()
        cancelled: list[bool] = []

        async def handler(event: Event) -> None:
            try:
                await gate(event)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        await ready(bus.subscribe("OrderPaid", handler, "g"))
        for at in range(3):
            await bus.publish(OrderPaid(number=at), key="k")

        left = await bus.aclose(0.01)
        again = await bus.aclose(0.01)

        assert [number(letter.envelope) for letter in left] == [0, 1, 2]
        assert {letter.group for letter in left} == {"g"}
        assert again == []
        assert cancelled == [True]


async def test_a_closed_bus_takes_nothing_more(make_bus: MakeBus) -> None:
    """RESOURCE_UNAVAILABLE, also for a publish that was waiting."""
    async with make_bus(buffer=1) as bus:
        gate = Gate()
        await ready(bus.subscribe("OrderPaid", gate))
        await bus.publish(OrderPaid(number=1))
        waiting = asyncio.create_task(bus.publish(OrderPaid(number=2)))
        await asyncio.wait_for(gate.begun.wait(), SECONDS)
        await asyncio.sleep(0)

        closing = asyncio.create_task(bus.aclose(SECONDS))
        with pytest.raises(ModelOnexError) as caught:
            await waiting
        gate.open.set()
        await closing

        assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE
        with pytest.raises(ModelOnexError, match="closed"):
            await bus.publish(OrderPaid(number=3))
        with pytest.raises(ModelOnexError, match="closed"):
            bus.subscribe("OrderPaid", gate)
        assert gate.handled == [1]


async def test_a_handler_cannot_close_its_own_bus(bus: ProtocolEventBus) -> None:
    """It would wait for itself: CONFLICT, and the bus stays open."""
    found: list[object] = []

    async def handler(_event: Event) -> None:
        for wait in (bus.drain, bus.aclose):
            try:
                await wait()
            except ModelOnexError as error:
                found.append(error.error_code)

    await ready(bus.subscribe("OrderPaid", handler))

    await bus.publish(OrderPaid(number=1))
    await all_handled(bus)
    await bus.publish(OrderPaid(number=2))
    await all_handled(bus)

    assert found == [Code.CONFLICT] * 4


# Numbers


async def test_the_numbers_are_what_happened(bus: ProtocolEventBus) -> None:
    """Counts add up, also over groups that are gone."""
    odd_fails = Inbox()

    async def handler(event: Event) -> None:
        await odd_fails(event)
        if int(str(number(event))) % 2:
            message = "odd"
            raise RuntimeError(message)

    await ready(bus.subscribe("OrderPaid", handler, "g"))
    gone = bus.subscribe("OrderPaid", Inbox())
    await ready(gone)

    for at in range(10):
        await bus.publish(OrderPaid(number=at))
    await all_handled(bus)
    await gone.unsubscribe()
    statistics = bus.statistics()

    group = statistics.groups["g"]
    assert (group.queued, group.acknowledged, group.dead, group.lag, group.members) == (10, 5, 5, 0, 1)
    assert (group.delivered, group.retried) == (5 + 5 * 3, 5 * 2)
    assert (statistics.total.queued, statistics.total.acknowledged) == (20, 15)
    assert (statistics.published, statistics.dead_letters) == (10, 5)
