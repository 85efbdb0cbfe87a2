"""Signals as the commands send them: judged by the contract of the run, so that none goes where nobody listens."""

import getpass
from typing import TYPE_CHECKING

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumWorkflowStepType
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunView, Signal, event_topic
from omnibase_runtime.commands._runs import plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

    from omnibase_core.utils.workflow_plan import PlannedStep, WorkflowPlan


async def send(engine: EngineDriver, workflow_id: str, signal: Signal) -> None:
    """Send a signal to a run. Raises NOT_FOUND for a topic that no step of its contract waits for."""
    view = await _going_on(engine, workflow_id, f"signal {signal.topic!r}")
    plan = plan_of(await engine.bundle(workflow_id))
    if plan is not None:
        topics = list(dict.fromkeys(_topics(plan)))
        if signal.topic not in topics:
            known = f"it waits for {', '.join(map(repr, topics))}" if topics else "it waits for no signal"
            raise ModelOnexError(
                f"run {workflow_id!r} of {view.name}: no step waits for signal {signal.topic!r}; {known}",
                EnumCoreErrorCode.NOT_FOUND,
                {"workflow_id": workflow_id},
            )
    await engine.signal(workflow_id, signal)


async def send_event(
    engine: EngineDriver, workflow_id: str, event_type: str, payload: "JsonValue", key: str | None, event_id: str
) -> list[str]:
    """Hand an event to a run as the bus would; returns the steps that wait for its type. Raises NOT_FOUND for none."""
    view = await _going_on(engine, workflow_id, f"event {event_type!r}")
    plan = plan_of(await engine.bundle(workflow_id))
    found = {} if plan is None else {step.step_id: types for step, types in _events(plan) if event_type in types}
    if not found:
        known = sorted({name for _, types in _events(plan) for name in types}) if plan is not None else []
        raise ModelOnexError(
            f"run {workflow_id!r} of {view.name}: no step waits for event {event_type!r}; "
            + (f"there are {', '.join(map(repr, known))}" if known else "it waits for no event"),
            EnumCoreErrorCode.NOT_FOUND,
            {"workflow_id": workflow_id},
        )
    event: JsonValue = {"type": event_type, "id": event_id, "key": key, "payload": payload}
    for step, types in found.items():
        await engine.signal(workflow_id, Signal(event_topic(step, types), event, event_id, "onex"))
    return list(found)


async def decide(
    engine: EngineDriver, workflow_id: str, step: str | None, by: str | None, comment: str | None, *, approved: bool
) -> tuple[str, str]:
    """Answer an approval; returns the step and in whose name.

    Raises NOT_FOUND when the run has no such approval, VALIDATION_ERROR when it is not clear which, and
    SECURITY_VIOLATION for somebody who is not asked.
    """
    view = await _going_on(engine, workflow_id, "an answer")
    plan = plan_of(await engine.bundle(workflow_id))
    approvals = {} if plan is None else {one.step_id: one for one in plan.steps if _is_approval(one)}
    name = _which(view, approvals, step)
    sender = by or _me()
    wait = approvals[name].wait
    approvers = () if wait is None else wait.approvers
    if approvers and sender not in approvers:
        raise ModelOnexError(
            f"approval {name!r} of run {workflow_id!r}: {sender!r} is not asked; {', '.join(approvers)} may answer. "
            "Say --by NAME.",
            EnumCoreErrorCode.SECURITY_VIOLATION,
            {"workflow_id": workflow_id, "step": name},
        )
    payload: dict[str, JsonValue] = {"approved": approved}
    if comment is not None:
        payload["comment"] = comment
    await engine.signal(workflow_id, Signal((wait.signal if wait else None) or name, payload, None, sender))
    return name, sender


def _which(view: RunView, approvals: "dict[str, PlannedStep]", step: str | None) -> str:
    if not approvals or (step is not None and step not in approvals):
        known = f"; there are {', '.join(map(repr, approvals))}" if approvals else "; it has none"
        raise ModelOnexError(
            f"run {view.workflow_id!r} of {view.name}: no approval{f' {step!r}' if step else ''}{known}",
            EnumCoreErrorCode.NOT_FOUND,
            {"workflow_id": view.workflow_id},
        )
    if step is not None:
        return step
    waiting = view.progress.get("waiting") if isinstance(view.progress, dict) else None
    asked = [name for name in waiting if name in approvals] if isinstance(waiting, dict) else []
    found = asked or list(approvals)
    if len(found) != 1:
        raise ModelOnexError(
            f"run {view.workflow_id!r} of {view.name}: which approval? There are {', '.join(found)}; name one",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return found[0]


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "somebody"


async def _going_on(engine: EngineDriver, workflow_id: str, what: str) -> RunView:
    view = await engine.query(workflow_id)
    if view.status.ended:
        raise ModelOnexError(
            f"run {workflow_id!r} of {view.name} is {view.status.value}: {what} would be heard by nobody",
            EnumCoreErrorCode.CONFLICT,
            {"workflow_id": workflow_id},
        )
    return view


def _is_approval(step: "PlannedStep") -> bool:
    return step.kind is EnumWorkflowStepType.APPROVAL


def _topics(plan: "WorkflowPlan") -> "Iterator[str]":
    for step in plan.steps:
        if step.wait is not None and step.wait.event_type is None and step.wait.until is None:
            yield step.wait.signal or step.step_id


def _events(plan: "WorkflowPlan") -> "Iterator[tuple[PlannedStep, tuple[str, ...]]]":
    for step in plan.steps:
        if step.trigger is not None:
            yield step, step.trigger.event_types
        if step.wait is not None and step.wait.event_type is not None:
            yield step, (step.wait.event_type,)
