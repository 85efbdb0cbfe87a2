"""The dbos driver, on SQLite and PostgreSQL, with runs that need no interpreter."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError, WorkflowExecutionError
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    EngineDriver,
    RunFilter,
    Schedule,
    Signal,
    StepOutcome,
    event_topic,
    position_of,
)
from omnibase_spi.engine_dbos import DbosDriver
from omnibase_spi.engine_dbos_link import QueueLimits
from omnibase_spi.events_memory import MemoryEventBus
from tests.support.databases import until
from tests.support.workflow_runs import BUNDLE, Gate, bundle_named, done, giving, interpreter, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = timedelta(seconds=15)


@dataclass
class Stage:
    """A driver with the cases that the tests put in, and what the steps of this process did."""

    url: str
    driver: DbosDriver
    bus: MemoryEventBus
    cases: dict[str, object] = field(default_factory=dict)

    def case(self, body: object) -> str:
        name = f"case_{uuid4().hex[:10]}"
        self.cases[name] = body
        return name


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=("sqlite", "postgresql"))
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('engine')}/runs.db"
    else:
        url = request.getfixturevalue("postgres_backend").url
    cases: dict[str, object] = {}
    bus = MemoryEventBus()
    driver = await DbosDriver.create(
        url,
        interpreter(cases),  # type: ignore[arg-type]  # cases are put in by the tests
        queues=[QueueLimits("narrow", concurrency=1), QueueLimits("slow", rate_limit=1, rate_period_s=0.5)],
        bus=bus,
        schema=f"onex_{uuid4().hex[:8]}",
    )
    made = Stage(url, driver, bus, cases)
    yield made
    await driver.aclose()
    await bus.aclose()


async def test_a_driver_is_an_engine(stage: Stage) -> None:
    """The driver has every operation of the seam."""
    assert isinstance(stage.driver, EngineDriver)


async def test_runs_end_with_their_document(stage: Stage) -> None:
    """What a run returns is its output, and what its steps gave is its journal."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return [await done(context, index, index * 2) for index in range(3)]

    asked = request(stage.case(body), attributes={"customer": "ada"})

    await stage.driver.start(asked)
    view = await stage.driver.wait(asked.workflow_id, SOON)

    assert (view.status, view.output, view.error) == (EnumRunStatus.COMPLETED, [0, 2, 4], None)
    assert (view.name, view.version, view.attributes) == ("demo", "1.0.0", {"customer": "ada"})
    assert [(step.name, step.outcome.value) for step in await stage.driver.steps(asked.workflow_id)] == [
        ("step_0", 0),
        ("step_1", 2),
        ("step_2", 4),
    ]
    assert await stage.driver.bundle(asked.workflow_id) == BUNDLE


async def test_failed_runs_tell_kind_code_and_document(stage: Stage) -> None:
    """A run that raises is failed, with the error as data and the final document."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        raise WorkflowExecutionError("step b: no", EnumCoreErrorCode.RATE_LIMITED, {"document": {"steps": [1]}})

    asked = request(stage.case(body))

    await stage.driver.start(asked)
    view = await stage.driver.wait(asked.workflow_id, SOON)

    assert view.status is EnumRunStatus.FAILED
    assert view.error is not None
    assert (view.error.code, view.error.kind, view.error.message) == (
        EnumCoreErrorCode.RATE_LIMITED,
        "WorkflowExecutionError",
        "step b: no",
    )
    assert view.output == {"steps": [1]}


async def test_steps_never_raise(stage: Stage) -> None:
    """What a step raises, gives too late, or gives that is no JSON becomes its outcome."""

    async def breaks() -> StepOutcome:
        message = "boom"
        raise ValueError(message)

    async def sleeps() -> StepOutcome:
        await asyncio.sleep(60)
        raise AssertionError

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        first = await context.step(position_of(0), "breaks", breaks)
        second = await context.step(position_of(1), "late", sleeps, timeout_s=0.05)
        third = await context.step(position_of(2), "no_json", giving("\ud800"))
        return [outcome.error.code.value for outcome in (first, second, third) if outcome.error is not None]

    asked = request(stage.case(body))

    await stage.driver.start(asked)

    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == [
        "INTERNAL_ERROR",
        "TIMEOUT",
        "VALIDATION_ERROR",
    ]


async def test_the_same_id_is_the_same_run(stage: Stage) -> None:
    """Asking again with the same id and input is the same run; another input is CONFLICT."""
    calls: list[JsonValue] = []

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        calls.append(data)
        return data

    case = stage.case(body)
    asked = request(case, 1)

    await stage.driver.start(asked)
    await stage.driver.wait(asked.workflow_id, SOON)
    again = await stage.driver.start(asked)
    with pytest.raises(ModelOnexError, match="another input") as refused:
        await stage.driver.start(request(case, 2, workflow_id=asked.workflow_id))

    assert again.status is EnumRunStatus.COMPLETED
    assert refused.value.error_code is EnumCoreErrorCode.CONFLICT
    assert calls == [1]


async def test_deduplication_keys_are_free_after_the_end(stage: Stage) -> None:
    """While a run with a deduplication key has not ended another one is CONFLICT."""
    gate = Gate()

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return (await context.step(position_of(0), "gate", gate)).value

    case = stage.case(body)
    first = request(case, deduplication_key="only-one")

    await stage.driver.start(first)
    with pytest.raises(ModelOnexError, match="deduplication key 'only-one'"):
        await stage.driver.start(request(case, deduplication_key="only-one"))
    gate.opened.set()
    await stage.driver.wait(first.workflow_id, SOON)
    second = await stage.driver.start(request(case, deduplication_key="only-one"))

    assert (await stage.driver.wait(second.workflow_id, SOON)).status is EnumRunStatus.COMPLETED


async def test_signals_are_given_once_in_order(stage: Stage) -> None:
    """Signals of a topic come in the order of their sending, one with a key once, and not to a run that ended."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        got = [await context.receive(position_of(0, 2 + number), "news", None) for number in range(3)]
        return [signal.payload for signal in got if signal is not None]

    asked = request(stage.case(body))
    await stage.driver.start(asked)

    await stage.driver.signal(asked.workflow_id, Signal("news", 1, "k"))
    await stage.driver.signal(asked.workflow_id, Signal("news", 1, "k"))
    await stage.driver.signal(asked.workflow_id, Signal("other", 9))
    await stage.driver.signal(asked.workflow_id, Signal("news", 2))
    await stage.driver.signal(asked.workflow_id, Signal("news", 3))

    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == [1, 2, 3]
    with pytest.raises(ModelOnexError, match="it is completed") as refused:
        await stage.driver.signal(asked.workflow_id, Signal("news", 4))
    assert refused.value.error_code is EnumCoreErrorCode.CONFLICT


async def test_waits_end_at_their_deadline(stage: Stage) -> None:
    """A signal that does not come is None after the deadline; a timer ends when it is due; both are recorded."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        now = await context.now(position_of(-1))
        none = await context.receive(position_of(0, 1), "never", now + timedelta(milliseconds=50))
        await context.sleep_until(position_of(1, 1), now + timedelta(milliseconds=100))
        return [none is None, (datetime.now(UTC) - now).total_seconds() >= 0.1]

    asked = request(stage.case(body))

    await stage.driver.start(asked)

    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == [True, True]


async def test_events_of_the_bus_reach_a_run(stage: Stage) -> None:
    """A run that waits for an event gets those of its types from the bus, each once."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        topic = event_topic("paid", ["PaidEvent"])
        got = await context.receive(position_of(0, 1), topic, None)
        assert got is not None
        assert isinstance(got.payload, dict)
        await context.emit("SeenEvent", got.payload["payload"], context.new_id("seen"))
        return [got.payload["type"], got.payload["key"], got.payload["payload"]]

    seen: list[object] = []
    watching = stage.bus.subscribe("SeenEvent", lambda event: seen.append(event.payload))
    await watching.ready()
    asked = request(stage.case(body))
    await stage.driver.start(asked)
    event = ModelEventEnvelope[JsonValue](event_type="PaidEvent", payload={"order": 7}, headers={"partitionkey": "7"})

    async def has_it() -> bool:
        await stage.bus.publish(event)
        return (await stage.driver.query(asked.workflow_id)).status is EnumRunStatus.COMPLETED

    await until(has_it, "the event in the run")

    view = await stage.driver.query(asked.workflow_id)
    assert view.output == ["PaidEvent", "7", {"order": 7}]
    assert seen == [{"order": 7}]
    await watching.unsubscribe()


async def test_cancelled_runs_stop_at_once_with_their_children(stage: Stage) -> None:
    """Cancelling interrupts the step in flight and cancels the children, whose parent it is."""
    gate = Gate()

    async def leaf(context: DurableContext, data: JsonValue) -> JsonValue:
        return (await context.step(position_of(0), "gate", gate)).value

    leaf_case = stage.case(leaf)

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        asked = request(leaf_case, workflow_id=f"{context.workflow_id}/leaf", parent_id=context.workflow_id)
        return (await context.child(position_of(0), "leaf", asked)).status.value

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    await asyncio.wait_for(gate.reached.wait(), 5)

    cancelled = await stage.driver.cancel([asked.workflow_id])

    assert cancelled == 2
    assert {view.status for view in await stage.driver.list(RunFilter(parent_id=asked.workflow_id))} == {
        EnumRunStatus.CANCELLED
    }
    assert (await stage.driver.wait(asked.workflow_id, SOON)).status is EnumRunStatus.CANCELLED
    assert await stage.driver.cancel([asked.workflow_id]) == 0


async def test_children_are_waited_for(stage: Stage) -> None:
    """The output of a child is the outcome of the step that started it."""

    async def leaf(context: DurableContext, data: JsonValue) -> JsonValue:
        return [data, data]

    leaf_case = stage.case(leaf)

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        asked = request(leaf_case, 5, workflow_id=f"{context.workflow_id}/leaf", parent_id=context.workflow_id)
        return (await context.child(position_of(0), "leaf", asked)).value

    asked = request(stage.case(body))

    await stage.driver.start(asked)

    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == [5, 5]


async def test_paused_runs_go_on_where_they_were(stage: Stage) -> None:
    """A paused run ends the step in flight, records it, and goes on after it when it is resumed."""
    gate, calls = Gate(), list[int]()

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        first = await context.step(position_of(0), "gate", gate)
        calls.append(1)
        return [first.value, await done(context, 1, "end")]

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    await asyncio.wait_for(gate.reached.wait(), 5)

    pausing = asyncio.create_task(stage.driver.pause(asked.workflow_id))
    await asyncio.sleep(0.1)
    gate.opened.set()
    await pausing
    paused = await stage.driver.query(asked.workflow_id)
    steps = [step.name for step in await stage.driver.steps(asked.workflow_id)]
    await stage.driver.resume(asked.workflow_id)

    assert (paused.status, steps) == (EnumRunStatus.PAUSED, ["gate"])
    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == ["through", "end"]


async def test_waiting_runs_are_paused_at_once(stage: Stage) -> None:
    """A run that waits for a signal needs none to be paused, and has not lost its place when it is resumed."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        got = await context.receive(position_of(0, 1), "go", None)
        return got.payload if got is not None else None

    asked = request(stage.case(body))
    await stage.driver.start(asked)

    await stage.driver.pause(asked.workflow_id)
    paused = await stage.driver.query(asked.workflow_id)
    await stage.driver.signal(asked.workflow_id, Signal("go", "now"))
    await stage.driver.resume(asked.workflow_id)

    assert paused.status is EnumRunStatus.PAUSED
    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == "now"


async def test_failed_runs_resume_at_the_failed_step(stage: Stage) -> None:
    """Resuming a failed run repeats what failed and nothing that was done."""
    calls: list[str] = []

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        async def counted(name: str, status: EnumStepStatus) -> StepOutcome:
            calls.append(name)
            return StepOutcome(status, name)

        await context.step(position_of(0), "a", lambda: counted("a", EnumStepStatus.COMPLETED))
        second = EnumStepStatus.COMPLETED if calls.count("b") else EnumStepStatus.FAILED
        outcome = await context.step(position_of(1), "b", lambda: counted("b", second))
        if outcome.status is EnumStepStatus.FAILED:
            message = "b"
            raise WorkflowExecutionError(message)
        return [*calls]

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    failed = await stage.driver.wait(asked.workflow_id, SOON)

    await stage.driver.resume(asked.workflow_id)

    assert failed.status is EnumRunStatus.FAILED
    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == ["a", "b", "b"]


async def test_forks_and_rewinds_repeat_from_a_step(stage: Stage) -> None:
    """A fork has the records before the step; a rewind drops those from it on and is the same run."""
    calls: list[str] = []

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        async def counted(name: str) -> StepOutcome:
            calls.append(f"{context.workflow_id[-4:]}:{name}")
            return StepOutcome(EnumStepStatus.COMPLETED, name)

        for index, name in enumerate("abc"):
            await context.step(position_of(index), name, lambda name=name: counted(name))  # type: ignore[misc]  # bound by default
        return None

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    await stage.driver.wait(asked.workflow_id, SOON)
    calls.clear()

    forked = await stage.driver.fork(asked.workflow_id, "b", "the-fork-" + uuid4().hex[:8] + "fork")
    await stage.driver.wait(forked.workflow_id, SOON)
    await stage.driver.rewind(asked.workflow_id, "c")
    await stage.driver.wait(asked.workflow_id, SOON)

    assert calls == ["fork:b", "fork:c", f"{asked.workflow_id[-4:]}:c"]
    with pytest.raises(ModelOnexError, match="no step 'z' is recorded"):
        await stage.driver.fork(asked.workflow_id, "z")


async def test_continued_runs_start_afresh(stage: Stage) -> None:
    """continue_as_new is the same run with another input and an empty journal."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        assert isinstance(data, int)
        await done(context, 0, data)
        if data:
            await context.continue_as_new({"case": case, "data": data - 1})
        return "end"

    case = stage.case(body)
    asked = request(case, 2)

    await stage.driver.start(asked)
    view = await stage.driver.wait(asked.workflow_id, SOON)

    assert view.output == "end"
    assert [step.outcome.value for step in await stage.driver.steps(asked.workflow_id)] == [0]


async def test_patches_hold_for_runs_that_had_not_come_there(stage: Stage) -> None:
    """A run that has passed the place goes the old way, also when it is replayed."""
    patched = False
    gate = Gate()

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        new = await context.patch(position_of(0, 900), "p") if patched else False
        await done(context, 1)
        await context.step(position_of(2), "gate", gate)
        return new

    case = stage.case(body)
    old = request(case)
    await stage.driver.start(old)
    await asyncio.wait_for(gate.reached.wait(), 5)
    patched = True
    gate.opened.set()
    await stage.driver.wait(old.workflow_id, SOON)
    fresh = request(case)

    await stage.driver.rewind(old.workflow_id, "gate")
    await stage.driver.start(fresh)

    assert (await stage.driver.wait(old.workflow_id, SOON)).output is False
    assert (await stage.driver.wait(fresh.workflow_id, SOON)).output is True


async def test_queues_hold_their_limits_and_priorities(stage: Stage) -> None:
    """A queue of one run at a time serves the smallest priority first."""
    order: list[JsonValue] = []
    gate = Gate()

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        order.append(data)
        if data == 0:
            await context.step(position_of(0), "gate", gate)
        return None

    case = stage.case(body)
    await stage.driver.start(request(case, 0, queue="narrow"))
    await asyncio.wait_for(gate.reached.wait(), 5)
    asked = [request(case, number, queue="narrow", priority=number) for number in (3, 1, 2)]
    for each in asked:
        await stage.driver.start(each)
    gate.opened.set()
    for each in asked:
        await stage.driver.wait(each.workflow_id, SOON)

    assert order == [0, 1, 2, 3]
    with pytest.raises(ModelOnexError, match="unknown queue 'nowhere'"):
        await stage.driver.start(request(case, 0, queue="nowhere"))


async def test_queues_hold_their_rates(stage: Stage) -> None:
    """A queue of one start per half a second needs a second for three."""
    at: list[float] = []

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        at.append(asyncio.get_running_loop().time())
        return None

    case = stage.case(body)
    asked = [request(case, queue="slow") for _ in range(3)]

    for each in asked:
        await stage.driver.start(each)
    for each in asked:
        await stage.driver.wait(each.workflow_id, SOON)

    assert at[-1] - at[0] >= 0.8


async def test_runs_wait_for_their_time(stage: Stage) -> None:
    """A run with `not_before` is scheduled until then."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return datetime.now(UTC).timestamp()

    when = datetime.now(UTC) + timedelta(seconds=1)
    asked = request(stage.case(body), not_before=when)

    view = await stage.driver.start(asked)
    ended = await stage.driver.wait(asked.workflow_id, SOON)

    assert view.status is EnumRunStatus.SCHEDULED
    assert isinstance(ended.output, float)
    assert ended.output >= when.timestamp() - 0.01


async def test_progress_is_seen_from_outside(stage: Stage) -> None:
    """The last progress of a run shows in a query."""
    gate = Gate()

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        context.set_progress({"done": 1})
        context.set_progress({"done": 2})
        await context.step(position_of(0), "gate", gate)
        return None

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    await asyncio.wait_for(gate.reached.wait(), 5)

    async def shows() -> bool:
        return (await stage.driver.query(asked.workflow_id)).progress == {"done": 2}

    await until(shows, "progress")

    gate.opened.set()
    await stage.driver.wait(asked.workflow_id, SOON)


async def test_parallel_branches_replay_in_any_order(stage: Stage) -> None:
    """Branches that overtake each other find their records again, fifty times."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        async def branch(index: int) -> JsonValue:
            await asyncio.sleep(random.random() / 200)
            first = await done(context, index, random.random(), f"first_{index}")
            await asyncio.sleep(random.random() / 200)
            return [first, await done(context, 100 + index, index, f"second_{index}")]

        values = await asyncio.gather(*(branch(index) for index in range(6)))
        await done(context, 200, None, "last")
        return list(values)

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    first = (await stage.driver.wait(asked.workflow_id, SOON)).output

    for _ in range(50):
        await stage.driver.rewind(asked.workflow_id, "last")
        assert (await stage.driver.wait(asked.workflow_id, SOON)).output == first


async def test_runs_are_found_by_what_they_are(stage: Stage) -> None:
    """Runs are listed by name, status, time and attributes, newest first."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        if data == "bad":
            raise WorkflowExecutionError("no")
        return None

    case, name = stage.case(body), f"found_{uuid4().hex[:8]}"
    before = datetime.now(UTC) - timedelta(seconds=1)
    asked = [
        request(case, data, bundle=bundle_named(name), attributes={"n": number, "even": number % 2 == 0})
        for number, data in enumerate(("good", "good", "bad"))
    ]
    for each in asked:
        await stage.driver.start(each)
        await stage.driver.wait(each.workflow_id, SOON)
    ids = [each.workflow_id for each in asked]

    async def found(**conditions: object) -> list[str]:
        which = RunFilter(name=name, **conditions)  # type: ignore[arg-type]  # fields of the filter
        return [view.workflow_id for view in await stage.driver.list(which)]

    assert await found() == ids[::-1]
    assert await found(status=EnumRunStatus.FAILED) == [ids[2]]
    assert await found(attributes={"even": True}) == [ids[2], ids[0]]
    assert await found(attributes={"even": True, "n": 0}) == [ids[0]]
    assert await found(created_before=before) == []
    assert await found(created_after=before, limit=1) == [ids[2]]


async def test_old_runs_are_deleted(stage: Stage) -> None:
    """delete_before forgets runs that ended before, and what belongs to them."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return await done(context, 0, 1)

    asked = request(stage.case(body))
    await stage.driver.start(asked)
    await stage.driver.wait(asked.workflow_id, SOON)

    deleted = await stage.driver.delete_before(datetime.now(UTC) + timedelta(seconds=2))

    assert deleted >= 1
    with pytest.raises(ModelOnexError, match="is unknown here") as unknown:
        await stage.driver.query(asked.workflow_id)
    assert unknown.value.error_code is EnumCoreErrorCode.NOT_FOUND


async def test_schedules_fire_once_each_time(stage: Stage) -> None:
    """A schedule starts a run per time; triggering, pausing, filling up afterwards and deleting are told apart."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return None

    name = f"every-{uuid4().hex[:6]}"
    document: JsonValue = {"case": stage.case(body)}
    schedule = Schedule(name, "*/1 * * * * *", BUNDLE, "Europe/Berlin", document)
    await stage.driver.put_schedule(schedule)

    async def ran_twice() -> bool:
        return len(await stage.driver.list(RunFilter(attributes={"schedule": name}))) >= 2

    await until(ran_twice, "two runs of the schedule", 8)
    paused = Schedule(name, "0 3 * * *", BUNDLE, "Europe/Berlin", document, paused=True)
    await stage.driver.put_schedule(paused)

    triggered = await stage.driver.trigger_schedule(name)
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    filled = await stage.driver.backfill_schedule(name, start, start + timedelta(days=2))
    again = await stage.driver.backfill_schedule(name, start, start + timedelta(days=2))
    known = {found.name: found.paused for found in await stage.driver.schedules()}
    await stage.driver.delete_schedule(name)

    assert triggered.workflow_id.startswith(f"{name}-")
    # the clock goes forward in Berlin on the 29th: three o'clock is an hour earlier in UTC
    assert [view.workflow_id for view in filled] == [f"{name}-2026-03-29T01:00:00Z", f"{name}-2026-03-30T01:00:00Z"]
    assert [view.workflow_id for view in again] == [view.workflow_id for view in filled]
    assert known[name] is True
    with pytest.raises(ModelOnexError, match="is unknown"):
        await stage.driver.trigger_schedule(name)


async def test_bad_schedules_are_refused(stage: Stage) -> None:
    """Fields and zones that cannot be read are told with an example."""
    for cron, zone in (("never", "UTC"), ("0 3 * * *", "Mars/Olympus")):
        with pytest.raises(ModelOnexError, match="cannot be read"):
            await stage.driver.put_schedule(Schedule("bad", cron, BUNDLE, zone))


async def test_waiting_has_an_end(stage: Stage) -> None:
    """Waiting longer than one wants to is TIMEOUT, and the run goes on."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        got = await context.receive(position_of(0, 1), "go", None)
        return got is not None

    asked = request(stage.case(body))
    await stage.driver.start(asked)

    with pytest.raises(ModelOnexError) as late:
        await stage.driver.wait(asked.workflow_id, timedelta(milliseconds=50))
    await stage.driver.signal(asked.workflow_id, Signal("go"))

    assert late.value.error_code is EnumCoreErrorCode.TIMEOUT
    assert (await stage.driver.wait(asked.workflow_id, SOON)).output is True
