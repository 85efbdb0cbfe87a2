"""Waits, approvals and triggers."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumWorkflowCoordination, EnumWorkflowStepType
from omnibase_core.mixins.workflow_run import STEP_COMPLETED_EVENT
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import Signal, StartRequest, position_of
from omnibase_core.utils.workflow_plan import PlannedStep, TriggerPlan, WaitPlan, WorkflowPlan, WorkflowScope
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_store import MemoryStore
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import run_virtual
from tests.support.workflows import BUNDLE, Bench, Ran, Service, StepSpec, failure, plan_of, ran, step, wait

EVENT_DRIVEN = EnumWorkflowCoordination.EVENT_DRIVEN


def approval(step_id: str, *needs: str, **fields: object) -> StepSpec:
    spec = wait(step_id, *needs, **fields)
    spec.kind = EnumWorkflowStepType.APPROVAL
    return spec


async def publish(bus: MemoryEventBus, event_type: str, payload: JsonValue = None, key: str | None = None) -> None:
    headers = {} if key is None else {"partitionkey": key}
    event: ModelEventEnvelope[object] = ModelEventEnvelope(event_type=event_type, payload=payload, headers=headers)
    await bus.publish(event)
    await bus.drain()


def test_a_timer_waits_until_its_moment() -> None:
    """A week is a moment in virtual time; one that has passed ends at once."""
    done = ran(plan_of(wait("a", until=lambda _s, now: now + timedelta(days=7)), wait("b", until=lambda _s, now: now)))

    assert done.seconds == 7 * 86_400
    assert done.output == {"a": None, "b": None}


def test_a_timer_beyond_the_end_of_the_workflow_fails_then() -> None:
    """The time of the workflow was up."""
    done = ran(plan_of(wait("a", until=lambda _s, now: now + timedelta(days=7)), timeout_ms=1_000))

    assert done.seconds == 1
    assert done.statuses == {"a": "failed"}
    assert done.view.error is not None
    assert done.view.error.code is EnumCoreErrorCode.TIMEOUT


def test_a_moment_that_cannot_be_read_is_a_failure_of_the_step() -> None:
    """Not of the engine."""

    def until(_scope: WorkflowScope, _now: datetime) -> datetime:
        raise failure("'soon' is no time")

    assert ran(plan_of(wait("a", until=until))).error("a") == "'soon' is no time"


def test_a_signal_ends_a_wait_with_its_payload() -> None:
    """Recorded are when it began, what came, and the outcome."""

    async def drive(engine: MemoryEngine) -> None:
        await asyncio.sleep(30)
        progress = (await engine.query("w")).progress
        assert progress == {"done": 0, "total": 1, "last": "a", "waiting": {"a": {"for": "paid", "prompt": None}}}
        await engine.signal("w", Signal("paid", {"sum": 5}))

    done = ran(plan_of(wait("a", signal="paid")), drive=drive)

    assert done.output == {"a": {"sum": 5}}
    assert done.seconds == 30
    assert [record.position for record in done.steps] == [position_of(0, 1)]
    assert done.result("a")["ended_at"] == pytest.approx(done.document["ended_at"])


@pytest.mark.parametrize(
    ("fields", "status", "value"),
    [
        ({}, "failed", None),
        ({"fails_on_timeout": False, "timeout_value": "none came"}, "completed", "none came"),
    ],
)
def test_the_end_of_a_wait_is_a_failure_or_a_value(fields: dict[str, object], status: str, value: JsonValue) -> None:
    """As it says."""
    done = ran(plan_of(wait("a", signal="paid", timeout_ms=60_000, **fields)))

    assert done.seconds == 60
    assert done.result("a")["status"] == status
    assert done.result("a")["value"] == value


def test_a_wait_for_ever_ends_with_the_time_of_the_workflow() -> None:
    """Also one whose own time would be longer."""
    for timeout in (None, 600_000):
        done = ran(plan_of(wait("a", signal="paid", timeout_ms=timeout), timeout_ms=9_000))

        assert done.seconds == 9
        assert done.statuses == {"a": "failed"}


def test_an_approval_escalates_and_waits_on() -> None:
    """The escalation's step is run once; whoever answers is named."""
    spec = approval("ok", timeout_ms=100_000, escalate_after_ms=10_000, prompt=lambda scope: f"ship {scope.input}?")
    plan = plan_of(spec)
    escalation = _aside("tell the boss", 7)
    plan = _with_wait(plan, 0, escalation=escalation)

    async def drive(engine: MemoryEngine) -> None:
        await asyncio.sleep(20)
        progress = (await engine.query("w")).progress
        assert isinstance(progress, dict)
        assert progress["waiting"] == {"ok": {"for": "ok", "prompt": "ship 5?"}}
        await engine.signal("w", Signal("ok", {"approved": True, "note": "go"}, sender="ann"))

    done = ran(plan, input_data=5, drive=drive)

    assert done.service.calls == ["tell the boss"]
    assert done.output == {"ok": {"approved": True, "note": "go", "by": "ann"}}
    assert done.seconds == 20


def test_an_escalation_that_fails_is_a_warning_and_the_time_still_ends() -> None:
    """And one that would come after the end does not come."""
    plan = _with_wait(
        plan_of(approval("ok", timeout_ms=100_000, escalate_after_ms=10_000, fails_on_timeout=False)),
        0,
        escalation=_aside("boss", 7),
    )

    done = ran(plan, Service({"boss": failure("is away")}))
    early = ran(_with_wait(plan, 0, timeout_ms=5_000))

    assert done.document["warnings"] == ["escalation 'boss' failed: is away"]
    assert done.seconds == 100
    assert early.service.calls == []


def _hanging_escalation(**fields: object) -> WorkflowPlan:
    plan = plan_of(approval("ok", escalate_after_ms=10_000, **fields))
    return _with_wait(plan, 0, escalation=_aside("boss", 7))


def _hanging() -> Service:
    return Service({"boss": lambda _: asyncio.sleep(1_000_000)})


CUT = "escalation 'boss' failed: the wait ended before it did; nobody knows whether it happened"


def test_an_escalation_that_hangs_does_not_keep_the_time_from_ending() -> None:
    """It is cut off then, and told; so it is when the run is taken up again."""
    plan = _hanging_escalation(timeout_ms=50_000, fails_on_timeout=False)
    service = _hanging()
    bench = Bench(plan, service)

    async def main() -> list[JsonValue]:
        store = MemoryStore()
        found = []
        for _ in range(2):
            engine = MemoryEngine(bench.run, store)
            await engine.start(StartRequest("w", BUNDLE, None))
            found.append((await engine.wait("w")).output)
            await engine.aclose()
            run = store.runs["w"]
            del run.records[position_of(0, 1)]
            run.status, run.output = EnumRunStatus.RUNNING, None
        return found

    first, second = run_virtual(main())

    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert float(str(first["ended_at"])) - float(str(first["started_at"])) == 50
    assert first["warnings"] == second["warnings"] == [CUT]
    assert service.calls == ["boss"]


def test_an_answer_is_heard_while_an_escalation_hangs() -> None:
    """At once."""

    async def drive(engine: MemoryEngine) -> None:
        await asyncio.sleep(12)
        await engine.signal("w", Signal("ok", True, sender="ann"))

    done = ran(_hanging_escalation(), _hanging(), drive=drive)

    assert done.output == {"ok": {"approved": True, "by": "ann"}}
    assert done.seconds == 12
    assert done.service.running == 0


def test_an_escalation_ends_with_a_run_that_is_cancelled() -> None:
    """Nothing of it goes on."""

    async def drive(engine: MemoryEngine) -> None:
        await asyncio.sleep(12)
        await engine.cancel(["w"])

    done = ran(_hanging_escalation(), _hanging(), drive=drive)

    assert done.view.status is EnumRunStatus.CANCELLED
    assert done.service.calls == ["boss"]
    assert done.service.running == 0


@pytest.mark.parametrize(
    ("payload", "approved"),
    [(True, True), ({"approved": True}, True), (False, False), ({}, False), ("yes", False), ({"approved": 1}, False)],
)
def test_only_a_plain_yes_approves(payload: JsonValue, approved: bool) -> None:
    """Everything else does not."""

    async def drive(engine: MemoryEngine) -> None:
        await engine.signal("w", Signal("ok", payload, sender="ann"))

    done = ran(plan_of(approval("ok")), drive=drive)

    assert done.output == {"ok": {"approved": approved, "by": "ann"}}


def test_an_approval_by_somebody_else_is_passed_over() -> None:
    """Only approvers count."""

    async def drive(engine: MemoryEngine) -> None:
        await engine.signal("w", Signal("ok", True, sender="eve"))
        await engine.signal("w", Signal("ok", True))
        await asyncio.sleep(1)
        assert (await engine.query("w")).status is EnumRunStatus.RUNNING
        await engine.signal("w", Signal("ok", False, sender="bob"))

    done = ran(plan_of(approval("ok", approvers=("ann", "bob"))), drive=drive)

    assert done.output == {"ok": {"approved": False, "by": "bob"}}


def test_a_wait_takes_the_first_event_of_its_key_that_passes_its_filter() -> None:
    """An event without what the filter asks for is not the one."""
    bus = MemoryEventBus()
    plan = plan_of(
        wait(
            "a",
            event_type="Paid",
            event_key=lambda scope: scope.input,
            event_filter=lambda scope: scope.event["payload"]["sum"] > 1,
        )
    )

    async def drive(_engine: MemoryEngine) -> None:
        await publish(bus, "Paid", {"sum": 9}, "other")
        await publish(bus, "Paid", {"sum": 1}, "k")
        await publish(bus, "Paid", {}, "k")
        await publish(bus, "Sent", {"sum": 7}, "k")
        await publish(bus, "Paid", {"sum": 5}, "k")

    done = ran(plan, input_data="k", drive=drive, bus=bus)

    assert done.output == {"a": {"sum": 5}}


def test_waiting_for_events_without_a_bus_is_an_error() -> None:
    """Not a run that hangs."""
    done = ran(plan_of(wait("a", event_type="Paid")))

    assert done.error("a") == "workflow run 'w' waits for events, and the engine has no event bus"


def _aside(step_id: str, index: int) -> PlannedStep:
    return replace(plan_of(step(step_id)).steps[0], index=index)


def _with_wait(plan: WorkflowPlan, index: int, **fields: object) -> WorkflowPlan:
    steps = list(plan.steps)
    wait_plan = steps[index].wait
    assert isinstance(wait_plan, WaitPlan)
    steps[index] = replace(steps[index], wait=replace(wait_plan, **fields))  # type: ignore[arg-type]  # its fields
    return replace(plan, steps=tuple(steps))


def triggered(step_id: str, *types: str, needs: tuple[str, ...] = (), **fields: object) -> StepSpec:
    """A step that gives what triggered it."""
    trigger = TriggerPlan(types, **fields)  # type: ignore[arg-type]  # fields of the plan
    return step(step_id, *needs, trigger=trigger, make_input=lambda scope: scope.event)


def payloads(done: Ran, step_id: str) -> JsonValue:
    value = done.result(step_id)["value"]
    assert isinstance(value, dict)
    if "payload" in value:
        return value["payload"]
    return {name: each["payload"] for name, each in value.items() if isinstance(each, dict)}


class TestTriggers:
    """Steps that events start."""

    def test_an_event_that_passes_the_filter_starts_its_step(self) -> None:
        """And then what depends on it."""
        bus = MemoryEventBus()
        plan = plan_of(
            triggered("a", "Paid", event_filter=lambda scope: scope.event["payload"] == 2),
            step("b", "a"),
            coordination=EVENT_DRIVEN,
        )

        async def drive(_engine: MemoryEngine) -> None:
            for number in (1, 2, 3):
                await publish(bus, "Paid", number)

        done = ran(plan, drive=drive, bus=bus)

        assert payloads(done, "a") == 2
        assert done.statuses == {"a": "completed", "b": "completed"}

    def test_an_event_that_comes_before_its_step_may_start_waits_for_it(self) -> None:
        """From the beginning of the run."""
        bus = MemoryEventBus()
        plan = plan_of(triggered("a", "First"), triggered("b", "Second", needs=("a",)), coordination=EVENT_DRIVEN)

        async def drive(_engine: MemoryEngine) -> None:
            await publish(bus, "Second", 2)
            await asyncio.sleep(1)
            await publish(bus, "First", 1)

        done = ran(plan, drive=drive, bus=bus)

        assert (payloads(done, "a"), payloads(done, "b")) == (1, 2)

    def test_events_of_one_key_are_joined(self) -> None:
        """The first key of which all have come."""
        bus = MemoryEventBus()
        plan = plan_of(
            triggered("a", "Paid", "Packed", event_key=lambda scope: scope.event["payload"]["order"]),
            coordination=EVENT_DRIVEN,
        )

        async def drive(_engine: MemoryEngine) -> None:
            for event_type, order in (("Paid", 1), ("Paid", 2), ("Packed", 3), ("Packed", 2), ("Packed", 1)):
                await publish(bus, event_type, {"order": order})

        done = ran(plan, drive=drive, bus=bus)

        assert payloads(done, "a") == {"Paid": {"order": 2}, "Packed": {"order": 2}}

    def test_debounce_waits_for_quiet_and_the_last_event_counts(self) -> None:
        """Of the same key; others do not count."""
        bus = MemoryEventBus()
        plan = plan_of(
            triggered("a", "Typed", debounce_ms=10_000, event_key=lambda scope: scope.event["key"]),
            coordination=EVENT_DRIVEN,
        )

        async def drive(_engine: MemoryEngine) -> None:
            for number in range(3):
                await publish(bus, "Typed", number, "k")
                await asyncio.sleep(4)
            await publish(bus, "Typed", "other", "l")

        done = ran(plan, drive=drive, bus=bus)

        assert payloads(done, "a") == 2
        assert done.seconds == 18

    def test_debounce_is_not_restarted_by_events_of_other_keys(self) -> None:
        """A busy bus does not keep the step from its start."""
        bus = MemoryEventBus()
        plan = plan_of(
            triggered("a", "Typed", debounce_ms=10_000, event_key=lambda scope: scope.event["key"]),
            coordination=EVENT_DRIVEN,
        )

        async def drive(_engine: MemoryEngine) -> None:
            for number in range(20):
                await publish(bus, "Typed", number, f"k{number}")
                await asyncio.sleep(3)

        done = ran(plan, drive=drive, bus=bus)

        assert payloads(done, "a") == 0
        assert done.seconds == 10

    def test_an_event_whose_key_cannot_be_made_is_passed_over(self) -> None:
        """As by a filter; the first one is told as a warning."""
        bus = MemoryEventBus()

        def key(scope: WorkflowScope) -> JsonValue:
            if isinstance(scope.event, dict) and scope.event["payload"] is None:
                raise failure("no order in the event")
            return 1

        plan = plan_of(triggered("a", "Paid", event_key=key), coordination=EVENT_DRIVEN)

        async def drive(_engine: MemoryEngine) -> None:
            for payload in (None, None, 5):
                await publish(bus, "Paid", payload)

        done = ran(plan, drive=drive, bus=bus)

        assert payloads(done, "a") == 5
        assert done.document["warnings"] == [
            "step 'a' passes over an event 'Paid' whose key cannot be made: no order in the event"
        ]

    @pytest.mark.parametrize("types", [("Paid",), ("Paid", "Packed")])
    def test_events_that_do_not_come_in_time_are_a_failure(self, types: tuple[str, ...]) -> None:
        """Of a join the time counts from the first."""
        bus = MemoryEventBus()
        plan = plan_of(triggered("a", *types, timeout_ms=5_000), step("b"), coordination=EVENT_DRIVEN)

        async def drive(_engine: MemoryEngine) -> None:
            if len(types) > 1:
                await asyncio.sleep(100)
                await publish(bus, "Paid")

        done = ran(plan, drive=drive, bus=bus)

        assert done.statuses == {"a": "failed", "b": "completed"}
        assert done.error("a") == "the time of the events of step 'a' was up"
        assert done.seconds == (105 if len(types) > 1 else 5)

    @pytest.mark.parametrize("goes_on", [False, True])
    def test_a_step_whose_events_did_not_come_is_told_once(self, goes_on: bool) -> None:
        """Also when it aborts the run."""
        bus = MemoryEventBus()
        told: list[JsonValue] = []

        async def hear(event: ModelEventEnvelope[object]) -> None:
            told.append(event.model_dump(mode="json")["payload"])

        plan = plan_of(
            step("slow"),
            triggered("a", "Paid", needs=("slow",), timeout_ms=5_000),
            coordination=EVENT_DRIVEN,
            continue_on_error=goes_on,
        )

        bus.subscribe(STEP_COMPLETED_EVENT, hear)

        done = ran(plan, Service(seconds=7), bus=bus)

        assert done.statuses["a"] == "failed"
        entries = [each for each in told if isinstance(each, dict)]
        assert sorted((str(each["step_id"]), str(each["status"])) for each in entries) == [
            ("a", "failed"),
            ("slow", "completed"),
        ]

    def test_the_time_of_the_workflow_ends_waiting_for_events(self) -> None:
        """As it ends everything."""
        bus = MemoryEventBus()
        done = ran(plan_of(triggered("a", "Paid"), coordination=EVENT_DRIVEN, timeout_ms=3_000), bus=bus)

        assert done.seconds == 3
        assert done.view.error is not None
        assert done.view.error.code is EnumCoreErrorCode.TIMEOUT

    def test_a_step_that_is_skipped_does_not_wait_for_its_events(self) -> None:
        """What it depends on has failed."""
        bus = MemoryEventBus()
        plan = plan_of(
            step("a"),
            triggered("b", "Never", needs=("a",), timeout_ms=60_000),
            coordination=EVENT_DRIVEN,
            continue_on_error=True,
        )

        done = ran(plan, Service({"a": failure()}), bus=bus)

        assert done.statuses == {"a": "failed", "b": "skipped"}
        assert done.seconds == 0
