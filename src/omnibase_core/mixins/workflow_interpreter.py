"""Runs a compiled workflow over a `DurableContext`: decides from plan, input and recorded outcomes only (section 5.4).

The interpreter knows no engine. It reads time only as the context has recorded it; clocks and random numbers are used
inside the work of a step, whose outcome is recorded. So a run that is taken up again finds its way by its records.
"""

import asyncio
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumStepStatus, EnumWorkflowCoordination
from omnibase_core.errors.onex_error import ModelOnexError, WorkflowExecutionError
from omnibase_core.mixins.workflow_compensation import compensate
from omnibase_core.mixins.workflow_dependencies import check_dependencies
from omnibase_core.mixins.workflow_pipeline import Pipeline
from omnibase_core.mixins.workflow_run import WorkflowRun
from omnibase_core.mixins.workflow_schedule import Schedule
from omnibase_core.mixins.workflow_steps import StepRunner, described
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    StepError,
    WorkflowStoppedError,
    position_of,
)
from omnibase_core.utils.workflow_plan import WorkflowPlan, WorkflowScope

_PIPELINE: Final = EnumWorkflowCoordination.PIPELINE


async def interpret(
    plan: WorkflowPlan, context: DurableContext, runner: StepRunner, input_data: JsonValue
) -> dict[str, JsonValue]:
    """Run the workflow to its end; returns the final document.

    Raises WorkflowExecutionError for a run that was aborted, or of whose end the contract cannot be fulfilled, after
    its compensations; `context["document"]` is the document. ModelOnexError VALIDATION_ERROR for input that does not
    fit and DependencyResolutionError come before the first step; dependencies are looked at again when a run is taken
    up. Cancellation passes, and nothing is undone; the progress of the run is then its document, where steps that were
    under way are `cancelled`.
    """
    problems = plan.check_input(input_data) if plan.check_input is not None else ()
    if problems:
        raise ModelOnexError(
            f"workflow {plan.name!r}: its input does not fit: {'; '.join(problems)}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"problems": list(problems)},
        )
    warnings = await check_dependencies(plan.dependencies, runner.container)
    started = await context.now(position_of(-1))
    run = WorkflowRun(plan, context, runner, input_data, started)
    run.warnings.extend(warnings)
    try:
        await (Pipeline(run).run() if plan.coordination is _PIPELINE else Schedule(run).run())
        if run.aborted is not None:
            await compensate(run)
            raise _aborted(run)
        try:
            await _go_round(run)
            output = _output(run)
        except _NoEndError as error:
            await compensate(run)
            raise _failure(run, f"{error.said}{_undone(run)}: {error.reason.message}", error.reason) from error
    except (asyncio.CancelledError, WorkflowStoppedError):
        context.set_progress(run.document("cancelled", None))
        raise
    return run.document("completed", output)


class _NoEndError(Exception):
    """All steps have ended, and the run cannot: what its contract says of its end fails."""

    def __init__(self, said: str, reason: StepError) -> None:
        super().__init__(said)
        self.said = said
        self.reason = reason


async def _go_round(run: WorkflowRun) -> None:
    """Begin the run afresh where its contract says so."""
    following = run.plan.next_round
    if following is None:
        return
    scope = _whole(run)
    try:
        ends = not following.when(scope)
        new_input = None if ends else following.make_input(scope)
    except Exception as error:  # the boundary of the run, as below
        raise _NoEndError("whether it continues as new cannot be told", described(error)) from error
    if not ends:
        await run.context.continue_as_new(new_input)


def _whole(run: WorkflowRun) -> WorkflowScope:
    """What is read once all steps have ended."""
    plan = run.plan
    return WorkflowScope(
        run.input, run.outputs, {"id": run.context.workflow_id, "name": plan.name, "version": plan.version}
    )


def _output(run: WorkflowRun) -> JsonValue:
    make = run.plan.make_output
    if make is None:
        outputs = run.outputs
        return {step.step_id: outputs[step.step_id] for step in run.plan.steps if step.step_id in outputs}
    try:
        return make(_whole(run))
    except Exception as error:  # the boundary of the run: a template that cannot be filled in
        raise _NoEndError("its output cannot be made", described(error)) from error


def _aborted(run: WorkflowRun) -> WorkflowExecutionError:
    if run.aborted is None:  # pragma: no cover  # asked for only then
        message = "the run was not aborted"
        raise RuntimeError(message)
    step, outcome = run.aborted
    error = outcome.error or StepError(EnumCoreErrorCode.OPERATION_FAILED, "Failed", "no reason was given")
    attempts = f"{outcome.attempts} attempt{'s' * (outcome.attempts != 1)}"
    said = f"step {step.step_id!r} is {outcome.status.value} after {attempts}{_undone(run)}: {error.message}"
    return _failure(run, said, error)


def _undone(run: WorkflowRun) -> str:
    count = len(run.undone)
    failed = sum(isinstance(each, dict) and each["status"] != EnumStepStatus.COMPLETED.value for each in run.undone)
    said = f", {count} compensation{'s' * (count != 1)}" if count else ""
    return f"{said} ({failed} failed)" if failed else said


def _failure(run: WorkflowRun, said: str, error: StepError) -> WorkflowExecutionError:
    document = run.document("failed", None, error)
    return WorkflowExecutionError(
        f"workflow {run.plan.name!r} ({run.context.workflow_id}): {said}",
        error.code,
        {"workflow_id": run.context.workflow_id, "document": document},
    )
