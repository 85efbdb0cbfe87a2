"""Order per key, groups and repetition of the memory bus, for arbitrary mixtures of keys, failures and members."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import run_virtual

MAX_ATTEMPTS = 3

Event = ModelEventEnvelope[object]


@dataclass(frozen=True)
class Sent:
    """One event: its key, how often its handlers fail first, and how many steps they take."""

    key: str | None
    failures: int
    steps: int
    topic: str
    twice: bool


@dataclass
class Log:
    """What one group saw."""

    handled: list[int] = field(default_factory=list)
    calls: Counter[int] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    owners: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    overlaps: int = 0


events = st.lists(
    st.builds(
        Sent,
        key=st.sampled_from([None, "a", "b", "c"]),
        failures=st.sampled_from([0, 0, 0, 1, 2, 3]),
        steps=st.integers(0, 3),
        topic=st.sampled_from(["T", "other"]),
        twice=st.booleans(),
    ),
    max_size=30,
)
groups = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3)
"""For each group, the concurrency of each of its members."""


@settings(max_examples=150, deadline=None)
@given(events=events, groups=groups, buffer=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_group_handles_every_event_once_and_in_the_order_of_its_key(
    events: list[Sent], groups: list[list[int]], buffer: int, seed: int
) -> None:
    """Or gives it up after exactly the allowed attempts; two events of a key never run at once in a group."""
    logs, bus = run_virtual(_run(events, groups, buffer, seed))

    expected = [at for at, event in enumerate(events) if event.failures < MAX_ATTEMPTS]
    for log in logs:
        assert sorted(log.handled) == expected
        assert log.overlaps == 0
        assert log.calls == {at: min(event.failures + 1, MAX_ATTEMPTS) for at, event in enumerate(events)}
        for key in ("a", "b", "c"):
            of_key = [at for at in expected if events[at].key == key]
            assert [at for at in log.handled if events[at].key == key] == of_key
            assert len(log.owners[key]) <= 1
    statistics = bus.statistics()
    for name, numbers in statistics.groups.items():
        assert numbers.queued == len(events), name
        assert numbers.acknowledged == len(expected)
        assert numbers.dead == len(events) - len(expected)
        assert numbers.duplicates == sum(event.twice for event in events)
        assert numbers.queued == numbers.acknowledged + numbers.dead + numbers.dropped + numbers.lag
    assert statistics.dead_letters == sum(numbers.dead for numbers in statistics.groups.values())


async def _run(events: list[Sent], groups: list[list[int]], buffer: int, seed: int) -> tuple[list[Log], MemoryEventBus]:
    jitter = random.Random(seed).random
    bus = MemoryEventBus(buffer=buffer, max_attempts=MAX_ATTEMPTS, jitter=jitter)
    logs = [Log() for _ in groups]
    for number, (log, members) in enumerate(zip(logs, groups, strict=True)):
        for member, concurrency in enumerate(members):
            bus.subscribe("T", _handler(log, events, member), f"g{number}", concurrency=concurrency)
    for at, event in enumerate(events):
        envelope: Event = ModelEventEnvelope[object](event_type="T", payload=at)
        for _ in range(1 + event.twice):
            await bus.publish(envelope, topic=event.topic, key=event.key)
    assert await bus.drain(3600)
    assert await bus.aclose() == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return logs, bus


def _handler(log: Log, events: list[Sent], member: int) -> Callable[[Event], Awaitable[None]]:
    async def handler(envelope: Event) -> None:
        at = int(str(envelope.payload))
        event = events[at]
        log.calls[at] += 1
        if event.key is not None:
            log.owners[event.key].add(member)
            log.running[event.key] += 1
            log.overlaps += log.running[event.key] > 1
        try:
            for _ in range(event.steps):
                await asyncio.sleep(0.01)
            if log.calls[at] <= event.failures:
                message = "on purpose"
                raise OSError(message)
            log.handled.append(at)
        finally:
            if event.key is not None:
                log.running[event.key] -= 1

    return handler


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["publish", "join", "leave", "wait"]), st.integers(0, 3), st.sampled_from([None, "a", "b"])
        ),
        max_size=40,
    )
)
def test_members_may_come_and_go(steps: list[tuple[str, int, str | None]]) -> None:
    """As long as one member stays nothing is lost, doubled or out of order."""

    async def run() -> None:
        bus = MemoryEventBus(buffer=1_000)
        handled: list[tuple[int, str | None]] = []
        sent: list[tuple[int, str | None]] = []

        async def handler(event: Event) -> None:
            await asyncio.sleep(0.01)
            at = int(str(event.payload))
            handled.append(sent[at])

        bus.subscribe("T", handler, "g")
        others = []
        for what, number, key in steps:
            if what == "publish":
                sent.append((len(sent), key))
                await bus.publish(ModelEventEnvelope[object](event_type="T", payload=len(sent) - 1), key=key)
            elif what == "join":
                others.append(bus.subscribe("T", handler, "g", concurrency=number + 1))
            elif what == "leave" and others:
                await others.pop(number % len(others)).unsubscribe()
            elif what == "wait":
                await asyncio.sleep(0.005 * number)
        assert await bus.drain(3600)

        assert sorted(handled) == sent
        for key in ("a", "b"):
            assert [each for each in handled if each[1] == key] == [each for each in sent if each[1] == key]

    run_virtual(run())
