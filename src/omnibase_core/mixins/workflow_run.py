"""What a run of a workflow knows while it goes on, how one step is carried out, and the document it ends with."""

import asyncio
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import (
    EnumOnFailure,
    EnumStepStatus,
    EnumWorkflowCoordination,
    EnumWorkflowStepType,
)
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.workflow_steps import WORKFLOW_TIMEOUT, StepCall, StepRunner, described, timed_out
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    Issued,
    StartRequest,
    StepError,
    StepOutcome,
    position_of,
)
from omnibase_core.utils.workflow_plan import PlannedStep, WorkflowPlan, WorkflowScope

STEP_COMPLETED_EVENT: Final = "WorkflowStepCompletedEvent"
WAITING: Final = frozenset({EnumWorkflowStepType.WAIT, EnumWorkflowStepType.APPROVAL})
NODES: Final = frozenset(EnumWorkflowStepType) - WAITING
"""Kinds of steps that send an action to a node."""
_COMPLETED: Final = EnumStepStatus.COMPLETED
_FAILED: Final = EnumStepStatus.FAILED
_SKIPPED: Final = EnumStepStatus.SKIPPED
_CHILD: Final = EnumWorkflowStepType.ORCHESTRATOR
_SHOWN_FAILURES: Final = 100


@dataclass(slots=True)
class Undoable:
    """Something that was done and that a compensation undoes. number: of the item, None without one."""

    step: PlannedStep
    ended_at: float
    scope: WorkflowScope
    number: int | None


@dataclass(slots=True)
class Counted:
    """Items of a step: how many have ended, and how many failed. sent: how those ended for which something was sent,
    without their values; None while one is under way.
    """

    total: int = 0
    failed: int = 0
    sent: dict[int, StepOutcome | None] = field(default_factory=dict)


class WorkflowRun:
    """One run. Whoever schedules asks it to carry steps out; it keeps outcomes and judges failures.

    epoch: how many actions have been done. outputs: what templates read, by step id. blocked: steps that failed in a
    way that ends what depends on them. aborted: the step that ended the run, and how it ended. children: what gives up
    each that goes on.
    """

    def __init__(
        self, plan: WorkflowPlan, context: DurableContext, runner: StepRunner, input_data: JsonValue, started: datetime
    ) -> None:
        self.plan = plan
        self.context = context
        self.runner = runner
        self.input = input_data
        self.started = started
        self.steps = {step.index: step for step in plan.steps}
        self.deadline = None if plan.timeout_ms is None else started.timestamp() + plan.timeout_ms / 1000
        self.outputs: dict[str, JsonValue] = {}
        self.outcomes: dict[int, StepOutcome] = {}
        self.begun: set[int] = set()
        self.blocked: set[int] = set()
        self.events: dict[int, JsonValue] = {}
        self.counted: dict[int, Counted] = {}
        self._failures: list[tuple[int, int, JsonValue]] = []
        self.undoable: list[Undoable] = []
        self.undone: list[JsonValue] = []
        self.compensated: set[int] = set()
        self.aborted: tuple[PlannedStep, StepOutcome] | None = None
        self.warnings: list[str] = []
        self.waiting: dict[str, JsonValue] = {}
        self.children: set[asyncio.Future[StepError]] = set()
        self.running = self.most_running = self.epoch = 0
        self._action_ids: dict[int, str] = {}
        self._new_id = context.new_id
        self._anew = context.anew
        self._workflow_id = context.workflow_id
        self._wants: Callable[[str], bool] | None = getattr(context, "wants", None)  # an engine may know who listens
        self._fence = context.fence
        self._variables: dict[str, JsonValue] = {
            "id": context.workflow_id,
            "name": plan.name,
            "version": plan.version,
            "token": self._fence[1],
            "attempt": 1,
        }

    # scopes

    def call(self, step: PlannedStep, number: int | None = None) -> StepCall:
        if number is not None:
            action_id = self._action_id(f"action/{step.step_id}/{number}", position_of(step.index, 2 + number))
        else:
            known = self._action_ids.get(step.index)
            action_id = known or self._action_id(f"action/{step.step_id}", position_of(step.index))
            self._action_ids[step.index] = action_id
        lease, token = self._fence
        return StepCall(self._workflow_id, step.step_id, action_id, self.started, Issued(lease, token, self.epoch))

    def _action_id(self, name: str, position: int) -> str:
        anew = self._anew(position)
        return str(self._new_id(f"{name}#{anew}" if anew else name))

    def scope(
        self,
        step: PlannedStep,
        call: StepCall,
        item: JsonValue = None,
        index: int = 0,
        outputs: dict[str, JsonValue] | None = None,
    ) -> WorkflowScope:
        variables = self._variables.copy()
        variables["step_id"] = step.step_id
        variables["action_id"] = variables["idempotency_key"] = call.action_id
        event = self.events.get(step.index) if self.events else None
        return WorkflowScope(self.input, self.outputs if outputs is None else outputs, variables, item, index, event)

    # one step

    def stands_aside(self, step: PlannedStep) -> bool:
        """Whether a step does not run, for a reason that is settled here: disabled, or behind one that failed."""
        if not step.enabled:
            self.settle(step, skipped("the step is disabled"))
            return True
        for index in step.depends_on:
            if index in self.blocked:
                self.blocked.add(step.index)
                self.settle(step, skipped(f"it depends on {self.steps[index].step_id}, which did not end well"))
                return True
        return False

    def holds(self, step: PlannedStep, scope: WorkflowScope) -> StepOutcome | None:
        """None when the step's condition holds, else why the step has ended."""
        if step.when is None:
            return None
        try:
            return None if step.when(scope) else skipped("its condition does not hold")
        except Exception as error:  # noqa: BLE001  # the boundary of a step: whatever goes wrong is its failure
            return failed_with(error)

    async def carry_out(
        self, step: PlannedStep, scope: WorkflowScope, call: StepCall, number: int | None, *, recorded: bool
    ) -> StepOutcome:
        """Do the step, or take its outcome from its record. number: of the item, None without one."""
        position = position_of(step.index, 0 if number is None else 2 + number)
        name = step.step_id
        if number is not None:
            name = f"{name}[{number}]"
            if not step.pure:
                self.counted.setdefault(step.index, Counted()).sent[number] = None
        if step.kind is _CHILD and not step.is_service:
            await self._may_issue(step, number)
            return await self._child(step, scope, call, position, name, alone=number is None)
        try:
            bound = self.runner.bound(step)
            if step.idempotency_key is not None:
                variables = cast("dict[str, JsonValue]", scope.workflow)  # made by `scope`
                key = str(step.idempotency_key(scope))
                variables["idempotency_key"] = key
                call = replace(call, key=f"{step.node}\n{key}")
        except Exception as error:  # noqa: BLE001  # the boundary of a step
            return failed_with(error)
        context = self.context
        if not recorded and bound.compute is not None:
            if self.deadline is not None and context.clock() >= self.deadline:
                return StepOutcome(_FAILED, None, timed_out("the workflow"), issued=call.issued)
            return self.runner.run_pure(bound, scope, call, context.clock)
        if not recorded and step.pure:
            return await self.runner.run(bound, scope, call, context.clock, self.deadline)
        await self._may_issue(step, number)
        work = partial(self.runner.run, bound, scope, call, context.clock, self.deadline, context.may_issue)
        if step.connection is not None:
            return await context.tx_step(position, name, step.connection, work)
        return await context.step(position, name, work)

    async def _may_issue(self, step: PlannedStep, number: int | None) -> None:
        try:
            await self.context.may_issue()
        except BaseException:
            if number is None:
                self.begun.discard(step.index)  # nothing was sent
            elif step.index in self.counted:
                self.counted[step.index].sent.pop(number, None)
            raise

    async def _child(
        self, step: PlannedStep, scope: WorkflowScope, call: StepCall, position: int, name: str, *, alone: bool
    ) -> StepOutcome:
        """Start a run and wait for its end, in the time of the step and of the workflow.

        An attempt after one that failed resumes the same run: what is done is not done again.
        A child that is still at it when its time is up, or when this run is aborted, is cancelled and has ended before
        anything follows. alone: not one of a list, whose records stand close together.
        """
        try:
            bundle = self.runner.child_bundle(step)
            data = step.make_input(scope)
        except Exception as error:  # noqa: BLE001  # the boundary of a step
            return failed_with(error)
        workflow_id = f"{self.context.workflow_id}.{name}"
        context = self.context
        request = StartRequest(workflow_id, bundle, data, parent_id=context.workflow_id, fence=self._fence)
        of_step = False
        limit = self.deadline
        loop = asyncio.get_running_loop()
        give_up: asyncio.Future[StepError] = loop.create_future()
        timer: asyncio.TimerHandle | None = None
        self.children.add(give_up)
        try:
            if step.timeout_ms is not None:
                began = (await context.now(position + 1)).timestamp() if alone else context.clock()
                own = began + step.timeout_ms / 1000
                of_step = limit is None or own < limit
                limit = own if limit is None else min(own, limit)
            if limit is not None:
                late = timed_out(f"step {step.step_id!r}" if of_step else "the workflow", of_step)
                left = limit - context.clock()
                if left > 0:
                    timer = loop.call_later(left, _resolve, give_up, late)
                else:
                    _resolve(give_up, late)
            outcome = await context.child(
                position, name, request, again=partial(self.runner.again, step), give_up=give_up
            )
        finally:
            self.children.discard(give_up)
            if timer is not None:
                timer.cancel()
        reason = None if outcome.error is None else outcome.error.code
        if outcome.status is EnumStepStatus.CANCELLED and reason is EnumCoreErrorCode.TIMEOUT:
            outcome = replace(outcome, status=EnumStepStatus.UNKNOWN if outcome.attempts else _FAILED)
        value = outcome.value
        if isinstance(value, dict) and "output" in value:
            value = value["output"]
        return replace(outcome, value=value, issued=outcome.issued or call.issued)

    # how it ended

    def policy(self, step: PlannedStep) -> EnumOnFailure | None:
        """What follows a failure of this step; None: what depends on it ends, and nothing else."""
        if step.on_failure is not None:
            return step.on_failure
        return None if self.plan.continue_on_error else EnumOnFailure.ABORT

    @staticmethod
    def times_out(outcome: StepOutcome) -> bool:
        """Whether a step ended because the time of the workflow was up."""
        return outcome.error is not None and outcome.error.kind == WORKFLOW_TIMEOUT

    def ends_run(self, step: PlannedStep, outcome: StepOutcome) -> bool:
        """Whether a failure aborts the run."""
        if self.times_out(outcome):
            return True
        return self.policy(step) not in {None, EnumOnFailure.SKIP}

    def settle(self, step: PlannedStep, outcome: StepOutcome, undo: WorkflowScope | None = None) -> None:
        """Keep an outcome, and what follows from it. undo: the scope for a compensation of a step without items."""
        status = outcome.status
        if status is _COMPLETED:
            self.outputs[step.step_id] = outcome.value
        elif status is _SKIPPED:
            self.outputs[step.step_id] = None
        elif self.ends_run(step, outcome):
            self.abort(step, outcome)
        elif self.policy(step) is EnumOnFailure.SKIP:
            self.outputs[step.step_id] = None
            if status is _FAILED:
                outcome = replace(outcome, status=_SKIPPED, value=None)
        else:
            self.blocked.add(step.index)
        self.outcomes[step.index] = outcome
        if outcome.issued is not None and step.index not in self.counted:
            self.epoch += 1
        if undo is not None and self._may_need_undoing(step, outcome):
            self.undoable.append(Undoable(step, outcome.ended_at, undo, None))
        self.show(step)

    def abort(self, step: PlannedStep, outcome: StepOutcome) -> None:
        """Begin nothing more, and end the children that go on; the first that aborts is the reason."""
        if self.aborted is None:
            self.aborted = (step, outcome)
            for child in self.children:
                _resolve(child, _CANCELLED)

    def show(self, last: PlannedStep) -> None:
        """Let the engine know how far the run has come. `waiting`: by step, whom or what it waits for."""
        progress: dict[str, JsonValue] = {
            "done": len(self.outcomes),
            "total": len(self.plan.steps),
            "last": last.step_id,
        }
        if self.waiting:
            progress["waiting"] = dict(self.waiting)
        self.context.set_progress(progress)

    def _may_need_undoing(self, step: PlannedStep, outcome: StepOutcome) -> bool:
        """Done, or perhaps done; a step that failed only if it asks for that (`on_failure: compensate`)."""
        if step.compensate is None or outcome.status is _SKIPPED or not outcome.attempts:
            return False
        return outcome.status is not _FAILED or step.on_failure is EnumOnFailure.COMPENSATE

    def item_done(self, step: PlannedStep, outcome: StepOutcome, scope: WorkflowScope, number: int) -> None:
        """Count an item's outcome."""
        counted = self.counted.setdefault(step.index, Counted())
        counted.total += 1
        if not step.pure:
            counted.sent.pop(number, None)
            if outcome.issued is not None:
                counted.sent[number] = replace(outcome, value=None)
                self.epoch += 1
        if outcome.status not in {_COMPLETED, _SKIPPED}:
            counted.failed += 1
            told: JsonValue = {"step_id": step.step_id, "item": number, "error": error_json(outcome.error)}
            insort(self._failures, (step.index, number, told), key=_place)
            del self._failures[_SHOWN_FAILURES:]  # the first by their places: a replay ends them in another order
        if self._may_need_undoing(step, outcome):
            self.undoable.append(Undoable(step, outcome.ended_at, scope, number))

    async def tell(self, step: PlannedStep) -> None:
        """Publish that the step has ended; a replay publishes the same id again."""
        if self._wants is not None and not self._wants(STEP_COMPLETED_EVENT):
            return
        outcome = self.outcomes[step.index]
        payload: dict[str, JsonValue] = {
            "workflow_id": self.context.workflow_id,
            "workflow_name": self.plan.name,
            "step_id": step.step_id,
            "status": outcome.status.value,
            "attempts": outcome.attempts,
            "started_at": outcome.started_at,
            "ended_at": outcome.ended_at,
            "error": error_json(outcome.error),
        }
        await self.context.emit(STEP_COMPLETED_EVENT, payload, self.context.new_id(f"event/{step.step_id}"))

    # the end

    def document(self, status: str, output: JsonValue, error: StepError | None = None) -> dict[str, JsonValue]:
        """What a run ends with: everything that is known of its steps."""
        ended = self.context.clock()
        results = {step.step_id: self._result(step) for step in self.plan.steps}
        done = sum(result["status"] == _COMPLETED.value for result in results.values())
        counting = sum(result["status"] != _SKIPPED.value for result in results.values())
        return {
            "workflow_id": self.context.workflow_id,
            "name": self.plan.name,
            "version": self.plan.version,
            "coordination_type": self.plan.coordination.value,
            "status": status,
            "output": output,
            "error": error_json(error),
            "steps": dict(results),
            "lease": self._fence[0],
            "token": self._fence[1],
            "epoch": self.epoch,
            "success_rate": done / counting if counting else 1.0,
            "parallelism_achieved": self.most_running,
            "started_at": self.started.timestamp(),
            "ended_at": ended,
            "failed_items": [told for _, _, told in self._failures],
            "compensations": self.undone,
            "warnings": list(self.warnings),
        }

    def _result(self, step: PlannedStep) -> dict[str, JsonValue]:
        outcome = self.outcomes.get(step.index)
        if outcome is None:
            outcome = (
                StepOutcome(EnumStepStatus.CANCELLED, None, _CANCELLED, attempts=1)
                if step.index in self.begun
                else skipped("it was not reached")
            )
        result = outcome.as_json()
        if step.index in self.compensated and outcome.status is _COMPLETED:
            result["status"] = EnumStepStatus.COMPENSATED.value
        result["step_type"] = step.kind.value
        result["node"] = step.node
        over_items = step.for_each is not None or self.plan.coordination is EnumWorkflowCoordination.PIPELINE
        if step.index in self.begun and step.kind in NODES and not over_items:
            result["action_id"] = self.call(step).action_id
        counted = self.counted.get(step.index)
        if counted is not None:
            result["items"] = {"total": counted.total, "failed": counted.failed}
            result["actions"] = [self._sent(step, *each) for each in sorted(counted.sent.items(), key=_number)]
        return result

    def _sent(self, step: PlannedStep, number: int, outcome: StepOutcome | None) -> dict[str, JsonValue]:
        """The action of an item."""
        call = self.call(step, number)
        ended = outcome or StepOutcome(EnumStepStatus.CANCELLED, None, _CANCELLED, issued=call.issued)
        return {
            "item": number,
            "action_id": call.action_id,
            "status": ended.status.value,
            "error": error_json(ended.error),
            "started_at": ended.started_at,
            "ended_at": ended.ended_at,
            "issued": None if ended.issued is None else list(ended.issued),
        }


_CANCELLED: Final = StepError(EnumCoreErrorCode.CANCELLED, "CancelledError", "the step was cancelled")


def _number(item: tuple[int, StepOutcome | None]) -> int:
    return item[0]


def _place(failure: tuple[int, int, JsonValue]) -> tuple[int, int]:
    return failure[:2]


def _resolve(future: "asyncio.Future[StepError]", error: StepError) -> None:
    if not future.done():
        future.set_result(error)


def error_json(error: StepError | None) -> JsonValue:
    """An error as JSON."""
    return None if error is None else {"code": error.code.value, "kind": error.kind, "message": error.message}


def skipped(reason: str) -> StepOutcome:
    """The outcome of a step that did not run."""
    return StepOutcome(_SKIPPED, None, StepError(EnumCoreErrorCode.CANCELLED, "Skipped", reason), attempts=0)


def failed_with(error: BaseException) -> StepOutcome:
    """The outcome of a step that failed before it began."""
    return StepOutcome(_FAILED, None, described(error))


def list_of(value: JsonValue, step_id: str) -> list[JsonValue]:
    """The items of a step. Raises VALIDATION_ERROR for what is no list."""
    if isinstance(value, list):
        return value
    raise ModelOnexError(
        f"step {step_id!r}: items are a list, found {type(value).__name__}", EnumCoreErrorCode.VALIDATION_ERROR
    )


def joined(outcomes: Iterable[StepOutcome], *, tolerant: bool) -> StepOutcome:
    """The outcome of a step from those of its items. tolerant: failed items are no failure of the step."""
    value: list[JsonValue] = []
    error: StepError | None = None
    status = _COMPLETED
    attempts, began, ended = 1, 0.0, 0.0
    for outcome in outcomes:
        value.append(outcome.value)
        attempts = max(attempts, outcome.attempts)
        if outcome.started_at:
            began = min(began, outcome.started_at) if began else outcome.started_at
            ended = max(ended, outcome.ended_at)
        if outcome.status not in {_COMPLETED, _SKIPPED} and error is None and not tolerant:
            status, error = outcome.status, outcome.error
    return StepOutcome(status, value, error, attempts, began, ended)


def at(seconds: float) -> datetime:
    """A moment, of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


async def end_all(tasks: Iterable["asyncio.Task[object]"]) -> None:
    """Cancel tasks and wait until they have ended, whatever comes in between."""
    open_tasks = [task for task in tasks if not task.done()]
    for task in open_tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while pending := [task for task in open_tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
