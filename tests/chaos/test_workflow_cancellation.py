"""A run that is cancelled at any of its suspensions leaves nothing behind."""

import asyncio

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumWorkflowCoordination
from omnibase_core.mixins.workflow_interpreter import interpret
from omnibase_core.mixins.workflow_steps import StepRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_workflow_engine import DurableContext, StartRequest, WorkflowBundle
from omnibase_core.utils.workflow_plan import WorkflowPlan
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.testing import run_virtual
from tests.support.suspensions import CancelAt
from tests.support.workflows import BUNDLE, Service, failure, plan_of, retried, step, wait

PARALLEL = EnumWorkflowCoordination.PARALLEL


def plans() -> dict[str, WorkflowPlan]:
    """One of each way."""
    return {
        "in order": plan_of(step("a"), step("b", timeout_ms=500, retry=retried(2)), step("c")),
        "parallel": plan_of(
            step("a"), step("b"), step("c", "a"), wait("w", signal="never", timeout_ms=3_000), coordination=PARALLEL
        ),
        "items": plan_of(step("a", for_each=lambda _: list(range(7))), coordination=PARALLEL, max_parallel_steps=3),
        "undone": plan_of(step("a", compensate=step("undo")), step("bad", "a"), step("x"), coordination=PARALLEL),
        "pipeline": plan_of(
            step("a"),
            step("b"),
            coordination=EnumWorkflowCoordination.PIPELINE,
            items=lambda _: list(range(5)),
        ),
    }


@pytest.mark.parametrize("name", sorted(plans()))
def test_a_run_cancelled_at_any_suspension_leaves_no_task_and_no_service_at_work(name: str) -> None:
    """Swept over all of them."""
    plan = plans()[name]

    async def once(number: int) -> bool:
        service = Service({"bad": failure()}, seconds=1)
        container = ModelONEXContainer()
        container.register_service("work", service)
        reached: list[bool] = []

        async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
            driver = CancelAt(interpret(plan, context, StepRunner({}, container), input_data), number)
            try:
                await driver
            finally:
                reached.append(driver.reached)
            return None

        engine = MemoryEngine(run)
        await engine.start(StartRequest("w", BUNDLE))
        task = engine.store.runs["w"].task
        if task is not None:
            await asyncio.wait([task])
        assert service.running == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await engine.aclose()
        return reached[0]

    number = 0
    while run_virtual(once(number)):
        number += 1

    assert number >= 1


@pytest.mark.parametrize("name", sorted(plans()))
def test_a_run_cancelled_from_outside_at_any_time_ends_cancelled_with_its_document(name: str) -> None:
    """Every tenth of a second of its life."""
    plan = plans()[name]

    async def once(seconds: float) -> bool:
        service = Service({"bad": failure()}, seconds=1)
        container = ModelONEXContainer()
        container.register_service("work", service)

        async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
            return await interpret(plan, context, StepRunner({}, container), input_data)

        engine = MemoryEngine(run)
        await engine.start(StartRequest("w", BUNDLE))
        await asyncio.sleep(seconds)
        cancelled = await engine.cancel(["w"])
        view = await engine.wait("w")
        assert service.running == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        if cancelled:
            assert view.status.value == "cancelled"
            assert isinstance(view.output, dict)
            assert view.output["status"] == "cancelled"
        await engine.aclose()
        return bool(cancelled)

    tenths = 0
    while run_virtual(once(tenths / 10)):
        tenths += 1

    assert tenths > 10
