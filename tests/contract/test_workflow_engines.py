"""What every workflow engine promises, asked of each; `run` is a plain coroutine function, no interpreter."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError, WorkflowExecutionError
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    RunFilter,
    RunView,
    Schedule,
    Signal,
    StartRequest,
    StepError,
    StepOutcome,
    Work,
    WorkflowBundle,
    event_topic,
    position_of,
)
from omnibase_spi.events_memory import MemoryEventBus
from tests.support.engines import ENGINES, QUEUE, EngineSource, until
from tests.support.workflows import BUNDLE

COMPLETED = EnumStepStatus.COMPLETED
SOON = timedelta(seconds=20)


@pytest.fixture(params=sorted(ENGINES))
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineSource]:
    """A place for runs, of each engine."""
    made = cast("AbstractAsyncContextManager[EngineSource]", ENGINES[str(request.param)](tmp_path, request))
    async with made as opened:
        yield opened


def gives(value: JsonValue, calls: list[JsonValue] | None = None) -> Work:
    """The work of a step that completes with a value and notes that it was done."""

    async def work() -> StepOutcome:
        if calls is not None:
            calls.append(value)
        return StepOutcome(COMPLETED, value)

    return work


def asks(workflow_id: str, input_data: JsonValue = None, **fields: object) -> StartRequest:
    return replace(StartRequest(workflow_id, BUNDLE, input_data), **fields)  # type: ignore[arg-type]  # its fields


class Steps:
    """A run of three steps that notes what is done; `gate`, where given, is waited for in the second."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.calls: list[JsonValue] = []
        self.gate = gate
        self.reached = asyncio.Event()

    async def __call__(self, context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        await context.step(position_of(0), "one", gives(1, self.calls))
        await context.step(position_of(1), "two", self.second)
        last = await context.step(position_of(2), "three", gives(3, self.calls))
        return {"output": [input_data, last.value], "steps": {}}

    async def second(self) -> StepOutcome:
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        self.calls.append(2)
        return StepOutcome(COMPLETED, 2)


async def test_a_run_ends_with_its_document_and_its_records(source: EngineSource) -> None:
    """Start, wait, query, steps."""
    steps = Steps()
    engine = await source.open(steps)

    started = await engine.start(asks("a", {"x": 1}))
    ended = await engine.wait("a", SOON)

    assert started.workflow_id == "a"
    assert ended.status is EnumRunStatus.COMPLETED
    assert ended.output == {"output": [{"x": 1}, 3], "steps": {}}
    assert [(r.position, r.name, r.outcome.value) for r in await engine.steps("a")] == [
        (position_of(0), "one", 1),
        (position_of(1), "two", 2),
        (position_of(2), "three", 3),
    ]
    assert (await engine.query("a")).contract_digest == BUNDLE.digest
    assert await engine.bundle("a") == BUNDLE


async def test_starting_again_is_the_same_run_and_with_another_input_a_conflict(source: EngineSource) -> None:
    """Idempotent by id and input."""
    steps = Steps()
    engine = await source.open(steps)
    await engine.start(asks("a", 1))
    await engine.wait("a", SOON)

    again = await engine.start(asks("a", 1))
    with pytest.raises(ModelOnexError, match="another") as found:
        await engine.start(asks("a", 2))

    assert again.status is EnumRunStatus.COMPLETED
    assert found.value.error_code is EnumCoreErrorCode.CONFLICT
    assert steps.calls == [1, 2, 3]


async def test_a_key_keeps_a_second_run_away_until_the_first_has_ended(source: EngineSource) -> None:
    """Deduplication."""
    gate = asyncio.Event()
    engine = await source.open(Steps(gate))
    await engine.start(asks("a", deduplication_key="k"))

    with pytest.raises(ModelOnexError) as found:
        await engine.start(asks("b", deduplication_key="k"))
    gate.set()
    await engine.wait("a", SOON)
    later = await engine.start(asks("c", deduplication_key="k"))

    assert found.value.error_code is EnumCoreErrorCode.CONFLICT
    assert later.workflow_id == "c"
    await engine.wait("c", SOON)


async def test_a_run_that_goes_on_again_needs_its_key(source: EngineSource) -> None:
    """Resumed or rewound while another one has it, it stays as it is; a paused one keeps it, whatever the queue."""
    gate = asyncio.Event()
    steps = Steps(gate)
    engine = await source.open(steps)
    await engine.start(asks("done", deduplication_key="k"))
    gate.set()
    await engine.wait("done", SOON)
    gate.clear()
    await engine.start(asks("cancelled", deduplication_key="k"))
    await engine.cancel(["cancelled"])
    await engine.wait("cancelled", SOON)
    await engine.start(asks("other", deduplication_key="k", not_before=datetime.now(UTC) + timedelta(days=1)))
    await engine.pause("other")

    for call in (
        lambda: engine.resume("cancelled"),
        lambda: engine.rewind("done", "two"),
        lambda: engine.start(asks("queued", deduplication_key="k", queue=QUEUE)),
    ):
        with pytest.raises(ModelOnexError, match="'other'") as found:
            await call()
        assert found.value.error_code is EnumCoreErrorCode.CONFLICT
    refused = [(await engine.query(name)).status for name in ("cancelled", "done")]
    await engine.cancel(["other"])
    gate.set()
    await engine.resume("cancelled")
    ended = await engine.wait("cancelled", SOON)

    assert refused == [EnumRunStatus.CANCELLED, EnumRunStatus.COMPLETED]
    assert ended.status is EnumRunStatus.COMPLETED


async def refused(call: Awaitable[object]) -> None:
    """What is asked for is VALIDATION_ERROR."""
    with pytest.raises(ModelOnexError) as found:
        await call
    assert found.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


_NO_JSON: list[JsonValue] = [float("inf"), {"a": [float("nan")]}, "\ud800"]


async def test_what_no_database_can_keep_is_refused_at_the_door(source: EngineSource) -> None:
    """Numbers that are not finite, texts that are no Unicode; what is there is still found."""
    engine = await source.open(signalled)
    await engine.start(asks("a", attributes={"n": 1}))

    for value in _NO_JSON:
        await refused(engine.start(asks("b", value)))
        await refused(engine.start(asks("b", attributes={"n": value})))
        await refused(engine.signal("a", Signal("paid", value)))
        await refused(engine.put_schedule(Schedule("s", "* * * * *", BUNDLE, input_data=value)))
        await refused(engine.list(RunFilter(attributes={"n": value})))
    await refused(engine.start(asks("b", attributes={"n": "\0"})))
    await refused(engine.start(asks("\udcff")))
    await refused(engine.start(asks("b", deduplication_key="\0")))
    await refused(engine.signal("a", Signal("paid", key="\udcff")))
    await refused(engine.signal("a", Signal("p\0id")))
    await engine.start(asks("c", "\0", attributes={"n": "\\u0000"}))

    assert [view.workflow_id for view in await engine.list(RunFilter(attributes={"n": 1}))] == ["a"]
    assert [view.workflow_id for view in await engine.list(RunFilter())] == ["c", "a"]


async def test_unknown_runs_and_schedules_are_not_found(source: EngineSource) -> None:
    """NOT_FOUND, not an empty answer."""
    engine = await source.open(Steps())

    for call in (
        lambda: engine.query("nobody"),
        lambda: engine.wait("nobody"),
        lambda: engine.signal("nobody", Signal("t")),
        lambda: engine.cancel(["nobody"]),
        lambda: engine.pause("nobody"),
        lambda: engine.resume("nobody"),
        lambda: engine.fork("nobody", "one"),
        lambda: engine.steps("nobody"),
        lambda: engine.bundle("nobody"),
        lambda: engine.trigger_schedule("nobody"),
        lambda: engine.delete_schedule("nobody"),
    ):
        with pytest.raises(ModelOnexError) as found:
            await call()
        assert found.value.error_code is EnumCoreErrorCode.NOT_FOUND


async def test_a_run_goes_on_where_its_process_died(source: EngineSource) -> None:
    """Finished steps are not repeated, the one under way is."""
    gate = asyncio.Event()
    steps = Steps(gate)
    engine = await source.open(steps)
    await engine.start(asks("a"))
    await steps.reached.wait()

    await source.crash(engine)
    gate.set()
    again = await source.open(steps)
    ended = await again.wait("a", SOON)

    assert ended.status is EnumRunStatus.COMPLETED
    assert steps.calls == [1, 2, 3]


async def test_a_failed_run_tells_its_error_and_its_document(source: EngineSource) -> None:
    """What the interpreter raises."""

    async def run(_context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        raise WorkflowExecutionError("step x failed", EnumCoreErrorCode.TIMEOUT, {"document": {"steps": {"x": 1}}})

    engine = await source.open(run)
    await engine.start(asks("a"))
    ended = await engine.wait("a", SOON)

    assert ended.status is EnumRunStatus.FAILED
    assert ended.error == StepError(EnumCoreErrorCode.TIMEOUT, "WorkflowExecutionError", "step x failed")
    assert ended.output == {"steps": {"x": 1}}


async def test_a_step_that_failed_is_recorded_as_it_failed(source: EngineSource) -> None:
    """Envelopes, whole: no error changes its type on the way."""
    error = StepError(EnumCoreErrorCode.OUTCOME_UNKNOWN, "EffectFailedError", "nobody knows")
    outcome = StepOutcome(EnumStepStatus.UNKNOWN, {"a": [1, None, "ü"]}, error, 3, 1.5, 2.5)

    async def work() -> StepOutcome:
        return outcome

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        first = await context.step(position_of(0), "x", work)
        return first.as_json()

    engine = await source.open(run)
    await engine.start(asks("a"))
    ended = await engine.wait("a", SOON)

    assert ended.output == outcome.as_json()
    assert [record.outcome for record in await engine.steps("a")] == [outcome]


async def test_a_step_that_is_asked_for_twice_is_done_once(source: EngineSource) -> None:
    """Where a record stands it is given, also to the execution that has written it."""
    calls: list[JsonValue] = []

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        for _ in range(3):
            await context.step(position_of(0), "x", gives(7, calls))
        again = await context.step(position_of(0), "x", gives(8, calls))
        return again.value

    engine = await source.open(run)
    await engine.start(asks("a"))
    ended = await engine.wait("a", SOON)

    assert ended.output == 7
    assert calls == [7]


async def test_waiting_ends_with_a_timeout_that_leaves_the_run_alone(source: EngineSource) -> None:
    """TIMEOUT; the run goes on."""
    gate = asyncio.Event()
    engine = await source.open(Steps(gate))
    await engine.start(asks("a"))

    with pytest.raises(ModelOnexError) as found:
        await engine.wait("a", timedelta(seconds=0.2))
    gate.set()

    assert found.value.error_code is EnumCoreErrorCode.TIMEOUT
    assert (await engine.wait("a", SOON)).status is EnumRunStatus.COMPLETED


async def signalled(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
    """A run that takes two signals of a topic."""
    found: list[JsonValue] = []
    for number in range(2):
        signal = await context.receive(position_of(0, number), "paid", None)
        assert signal is not None
        found.append([signal.payload, signal.sender])
    return {"output": found}


async def test_signals_come_once_each_and_in_order(source: EngineSource) -> None:
    """A key makes sending twice the same as once; other topics are not mixed in."""
    engine = await source.open(signalled)
    await engine.start(asks("a"))

    await engine.signal("a", Signal("other", 0))
    await engine.signal("a", Signal("paid", 1, "k", "ann"))
    await engine.signal("a", Signal("paid", 1, "k", "ann"))
    await engine.signal("a", Signal("paid", 2))
    ended = await engine.wait("a", SOON)

    assert ended.output == {"output": [[1, "ann"], [2, None]]}


async def test_a_signal_to_a_run_that_has_ended_is_a_conflict(source: EngineSource) -> None:
    """Nothing waits for it."""
    engine = await source.open(Steps())
    await engine.start(asks("a"))
    await engine.wait("a", SOON)

    with pytest.raises(ModelOnexError) as found:
        await engine.signal("a", Signal("paid"))

    assert found.value.error_code is EnumCoreErrorCode.CONFLICT


async def test_signals_and_deadlines_survive_the_process(source: EngineSource) -> None:
    """What was received before is given again at its position; a deadline that has passed stays passed."""
    seen: list[JsonValue] = []
    late = asyncio.Event()

    def payload(signal: Signal | None) -> JsonValue:
        return None if signal is None else signal.payload

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        began = await context.now(position_of(0))
        first = await context.receive(position_of(0, 2), "t", None)
        second = await context.receive(position_of(0, 3), "t", began + timedelta(seconds=0.1))
        seen.append([payload(first), payload(second)])
        late.set()
        await context.receive(position_of(0, 4), "end", None)
        return began.timestamp()

    engine = await source.open(run)
    await engine.start(asks("a"))
    await engine.signal("a", Signal("t", 1))
    await late.wait()
    late.clear()
    await source.crash(engine)

    again = await source.open(run)
    await late.wait()
    await again.signal("a", Signal("t", 2))
    await again.signal("a", Signal("end"))
    ended = await again.wait("a", SOON)

    assert seen == [[1, None], [1, None]]
    assert ended.status is EnumRunStatus.COMPLETED


async def test_a_timer_waits_for_what_is_left(source: EngineSource) -> None:
    """Taken over, it does not begin anew."""
    began: list[datetime] = []
    slept = asyncio.Event()

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        now = await context.now(position_of(0))
        began.append(now)
        slept.set()
        await context.sleep_until(position_of(0, 2), now + timedelta(seconds=0.6))
        return (datetime.now(UTC) - now).total_seconds()

    engine = await source.open(run)
    await engine.start(asks("a"))
    await slept.wait()
    await source.crash(engine)
    again = await source.open(run)
    ended = await again.wait("a", SOON)

    assert began[0] == began[-1]
    assert len(began) == 2
    assert isinstance(ended.output, float)
    assert ended.output >= 0.55


async def test_a_cancelled_run_ends_with_its_children_and_its_step_is_interrupted(source: EngineSource) -> None:
    """Counted are those that had not ended; a preemptible step does not have to end by itself."""
    reached = asyncio.Event()
    interrupted: list[str] = []

    async def forever() -> StepOutcome:
        reached.set()
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            interrupted.append("child")
            raise
        return StepOutcome(COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "child":
            await context.step(position_of(0), "hangs", forever)
        else:
            await context.child(position_of(0), "c", StartRequest("a.c", BUNDLE, "child", parent_id="a"))
        return None

    engine = await source.open(run)
    await engine.start(asks("a"))
    await asyncio.wait_for(reached.wait(), 10)

    count = await engine.cancel(["a"])
    parent, child = await engine.wait("a", SOON), await engine.wait("a.c", SOON)

    assert count == 2
    assert (parent.status, child.status) == (EnumRunStatus.CANCELLED, EnumRunStatus.CANCELLED)
    assert interrupted == ["child"]
    assert await engine.cancel(["a"]) == 0
    assert child.parent_id == "a"


async def test_a_child_gives_its_outcome_once(source: EngineSource) -> None:
    """Its parent, taken up again, finds the same one."""
    calls: list[JsonValue] = []
    held = asyncio.Event()
    gate = asyncio.Event()

    async def hold() -> StepOutcome:
        held.set()
        await gate.wait()
        return StepOutcome(COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if context.workflow_id == "a.c":
            await context.step(position_of(0), "work", gives(input_data, calls))
            return {"output": input_data}
        child = await context.child(position_of(0), "c", StartRequest("a.c", BUNDLE, 7, parent_id="a"))
        await context.step(position_of(1), "hold", hold)
        return child.value

    engine = await source.open(run)
    await engine.start(asks("a"))
    await asyncio.wait_for(held.wait(), 10)
    await source.crash(engine)
    gate.set()
    again = await source.open(run)
    ended = await again.wait("a", SOON)

    assert ended.output == {"output": 7}
    assert calls == [7]


async def test_a_child_that_fails_is_resumed_as_often_as_its_parent_says(source: EngineSource) -> None:
    """What it has done is not done again; the last failure is its outcome."""
    calls: list[JsonValue] = []
    told: list[tuple[str, int]] = []

    async def shaky() -> StepOutcome:
        calls.append("shaky")
        if calls.count("shaky") < 3:
            return StepOutcome(EnumStepStatus.FAILED, None, StepError(EnumCoreErrorCode.TIMEOUT, "T", "x"))
        return StepOutcome(COMPLETED)

    def again(outcome: StepOutcome, attempt: int) -> float | None:
        told.append((outcome.status.value, attempt))
        return 0.01 if attempt < most else None

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "child":
            await context.step(position_of(0), "one", gives(1, calls))
            if (await context.step(position_of(1), "two", shaky)).status is not COMPLETED:
                raise WorkflowExecutionError("no")
            return "well"
        name = f"{context.workflow_id}.c"
        request = StartRequest(name, BUNDLE, "child", parent_id=context.workflow_id)
        child = await context.child(position_of(0), "c", request, again=again)
        return [child.status.value, child.value, child.attempts]

    engine = await source.open(run)
    most = 3
    await engine.start(asks("a"))
    well = await engine.wait("a", SOON)
    most, done = 2, list(calls)
    calls.clear()
    await engine.start(asks("b"))
    badly = await engine.wait("b", SOON)

    assert well.output == ["completed", "well", 3]
    assert done == [1, "shaky", "shaky", "shaky"]
    assert badly.output == ["failed", None, 2]
    assert calls == [1, "shaky", "shaky"]
    assert told == [("failed", 1), ("failed", 2), ("failed", 1), ("failed", 2)]


async def test_children_end_with_a_parent_that_fails(source: EngineSource) -> None:
    """Also those for which it did not wait."""
    reached = asyncio.Event()

    async def forever() -> StepOutcome:
        reached.set()
        await asyncio.sleep(1e6)
        return StepOutcome(COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "child":
            await context.step(position_of(0), "hangs", forever)
            return None
        await context.child(position_of(0), "c", StartRequest("a.c", BUNDLE, "child", parent_id="a"), wait=False)
        await reached.wait()
        raise WorkflowExecutionError("no")

    engine = await source.open(run)
    await engine.start(asks("a"))

    parent, child = await engine.wait("a", SOON), await engine.wait("a.c", SOON)

    assert (parent.status, child.status) == (EnumRunStatus.FAILED, EnumRunStatus.CANCELLED)


async def test_a_paused_run_stops_behind_its_step_and_goes_on_when_resumed(source: EngineSource) -> None:
    """The step under way comes to its end and is not repeated."""
    gate = asyncio.Event()
    steps = Steps(gate)
    engine = await source.open(steps)
    await engine.start(asks("a"))
    await steps.reached.wait()

    pausing = asyncio.ensure_future(engine.pause("a"))
    await asyncio.sleep(0.05)
    gate.set()
    await pausing
    await until(lambda: engine.query("a"), lambda view: view.status is not EnumRunStatus.RUNNING)
    paused = await engine.query("a")
    before = list(steps.calls)
    await engine.resume("a")
    ended = await engine.wait("a", SOON)

    assert paused.status is EnumRunStatus.PAUSED
    assert before == [1, 2]
    assert steps.calls == [1, 2, 3]
    assert ended.status is EnumRunStatus.COMPLETED


async def test_a_failed_run_is_resumed_without_what_it_has_done(source: EngineSource) -> None:
    """Only the failed step is done again."""
    calls: list[JsonValue] = []
    broken = [True]

    async def shaky() -> StepOutcome:
        calls.append("shaky")
        status = EnumStepStatus.FAILED if broken[0] else COMPLETED
        return StepOutcome(status, None, StepError(EnumCoreErrorCode.TIMEOUT, "T", "x") if broken[0] else None)

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        await context.step(position_of(0), "one", gives(1, calls))
        if (await context.step(position_of(1), "two", shaky)).status is not COMPLETED:
            raise WorkflowExecutionError("no")
        return "done"

    engine = await source.open(run)
    await engine.start(asks("a"))
    failed = await engine.wait("a", SOON)
    broken[0] = False
    await engine.resume("a")
    ended = await engine.wait("a", SOON)

    assert failed.status is EnumRunStatus.FAILED
    assert ended.output == "done"
    assert calls == [1, "shaky", "shaky"]


async def test_what_is_done_anew_is_another_action(source: EngineSource) -> None:
    """After a failure, after it was undone, after a rewind; not when nobody knows what became of it."""
    trouble = [True]
    seen: list[tuple[int, ...]] = []

    def ends(status: EnumStepStatus) -> Work:
        async def work() -> StepOutcome:
            return StepOutcome(status if trouble[0] else COMPLETED)

        return work

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        seen.append(tuple(context.anew(position_of(index)) for index in range(4)))
        await context.step(position_of(0), "good", gives(1))
        await context.step(position_of(1), "undone", gives(2))
        await context.step(position_of(2), "failed", ends(EnumStepStatus.FAILED))
        await context.step(position_of(3), "unknown", ends(EnumStepStatus.UNKNOWN))
        if trouble[0]:
            await context.step(position_of(4), "undo", gives(3))
            undone = [{"step_id": "undone", "by": "undo", "status": "completed"}]
            document = {"steps": {}, "compensations": undone}
            raise WorkflowExecutionError("no", EnumCoreErrorCode.OPERATION_FAILED, {"document": document})
        return "done"

    engine = await source.open(run)
    await engine.start(asks("a"))
    await engine.wait("a", SOON)
    trouble[0] = False
    await engine.resume("a")
    await engine.wait("a", SOON)
    await engine.rewind("a", "failed")
    again = await engine.wait("a", SOON)

    assert again.output == "done"
    assert seen == [(0, 0, 0, 0), (0, 1, 1, 0), (0, 1, 2, 1)]


async def test_a_child_of_a_parent_that_goes_on_is_what_its_parent_needs(source: EngineSource) -> None:
    """Resumed where it failed; another run where the parent was rewound behind it."""
    trouble = [True]
    calls: list[JsonValue] = []

    async def shaky() -> StepOutcome:
        calls.append("shaky")
        return StepOutcome(EnumStepStatus.FAILED if trouble[0] else COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "child":
            await context.step(position_of(0), "one", gives("one", calls))
            if (await context.step(position_of(1), "two", shaky)).status is not COMPLETED:
                raise WorkflowExecutionError("no")
            return context.workflow_id
        child = await context.child(position_of(0), "c", StartRequest("a.c", BUNDLE, "child", parent_id="a"))
        if child.status is not COMPLETED:
            raise WorkflowExecutionError("no")
        return child.value

    engine = await source.open(run)
    await engine.start(asks("a"))
    failed = await engine.wait("a", SOON)
    trouble[0] = False
    await engine.resume("a")
    resumed = await engine.wait("a", SOON)
    await engine.rewind("a", "c")
    rewound = await engine.wait("a", SOON)

    assert failed.status is EnumRunStatus.FAILED
    assert (resumed.output, rewound.output) == ("a.c", "a.c~1")
    assert calls == ["one", "shaky", "shaky", "one", "shaky"]


async def test_a_child_that_is_given_up_has_ended_with_its_children_when_its_outcome_is_there(
    source: EngineSource,
) -> None:
    """Cancelled, with the reason of its parent; it is recorded, and a replay finds it so."""
    reached, interrupted, began = asyncio.Event(), asyncio.Event(), list[str]()
    outcomes: list[tuple[str, str, int, bool]] = []
    held = asyncio.Event()

    async def forever() -> StepOutcome:
        began.append("leaf")
        reached.set()
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            interrupted.set()
            raise
        return StepOutcome(COMPLETED)

    async def hold() -> StepOutcome:
        held.set()
        await asyncio.sleep(1e6)
        return StepOutcome(COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "leaf":
            await context.step(position_of(0), "hangs", forever)
        elif input_data == "child":
            await context.child(position_of(0), "l", StartRequest("a.c.l", BUNDLE, "leaf", parent_id="a.c"))
        else:
            give_up: asyncio.Future[StepError] = asyncio.get_running_loop().create_future()

            async def soon() -> None:
                await reached.wait()
                give_up.set_result(StepError(EnumCoreErrorCode.TIMEOUT, "TimeoutError", "too long"))

            giving_up = asyncio.ensure_future(soon())
            asked = StartRequest("a.c", BUNDLE, "child", parent_id="a")
            ended = await context.child(position_of(0), "c", asked, give_up=give_up)
            await giving_up
            assert ended.error is not None
            outcomes.append((ended.status.value, ended.error.message, ended.attempts, interrupted.is_set()))
            await context.step(position_of(1), "hold", hold)
        return None

    engine = await source.open(run)
    await engine.start(asks("a"))
    await asyncio.wait_for(held.wait(), 10)
    below = [(await engine.query(name)).status for name in ("a.c", "a.c.l")]
    held.clear()
    await source.crash(engine)
    engine = await source.open(run)
    await asyncio.wait_for(held.wait(), 10)

    assert outcomes == [("cancelled", "too long", 1, True)] * 2
    assert below == [EnumRunStatus.CANCELLED] * 2
    assert began == ["leaf"]


async def test_a_child_that_is_given_up_before_it_begins_does_not_begin(source: EngineSource) -> None:
    """Told by its attempts, of which there are none."""

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        give_up: asyncio.Future[StepError] = asyncio.get_running_loop().create_future()
        give_up.set_result(StepError(EnumCoreErrorCode.TIMEOUT, "TimeoutError", "too late"))
        asked = StartRequest("a.c", BUNDLE, "child", parent_id="a")
        ended = await context.child(position_of(0), "c", asked, give_up=give_up)
        return [ended.status.value, ended.attempts]

    engine = await source.open(run)
    await engine.start(asks("a"))
    ended = await engine.wait("a", SOON)

    assert ended.output == ["cancelled", 0]
    assert await engine.list(RunFilter(parent_id="a")) == []


async def test_fork_keeps_the_records_before_a_step_and_leaves_the_run_alone(source: EngineSource) -> None:
    """A new run with a history."""
    steps = Steps()
    engine = await source.open(steps)
    await engine.start(asks("a", 5))
    await engine.wait("a", SOON)

    forked = await engine.fork("a", "two", "b")
    ended = await engine.wait("b", SOON)

    assert forked.workflow_id == "b"
    assert ended.status is EnumRunStatus.COMPLETED
    assert steps.calls == [1, 2, 3, 2, 3]
    with pytest.raises(ModelOnexError) as found:
        await engine.fork("a", "nothing")
    assert found.value.error_code is EnumCoreErrorCode.NOT_FOUND


async def test_rewind_does_the_same_run_again_from_a_step_on(source: EngineSource) -> None:
    """Records from there on are dropped."""
    steps = Steps()
    engine = await source.open(steps)
    await engine.start(asks("a"))
    await engine.wait("a", SOON)

    await engine.rewind("a", "three")
    ended = await engine.wait("a", SOON)

    assert ended.status is EnumRunStatus.COMPLETED
    assert steps.calls == [1, 2, 3, 3]


async def test_rewind_cancels_what_the_run_has_started_behind_the_cut(source: EngineSource) -> None:
    """It is started anew, and nothing is done by two; what was started before the cut goes on."""
    opened = asyncio.Event()
    begun: list[str] = []
    interrupted: list[str] = []

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        async def hang() -> StepOutcome:
            begun.append(context.workflow_id)
            try:
                await opened.wait()
            except asyncio.CancelledError:
                interrupted.append(context.workflow_id)
                raise
            return StepOutcome(COMPLETED, context.workflow_id)

        if input_data == "child":
            return (await context.step(position_of(0), "hangs", hang)).value
        await context.child(position_of(0), "early", StartRequest("a.early", BUNDLE, "child"), wait=False)
        await context.step(position_of(1), "one", gives(1))
        return (await context.child(position_of(2), "c", StartRequest("a.c", BUNDLE, "child"))).value

    async def begun_by(count: int) -> list[str]:
        await until(lambda: engine.query("a"), lambda _: len(begun) >= count)
        return begun

    engine = await source.open(run)
    await engine.start(asks("a"))
    await begun_by(2)
    await asyncio.wait_for(engine.rewind("a", "one"), 10)
    await begun_by(3)
    await until(lambda: engine.query("a.c"), lambda view: view.status is EnumRunStatus.CANCELLED and bool(interrupted))
    opened.set()
    ended = await engine.wait("a", SOON)
    early = await engine.wait("a.early", SOON)

    assert sorted(begun) == ["a.c", "a.c~1", "a.early"]
    assert interrupted == ["a.c"]
    assert ended.output == "a.c~1"
    assert early.status is EnumRunStatus.COMPLETED
    assert early.parent_id == "a"


async def test_ids_are_the_same_in_a_replay_and_differ_between_runs(source: EngineSource) -> None:
    """Made of run and name."""
    seen: list[UUID] = []

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        seen.extend([context.new_id("x"), context.new_id("y")])
        await context.step(position_of(0), "one", gives(1))
        return None

    engine = await source.open(run)
    await engine.start(asks("a"))
    await engine.wait("a", SOON)
    await engine.rewind("a", "one")
    await engine.wait("a", SOON)
    await engine.start(asks("b"))
    await engine.wait("b", SOON)

    assert seen[0:2] == seen[2:4]
    assert len(set(seen)) == 4


async def test_a_queue_serves_its_most_urgent_run_first_and_one_at_a_time(source: EngineSource) -> None:
    """Priority 1 before 100; the limit of the queue holds."""
    order: list[str] = []
    running = 0
    gate = asyncio.Event()

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        async def work() -> StepOutcome:
            nonlocal running
            running += 1
            assert running == 1
            order.append(context.workflow_id)
            await gate.wait()
            running -= 1
            return StepOutcome(COMPLETED)

        await context.step(position_of(0), "one", work)
        return None

    engine = await source.open(run)
    await engine.start(asks("first", queue=QUEUE))
    await until(lambda: engine.query("first"), lambda _view: bool(order))
    await engine.start(asks("slow", queue=QUEUE, priority=200))
    await engine.start(asks("quick", queue=QUEUE, priority=1))
    waiting = await engine.query("quick")
    gate.set()
    for name in ("first", "slow", "quick"):
        await engine.wait(name, SOON)

    assert waiting.status is EnumRunStatus.QUEUED
    assert order == ["first", "quick", "slow"]


async def test_a_run_for_later_begins_then(source: EngineSource) -> None:
    """not_before."""
    engine = await source.open(Steps())
    when = datetime.now(UTC) + timedelta(seconds=0.6)

    early = await engine.start(asks("a", not_before=when))
    ended = await engine.wait("a", SOON)

    assert early.status in {EnumRunStatus.SCHEDULED, EnumRunStatus.QUEUED}
    assert ended.status is EnumRunStatus.COMPLETED
    assert datetime.now(UTC) >= when - timedelta(milliseconds=20)


async def test_a_run_for_later_that_was_paused_still_begins_then(source: EngineSource) -> None:
    """Pausing and resuming it does not begin it."""
    steps = Steps()
    engine = await source.open(steps)
    when = datetime.now(UTC) + timedelta(days=1)
    await engine.start(asks("a", not_before=when))

    await engine.pause("a")
    paused = await engine.query("a")
    await engine.resume("a")
    resumed = await engine.query("a")

    assert paused.status is EnumRunStatus.PAUSED
    assert resumed.status is EnumRunStatus.SCHEDULED
    assert steps.calls == []


async def test_runs_are_found_by_status_time_attribute_and_parent(source: EngineSource) -> None:
    """Newest first, at most so many."""
    engine = await source.open(Steps())
    for number in range(3):
        await engine.start(asks(f"r{number}", attributes={"n": number % 2}))
        await engine.wait(f"r{number}", SOON)

    async def found(**fields: object) -> list[str]:
        which = replace(RunFilter(), **fields)  # type: ignore[arg-type]  # its fields
        return [view.workflow_id for view in await engine.list(which)]

    assert await found() == ["r2", "r1", "r0"]
    assert await found(limit=1) == ["r2"]
    assert await found(attributes={"n": 0}) == ["r2", "r0"]
    assert await found(status=EnumRunStatus.FAILED) == []
    assert await found(parent_id="r0") == []
    assert await found(created_before=datetime.now(UTC) - timedelta(hours=1)) == []


async def test_old_runs_are_deleted(source: EngineSource) -> None:
    """Those that have ended before."""
    engine = await source.open(Steps())
    await engine.start(asks("a"))
    await engine.wait("a", SOON)

    assert await engine.delete_before(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await engine.delete_before(datetime.now(UTC) + timedelta(hours=1)) == 1
    with pytest.raises(ModelOnexError):
        await engine.query("a")


async def test_an_ended_child_is_deleted_with_its_parent_and_not_before(source: EngineSource) -> None:
    """A paused parent goes on and asks for it; one that has ended may be resumed."""
    gate, reached = asyncio.Event(), asyncio.Event()
    calls: list[JsonValue] = []
    broken = [True]

    async def hold() -> StepOutcome:
        reached.set()
        await gate.wait()
        return StepOutcome(COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "child":
            await context.step(position_of(0), "one", gives(1, calls))
            raise WorkflowExecutionError("no")
        await context.child(position_of(0), "c", StartRequest("a.c", BUNDLE, "child", parent_id="a"))
        await context.step(position_of(1), "hold", hold)
        await context.step(position_of(2), "last", gives(None))
        if broken[0]:
            raise WorkflowExecutionError("no")
        return None

    engine = await source.open(run)
    await engine.start(asks("a"))
    await asyncio.wait_for(reached.wait(), 10)
    pausing = asyncio.ensure_future(engine.pause("a"))
    await asyncio.sleep(0.05)
    gate.set()
    await pausing
    await until(lambda: engine.query("a"), lambda view: view.status is EnumRunStatus.PAUSED)
    later = datetime.now(UTC) + timedelta(hours=1)

    of_paused = await engine.delete_before(later)
    between = datetime.now(UTC)
    await asyncio.sleep(1.05)  # SQLite tells ends in whole seconds
    await engine.resume("a")
    await engine.wait("a", SOON)
    of_failed = await engine.delete_before(between)
    broken[0] = False
    await engine.resume("a")
    await engine.wait("a", SOON)

    assert (of_paused, of_failed) == (0, 0)
    assert calls == [1]
    assert await engine.delete_before(later) == 2


async def test_progress_is_seen_while_the_run_goes_on(source: EngineSource) -> None:
    """The last one counts."""
    gate = asyncio.Event()

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        context.set_progress({"done": 1})
        context.set_progress({"done": 2})

        async def work() -> StepOutcome:
            await gate.wait()
            return StepOutcome(COMPLETED)

        await context.step(position_of(0), "one", work)
        return None

    engine = await source.open(run)
    await engine.start(asks("a"))
    await until(lambda: engine.query("a"), lambda view: view.progress == {"done": 2})
    gate.set()
    await engine.wait("a", SOON)


async def test_events_of_the_bus_reach_a_run_that_waits_and_what_it_tells_is_published(source: EngineSource) -> None:
    """By topic of step and types; each event once."""
    bus = MemoryEventBus()
    told: list[object] = []
    bus.subscribe("Told", lambda event: told.append((event.payload, event.envelope_id)))

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        topic = event_topic("s", ["Paid", "Sent"])
        found: list[JsonValue] = []
        for number in range(2):
            signal = await context.receive(position_of(0, number), topic, None)
            assert signal is not None
            found.append(signal.payload)
        await context.emit("Told", {"n": 1}, UUID(int=5))
        return found

    engine = await source.open(run, bus)
    await engine.start(asks("a"))

    async def tell_again() -> RunView:
        """A run may not listen yet; an event that has come to it already is not given to it twice."""
        for number, name in enumerate(("Paid", "Other", "Sent")):
            event: ModelEventEnvelope[object] = ModelEventEnvelope(
                event_type=name, payload={"n": number}, envelope_id=UUID(int=number + 1)
            )
            await bus.publish(event)
        return await engine.query("a")

    await until(tell_again, lambda view: view.status.ended)
    ended = await engine.wait("a", SOON)
    await bus.drain(5)
    await bus.aclose()

    assert isinstance(ended.output, list)
    assert sorted(ended.output, key=str) == [
        {"type": "Paid", "id": str(UUID(int=1)), "key": None, "payload": {"n": 0}},
        {"type": "Sent", "id": str(UUID(int=3)), "key": None, "payload": {"n": 2}},
    ]
    assert told == [({"n": 1}, UUID(int=5))]


async def test_continue_as_new_begins_afresh_under_the_same_name(source: EngineSource) -> None:
    """With an empty history, so steps are done again; ids are others."""
    calls: list[JsonValue] = []
    ids: list[UUID] = []

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        assert isinstance(input_data, int)
        ids.append(context.new_id("x"))
        await context.step(position_of(0), "one", gives(input_data, calls))
        if input_data < 3:
            await context.continue_as_new(input_data + 1)
        return input_data

    engine = await source.open(run)
    await engine.start(asks("a", 1))
    ended = await engine.wait("a", SOON)

    assert ended.output == 3
    assert calls == [1, 2, 3]
    assert len(set(ids)) == 3


async def test_a_patch_is_for_runs_that_had_not_come_there(source: EngineSource) -> None:
    """A run that was beyond goes the old way, in every replay; a new one goes the new way."""
    gate = asyncio.Event()
    seen: list[bool] = []
    reached = asyncio.Event()

    async def hold() -> StepOutcome:
        reached.set()
        await gate.wait()
        return StepOutcome(COMPLETED)

    async def old(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        await context.step(position_of(1), "one", gives(1))
        await context.step(position_of(2), "hold", hold)
        return None

    async def new(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        seen.append(await context.patch(position_of(0), "better"))
        return await old(context, _bundle, _input)

    engine = await source.open(old)
    await engine.start(asks("before"))
    await asyncio.wait_for(reached.wait(), 10)
    await source.crash(engine)
    gate.set()
    again = await source.open(new)
    await again.wait("before", SOON)
    await again.start(asks("after"))
    await again.wait("after", SOON)

    assert seen == [False, True]


async def test_a_drained_engine_hands_back_what_has_not_ended(source: EngineSource) -> None:
    """The step under way ends, the next engine does the rest; new runs are refused."""
    gate = asyncio.Event()
    steps = Steps(gate)
    engine = await source.open(steps)
    await engine.start(asks("a"))
    await steps.reached.wait()

    draining = asyncio.ensure_future(engine.drain(timedelta(seconds=10)))
    await asyncio.sleep(0.05)
    gate.set()
    handed_back = await draining
    with pytest.raises(ModelOnexError) as found:
        await engine.start(asks("b"))
    before = list(steps.calls)
    await engine.aclose()
    again = await source.open(steps)
    ended = await again.wait("a", SOON)

    assert handed_back == 1
    assert found.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
    assert before == [1, 2]
    assert steps.calls == [1, 2, 3]
    assert ended.status is EnumRunStatus.COMPLETED


async def test_schedules_run_when_due_when_triggered_and_for_the_past_once_each(source: EngineSource) -> None:
    """Six fields have seconds; a paused one does not run; backfilling twice is the same as once."""
    engine = await source.open(Steps())
    often = Schedule("often", "* * * * * *", BUNDLE, "Europe/Berlin", 1)
    await engine.put_schedule(often)
    ran = await until(lambda: engine.list(RunFilter(limit=1)), bool)
    await engine.put_schedule(replace(often, paused=True))
    daily = Schedule("daily", "30 2 * * *", BUNDLE, "UTC", 2)
    await engine.put_schedule(daily)

    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC)
    first = await engine.backfill_schedule("daily", start, end)
    again = await engine.backfill_schedule("daily", start, end)
    triggered = await engine.trigger_schedule("daily")
    for view in [*first, triggered]:
        await engine.wait(view.workflow_id, SOON)
    listed = await engine.schedules()

    assert ran[0].workflow_id.startswith("often-")
    assert [view.workflow_id for view in first] == [f"daily-2024-01-0{day}T02:30:00+00:00" for day in (1, 2, 3)]
    assert [view.workflow_id for view in again] == [view.workflow_id for view in first]
    assert [(each.name, each.paused) for each in listed] == [("daily", False), ("often", True)]
    await engine.delete_schedule("often")
    assert [each.name for each in await engine.schedules()] == ["daily"]


async def test_a_schedule_that_cannot_be_read_is_refused(source: EngineSource) -> None:
    """At once, not when it is due."""
    engine = await source.open(Steps())

    for cron, zone in (("61 * * * *", "UTC"), ("* * * * *", "Europe/Nowhere"), ("0 3 31 2 *", "UTC")):
        with pytest.raises(ModelOnexError) as found:
            await engine.put_schedule(Schedule("x", cron, BUNDLE, zone))
        assert found.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_parallel_branches_are_replayed_without_a_mismatch(source: EngineSource) -> None:
    """Records stand at positions, whatever overtakes what."""
    reached = asyncio.Event()
    gate = asyncio.Event()
    calls: list[JsonValue] = []

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        async def branch(number: int) -> list[JsonValue]:
            found: list[JsonValue] = []
            for stage in range(3):

                async def work(value: int = number * 10 + stage) -> StepOutcome:
                    await asyncio.sleep((value * 7919 + len(calls)) % 5 / 1000)
                    calls.append(value)
                    return StepOutcome(COMPLETED, value)

                found.append((await context.step(position_of(number, stage), f"s{number}", work)).value)
            return found

        branches = await asyncio.gather(*(branch(number) for number in range(4)))

        async def hold() -> StepOutcome:
            reached.set()
            await gate.wait()
            return StepOutcome(COMPLETED)

        await context.step(position_of(9), "hold", hold)
        return [list(each) for each in branches]

    engine = await source.open(run)
    await engine.start(asks("a"))
    await asyncio.wait_for(reached.wait(), 10)
    await source.crash(engine)
    gate.set()
    again = await source.open(run)
    ended = await again.wait("a", SOON)

    assert ended.output == [[number * 10 + stage for stage in range(3)] for number in range(4)]
    assert sorted(calls, key=str) == sorted((n * 10 + s for n in range(4) for s in range(3)), key=str)
