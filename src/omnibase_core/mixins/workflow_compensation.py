"""Undoing: when a run aborts, the compensations of what was done run in reverse order of completion."""

from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumStepStatus, EnumWorkflowCoordination
from omnibase_core.mixins.workflow_run import Undoable, WorkflowRun, error_json


async def compensate(run: WorkflowRun) -> None:
    """Run the compensations one by one; one that fails is told, and the others run all the same.

    The time of the workflow does not hold here.
    """
    deadline, run.deadline = run.deadline, None
    pending = _last_first(run)
    failed: set[int] = set()
    try:
        for done in pending:
            step = done.step.compensate
            if step is None:  # pragma: no cover  # only steps with one are kept
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
                "action_id": call.action_id,
                "step_type": step.kind.value,
                "node": step.node,
                "started_at": outcome.started_at,
                "ended_at": outcome.ended_at,
                "issued": None if outcome.issued is None else list(outcome.issued),
            }
            run.undone.append(entry)
            run.epoch += 1
            if outcome.status is not EnumStepStatus.COMPLETED:
                failed.add(done.step.index)
    finally:
        run.deadline = deadline
    run.compensated.update({done.step.index for done in pending} - failed)


def _last_first(run: WorkflowRun) -> list[Undoable]:
    """What is to be undone, by order of completion, as it is recorded, so that a replay has the same.

    Steps may have been recorded by machines whose clocks differ: one counts as done after all that it depends on, and
    in sequential order after all that come before it.
    """
    plan = run.plan
    rank = {index: place for place, index in enumerate(plan.order)}
    in_order = plan.coordination is EnumWorkflowCoordination.SEQUENTIAL
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    for index in plan.order:
        outcome = run.outcomes.get(index)
        begun[index] = max((ended[before] for before in run.steps[index].depends_on if before in ended), default=0.0)
        ended[index] = max(begun[index], 0.0 if outcome is None else outcome.ended_at)

    def key(done: Undoable) -> tuple[float, int, int]:
        at = 0.0 if in_order else max(done.ended_at, begun.get(done.step.index, 0.0))
        return at, rank.get(done.step.index, 0), -1 if done.number is None else done.number

    return sorted(run.undoable, key=key, reverse=True)
