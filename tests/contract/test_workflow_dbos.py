"""What the dbos driver promises beyond the suite of all engines (`test_workflow_engines.py`), on both databases."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from pydantic import JsonValue
from sqlalchemy.exc import DBAPIError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError, WorkflowExecutionError
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    RunFilter,
    Signal,
    StepOutcome,
    position_of,
)
from omnibase_spi.engine_dbos import DbosDriver
from omnibase_spi.engine_dbos_link import QueueLimits
from omnibase_spi.events_memory import MemoryEventBus
from tests.support.workflow_runs import Gate, bundle_named, done, giving, interpreter, request

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
        lease_ttl_ms=2_000,
        schema=f"onex_{uuid4().hex[:8]}",
    )
    made = Stage(url, driver, bus, cases)
    yield made
    await driver.aclose()
    await bus.aclose()


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


async def test_a_run_is_let_go_of_when_a_parent_elsewhere_has_given_it_up(stage: Stage) -> None:
    """Its worker hears of it from the database, and the row changes only once the step in flight has ended."""
    reached, tidied = asyncio.Event(), asyncio.Event()

    async def forever() -> StepOutcome:
        reached.set()
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            tidied.set()
            raise
        return StepOutcome(EnumStepStatus.COMPLETED)

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return (await context.step(position_of(0), "hangs", forever)).value

    asked = request(stage.case(body))
    store = stage.driver._store
    await stage.driver.start(asked)
    await asyncio.wait_for(reached.wait(), 5)

    seen = [await store.do(store.tables.want_end, asked.workflow_id)]
    async with asyncio.timeout(10):
        while seen[-1]:
            await asyncio.sleep(0.02)
            seen.append(await store.do(store.tables.want_end, asked.workflow_id))
    let_go = tidied.is_set()
    await stage.driver.cancel([asked.workflow_id])

    assert seen[0] == [asked.workflow_id]
    assert let_go
    assert (await stage.driver.query(asked.workflow_id)).status is EnumRunStatus.CANCELLED


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


async def test_a_run_whose_start_was_lost_is_started_again(stage: Stage) -> None:
    """What was taken from the queue, and then could not be read, is queued again after a while."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return "ran"

    asked = request(stage.case(body), not_before=datetime.now(UTC) + timedelta(hours=1))
    await stage.driver.start(asked)
    runner, store = stage.driver._runner, stage.driver._store
    assert runner is not None

    store.tables.change(
        "UPDATE {s}workflow_status SET status = 'PENDING', executor_id = :me, owner_xid = 'lost' "
        "WHERE workflow_uuid = :id",
        me=runner.lease.executor_id,
        id=asked.workflow_id,
    )

    assert (await stage.driver.wait(asked.workflow_id, SOON)).output == "ran"


async def test_a_signal_that_cannot_be_recorded_is_no_signal_that_did_not_come(stage: Stage) -> None:
    """The run fails with the reason; it is not told that the time was up."""

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        await context.receive(position_of(0), "paid", datetime.now(UTC) + SOON)
        return "went on"

    asked = request(stage.case(body))
    tables = stage.driver._store.tables
    tables.change(
        "INSERT INTO {s}onex_signals (workflow_id, topic, payload) VALUES (:id, 'paid', 'Infinity')",
        id=asked.workflow_id,
    )

    await stage.driver.start(asked)
    ended = await stage.driver.wait(asked.workflow_id, SOON)

    assert ended.status is EnumRunStatus.FAILED
    assert ended.error is not None
    assert ended.error.code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_a_mistake_in_a_statement_is_no_database_that_is_away(stage: Stage) -> None:
    """It is raised as it is, so that nobody waits for the database to come back."""
    store = stage.driver._store

    with pytest.raises(DBAPIError):
        await store.do(store.tables.rows, "SELECT nothing FROM nowhere")
