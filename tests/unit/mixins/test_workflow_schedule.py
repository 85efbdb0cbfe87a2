"""Order of steps: sequential, parallel, conditions, lists, levels."""

import asyncio

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumDurability, EnumOnFailure, EnumWorkflowCoordination
from omnibase_core.protocols.protocol_workflow_engine import position_of
from omnibase_core.utils.workflow_plan import WorkflowPlan, WorkflowScope
from omnibase_spi.engine_memory import MemoryEngine
from tests.support.computing import compute_nodes, pure
from tests.support.workflows import Service, failure, plan_of, ran, step, wait

PARALLEL = EnumWorkflowCoordination.PARALLEL


def fails(_scope: WorkflowScope) -> JsonValue:
    raise failure("the template cannot be filled in")


def test_sequential_steps_run_one_by_one_in_topological_order() -> None:
    """Each behind the one before, whatever they depend on."""
    done = ran(plan_of(step("a"), step("b"), step("c", "a")), Service(seconds=1))

    assert done.service.calls == ["a", "b", "c"]
    assert done.service.most_running == 1
    assert done.output == {"a": "a", "b": "b", "c": "c"}
    assert done.seconds == 3
    assert done.document["parallelism_achieved"] == 1
    assert done.document["success_rate"] == 1.0


def test_a_parallel_step_starts_the_moment_its_dependencies_are_done() -> None:
    """Not level by level: `late` waits for `quick` only, not for `slow`."""
    service = Service({"slow": lambda _: asyncio.sleep(10, "s"), "quick": lambda _: asyncio.sleep(1, "q")})

    done = ran(plan_of(step("slow"), step("quick"), step("late", "quick"), coordination=PARALLEL), service)

    assert done.service.ended == ["quick", "late", "slow"]
    assert done.seconds == 10
    assert done.document["parallelism_achieved"] == 2


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_at_most_so_many_steps_run_at_once(most: int) -> None:
    """And as many as that."""
    plan = plan_of(*(step(f"s{n}") for n in range(21)), coordination=PARALLEL, max_parallel_steps=most)

    done = ran(plan, Service(seconds=1))

    assert done.service.most_running == min(most, 21)
    assert done.seconds == -(-21 // most)
    assert done.document["parallelism_achieved"] == min(most, 21)


def test_of_ready_steps_the_smaller_priority_number_is_first() -> None:
    """Ties go by declaration."""
    plan = plan_of(
        step("c", priority=2), step("d", priority=2), step("a", priority=1), coordination=PARALLEL, max_parallel_steps=1
    )

    assert ran(plan).service.calls == ["a", "c", "d"]


def test_what_only_waits_takes_no_place_of_a_worker() -> None:
    """Ten timers and one step at a time."""
    timers = [wait(f"t{n}", until=lambda _scope, now: now.replace(year=now.year + 1)) for n in range(10)]
    plan = plan_of(*timers, step("a"), step("b"), coordination=PARALLEL, max_parallel_steps=1)

    done = ran(plan, Service(seconds=1))

    assert done.service.calls == ["a", "b"]
    assert done.result("b")["ended_at"] == pytest.approx(done.document["started_at"], abs=3)
    assert 364 * 86_400 < done.seconds < 367 * 86_400


def test_a_step_whose_condition_does_not_hold_is_skipped_and_counts_as_done() -> None:
    """Its output is null; what depends on it runs."""
    plan = plan_of(
        step("a", when=lambda scope: bool(scope.input)), step("b", "a", make_input=lambda scope: [scope.steps["a"]])
    )

    done = ran(plan, None, False)

    assert done.statuses == {"a": "skipped", "b": "completed"}
    assert done.output == {"a": None, "b": [None]}
    assert done.result("a")["attempts"] == 0


def test_a_disabled_step_counts_as_done() -> None:
    """Without being called."""
    done = ran(plan_of(step("a", enabled=False), step("b", "a"), coordination=PARALLEL))

    assert done.service.calls == ["b"]
    assert done.statuses == {"a": "skipped", "b": "completed"}
    assert done.error("a") == "the step is disabled"


def test_a_condition_that_fails_is_a_failure_of_the_step() -> None:
    """And aborts, as any other."""
    done = ran(plan_of(step("a", when=fails), step("b")))

    assert done.statuses == {"a": "failed", "b": "skipped"}
    assert done.error("a") == "the template cannot be filled in"


@pytest.mark.parametrize("coordination", [EnumWorkflowCoordination.SEQUENTIAL, PARALLEL])
def test_a_step_is_done_for_each_of_a_list(coordination: EnumWorkflowCoordination) -> None:
    """Outputs in the order of the list; item and index are readable; records stand behind position 2."""
    plan = plan_of(
        step("a", for_each=lambda scope: scope.input, make_input=lambda s: [s.item, s.index]),
        step("b", "a", make_input=lambda scope: scope.steps["a"]),
        coordination=coordination,
    )

    done = ran(plan, Service(seconds=1), ["x", "y", "z"])

    assert done.output == {"a": [["x", 0], ["y", 1], ["z", 2]], "b": [["x", 0], ["y", 1], ["z", 2]]}
    assert done.result("a")["items"] == {"total": 3, "failed": 0}
    assert [(r.position, r.name) for r in done.steps][:3] == [(position_of(0, 2 + n), f"a[{n}]") for n in range(3)]
    assert done.seconds == (2 if coordination is PARALLEL else 4)


def test_items_share_the_workers_with_other_steps() -> None:
    """The limit holds over all."""
    plan = plan_of(
        step("a", for_each=lambda _: list(range(10))), step("b"), coordination=PARALLEL, max_parallel_steps=3
    )

    assert ran(plan, Service(seconds=1)).service.most_running == 3


def test_an_empty_list_is_done_at_once_and_what_is_no_list_is_a_failure() -> None:
    """As is a list that cannot be made."""
    empty = ran(plan_of(step("a", for_each=lambda _: []), step("b", "a")))
    no_list = ran(plan_of(step("a", for_each=lambda _: 5)))
    broken = ran(plan_of(step("a", for_each=fails)))

    assert empty.output == {"a": [], "b": "b"}
    assert no_list.error("a") == "step 'a': items are a list, found int"
    assert broken.error("a") == "the template cannot be filled in"


def test_a_condition_for_each_item_leaves_items_out() -> None:
    """Their output is null."""
    plan = plan_of(
        step(
            "a",
            for_each=lambda _: [1, 2, 3],
            when=lambda scope: scope.item != 2,
            when_each=True,
            make_input=lambda scope: scope.item,
        )
    )

    done = ran(plan)

    assert done.output == {"a": [1, None, 3]}
    assert done.service.calls == [1, 3]


@pytest.mark.parametrize("coordination", [EnumWorkflowCoordination.SEQUENTIAL, PARALLEL])
def test_an_item_that_fails_ends_the_others_unless_it_may_be_skipped(coordination: EnumWorkflowCoordination) -> None:
    """skip: null in its place, the step completes. abort: no further items."""

    def of(policy: EnumOnFailure | None, *, on: bool = False) -> WorkflowPlan:
        return plan_of(
            step("a", for_each=lambda _: list(range(40)), make_input=lambda s: s.item, on_failure=policy),
            step("b", "a"),
            coordination=coordination,
            continue_on_error=on,
        )

    skipped = ran(of(EnumOnFailure.SKIP), Service({"1": failure("bad item")}, 1))
    aborted = ran(of(None), Service({"1": failure("bad item")}, 1))
    on = ran(of(None, on=True), Service({"1": failure("bad item")}, 1))

    assert skipped.statuses == {"a": "completed", "b": "completed"}
    assert skipped.output == {"a": [0, None, *range(2, 40)], "b": "b"}
    assert skipped.result("a")["items"] == {"total": 40, "failed": 1}
    assert aborted.statuses == {"a": "failed", "b": "skipped"}
    assert len(aborted.service.calls) < 10
    assert aborted.document["failed_items"] == [
        {
            "step_id": "a",
            "item": 1,
            "error": {"code": "OPERATION_FAILED", "kind": "ModelOnexError", "message": "bad item"},
        }
    ]
    assert on.statuses == {"a": "failed", "b": "skipped"}
    assert len(on.service.calls) == 40


def test_failed_items_stand_in_the_order_of_the_contract() -> None:
    """Not in that in which they failed, which is another one when a run is taken up again."""

    async def late(_: JsonValue) -> JsonValue:
        await asyncio.sleep(5)
        raise failure("late")

    plan = plan_of(
        step("a", for_each=lambda _: [1, 2], make_input=lambda scope: f"a{scope.item}"),
        step("b", for_each=lambda _: [1], make_input=lambda scope: f"b{scope.item}"),
        coordination=EnumWorkflowCoordination.PARALLEL,
        continue_on_error=True,
    )

    done = ran(plan, Service({"a1": late, "a2": failure("soon"), "b1": failure("soon")}))

    items = done.document["failed_items"]
    assert isinstance(items, list)
    assert [(item["step_id"], item["item"]) for item in items if isinstance(item, dict)] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
    ]


def test_an_abort_lets_steps_under_way_end_and_cancels_what_only_waits() -> None:
    """So that it is known what they did; nothing new begins."""
    service = Service({"bad": lambda _: fail_later(), "slow": lambda _: asyncio.sleep(9, "s")})
    plan = plan_of(
        step("bad"), step("slow"), wait("signal", signal="never"), step("next", "slow"), coordination=PARALLEL
    )

    done = ran(plan, service)

    assert done.statuses == {"bad": "failed", "slow": "completed", "signal": "cancelled", "next": "skipped"}
    assert done.error("next") == "it was not reached"
    assert done.seconds == 9


async def fail_later() -> object:
    await asyncio.sleep(1)
    raise failure("too bad")


def test_continue_on_error_ends_only_what_depends_on_the_failed_step() -> None:
    """The run completes; its success rate tells."""
    plan = plan_of(
        step("a"),
        step("b", "a"),
        step("c", "b"),
        step("d"),
        coordination=PARALLEL,
        continue_on_error=True,
    )

    done = ran(plan, Service({"a": failure()}))

    assert done.statuses == {"a": "failed", "b": "skipped", "c": "skipped", "d": "completed"}
    assert done.error("c") == "it depends on b, which did not end well"
    assert done.document["success_rate"] == 0.5
    assert done.view.error is None


def test_on_failure_of_a_step_wins_over_the_workflow() -> None:
    """skip: its output is null and what depends on it runs; abort although the workflow would go on."""
    skip = ran(plan_of(step("a", on_failure=EnumOnFailure.SKIP), step("b", "a")), Service({"a": failure("no")}))
    abort = ran(
        plan_of(step("a", on_failure=EnumOnFailure.ABORT), step("b"), continue_on_error=True),
        Service({"a": failure()}),
    )

    assert skip.statuses == {"a": "skipped", "b": "completed"}
    assert skip.output == {"a": None, "b": "b"}
    assert skip.error("a") == "no"
    assert abort.statuses == {"a": "failed", "b": "skipped"}


def test_the_error_of_an_aborted_run_names_workflow_step_and_reason() -> None:
    """With the code of the step's error."""
    done = ran(plan_of(step("a"), step("b")), Service({"b": failure("the shop is closed")}))

    assert done.view.error is not None
    assert done.view.error.message == "workflow 'by hand' (w): step 'b' is failed after 1 attempt: the shop is closed"
    assert done.document["status"] == "failed"
    assert done.document["output"] is None


def test_work_that_never_waits_lets_others_have_the_loop() -> None:
    """A long row of steps without a suspension does not hold it."""
    ticks: list[float] = []

    async def tick(engine: MemoryEngine) -> None:
        while not (await engine.query("w")).status.ended:
            ticks.append(engine.clock())
            await asyncio.sleep(0)

    for coordination in (EnumWorkflowCoordination.SEQUENTIAL, PARALLEL):
        plan = plan_of(step("a", for_each=lambda _: list(range(3000))), coordination=coordination)
        ran(plan, drive=tick)

    assert len(ticks) > 20


class TestLevels:
    """`durability: level`: pure steps of one depth have one record."""

    def test_pure_steps_of_one_depth_are_one_record_and_those_of_a_run_none(self) -> None:
        """At the position of the first; effects always have their own."""
        for durability, names in (
            (EnumDurability.STEP, ["a", "b", "c", "e"]),
            (EnumDurability.LEVEL, ["a and 1 more", "c", "e"]),
            (EnumDurability.RUN, ["e"]),
        ):
            for coordination in (EnumWorkflowCoordination.SEQUENTIAL, PARALLEL):
                plan = plan_of(
                    pure("a"),
                    pure("b"),
                    pure("c", "a"),
                    step("e", "c"),
                    durability=durability,
                    coordination=coordination,
                )

                done = ran(plan, nodes=compute_nodes())

                assert [record.name for record in done.steps] == names
                assert done.output == {"a": "a", "b": "b", "c": "c", "e": "e"}

    def test_steps_of_a_level_are_skipped_fail_and_are_repeated_for_lists_one_by_one(self) -> None:
        """As if each were alone."""
        plan = plan_of(
            pure("off", enabled=False),
            pure("not", when=lambda _: False),
            pure("bad", make_input=lambda _: {"no": 1}, on_failure=EnumOnFailure.SKIP),
            pure("each", for_each=lambda _: [1, 2], make_input=lambda scope: {"value": scope.item}),
            pure("empty", for_each=lambda _: []),
            pure("some", for_each=lambda _: [1, 2], when=lambda s: s.item > 1, when_each=True),
            pure(
                "late", for_each=lambda _: [{}, 2], make_input=lambda scope: scope.item, on_failure=EnumOnFailure.SKIP
            ),
            durability=EnumDurability.LEVEL,
        )

        done = ran(plan, nodes=compute_nodes())

        assert done.statuses == {
            "off": "skipped",
            "not": "skipped",
            "bad": "skipped",
            "each": "completed",
            "empty": "completed",
            "some": "completed",
            "late": "completed",
        }
        assert done.output == {
            "off": None,
            "not": None,
            "bad": None,
            "each": [1, 2],
            "empty": [],
            "some": [None, "some"],
            "late": [None, None],
        }

    def test_an_item_of_a_level_that_aborts_ends_the_run(self) -> None:
        """The rest of its list is not computed."""
        plan = plan_of(
            pure("a", for_each=lambda _: [{}, {"value": 1}], make_input=lambda scope: scope.item),
            pure("b"),
            durability=EnumDurability.LEVEL,
        )

        done = ran(plan, nodes=compute_nodes())

        assert done.statuses == {"a": "failed", "b": "completed"}
        assert done.view.error is not None
