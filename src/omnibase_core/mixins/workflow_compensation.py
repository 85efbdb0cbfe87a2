"""Undoing: when a run aborts, the compensations of what was done run in reverse order of completion."""

from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.mixins.workflow_run import Undoable, WorkflowRun, error_json


async def compensate(run: WorkflowRun) -> None:
    """Run the compensations one by one; one that fails is told, and the others run all the same.

    The time of the workflow does not hold here. The order comes from recorded times, so that a replay has the same.
    """
    deadline, run.deadline = run.deadline, None
    pending = sorted(run.undoable, key=_when, reverse=True)
    failed: set[int] = set()
    try:
        for done in pending:
            step = done.step.compensate
            if step is None:
                continue
            call = run.call(step, done.number)
            scope = run.scope(step, call, done.scope.item, done.scope.index, done.scope.steps)
            outcome = await run.carry_out(step, scope, call, done.number, recorded=True)
            entry: dict[str, JsonValue] = {
                "step_id": done.step.step_id,
                "item": done.number,
                "by": step.step_id,
                "status": outcome.status.value,
                "error": error_json(outcome.error),
            }
            run.undone.append(entry)
            if outcome.status is not EnumStepStatus.COMPLETED:
                failed.add(done.step.index)
    finally:
        run.deadline = deadline
    run.compensated.update({done.step.index for done in pending} - failed)


def _when(done: Undoable) -> tuple[float, int, int]:
    return done.ended_at, done.step.index, -1 if done.number is None else done.number
