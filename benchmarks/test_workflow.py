"""What a step of a workflow costs on the engine in memory: each computes by a contract, beside a plain loop that does.

CPU time of whole runs, start and final document included, divided by the number of steps.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Final

import pytest
from pydantic import JsonValue

from benchmarks.measure import Table
from omnibase_core.enums.enum_workflow import EnumDurability, EnumRunStatus, EnumWorkflowCoordination
from omnibase_core.mixins.workflow_interpreter import interpret
from omnibase_core.mixins.workflow_steps import StepRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract
from omnibase_core.protocols.protocol_workflow_engine import DurableContext, StartRequest, WorkflowBundle
from omnibase_core.utils.compute_executor import compute_or_raise
from omnibase_core.utils.contract_loader import LoadedContract, load_contract
from omnibase_core.utils.workflow_compiler import compile_workflow
from omnibase_core.utils.workflow_plan import PlannedStep, Unit, WorkflowPlan
from omnibase_spi.engine_memory import MemoryEngine
from tests.support.computing import TEXT

LIMIT_US: Final = 40
GROWTH: Final = 2.0
STEPS: Final = (10, 100, 1_000, 10_000)
_AT_ONCE: Final = 2_000
"""Steps that a round has at least."""
_BUNDLE: Final = WorkflowBundle("workflow.yaml", {}, "0" * 64)


def _chain(count: int, coordination: EnumWorkflowCoordination) -> WorkflowPlan:
    """A plan as the compiler makes it of three steps, with as many as wanted; sequential, or seven branches."""
    gap = 1 if coordination is EnumWorkflowCoordination.SEQUENTIAL else 7
    fields = {
        "workflow_name": "chain",
        "coordination_type": coordination.value,
        "durability": EnumDurability.STEP.value,
        "steps": [
            {
                "step_id": f"s{number}",
                "step_type": "compute",
                "node": "pick.yaml",
                "input": {"value": "${input.x}"},
                "depends_on": [f"s{number - 1}"] if number else [],
            }
            for number in range(2)
        ],
    }
    made = compile_workflow(ModelOrchestratorSubcontract.model_validate(fields))
    steps: list[PlannedStep] = []
    units: list[Unit] = []
    for number in range(count):
        before = (number - gap,) if number >= gap else ()
        after = (number + gap,) if number + gap < count else ()
        steps.append(replace(made.steps[0], index=number, step_id=f"s{number}", depends_on=before, dependents=after))
        units.append(Unit(number, (number,), before, after, recorded=True))
    return replace(made, steps=tuple(steps), order=tuple(range(count)), units=tuple(units))


def _runs(plan: WorkflowPlan, loaded: LoadedContract, count: int) -> Callable[[], Coroutine[object, object, None]]:
    """So many runs of a plan, each on a fresh engine."""
    runner = StepRunner({"pick.yaml": loaded}, ModelONEXContainer())

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        return await interpret(plan, context, runner, input_data)

    async def all_of_them() -> None:
        for _ in range(count):
            engine = MemoryEngine(run)
            await engine.start(StartRequest("w", _BUNDLE, {"x": 1}))
            view = await engine.wait("w")
            await engine.aclose()
            assert view.status is EnumRunStatus.COMPLETED

    return all_of_them


def _loop(loaded: LoadedContract, steps: int) -> Callable[[], Coroutine[object, object, None]]:
    """The same computations by a plain asynchronous loop."""
    plan = loaded.compute_plan
    assert plan is not None

    async def one(data: JsonValue) -> object:
        return compute_or_raise(plan, data).output

    async def all_of_them() -> None:
        outputs = {}
        for number in range(steps):
            outputs[f"s{number}"] = await one({"value": 1})

    return all_of_them


def _best_us(work: Callable[[], Coroutine[object, object, None]], steps: int, rounds: int = 5) -> float:
    """Microseconds of CPU per step of the fastest round."""

    async def measured() -> float:
        best = float("inf")
        for _ in range(rounds):
            began = time.process_time()
            await work()
            best = min(best, time.process_time() - began)
        return best / steps * 1e6

    return asyncio.run(measured())


@pytest.mark.parametrize("coordination", [EnumWorkflowCoordination.SEQUENTIAL, EnumWorkflowCoordination.PARALLEL])
def test_cost_of_a_step(table: Table, coordination: EnumWorkflowCoordination) -> None:
    """At most 40 us, and at 10,000 steps at most twice that at 10."""
    loaded = load_contract(TEXT)
    costs: dict[int, float] = {}
    for count in STEPS:
        runs = max(1, _AT_ONCE // count)
        costs[count] = _best_us(_runs(_chain(count, coordination), loaded, runs), runs * count)
        bare = _best_us(_loop(loaded, count * runs), count * runs)
        what = f"{coordination.value}, {count:,} steps, CPU per step"
        table.add("workflow", what, costs[count], "us", LIMIT_US, note=f"a plain loop {bare:.1f} us")
    growth = costs[STEPS[-1]] / costs[STEPS[0]]
    table.add("workflow", f"{coordination.value}, 10,000 steps beside 10", growth, "x", GROWTH)
