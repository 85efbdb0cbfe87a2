"""What follows a failure: attempts, times that are up, compensation, outcomes that nobody knows."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import (
    EnumOnFailure,
    EnumRunStatus,
    EnumWorkflowCoordination,
    EnumWorkflowStepType,
)
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.workflow_interpreter import interpret
from omnibase_core.mixins.workflow_steps import StepRunner
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    RunFilter,
    RunView,
    StartRequest,
    WorkflowBundle,
    position_of,
)
from omnibase_core.utils.workflow_plan import PlannedStep, RoundPlan, WorkflowPlan, WorkflowScope
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_store import MemoryStore
from omnibase_spi.testing import run_virtual
from tests.support.workflows import BUNDLE, Bench, Service, StepSpec, failure, plan_of, ran, retried, step, wait

PARALLEL = EnumWorkflowCoordination.PARALLEL
CODES = EnumCoreErrorCode


def attempt(scope: WorkflowScope) -> JsonValue:
    return scope.workflow["attempt"]


class TestAttempts:
    """Retries happen inside the one record of a step."""

    def test_a_step_is_repeated_after_its_delay_until_it_succeeds(self) -> None:
        """Attempts and times are in its result; the attempt is readable."""
        service = Service({str(n): failure() for n in (1, 2)})

        done = ran(plan_of(step("a", make_input=attempt, retry=retried(5, 10))), service)

        assert done.service.calls == [1, 2, 3]
        assert done.result("a")["attempts"] == 3
        assert done.seconds == 20
        assert len(done.steps) == 1

    def test_attempts_end(self) -> None:
        """And then the step has failed."""
        done = ran(plan_of(step("a", retry=retried(3), on_failure=EnumOnFailure.RETRY)), Service({"a": failure("no")}))

        assert done.statuses == {"a": "failed"}
        assert done.result("a")["attempts"] == 3

    @pytest.mark.parametrize(
        ("error", "conditions", "repeated"),
        [
            (failure("x", CODES.TIMEOUT), frozenset({"TIMEOUT"}), True),
            (failure("x", CODES.CONFLICT), frozenset({"TIMEOUT"}), False),
            (ConnectionResetError("x"), frozenset({"ConnectionResetError"}), True),
            (ConnectionResetError("x"), frozenset({"OSError"}), True),
            (KeyError("x"), frozenset({"OSError"}), False),
            (TimeoutError("x"), frozenset({"TIMEOUT"}), True),
            (failure("x", CODES.VALIDATION_ERROR), None, False),
            (failure("x", CODES.VALIDATION_ERROR), frozenset({"VALIDATION_ERROR"}), True),
            (failure("x", CODES.CONFLICT), None, True),
            (ValueError("x"), None, True),
        ],
    )
    def test_conditions_name_codes_and_classes(
        self, error: Exception, conditions: frozenset[str] | None, repeated: bool
    ) -> None:
        """Base classes count; without conditions all is repeated that a repetition may mend."""
        service = Service({"a": [error, "ok"]})

        done = ran(plan_of(step("a", retry=retried(2, 1, conditions), idempotency_key=lambda _: "k")), service)

        assert len(done.service.calls) == (2 if repeated else 1)
        assert done.statuses == {"a": "completed" if repeated else "failed"}

    def test_nobody_knows_whether_it_happened_so_it_is_not_repeated(self) -> None:
        """An effect by a service is not idempotent; its outcome is unknown."""
        service = Service({"a": failure("lost", CODES.OUTCOME_UNKNOWN)})

        done = ran(plan_of(step("a", retry=retried(3))), service)

        assert done.service.calls == ["a"]
        assert done.statuses == {"a": "unknown"}

    @pytest.mark.parametrize(
        "fields",
        [{"idempotency_key": lambda _scope: "k"}, {"kind": EnumWorkflowStepType.COMPUTE}],
    )
    def test_what_is_idempotent_is_repeated_all_the_same(self, fields: dict[str, object]) -> None:
        """By its key, or because it has no effect."""
        service = Service({"a": [failure("lost", CODES.OUTCOME_UNKNOWN), "ok"]})

        done = ran(plan_of(step("a", retry=retried(3), **fields)), service)

        assert done.service.calls == ["a", "a"]
        assert done.statuses == {"a": "completed"}

    def test_an_unknown_outcome_is_told_also_where_the_run_goes_on(self) -> None:
        """Skipping does not make it known."""
        service = Service({"a": failure("lost", CODES.OUTCOME_UNKNOWN)})

        done = ran(plan_of(step("a", on_failure=EnumOnFailure.SKIP), step("b", "a")), service)

        assert done.statuses == {"a": "unknown", "b": "completed"}
        assert done.output == {"a": None, "b": "b"}


class TestTime:
    """Limits of a step's attempt, and of the whole."""

    def test_an_attempt_that_takes_too_long_is_cut_off(self) -> None:
        """An effect that was cut off may have happened: unknown, and not repeated."""
        done = ran(plan_of(step("a", timeout_ms=2000, retry=retried(3))), Service(seconds=60))

        assert done.statuses == {"a": "unknown"}
        assert done.error("a") == "the time of attempt 1 of step 'a' was up"
        assert done.seconds == 2

    def test_a_time_that_was_up_inside_a_service_is_no_better_known(self) -> None:
        """Whoever sets the limit, the effect may have happened; one with a key is repeated."""
        service = Service({"a": [TimeoutError("no answer"), "ok"]})
        a = step("a", retry=retried(3, 1, frozenset({"TimeoutError"})), compensate=step("undo"))

        done = ran(plan_of(a), service)
        with_key = ran(
            plan_of(step("b", retry=retried(3), idempotency_key=lambda _: "k")), Service({"b": [TimeoutError(), "ok"]})
        )

        assert service.calls == ["a", "undo"]
        assert done.error("a") == "TimeoutError: no answer"
        assert with_key.statuses == {"b": "completed"}

    def test_a_cut_off_attempt_that_does_no_harm_is_repeated(self) -> None:
        """The next one is quick."""
        service = Service({"1": lambda _: asyncio.sleep(60), "2": "quick"})
        a = step("a", timeout_ms=2000, retry=retried(3), make_input=attempt, kind=EnumWorkflowStepType.COMPUTE)

        done = ran(plan_of(a), service)

        assert done.output == {"a": "quick"}
        assert done.seconds == 3

    def test_a_workflow_ends_when_its_time_is_up(self) -> None:
        """The step under way is cut off, whatever its policy; nothing follows but compensation."""
        plan = plan_of(
            step("a", compensate=step("undo")),
            step("b", "a", kind=EnumWorkflowStepType.COMPUTE, on_failure=EnumOnFailure.SKIP),
            step("c", "b"),
            timeout_ms=5_000,
        )

        done = ran(plan, Service({"b": lambda _: asyncio.sleep(60)}, seconds=1))

        assert done.statuses == {"a": "compensated", "b": "failed", "c": "skipped"}
        assert done.view.error is not None
        assert done.view.error.code is CODES.TIMEOUT
        assert done.service.calls == ["a", "b", "undo"]
        assert done.seconds == 6

    def test_no_step_begins_after_the_time_of_the_workflow(self) -> None:
        """Found at the beginning of its work, so it is recorded."""
        done = ran(plan_of(step("a"), step("b"), timeout_ms=3_000), Service({"a": lambda _: slow_and_deaf()}))

        assert done.statuses["b"] == "failed"
        assert done.service.calls == ["a"]

    def test_an_attempt_is_not_waited_for_beyond_the_end(self) -> None:
        """A delay that would end after it is not begun."""
        done = ran(plan_of(step("a", retry=retried(9, 3)), timeout_ms=5_000), Service({"a": failure("no")}))

        assert done.result("a")["attempts"] == 2
        assert done.seconds == 3


async def slow_and_deaf() -> str:
    """Work that hears nothing of its cancellation and ends with a result."""
    ends = asyncio.get_running_loop().time() + 3.5
    while (left := ends - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return "late"


class TestCompensation:
    """What was done is undone in reverse order of completion."""

    def test_completed_steps_are_undone_the_last_first(self) -> None:
        """By order of completion, not of declaration."""
        service = Service({"slow": lambda _: asyncio.sleep(5, "s"), "bad": lambda _: fail_at(9)})
        plan = plan_of(
            step("slow", compensate=step("undo slow")),
            step("quick", compensate=step("undo quick")),
            step("bare"),
            step("bad", compensate=step("undo bad")),
            coordination=PARALLEL,
        )

        done = ran(plan, service)

        assert done.service.calls[4:] == ["undo slow", "undo quick"]
        assert done.statuses == {"slow": "compensated", "quick": "compensated", "bare": "completed", "bad": "failed"}
        told = done.document["compensations"]
        assert isinstance(told, list)
        keys = "step_id", "item", "by", "status", "error"
        assert [tuple(each[key] for key in keys) for each in told if isinstance(each, dict)] == [
            ("slow", None, "undo slow", "completed", None),
            ("quick", None, "undo quick", "completed", None),
        ]

    @pytest.mark.parametrize(
        ("policy", "error", "undone"),
        [
            (None, failure(), []),
            (EnumOnFailure.ABORT, failure(), []),
            (EnumOnFailure.COMPENSATE, failure(), ["undo a"]),
            (None, failure("lost", CODES.OUTCOME_UNKNOWN), ["undo a"]),
        ],
    )
    def test_the_failed_step_itself_is_undone_if_it_asks_or_may_have_happened(
        self, policy: EnumOnFailure | None, error: ModelOnexError, undone: list[str]
    ) -> None:
        """on_failure: compensate, and unknown outcomes."""
        plan = plan_of(step("a", on_failure=policy, compensate=step("undo a")))

        done = ran(plan, Service({"a": error}))

        assert done.service.calls == ["a", *undone]

    def test_a_compensation_reads_what_its_step_read_and_what_it_gave(self) -> None:
        """Outputs of steps, and the item of each of a list, the last first."""
        undo = step("undo", make_input=lambda scope: ["undo", scope.item, scope.index, scope.steps["a"]])
        plan = plan_of(step("a"), step("each", for_each=lambda _: ["x", "y"], compensate=undo), step("bad"))

        done = ran(plan, Service({"bad": failure()}))

        assert done.service.calls[-2:] == [["undo", "y", 1, "a"], ["undo", "x", 0, "a"]]
        assert [record.name for record in done.steps][-2:] == ["undo[0]", "undo[1]"]

    def test_one_that_fails_does_not_keep_the_others_from_running(self) -> None:
        """It is told, also in the run's error; the step is not `compensated`."""
        plan = plan_of(step("a", compensate=step("undo a")), step("b", compensate=step("undo b")), step("bad"))

        done = ran(plan, Service({"bad": failure(), "undo b": failure("stuck")}))

        assert done.statuses == {"a": "compensated", "b": "completed", "bad": "failed"}
        told = done.document["compensations"]
        assert isinstance(told, list)
        assert isinstance(told[0], dict)
        assert told[0]["status"] == "failed"
        assert done.view.error is not None
        assert "'bad' is failed after 1 attempt, 2 compensations (1 failed): no" in done.view.error.message
        assert done.service.calls[-1] == "undo a"

    def test_skipped_steps_are_not_undone(self) -> None:
        """Neither those that did not run nor those whose failure was passed over."""
        undo = step("undo")
        plan = plan_of(
            step("a", when=lambda _: False, compensate=undo),
            step("b", on_failure=EnumOnFailure.SKIP, compensate=step("undo b")),
            step("bad"),
        )

        done = ran(plan, Service({"b": failure(), "bad": failure()}))

        assert done.service.calls == ["b", "bad"]

    def test_a_run_that_goes_on_in_spite_of_errors_undoes_nothing(self) -> None:
        """Compensation belongs to aborting."""
        done = ran(
            plan_of(step("a", compensate=step("undo")), step("bad"), continue_on_error=True),
            Service({"bad": failure()}),
        )

        assert done.service.calls == ["a", "bad"]


async def fail_at(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise failure()


def test_an_output_that_cannot_be_made_fails_the_run() -> None:
    """With all that was done in the document."""

    def output(_scope: WorkflowScope) -> JsonValue:
        raise failure("no such field", CODES.VALIDATION_ERROR)

    done = ran(plan_of(step("a"), make_output=output))
    good = ran(plan_of(step("a"), make_output=lambda s: {"got": s.steps["a"], "id": s.workflow["id"]}))

    assert done.statuses == {"a": "completed"}
    assert done.view.error is not None
    assert done.view.error.message.endswith("its output cannot be made: no such field")
    assert good.output == {"got": "a", "id": "w"}


def _cannot(_scope: WorkflowScope) -> JsonValue:
    raise failure("no such field", CODES.VALIDATION_ERROR)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"make_output": _cannot}, "its output cannot be made, 2 compensations: no such field"),
        (
            {"next_round": RoundPlan(when=lambda _: True, make_input=_cannot)},
            "whether it continues as new cannot be told, 2 compensations: no such field",
        ),
    ],
)
def test_a_run_that_fails_at_its_end_is_undone(fields: dict[str, object], said: str) -> None:
    """It has failed like any other, so that it is either done or undone."""
    a, b = (step(name, compensate=step(f"undo {name}")) for name in "ab")
    plan = replace(plan_of(a, b), **fields)  # type: ignore[arg-type]  # fields of the plan

    done = ran(plan)

    assert done.service.calls == ["a", "b", "undo b", "undo a"]
    assert done.statuses == {"a": "compensated", "b": "compensated"}
    assert done.view.error is not None
    assert done.view.error.message.endswith(said)


def test_input_that_does_not_fit_is_refused_before_anything_runs() -> None:
    """With all problems."""
    done = ran(plan_of(step("a"), check_input=lambda _: ["x is missing", "y is no number"]))

    assert done.service.calls == []
    assert done.view.output is None
    assert done.view.error is not None
    assert done.view.error.code is CODES.VALIDATION_ERROR
    assert done.view.error.message == "workflow 'by hand': its input does not fit: x is missing; y is no number"


def test_a_cancelled_run_tells_which_steps_were_cancelled() -> None:
    """Those under way; what had ended stays, and nothing is undone."""

    async def cancel(engine: object) -> None:
        await asyncio.sleep(1.5)
        await engine.cancel(["w"])  # type: ignore[attr-defined]  # an engine

    plan = plan_of(
        step("a", compensate=step("undo")), step("b"), wait("c", signal="never"), step("d", "b"), coordination=PARALLEL
    )

    done = ran(plan, Service({"b": lambda _: asyncio.sleep(60)}, seconds=1), drive=cancel)

    assert done.view.status.value == "cancelled"
    assert done.statuses == {"a": "completed", "b": "cancelled", "c": "cancelled", "d": "skipped"}
    assert done.service.calls == ["a", "b"]
    assert done.service.running == 0


class TestChildren:
    """Runs of other workflows as steps."""

    @staticmethod
    def family(limit_ms: int | None, step_ms: int | None, **fields: object) -> list[object]:
        """A parent whose child takes ten seconds; returns statuses, the parent's error and the seconds that it took."""
        child = step(
            "c",
            kind=EnumWorkflowStepType.ORCHESTRATOR,
            is_service=False,
            node="child.yaml",
            timeout_ms=step_ms,
            **fields,
        )
        plan = plan_of(child, step("after", "c"), timeout_ms=limit_ms, coordination=PARALLEL)

        class Runner(StepRunner):
            def child_bundle(self, step: PlannedStep) -> WorkflowBundle:
                assert step.node is not None
                return WorkflowBundle(step.node, {}, "1" * 64)

        async def run(context: DurableContext, bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
            if bundle.root == "child.yaml":
                await context.sleep_until(1, await context.now(2) + timedelta(seconds=10))
                return {"output": input_data}
            bench = Bench(plan)
            return await interpret(plan, context, Runner({}, bench.container), input_data)

        async def main() -> list[object]:
            engine = MemoryEngine(run)
            await engine.start(StartRequest("w", BUNDLE, 5))
            parent = await engine.wait("w")
            runs = await engine.list(RunFilter(parent_id="w"))
            children = [await engine.wait(each.workflow_id) for each in runs]
            await engine.aclose()
            assert isinstance(parent.output, dict)
            seconds = (parent.updated_at - parent.created_at).total_seconds()
            statuses = [each.status.value for each in (parent, *children)]
            return [statuses, parent.output["output"], round(seconds)]

        return run_virtual(main())

    def test_its_output_is_that_of_the_step(self) -> None:
        """One run, or one for each of a list."""
        assert self.family(None, None) == [["completed", "completed"], {"c": "c", "after": "after"}, 10]
        assert self.family(None, None, for_each=lambda _: [1, 2]) == [
            ["completed"] * 3,
            {"c": ["c", "c"], "after": "after"},
            10,
        ]

    def test_a_child_that_takes_too_long_is_cancelled_with_its_parent(self) -> None:
        """By the time of the workflow, or of the step."""
        assert self.family(3_000, None) == [["failed", "cancelled"], None, 3]
        assert self.family(None, 4_000) == [["failed", "cancelled"], None, 4]
        assert self.family(5_000, 4_000, for_each=lambda _: [1]) == [["failed", "cancelled"], None, 4]
        assert self.family(3_000, 4_000) == [["failed", "cancelled"], None, 3]

    @staticmethod
    def related(plan: WorkflowPlan, service: Service, child_plan: WorkflowPlan) -> tuple[RunView, list[RunView]]:
        """A parent and the runs that it started, all with one service."""
        benches = {"parent": Bench(plan, service), "child": Bench(child_plan, service)}

        class Runner(StepRunner):
            def child_bundle(self, step: PlannedStep) -> WorkflowBundle:
                return WorkflowBundle("child", {}, "1" * 64)

        async def run(context: DurableContext, bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
            bench = benches["child" if bundle.root == "child" else "parent"]
            return await interpret(bench.plan, context, Runner({}, bench.container), input_data)

        async def main() -> tuple[RunView, list[RunView]]:
            engine = MemoryEngine(run)
            await engine.start(StartRequest("w", BUNDLE))
            parent = await engine.wait("w")
            children = list(await engine.list(RunFilter(parent_id="w")))
            await engine.aclose()
            return parent, children

        return run_virtual(main())

    def test_a_child_whose_time_is_up_has_ended_before_it_is_undone(self) -> None:
        """It does nothing beside its compensation, nor after it."""
        service = Service({"undo": lambda _: asyncio.sleep(30)}, seconds=1)
        child_plan = plan_of(*(step(name) for name in ("one", "two", "three")))

        parent, children = self.related(
            plan_of(child_step("c", timeout_ms=1_500, compensate=step("undo"))), service, child_plan
        )

        assert service.calls == ["one", "two", "undo"]
        assert service.ended == ["one", "undo"]
        assert [each.status.value for each in (parent, *children)] == ["failed", "cancelled"]

    def test_a_child_whose_time_is_up_has_ended_before_the_rest_goes_on(self) -> None:
        """Also where its failure is passed over."""
        service = Service(seconds=1)
        child_plan = plan_of(*(step(name) for name in ("one", "two", "three")))
        plan = plan_of(child_step("c", timeout_ms=1_500, on_failure=EnumOnFailure.SKIP), step("next"))

        parent, _ = self.related(plan, service, child_plan)

        assert parent.status is EnumRunStatus.COMPLETED
        assert service.calls == ["one", "two", "next"]

    @pytest.mark.parametrize("fields", [{}, {"for_each": lambda _: [1]}])
    def test_a_child_that_goes_on_when_its_parent_aborts_is_ended_and_undone(self, fields: dict[str, object]) -> None:
        """As an effect of which nobody knows whether it happened."""
        service = Service({"bad": lambda _: fail_at(2.5)}, seconds=0)
        pause = wait("pause", until=lambda _, began: began + timedelta(seconds=2))
        child_plan = plan_of(step("one"), pause, step("two"), wait("more", signal="never"))
        plan = plan_of(child_step("c", compensate=step("undo"), **fields), step("bad"), coordination=PARALLEL)

        parent, children = self.related(plan, service, child_plan)

        assert sorted(map(str, service.calls[:2])) == ["bad", "one"]
        assert service.calls[2:] == ["two", "undo"]
        assert [each.status.value for each in (parent, *children)] == ["failed", "cancelled"]
        assert round((parent.updated_at - parent.created_at).total_seconds(), 3) == 2.5

    def test_children_count_among_the_steps_that_run_at_once(self) -> None:
        """No more of them than `max_parallel_steps`, and they are told."""
        service = Service(seconds=1)
        plan = plan_of(*(child_step(f"c{n}") for n in range(5)), coordination=PARALLEL, max_parallel_steps=2)

        parent, _ = self.related(plan, service, plan_of(step("one")))

        assert service.most_running == 2
        assert isinstance(parent.output, dict)
        assert parent.output["parallelism_achieved"] == 2

    def test_a_child_that_was_not_begun_is_not_undone(self) -> None:
        """The time of the workflow was up before."""
        service = Service({"long": lambda _: slow_and_deaf()})
        plan = plan_of(step("long"), child_step("c", compensate=step("undo")), timeout_ms=3_000)

        parent, children = self.related(plan, service, plan_of(step("one")))

        assert service.calls == ["long"]
        assert children == []
        assert parent.error is not None
        assert parent.error.code is CODES.TIMEOUT


def child_step(step_id: str, **fields: object) -> StepSpec:
    """A step that is a run of another workflow."""
    return step(step_id, kind=EnumWorkflowStepType.ORCHESTRATOR, is_service=False, node="child.yaml", **fields)


def test_the_order_of_undoing_does_not_hang_on_clocks() -> None:
    """A step was recorded by a machine whose clock is behind: it still counts as done after what it depends on."""
    bench = Bench(
        plan_of(
            step("first", compensate=step("undo first")),
            step("second", "first", compensate=step("undo second")),
            step("bad", "second"),
            coordination=PARALLEL,
        ),
        Service({"bad": failure()}),
    )
    store = MemoryStore()

    async def main() -> None:
        engine = MemoryEngine(bench.run, store)
        await engine.start(StartRequest("w", BUNDLE))
        await engine.wait("w")
        run = store.runs["w"]
        record = run.records[position_of(1)]
        run.records[position_of(1)] = replace(record, outcome=replace(record.outcome, ended_at=5.0))
        for position in [each for each in run.records if each > position_of(2)]:
            del run.records[position]
        run.status = EnumRunStatus.RUNNING
        bench.service.calls.clear()
        await engine.aclose()
        again = MemoryEngine(bench.run, store)
        await again.recover()
        await again.wait("w")
        await again.aclose()

    run_virtual(main())

    assert bench.service.calls == ["undo second", "undo first"]
