"""Workflows on the command line: what a run would do, and why."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from omnibase_core.enums.enum_workflow import EnumDurability, EnumOnFailure, EnumWorkflowCoordination
from omnibase_core.utils.workflow_node_facts import facts_of
from omnibase_runtime.commands import _console

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.workflow_steps import ModelWorkflowStep
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow
    from omnibase_core.utils.workflow_plan import PlannedStep, RetryPlan, WorkflowPlan

_MIDDLE = 0.5
"""The random number with which waits between attempts are shown: the middle of their spread."""


def show_workflow(loaded: "LoadedWorkflow", data: "dict[str, JsonValue]") -> None:
    """The steps in the order in which they would run; the input is judged by its schema. Nothing is done."""
    if loaded.schema is not None:
        loaded.schema(data)
    document = _document(loaded)
    if _console.mode.json:
        _console.say_json(document)
        return
    _print(document)


def _document(loaded: "LoadedWorkflow") -> "dict[str, JsonValue]":
    contract, plan = loaded.subcontract, loaded.plan
    unit_of = {index: unit.index for unit in plan.units for index in unit.steps}
    return {
        "contract": {
            "name": plan.name,
            "version": plan.version,
            "coordination_type": plan.coordination.value,
            "max_parallel_steps": plan.max_parallel_steps,
            "workflow_timeout_ms": plan.timeout_ms,
            "durability": plan.durability.value,
            "lease_ttl_ms": plan.lease_ttl_ms,
            "digest": loaded.bundle.digest,
            "files": [*sorted(loaded.bundle.files)],
        },
        "dependencies": [
            {"service": one.service, "kind": one.kind.value, "version": one.version} for one in plan.dependencies
        ],
        "steps": [
            _step(loaded, contract.steps[index], plan.steps[index], unit_of[index], recorded=_is_recorded(plan, index))
            for index in plan.order
        ],
        "services": [*_services(plan)],
        "triggers": [
            *_json({"cron": one.cron, "timezone": one.timezone} for one in plan.schedules),
            *_json({"on_event": [*one.event_types]} for one in plan.starts),
        ],
    }


def _json(documents: "Iterable[JsonValue]") -> "Iterable[JsonValue]":
    return documents


def _is_recorded(plan: "WorkflowPlan", index: int) -> bool:
    return next(unit.recorded for unit in plan.units if index in unit.steps)


def _step(
    loaded: "LoadedWorkflow", step: "ModelWorkflowStep", planned: "PlannedStep", unit: int, *, recorded: bool
) -> "dict[str, JsonValue]":
    plan = loaded.plan
    shared = [plan.steps[other].step_id for other in plan.units[unit].steps if other != planned.index]
    return {
        "step": step.step_id,
        "kind": step.step_type.value,
        "node": step.node,
        "enabled": step.enabled,
        "after": [plan.steps[other].step_id for other in planned.depends_on],
        "when": step.when,
        "for_each": step.for_each,
        "on_event": [*step.event_types],
        "input": step.input,
        "attempts": planned.retry.attempts,
        "waits_ms": [*waits_ms(planned.retry)],
        "timeout_ms": step.timeout_ms,
        "on_failure": _failure(planned, plan),
        "compensate": None if planned.compensate is None else planned.compensate.step_id,
        "unit": unit,
        "record": _record(plan, planned, shared, recorded=recorded),
        "after_a_crash": _crash(loaded, planned, recorded=recorded),
    }


def waits_ms(retry: "RetryPlan") -> Iterator[int]:
    """The waits before the second and each further attempt, without their spread."""
    return (round(retry.delay_s(attempt, _MIDDLE) * 1_000) for attempt in range(2, retry.attempts + 1))


def _failure(planned: "PlannedStep", plan: "WorkflowPlan") -> str:
    if planned.on_failure is EnumOnFailure.RETRY:
        return "abort, after the attempts"
    if planned.on_failure is not None:
        return planned.on_failure.value
    if plan.coordination is EnumWorkflowCoordination.PIPELINE:
        return "the item is left out"
    return "what depends on it is left out" if plan.continue_on_error else "abort"


def _record(plan: "WorkflowPlan", planned: "PlannedStep", shared: list[str], *, recorded: bool) -> str:
    if not recorded:
        return "none: it is computed again"
    if plan.coordination is EnumWorkflowCoordination.PIPELINE:
        grouped = planned.pure and plan.durability is EnumDurability.LEVEL
        return "one for all items that wait for it" if grouped else "one for each item"
    if planned.for_each is not None:
        return "one for each entry, and one for all"
    return "one together with " + ", ".join(shared) if shared else "one"


def _crash(loaded: "LoadedWorkflow", planned: "PlannedStep", *, recorded: bool) -> str:
    """What it means for a step that the process dies while it is at work."""
    if planned.wait is not None:
        return "waits for what is left of its time"
    if planned.pure:
        return "computed again, with the same result" + ("" if recorded else ", also when it had ended")
    if planned.connection is not None:
        return f"exactly once: effect and record are one transaction of connection {planned.connection}"
    if planned.is_service:
        return "called again, with the same action id"
    node = loaded.nodes.get(planned.node or "")
    if node is not None and node.kind == "orchestrator":
        return "the same child run is found again"
    if node is not None and facts_of(node).repeatable:
        return "done again, which is as good as once: it is idempotent"
    return "done again, with the same action id as idempotency key: it is not idempotent by itself"


def _services(plan: "WorkflowPlan") -> Iterator[str]:
    asides = (aside for step in plan.steps for aside in (step.compensate, step.wait and step.wait.escalation) if aside)
    yield from sorted({step.node or "" for step in (*plan.steps, *asides) if step.is_service})


def _print(document: "Mapping[str, JsonValue]") -> None:
    from omnibase_runtime.commands._plan_view import below, each
    from omnibase_runtime.commands._render import count, heading, milliseconds, pairs

    screen = _console.console()
    contract, steps = below(document, "contract"), list(each(document, "steps"))
    limit = contract["workflow_timeout_ms"]
    at_once = contract["coordination_type"] == EnumWorkflowCoordination.PARALLEL.value
    heading(
        screen,
        f"{contract['name']} {contract['version']}",
        count(len(steps), "step"),
        str(contract["coordination_type"]),
        f"at most {contract['max_parallel_steps']} at once" if at_once else "",
        f"at most {milliseconds(float(str(limit)))}" if limit else "",
        f"durability {contract['durability']}",
        "nothing was done",
    )
    for number, step in enumerate(steps, 1):
        screen.print()
        node = f": {step['node']}" if step["node"] else ""
        heading(screen, f"{number}. {step['step']}", f"{step['kind']}{node}", "" if step["enabled"] else "disabled")
        screen.print(pairs(_facts(step)))
    screen.print()
    files = contract["files"]
    screen.print(
        pairs(
            [
                ("services", _names(document["services"])),
                ("dependencies", "\n".join(_dependency(one) for one in each(document, "dependencies"))),
                ("triggers", "\n".join(_trigger(one) for one in each(document, "triggers"))),
                ("files", f"{_names(files)} (digest {str(contract['digest'])[:12]})"),
            ],
            indent=0,
        )
    )


def _dependency(one: "Mapping[str, JsonValue]") -> str:
    return f"{one['service']} {one['version'] or ''}".rstrip() + f" ({one['kind']})"


def _trigger(one: "Mapping[str, JsonValue]") -> str:
    return f"{one['cron']} ({one['timezone']})" if "cron" in one else f"event {_names(one['on_event'])}"


def _facts(step: "Mapping[str, JsonValue]") -> "list[tuple[str, str]]":
    from omnibase_runtime.commands._render import milliseconds, short

    waits = step["waits_ms"]
    times = ", ".join(milliseconds(float(str(wait))) for wait in waits) if isinstance(waits, list) else ""
    limit = f"; each at most {milliseconds(float(str(step['timeout_ms'])))}" if step["timeout_ms"] else ""
    attempts = f"{step['attempts']}" + (f", with waits of {times}" if times else "") + limit
    return [
        ("after", _names(step["after"])),
        ("on event", _names(step["on_event"])),
        ("when", str(step["when"] or "")),
        ("for each", "" if step["for_each"] is None else short(step["for_each"])),
        ("input", "" if step["input"] is None else short(step["input"])),
        ("attempts", "" if step["kind"] in {"wait", "approval"} else attempts),
        ("failure", str(step["on_failure"])),
        ("undone by", str(step["compensate"] or "")),
        ("record", str(step["record"])),
        ("crash", str(step["after_a_crash"])),
    ]


def _names(value: "JsonValue") -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else ""


def explain_workflow(loaded: "LoadedWorkflow", step: str | None, file: str) -> None:
    """Say of each step, or of one, what is repeated and recorded, and why."""
    from omnibase_runtime.commands._plan_view import each
    from omnibase_runtime.commands._render import heading, pairs

    document = _document(loaded)
    steps = [one for one in each(document, "steps") if step in {None, one["step"]}]
    if not steps:
        known = ", ".join(one.step_id for one in loaded.subcontract.steps)
        raise _console.usage(f"{file}: there is no step {step!r}; there are {known}")
    if _console.mode.json:
        _console.say_json({"contract": loaded.plan.name, "steps": [*steps]})
        return
    screen = _console.console()
    for number, one in enumerate(steps):
        if number:
            screen.print()
        heading(screen, str(one["step"]), str(one["kind"]), loaded.plan.name)
        screen.print(pairs([*_facts(one), ("durability", _durability(loaded, one))]))


def _durability(loaded: "LoadedWorkflow", step: "Mapping[str, JsonValue]") -> str:
    pure = next(one.pure for one in loaded.plan.steps if one.step_id == step["step"])
    durability = loaded.plan.durability
    if not pure:
        return f"{durability.value}: what is not a pure computation is recorded always"
    streams = loaded.plan.coordination is EnumWorkflowCoordination.PIPELINE
    together = "items that wait for a step" if streams else "pure steps next to each other"
    return {
        EnumDurability.STEP: "step: each outcome is recorded",
        EnumDurability.LEVEL: f"level: {together} share a record",
        EnumDurability.RUN: "run: outcomes of pure steps are not recorded on the way",
    }[durability]
