"""Pipelines: order, backpressure, failures of items, memory."""

import asyncio
import tracemalloc
from dataclasses import replace

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumDurability, EnumOnFailure, EnumWorkflowCoordination
from omnibase_core.protocols.protocol_workflow_engine import position_of
from omnibase_core.utils.workflow_plan import WorkflowPlan, WorkflowScope
from omnibase_spi.engine_memory import MemoryEngine
from tests.support.computing import compute_nodes, pure
from tests.support.workflows import Service, StepSpec, failure, plan_of, ran, step


def pipeline(*specs: StepSpec, **fields: object) -> WorkflowPlan:
    """A pipeline over the input."""
    plan = plan_of(*specs, durability=EnumDurability.STEP)
    given = {"coordination": EnumWorkflowCoordination.PIPELINE, "items": lambda scope: scope.input, **fields}
    return replace(plan, **given)  # type: ignore[arg-type]  # fields of the plan


def takes_item(scope: WorkflowScope) -> JsonValue:
    return scope.item


def before(step_id: str) -> StepSpec:
    """A step that takes what the step before gave, as `<output>.<id>`."""
    return step(
        step_id, make_input=lambda scope: f"{list(scope.steps.values())[-1] if scope.steps else scope.item}.{step_id}"
    )


def test_each_item_goes_through_all_steps_in_order() -> None:
    """The output of the last step, in the order of the items; records at item positions."""
    done = ran(pipeline(before("a"), before("b"), before("c")), input_data=["x", "y"])

    assert done.output == {"c": ["x.a.b.c", "y.a.b.c"]}
    assert [record.position for record in done.steps] == [position_of(s, 2 + i) for s in range(3) for i in range(2)]
    assert done.result("a")["items"] == {"total": 2, "failed": 0}


def test_a_step_works_on_the_next_item_while_the_next_step_works_on_this_one() -> None:
    """Ten items through three steps of a second take twelve."""
    done = ran(pipeline(*(step(name, make_input=takes_item) for name in "abc")), Service(seconds=1), list(range(10)))

    assert done.seconds == 12
    assert done.service.most_running == 3
    assert done.document["parallelism_achieved"] == 3
    assert done.output == {"c": list(range(10))}


@pytest.mark.parametrize("durability", EnumDurability)
@pytest.mark.parametrize("most", [1, 2])
def test_at_most_so_many_steps_work_at_once(most: int, durability: EnumDurability) -> None:
    """They take turns; a step whose items share records counts as well."""
    plan = pipeline(
        *(step(name, make_input=takes_item) for name in "abc"),
        pure("d", make_input=lambda scope: {"value": scope.item}),
        max_parallel_steps=most,
    )
    plan = replace(plan, durability=durability)

    done = ran(plan, Service(seconds=1), list(range(4)), nodes=compute_nodes())

    assert done.service.most_running == most
    assert done.document["parallelism_achieved"] == most
    assert done.output == {"d": list(range(4))}
    assert done.seconds <= 12 / most + 2


def test_a_step_whose_turn_comes_after_the_abort_begins_nothing() -> None:
    """What is under way ends, and that is all."""
    service = Service({"1": failure()}, seconds=1)
    plan = pipeline(
        *(step(name, make_input=takes_item, on_failure=EnumOnFailure.ABORT) for name in "abc"), max_parallel_steps=1
    )

    done = ran(plan, service, [0, 1, 2, 3])

    assert done.view.status.value == "failed"
    assert service.calls[-1] == 1
    assert done.seconds == len(service.calls)


def test_order_is_kept_whatever_an_item_takes() -> None:
    """Slow ones hold up those behind, they are not overtaken."""
    service = Service({str(n): (lambda p, s=n: asyncio.sleep((7 * s) % 5, p)) for n in range(20)})

    done = ran(pipeline(step("a", make_input=takes_item), step("b", make_input=takes_item)), service, list(range(20)))

    assert done.document["output"] == {"b": list(range(20))}


def test_a_slow_step_makes_those_before_it_wait() -> None:
    """Backpressure: what is under way is bounded."""
    ahead = 0

    def quick(_parameters: JsonValue) -> str:
        nonlocal ahead
        ahead = max(ahead, len(service.calls) - 2 * sum(call == "slow" for call in service.calls))
        return "q"

    service = Service({"quick": quick, "slow": lambda _: asyncio.sleep(1)})

    ran(pipeline(step("quick"), step("slow")), service, list(range(200)))

    assert 30 < ahead < 50


def test_a_failed_item_is_left_out_and_the_others_go_on() -> None:
    """It is told; its place in the output is null; the step has failed, the run has not."""
    service = Service({"1.a.b": failure("broken")})

    done = ran(pipeline(before("a"), before("b"), before("c")), service, [0, 1, 2])

    assert done.document["output"] == {"c": ["0.a.b.c", None, "2.a.b.c"]}
    assert done.view.error is None
    assert done.result("b")["items"] == {"total": 3, "failed": 1}
    assert done.result("c")["items"] == {"total": 2, "failed": 0}
    assert done.statuses == {"a": "completed", "b": "failed", "c": "completed"}
    failed = done.document["failed_items"]
    assert isinstance(failed, list)
    assert len(failed) == 1


def test_a_failure_that_may_be_skipped_lets_the_item_go_on() -> None:
    """With null as output of the step."""
    bad = step("a", make_input=takes_item, on_failure=EnumOnFailure.SKIP)

    done = ran(
        pipeline(bad, step("b", make_input=lambda scope: [scope.item, scope.steps["a"]])),
        Service({"1": failure()}),
        [0, 1, 2],
    )

    assert done.document["output"] == {"b": [[0, 0], [1, None], [2, 2]]}


def test_a_failure_that_aborts_ends_the_pipeline_and_undoes_items() -> None:
    """When the step asks for it; steps under way come to their end."""
    undo = step("undo", make_input=lambda scope: f"undo {scope.item}")
    plan = pipeline(
        step("a", make_input=takes_item, compensate=undo),
        step("b", make_input=lambda scope: f"b{scope.item}", on_failure=EnumOnFailure.ABORT),
    )

    done = ran(plan, Service({"b2": failure("enough")}, seconds=1), list(range(100)))

    assert done.view.error is not None
    assert "enough" in done.view.error.message
    assert done.statuses["b"] == "failed"
    assert len(done.service.calls) < 20
    undone = [call for call in done.service.calls if str(call).startswith("undo")]
    assert undone == [f"undo {n}" for n in range(len(undone) - 1, -1, -1)]
    assert len(undone) >= 3


def test_the_time_of_the_workflow_ends_a_pipeline() -> None:
    """Whatever the policy of the step is."""
    done = ran(pipeline(step("a", make_input=takes_item), timeout_ms=3_500), Service(seconds=1), list(range(9)))

    assert done.view.error is not None
    assert done.view.error.code is EnumCoreErrorCode.TIMEOUT
    assert len(done.service.calls) == 4


def test_disabled_steps_and_conditions_of_items() -> None:
    """A disabled stage is not there; a condition leaves an item out of one stage only."""
    plan = pipeline(
        step("off", enabled=False),
        step("odd", make_input=takes_item, when=lambda scope: scope.item % 2 == 1),
        step("all", make_input=lambda scope: scope.steps["odd"]),
    )

    done = ran(plan, input_data=[1, 2, 3])

    assert sorted(map(str, done.service.calls)) == ["1", "1", "3", "3", "None"]
    assert done.output == {"off": None, "all": [1, None, 3]}
    assert done.statuses["off"] == "skipped"


def test_an_output_of_its_own_may_read_every_step() -> None:
    """Lists by step."""
    plan = pipeline(before("a"), before("b"), make_output=lambda s: {"a": s.steps["a"], "n": len(s.steps)})

    assert ran(plan, input_data=["x"]).document["output"] == {"a": ["x.a"], "n": 2}


@pytest.mark.parametrize(("items", "message"), [(None, "has no items"), (lambda _: 5, "items are a list, found int")])
def test_what_is_no_list_of_items_fails_the_run(items: object, message: str) -> None:
    """Before any step."""
    done = ran(pipeline(step("a"), items=items))

    assert done.view.error is not None
    assert message in done.view.error.message
    assert done.service.calls == []


def test_no_items_are_done_at_once() -> None:
    """With empty outputs."""
    assert ran(pipeline(step("a")), input_data=[]).document["output"] == {"a": []}


def test_ten_thousand_items_go_through_five_steps_in_bounded_memory() -> None:
    """Order kept; of what is under way only the queues are held, at the end the last step's outputs."""

    def item(scope: WorkflowScope) -> JsonValue:
        return {"value": scope.item}

    stages = [pure(name, make_input=item) for name in "abcde"]
    plan = pipeline(*stages)
    plan = replace(plan, units=tuple(replace(unit, recorded=False) for unit in plan.units))
    items: list[JsonValue] = list(range(10_000))
    tracemalloc.start()
    try:
        done = ran(plan, input_data=items, nodes=compute_nodes())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    output = done.document["output"]
    assert isinstance(output, dict)
    assert output["e"] == items
    assert done.steps == []
    assert peak < 8_000_000


def test_a_paused_pipeline_goes_on_where_it_was() -> None:
    """No item goes twice through a step."""

    async def drive(engine: MemoryEngine) -> None:
        await asyncio.sleep(5.5)
        await engine.pause("w")
        await asyncio.sleep(100)
        await engine.resume("w")

    done = ran(
        pipeline(step("a", make_input=takes_item), before("b")), Service(seconds=1), list(range(10)), drive=drive
    )

    assert done.document["output"] == {"b": [f"{n}.b" for n in range(10)]}
    assert len(done.service.calls) == 20
