"""The other workflows of the example, each against a world of its own; what is told was counted there."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from examples.workflows.desk import FILES, bundle_of, container_for, damage, edition_in, make_tables, write_sources
from examples.workflows.world import UNSHIPPABLE, World
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import (
    EngineDriver,
    RunView,
    Schedule,
    Signal,
    StartRequest,
)
from omnibase_core.utils.workflow_bundle import load_bundle
from omnibase_core.utils.workflow_plan import WorkflowScope
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.workflow_starts import EventStarts, run_id_of

_LIMIT = timedelta(seconds=30)
Engines = Callable[[ModelONEXContainer], AbstractAsyncContextManager[EngineDriver]]


@asynccontextmanager
async def in_memory(container: ModelONEXContainer) -> AsyncIterator[EngineDriver]:
    """The engine of the container, which is the one in memory; it ends with the container."""
    yield cast("EngineDriver", container.get_service("EngineDriver"))  # its key


@asynccontextmanager
async def _bench(
    directory: Path, world_url: str, engines: Engines
) -> AsyncIterator[tuple[ModelONEXContainer, EngineDriver]]:
    async with container_for(directory, world_url) as container, engines(container) as engine:
        yield container, engine


class Night(NamedTuple):
    """One night. editions: of each file, as it then lies in the backup. left: how many other files lie there."""

    status: str
    editions: tuple[str, ...]
    left: int
    said: tuple[str, ...]


async def nights(directory: Path, *, damaged: str = "orders.db", engines: Engines = in_memory) -> list[Night]:
    """Two nights of the schedule; in the second one of the files is not what its sum says."""
    found = []
    async with World().running() as world, _bench(directory, world.url, engines) as (_, engine):
        bundle = bundle_of("nightly")
        plan = load_bundle(bundle).plan.schedules[0]
        given = plan.make_input(WorkflowScope(None, {}, {}))
        await engine.put_schedule(Schedule("nightly", plan.cron, bundle, plan.timezone, given))
        for edition in (1, 2):
            write_sources(directory, edition)
            if edition == 2:
                damage(directory, damaged)
            before = len(world.texts())
            run = await engine.trigger_schedule("nightly")
            view = await engine.wait(run.workflow_id, _LIMIT)
            lying = {path.name for path in (directory / "backup").iterdir()}
            editions = tuple(edition_in(directory, name) for name in FILES)
            said = tuple(world.texts()[before:])
            found.append(Night(view.status.value, editions, len(lying - set(FILES)), said))
    return found


class Decided(NamedTuple):
    """An order, how it ended, the state of its row, and what the bank did."""

    order: str
    status: str
    row: str
    payments: int
    refunds: int
    undone: tuple[str, ...]


async def orders(directory: Path, engines: Engines = in_memory) -> list[Decided]:
    """Orders that do not go by themselves: one that is approved, one that is not, one that no carrier takes."""
    found = []
    async with World().running() as world, _bench(directory, world.url, engines) as (container, engine):
        await make_tables(container)
        bundle = bundle_of("order")
        for order, answer in (("o-43", True), ("o-47", False), (UNSHIPPABLE, None)):
            paid, back = len(world.kept["payments"]), len(world.kept["refunds"])
            await engine.start(StartRequest(order, bundle, {"order": order}))
            if answer is not None:
                await engine.signal(order, Signal("approve", {"approved": answer}, sender="ann"))
            view = await engine.wait(order, _LIMIT)
            bank = len(world.kept["payments"]) - paid, len(world.kept["refunds"]) - back
            found.append(Decided(order, view.status.value, _row(directory, order), *bank, _undone(view)))
    return found


def _row(directory: Path, order: str) -> str:
    with closing(sqlite3.connect(directory / "shop.db")) as database:
        states = [state for (state,) in database.execute("SELECT state FROM orders WHERE order_id = ?", (order,))]
    return ", ".join(states)


def _undone(view: RunView) -> tuple[str, ...]:
    document = view.output if isinstance(view.output, dict) else {}
    entries = document.get("compensations")
    return tuple(str(one["step_id"]) for one in entries if isinstance(one, dict)) if isinstance(entries, list) else ()


class Heard(NamedTuple):
    """What came of the events: labels that were printed, addresses that the index was told."""

    status: str
    events: int
    labels: int
    addresses: tuple[str, ...]


async def events(directory: Path, order: str = "o-5", engines: Engines = in_memory) -> Heard:
    """Events start a run, and then move it: two are joined, a burst of others is awaited."""
    async with World().running() as world, _bench(directory, world.url, engines) as (container, engine):
        bus = cast("MemoryEventBus", container.get_service("ProtocolEventBus"))  # that of a container by default
        starts = EventStarts(engine, bus)
        starts.listen(bundle_of("events"))
        placed = _event("order.placed", order)
        await bus.publish(placed)
        run = run_id_of("parcel", placed.envelope_id)
        await _until_somebody_hears(bus, "goods.picked", "payment.received", "address.changed")
        told = [
            _event("goods.picked", order, shelf="s-9"),
            _event("payment.received", "o-6"),
            *(_event("address.changed", order, address=f"{number} High Street") for number in (1, 2, 3)),
            _event("payment.received", order),
        ]
        for each in told:
            await bus.publish(each)
        view = await engine.wait(run, _LIMIT)
        await starts.aclose()
        return Heard(view.status.value, len(told) + 1, len(world.kept["labels"]), tuple(world.texts("index")))


def _event(event_type: str, order: str, **more: JsonValue) -> ModelEventEnvelope[object]:
    return ModelEventEnvelope(event_type=event_type, payload={"order": order, **more})


async def _until_somebody_hears(bus: MemoryEventBus, *event_types: str) -> None:
    """An event is for a run from the moment at which the run first waits for its type."""
    while not all(bus.wants(name) for name in event_types):  # noqa: ASYNC110  # a bus does not tell who came
        await asyncio.sleep(0.01)


class Streamed(NamedTuple):
    """What came of the readings. left_out: those that cannot be right. in_order: whether the others are."""

    status: str
    readings: int
    left_out: int
    in_order: bool
    seconds: float


def readings_of(count: int) -> list[JsonValue]:
    """Readings of thermometers; each hundredth cannot be right."""
    return [{"sensor": f" s-{at} ", "celsius": 400 if at % 100 == 99 else at % 50 - 10} for at in range(count)]


async def readings(directory: Path, count: int = 10_000, engines: Engines = in_memory) -> Streamed:
    """All readings through the five steps."""
    async with _bench(directory, "", engines) as (_, engine):
        began = time.perf_counter()
        await engine.start(StartRequest("readings", bundle_of("readings"), {"readings": readings_of(count)}))
        view = await engine.wait("readings", _LIMIT)
        seconds = time.perf_counter() - began
    return streamed(view, count, seconds)


def streamed(view: RunView, count: int, seconds: float) -> Streamed:
    """What a run's document says of its readings."""
    document = cast("dict[str, JsonValue]", view.output)  # of a run that has ended
    lines = cast("list[str | None]", cast("dict[str, JsonValue]", document["output"])["line"])  # of the last step
    good = [line.split(" ", 1)[0] for line in lines if line is not None]
    expected = [f"s-{at}" for at in range(count) if at % 100 != 99]
    return Streamed(view.status.value, len(lines), lines.count(None), good == expected, seconds)
