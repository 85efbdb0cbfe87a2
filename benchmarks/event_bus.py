"""Events per second of the memory bus on one core, each acknowledged, and the share of each part.

`python -m benchmarks.event_bus` prints CPU time (best of some rounds, garbage collector on). A row is a way of using
the bus: publishing envelopes that are there or models, with keys, to several groups and members, and with handlers that
fail a tenth of the time. Every run counts what was lost and what was handled twice.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_spi.events_memory import MemoryEventBus

EVENTS = 50_000
ROUNDS = 3
KEYS = 100

Event = ModelEventEnvelope[object]


class OrderPlaced(BaseModel):
    """What is published."""

    number: int


@dataclass(frozen=True, slots=True)
class Case:
    """A way of using the bus."""

    name: str
    models: bool = False
    keys: bool = False
    groups: int = 1
    members: int = 1
    failing: float = 0.0
    plain: bool = False
    one_by_one: bool = False


CASES = (
    Case("envelopes"),
    Case("envelopes, plain function", plain=True),
    Case("envelopes, 100 keys", keys=True),
    Case("models", models=True),
    Case("models, 100 keys", models=True, keys=True),
    Case("models, 100 keys, 3 members", models=True, keys=True, members=3),
    Case("models, 100 keys, 3 groups", models=True, keys=True, groups=3),
    Case("models, 100 keys, 10 % fail", models=True, keys=True, failing=0.1),
    Case("models, each awaited alone", models=True, one_by_one=True),
)


async def run(case: Case) -> tuple[float, int, int]:
    """(CPU seconds, events lost, effects doubled)."""
    chance = random.Random(7)
    bus = MemoryEventBus(max_attempts=20, base_delay_s=0.0005, max_delay_s=0.001)
    effects = [Counter[int]() for _ in range(case.groups)]
    for number, counted in enumerate(effects):
        for _ in range(case.members):
            bus.subscribe("OrderPlaced", handler(case, counted, chance), f"g{number}")
    models = [OrderPlaced(number=number) for number in range(EVENTS)]
    events = models if case.models else [ModelEventEnvelope.of(model) for model in models]
    keys = [f"k{number % KEYS}" if case.keys else None for number in range(EVENTS)]

    started = time.process_time()
    for event, key in zip(events, keys, strict=True):
        await bus.publish(event, key=key)
        if case.one_by_one:
            await bus.drain()
    await bus.drain()
    seconds = time.process_time() - started

    lost = sum(EVENTS - len(counted) for counted in effects)
    doubled = sum(counted.total() - len(counted) for counted in effects)
    if bus.statistics().total.acknowledged != EVENTS * case.groups:
        message = f"{case.name}: not everything was acknowledged"
        raise AssertionError(message)
    await bus.aclose()
    return seconds, lost, doubled


def handler(case: Case, counted: Counter[int], chance: random.Random) -> Callable[[Event], Awaitable[None] | None]:
    """The handler of a case; it fails before it has its effect."""

    def plain(event: Event) -> None:
        if case.failing and chance.random() < case.failing:
            message = "one in ten"
            raise ConnectionError(message)
        number = getattr(event.payload, "number", -1)
        counted[number] += 1

    async def coroutine(event: Event) -> None:
        plain(event)

    return plain if case.plain else coroutine


def main() -> None:
    """Print the table."""
    print(f"{'':32}{'events/s':>10}{'us/event':>10}{'lost':>6}{'doubled':>9}")
    for case in CASES:
        found = [asyncio.run(run(case)) for _ in range(ROUNDS)]
        seconds = min(each[0] for each in found)
        lost, doubled = sum(each[1] for each in found), sum(each[2] for each in found)
        rate = f"{EVENTS / seconds:,.0f}"
        print(f"{case.name:32}{rate:>10}{seconds / EVENTS * 1e6:>10.1f}{lost:>6}{doubled:>9}")


if __name__ == "__main__":
    main()
