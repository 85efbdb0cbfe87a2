"""Waits, approvals and triggers: deadlines are made of recorded times, so a replay waits for what is left.

Of a wait's positions 0 is the time at which it began, 1 its outcome, the others what was received on the way. What is
received for a trigger stands behind all items of its step.
"""

import asyncio
from datetime import datetime
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumStepStatus, EnumWorkflowStepType
from omnibase_core.mixins.workflow_run import WorkflowRun, at, end_all, failed_with
from omnibase_core.mixins.workflow_steps import described, timed_out
from omnibase_core.protocols.protocol_workflow_engine import (
    BLOCK,
    Signal,
    StepError,
    StepOutcome,
    WorkflowStoppedError,
    event_topic,
    position_of,
)
from omnibase_core.utils.workflow_plan import Condition, PlannedStep, TriggerPlan, WaitPlan, WorkflowScope

_TRIGGER_RECORDS: Final = BLOCK // 2
_COMPLETED: Final = EnumStepStatus.COMPLETED
_FAILED: Final = EnumStepStatus.FAILED
_CUT_OFF: Final = StepError(
    EnumCoreErrorCode.CANCELLED,
    "CancelledError",
    "the wait ended before it did; nobody knows whether it happened",
)


async def await_what_it_says(run: WorkflowRun, step: PlannedStep, scope: WorkflowScope) -> StepOutcome:
    """The outcome of a wait or an approval, recorded."""
    wait = step.wait or WaitPlan()
    began = await run.context.now(position_of(step.index))
    try:
        run.waiting[step.step_id] = {
            "for": wait.event_type or wait.signal or ("time" if wait.until is not None else step.step_id),
            "prompt": None if wait.prompt is None else wait.prompt(scope),
        }
        run.show(step)
        outcome = await _waited(run, step, wait, scope, began)
    except WorkflowStoppedError:
        raise
    except Exception as error:  # noqa: BLE001  # the boundary of a step: a template or a filter that fails
        outcome = failed_with(error)
    finally:
        run.waiting.pop(step.step_id, None)

    async def work() -> StepOutcome:
        return StepOutcome(outcome.status, outcome.value, outcome.error, 1, began.timestamp(), run.context.clock())

    return await run.context.step(position_of(step.index, 1), step.step_id, work)


async def _waited(
    run: WorkflowRun, step: PlannedStep, wait: WaitPlan, scope: WorkflowScope, began: datetime
) -> StepOutcome:
    limit = _earliest(_after(began, wait.timeout_ms), _workflow_limit(run))
    if wait.until is not None:
        when = wait.until(scope, began)
        late = limit is not None and when > limit
        await run.context.sleep_until(position_of(step.index, 2), limit if late and limit is not None else when)
        return _timeout(run, step, wait, limit) if late else StepOutcome(_COMPLETED, None)
    topic = wait.signal or step.step_id
    if wait.event_type is not None:
        topic = event_topic(step.step_id, [wait.event_type])
    escalation = None if wait.escalation is None else _Escalation(run, wait.escalation, scope)
    escalate_at = _after(began, wait.escalate_after_ms) if escalation is not None else None
    number = 2
    try:
        while True:
            until = _earliest(limit, escalate_at)
            signal = await run.context.receive(position_of(step.index, number), topic, until)
            number += 1
            if signal is not None and _wanted(wait, scope, signal):
                outcome = StepOutcome(_COMPLETED, _value(step, signal))
                break
            if signal is not None:
                continue
            if escalation is None or escalate_at is None or until != escalate_at or until == limit:
                outcome = _timeout(run, step, wait, limit)
                break
            escalate_at = None
            escalation.begin()
        if escalation is not None:
            await escalation.end()
        return outcome
    finally:
        if escalation is not None:
            await escalation.cut_off()


class _Escalation:
    """Tells somebody, beside the wait: neither its own time nor an answer waits for it.

    It has a record whatever becomes of it, so that a replay has the same warnings.
    """

    def __init__(self, run: WorkflowRun, step: PlannedStep, scope: WorkflowScope) -> None:
        self._run = run
        self._step = step
        self._scope = scope
        self._task: asyncio.Task[StepOutcome] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> StepOutcome:
        run, step = self._run, self._step
        try:
            call = run.call(step)
            scope = run.scope(step, call, self._scope.item, self._scope.index)
            return await run.carry_out(step, scope, call, None, recorded=True)
        except Exception as error:  # noqa: BLE001  # the boundary of a step
            return failed_with(error)

    async def cut_off(self) -> None:
        """Nothing of it goes on; when its run is stopped it ends by that as well."""
        task = self._task
        if task is not None:
            await end_all([task])
            if not task.cancelled():
                task.exception()

    async def end(self) -> None:
        """The wait has ended. A failure is a warning: whoever was waited for may have answered all the same."""
        task, step = self._task, self._step
        if task is None:
            return
        await self.cut_off()

        async def work() -> StepOutcome:
            return StepOutcome(EnumStepStatus.UNKNOWN, None, _CUT_OFF) if task.cancelled() else task.result()

        outcome = await self._run.context.step(position_of(step.index), step.step_id, work)
        if outcome.status is not _COMPLETED and outcome.error is not None:
            self._run.warnings.append(f"escalation {step.step_id!r} failed: {outcome.error.message}")


def _timeout(run: WorkflowRun, step: PlannedStep, wait: WaitPlan, limit: datetime | None) -> StepOutcome:
    if limit is not None and limit == _workflow_limit(run):
        return StepOutcome(_FAILED, None, timed_out("the workflow"))
    if wait.fails_on_timeout:
        return StepOutcome(_FAILED, None, timed_out(f"step {step.step_id!r}", of_step=True))
    return StepOutcome(_COMPLETED, wait.timeout_value)


def _value(step: PlannedStep, signal: Signal) -> JsonValue:
    """What a step has received, of an event its payload.

    Of an approval `{approved, by, ...}`; only a plain yes approves.
    """
    said = signal.payload
    if step.kind is not EnumWorkflowStepType.APPROVAL:
        of_event = step.wait is not None and step.wait.event_type is not None and isinstance(said, dict)
        return said.get("payload") if of_event and isinstance(said, dict) else said
    fields: dict[str, JsonValue] = dict(said) if isinstance(said, dict) else {}
    approved = fields.get("approved") if isinstance(said, dict) else said
    return {**fields, "approved": approved is True, "by": signal.sender or fields.get("by")}


def _wanted(wait: WaitPlan, scope: WorkflowScope, signal: Signal) -> bool:
    """Whether a signal is the one that is waited for: of one who may approve; of an event the key and the filter."""
    if wait.event_type is None:
        return not wait.approvers or signal.sender in wait.approvers
    event = signal.payload
    if wait.event_key is not None:
        found = event.get("key") if isinstance(event, dict) else None
        if str(wait.event_key(scope)) != str(found):
            return False
    return _passes(wait.event_filter, scope, event)


def _passes(condition: Condition | None, scope: WorkflowScope, event: JsonValue) -> bool:
    if condition is None:
        return True
    seen = WorkflowScope(scope.input, scope.steps, scope.workflow, scope.item, scope.index, event)
    try:
        return condition(seen)
    except Exception:  # noqa: BLE001  # an event without what the filter asks for is not the one
        return False


class _Trigger:
    """Receives for one trigger, with positions in the order in which it receives."""

    def __init__(self, run: WorkflowRun, step: PlannedStep, trigger: TriggerPlan) -> None:
        self._run = run
        self._step = step
        self._trigger = trigger
        self._topic = event_topic(step.step_id, trigger.event_types)
        self._number = _TRIGGER_RECORDS
        self._warned = False
        self._scope = run.scope(step, run.call(step))

    def _position(self) -> int:
        self._number += 1
        return position_of(self._step.index, self._number)

    async def now(self) -> datetime:
        return await self._run.context.now(self._position())

    async def next(self, deadline: datetime | None) -> tuple[str, str, JsonValue] | None:
        """Key, type and event of the next that passes the filter and has a key; None after the deadline."""
        while True:
            signal = await self._run.context.receive(self._position(), self._topic, deadline)
            if signal is None:
                return None
            event = signal.payload
            if not isinstance(event, dict) or not _passes(self._trigger.event_filter, self._scope, event):
                continue
            event_type = str(event.get("type"))
            key = self._key(event_type, event)
            if key is not None:
                return key, event_type, event

    def _key(self, event_type: str, event: JsonValue) -> str | None:
        """None of an event without what the key is made of. Such a one may be foreign, or the contract wrong: the first
        is a warning.
        """
        if self._trigger.event_key is None:
            return ""
        scope = self._scope
        seen = WorkflowScope(scope.input, scope.steps, scope.workflow, scope.item, scope.index, event)
        try:
            return to_json(self._trigger.event_key(seen)).decode()
        except Exception as error:  # noqa: BLE001  # the boundary of an event: it is not the one
            if not self._warned:
                self._warned = True
                why = described(error).message
                step_id = self._step.step_id
                self._run.warnings.append(
                    f"step {step_id!r} passes over an event {event_type!r} whose key cannot be made: {why}"
                )
            return None


async def await_trigger(run: WorkflowRun, step: PlannedStep) -> StepOutcome | None:
    """Wait for the events that start a step and keep them in `run.events`; an outcome is a failure.

    Events of one key are joined; the first key of which all types have come starts the step. Only events of this key
    put its start off (`debounce_ms`).
    """
    trigger = step.trigger or TriggerPlan(())
    source = _Trigger(run, step, trigger)
    limit = _workflow_limit(run)
    deadline = limit
    if trigger.timeout_ms is not None and len(trigger.event_types) == 1:
        deadline = _earliest(limit, _after(await source.now(), trigger.timeout_ms))
    held: dict[str, dict[str, JsonValue]] = {}
    try:
        while True:
            found = await source.next(deadline)
            if found is None:
                of_step = deadline != limit
                return StepOutcome(_FAILED, None, timed_out(f"the events of step {step.step_id!r}", of_step))
            key, event_type, event = found
            events = held.setdefault(key, {})
            events[event_type] = event
            if len(events) == len(trigger.event_types):
                break
            if trigger.timeout_ms is not None and deadline == limit:
                deadline = _earliest(limit, _after(await source.now(), trigger.timeout_ms))
        if trigger.debounce_ms is not None:
            quiet = _after(await source.now(), trigger.debounce_ms)
            while (later := await source.next(_earliest(limit, quiet))) is not None:
                if later[0] == key:
                    events[later[1]] = later[2]
                    quiet = _after(await source.now(), trigger.debounce_ms)
    except Exception as error:  # noqa: BLE001  # the boundary of a step: an engine that has no events
        return failed_with(error)
    run.events[step.index] = _joined(events) if len(trigger.event_types) > 1 else events[event_type]
    return None


def _joined(events: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Events by their types. One whose type has dots stands below the parts of its name as well, where templates, which
    read dots as levels, find it.
    """
    found = dict(events)
    for event_type, event in events.items():
        *levels, last = event_type.split(".")
        place = found
        for level in levels:
            place[level] = below = _copied(place.get(level))
            place = below
        place[last] = {**_copied(place.get(last)), **_copied(event)}
    return found


def _copied(value: JsonValue) -> dict[str, JsonValue]:
    return dict(value) if isinstance(value, dict) else {}


def _workflow_limit(run: WorkflowRun) -> datetime | None:
    return None if run.deadline is None else at(run.deadline)


def _after(moment: datetime, milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else at(moment.timestamp() + milliseconds / 1000)


def _earliest(*moments: datetime | None) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return min(known) if known else None
