"""The engine in memory: virtual time, queues with rates, several loops, schedules across clock changes."""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as dt_time
from zoneinfo import ZoneInfo

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    EngineDriver,
    RunFilter,
    Schedule,
    StartRequest,
    StepOutcome,
    WorkflowBundle,
    position_of,
)
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_store import MemoryStore, QueueLimits
from omnibase_spi.testing import run_virtual
from omnibase_spi.workflow_cron import next_time, times_between
from tests.support.timing import cpu_bound
from tests.support.workflows import BUNDLE, Bench, Service, failure, plan_of, step, wait


async def at_once(_context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
    return input_data


def test_a_week_passes_in_a_moment() -> None:
    """And the run knows that it was a week."""
    began = time.process_time()
    plan = plan_of(wait("week", until=lambda _s, now: now + timedelta(days=7)), step("after", "week"))

    async def main() -> object:
        engine = MemoryEngine(Bench(plan).run)
        await engine.start(StartRequest("w", BUNDLE))
        view = await engine.wait("w")
        await engine.aclose()
        return view.updated_at - view.created_at

    assert run_virtual(main()) == timedelta(days=7)
    assert time.process_time() - began < cpu_bound(1.0)


def test_a_month_of_an_hourly_schedule_passes_in_a_moment() -> None:
    """Each run once, at its hour."""
    began = time.process_time()

    async def main() -> list[str]:
        engine = MemoryEngine(Bench(plan_of(step("a"))).run)
        await engine.put_schedule(Schedule("hourly", "0 * * * *", BUNDLE))
        await asyncio.sleep(30 * 86_400)
        runs = await engine.list(RunFilter(limit=10_000))
        await engine.aclose()
        assert {run.status for run in runs} == {EnumRunStatus.COMPLETED}
        assert {(run.created_at.minute, run.created_at.second) for run in runs} == {(0, 0)}
        return [run.workflow_id for run in runs]

    names = run_virtual(main())

    assert len(set(names)) == len(names) == 720
    assert time.process_time() - began < cpu_bound(1.0)


def test_a_run_that_was_left_by_a_loop_goes_on_in_the_next() -> None:
    """A timer waits for what is left."""
    engine = MemoryEngine(Bench(plan_of(wait("a", until=lambda _s, now: now + timedelta(hours=1)))).run)

    async def first() -> None:
        await engine.start(StartRequest("w", BUNDLE))
        await asyncio.sleep(1_000)

    async def second() -> object:
        assert await engine.recover() == 1
        view = await engine.wait("w")
        await engine.aclose()
        return view.status

    run_virtual(first())
    assert run_virtual(second()) is EnumRunStatus.COMPLETED


def test_schedules_and_later_runs_are_taken_up_by_the_next_engine() -> None:
    """What was waiting in the store."""
    store = MemoryStore()

    async def first() -> None:
        engine = MemoryEngine(at_once, store)
        when = datetime.fromtimestamp(time.time() + 7_200, UTC)
        await engine.start(StartRequest("later", BUNDLE, not_before=when))
        await engine.put_schedule(Schedule("often", "*/10 * * * *", BUNDLE))
        await engine.aclose()

    async def second() -> int:
        engine = MemoryEngine(at_once, store)
        await engine.recover()
        await asyncio.sleep(3 * 3_600)
        runs = await engine.list(RunFilter())
        await engine.aclose()
        assert {run.status for run in runs} == {EnumRunStatus.COMPLETED}
        return len(runs)

    run_virtual(first())
    assert 18 <= run_virtual(second()) <= 20


def test_a_run_for_later_can_be_cancelled_and_paused() -> None:
    """It never begins, or begins when resumed."""

    async def main() -> list[str]:
        engine = MemoryEngine(at_once)
        when = datetime.fromtimestamp(time.time() + 7_200, UTC)
        for name in ("a", "b"):
            await engine.start(StartRequest(name, BUNDLE, not_before=when))
        await engine.cancel(["a"])
        await engine.pause("b")
        with pytest.raises(ModelOnexError, match="cannot be paused"):
            await engine.pause("b")
        await asyncio.sleep(10_000)
        before = [(await engine.query(name)).status.value for name in ("a", "b")]
        await engine.resume("b")
        with pytest.raises(ModelOnexError, match="can be resumed"):
            await engine.resume("b")
        after = await engine.wait("b")
        await engine.aclose()
        return [*before, after.status.value]

    assert run_virtual(main()) == ["cancelled", "paused", "completed"]


@pytest.mark.parametrize(("limits", "seconds"), [(QueueLimits(rate=2, per_seconds=10.0), 20), (QueueLimits(3), 3)])
def test_a_queue_has_a_rate_and_a_width(limits: QueueLimits, seconds: int) -> None:
    """Six runs of a second: two in ten seconds, or three at a time."""
    running = most = 0

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await context.sleep_until(position_of(0), await context.now(position_of(1)) + timedelta(seconds=1))
        running -= 1
        return None

    async def main() -> float:
        engine = MemoryEngine(run, queues={"q": limits})
        began = engine.clock()
        for number in range(6):
            await engine.start(StartRequest(f"w{number}", BUNDLE, queue="q"))
            began = began if number else engine.clock()
        for number in range(6):
            await engine.wait(f"w{number}")
        ended = engine.clock()
        await engine.aclose()
        return ended - began

    taken = run_virtual(main())

    assert most <= (limits.concurrency or 6)
    assert seconds - 1 <= round(taken) <= seconds + 1


async def test_a_closed_or_crashed_engine_refuses() -> None:
    """With what to do."""
    closed, crashed = MemoryEngine(at_once), MemoryEngine(at_once)
    assert isinstance(closed, EngineDriver)
    await closed.aclose()
    await crashed.crash()

    for engine, word in ((closed, "closed"), (crashed, "crashed")):
        with pytest.raises(ModelOnexError, match=word) as error:
            await engine.start(StartRequest("w", BUNDLE))
        assert error.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE


async def test_a_mistake_in_a_run_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    """Logged, told, and not waited for."""

    async def run(_context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        message = "a bug"
        raise ZeroDivisionError(message)

    engine = MemoryEngine(run)
    await engine.start(StartRequest("w", BUNDLE))
    view = await engine.wait("w")
    await engine.aclose()

    assert view.error is not None
    assert view.error.code is EnumCoreErrorCode.INTERNAL_ERROR
    assert "failed unexpectedly" in caplog.text


def test_a_step_s_own_limit_is_an_outcome_that_nobody_knows() -> None:
    """The engine cut it off; a step that must not be interrupted comes to its end before the run is cancelled."""
    ended: list[str] = []

    async def slow() -> StepOutcome:
        await asyncio.sleep(10)
        ended.append("slow")
        return StepOutcome(EnumStepStatus.COMPLETED)

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "limited":
            return (await context.step(position_of(0), "a", slow, timeout_s=2.0)).as_json()
        await context.step(position_of(0), "a", slow, preemptible=input_data != "whole")
        return None

    async def main() -> list[object]:
        engine = MemoryEngine(run)
        await engine.start(StartRequest("w", BUNDLE, "limited"))
        limited = await engine.wait("w")
        found: list[object] = [limited.output]
        for name in ("whole", "part"):
            await engine.start(StartRequest(name, BUNDLE, name))
            await asyncio.sleep(1)
            await engine.cancel([name])
            found.append((await engine.wait(name)).status.value)
        await engine.aclose()
        return found

    limited, *others = run_virtual(main())

    assert isinstance(limited, dict)
    assert limited["status"] == "unknown"
    assert others == ["cancelled", "cancelled"]
    assert ended == ["slow"]


def test_resuming_a_compensated_run_does_again_what_was_undone() -> None:
    """What was not undone is not repeated."""
    service = Service({"bad": [failure("not yet"), "ok"]})
    bench = Bench(plan_of(step("a", compensate=step("undo")), step("b"), step("bad")), service)

    async def main() -> str:
        engine = MemoryEngine(bench.run)
        await engine.start(StartRequest("w", BUNDLE))
        await engine.wait("w")
        await engine.resume("w")
        view = await engine.wait("w")
        await engine.aclose()
        return view.status.value

    assert run_virtual(main()) == "completed"
    assert service.calls == ["a", "b", "bad", "undo", "a", "bad"]


class TestTimes:
    """When schedules are due."""

    def test_a_time_zone_has_its_own_noon(self) -> None:
        """In summer and in winter."""
        noon = Schedule("noon", "0 12 * * *", BUNDLE, "Europe/Berlin")
        summer, winter = datetime(2025, 7, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)

        assert next_time(noon, summer.timestamp()) == summer.replace(hour=10)
        assert next_time(noon, winter.timestamp()) == winter.replace(hour=11)

    @pytest.mark.parametrize(
        ("cron", "day", "count"),
        [
            ("0 * * * *", date(2025, 10, 26), 25),
            ("0 * * * *", date(2025, 3, 30), 23),
            ("30 2 * * *", date(2025, 10, 26), 1),
        ],
    )
    def test_the_days_on_which_clocks_change(self, cron: str, day: date, count: int) -> None:
        """Every hour of them once; a time that comes twice runs once."""
        zone = ZoneInfo("Europe/Berlin")
        schedule = Schedule("x", cron, BUNDLE, "Europe/Berlin")

        times = times_between(
            schedule, datetime.combine(day, dt_time.min, zone), datetime.combine(day, dt_time.max, zone)
        )

        assert len(times) == len(set(times)) == count
        assert times == sorted(times)


def test_a_run_that_was_begun_under_a_lease_is_taken_up_without_it() -> None:
    """Who held it was in the other loop."""
    store = MemoryStore()

    async def refuse() -> None:
        message = "gone"
        raise LeaseExpiredError(message)

    async def run(context: DurableContext, _bundle: WorkflowBundle, _input: JsonValue) -> JsonValue:
        if len(fences) == 1:
            await context.may_issue()
        fences.append(context.fence)
        if len(fences) == 1:
            await asyncio.sleep(60)
        return None

    fences: list[tuple[str, int]] = []

    async def begin() -> None:
        engine = MemoryEngine(run, store)
        await engine.start(StartRequest("w", BUNDLE, fence=("lease", 7), may_issue=refuse))
        await asyncio.sleep(1)
        await engine.crash()

    async def go_on() -> EnumRunStatus:
        engine = MemoryEngine(run, store)
        await engine.recover()
        return (await engine.wait("w")).status

    run_virtual(begin())

    assert run_virtual(go_on()) is EnumRunStatus.COMPLETED
    assert fences == [("lease", 7), ("memory", 1)]


async def test_a_run_that_may_issue_nothing_more_is_cancelled() -> None:
    """Its lease is lost: what it was at is not its failure."""

    async def refuse() -> None:
        message = "gone"
        raise LeaseExpiredError(message)

    engine = MemoryEngine(Bench(plan_of(step("a"))).run)
    await engine.start(StartRequest("w", BUNDLE, fence=("lease", 7), may_issue=refuse))

    view = await engine.wait("w")

    assert view.status is EnumRunStatus.CANCELLED
    assert isinstance(view.output, dict)
    assert view.output["compensations"] == []
