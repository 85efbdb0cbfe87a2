"""Runs of workflows as the commands show them: tables, documents, exit statuses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.commands import _console
from omnibase_runtime.commands._times import length, stamp

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_workflow_engine import (
        EngineDriver,
        RunView,
        StepError,
        StepRecord,
        WorkflowBundle,
    )
    from omnibase_core.utils.workflow_plan import WorkflowPlan
    from omnibase_runtime.commands._timeline import Timeline

_STYLES = {
    EnumRunStatus.COMPLETED: "green",
    EnumRunStatus.FAILED: "red",
    EnumRunStatus.CANCELLED: "yellow",
    EnumRunStatus.PAUSED: "yellow",
    EnumRunStatus.RUNNING: "cyan",
}

_STATUS_AND_CREATED = 9 + 20 + 3 * 2
_UPDATED_AND_ATTRIBUTES = 20 + 20 + 2 * 2


@dataclass(frozen=True, slots=True)
class Account:
    """All that is known of a run. plan: None when this version does not read its contract."""

    view: "RunView"
    records: "Sequence[StepRecord]"
    bundle: "WorkflowBundle"
    children: "Sequence[RunView]"
    plan: "WorkflowPlan | None"

    def timeline(self) -> "Timeline":
        import time

        from omnibase_runtime.commands._timeline import timeline_of

        return timeline_of(self.view, self.records, self.plan, time.time())


async def account_of(engine: "EngineDriver", workflow_id: str) -> Account:
    """Ask an engine for everything about a run. Raises NOT_FOUND."""
    from omnibase_core.protocols.protocol_workflow_engine import RunFilter

    view = await engine.query(workflow_id)
    bundle = await engine.bundle(workflow_id)
    records = await engine.steps(workflow_id)
    children = await engine.list(RunFilter(parent_id=workflow_id, limit=100))
    return Account(view, records, bundle, children, plan_of(bundle))


def plan_of(bundle: "WorkflowBundle") -> "WorkflowPlan | None":
    """The plan of the contract that a run is pinned to."""
    from omnibase_core.utils.workflow_bundle import load_bundle

    try:
        return load_bundle(bundle).plan
    except ModelOnexError:
        return None


def exit_status(view: "RunView") -> int:
    """0 for a run that completed or goes on, else that of its error."""
    if view.status is EnumRunStatus.CANCELLED:
        return EnumCoreErrorCode.CANCELLED.exit_status
    if view.status is not EnumRunStatus.FAILED:
        return 0
    return (EnumCoreErrorCode.OPERATION_FAILED if view.error is None else view.error.code).exit_status


def error_of(view: "RunView") -> ModelOnexError | None:
    """What a run ended with, as it would be told; None unless it failed or was cancelled."""
    if view.status not in {EnumRunStatus.FAILED, EnumRunStatus.CANCELLED}:
        return None
    if view.error is None or view.status is EnumRunStatus.CANCELLED:
        code = EnumCoreErrorCode.CANCELLED if exit_status(view) == 10 else EnumCoreErrorCode.OPERATION_FAILED
        return ModelOnexError(f"run {view.workflow_id} of {view.name}: {view.status.value}", code)
    return ModelOnexError(view.error.message, view.error.code)


def brief(view: "RunView") -> "dict[str, JsonValue]":
    """A run as JSON, without its output."""
    return {
        "workflow_id": view.workflow_id,
        "name": view.name,
        "version": view.version,
        "status": view.status.value,
        "created_at": view.created_at.isoformat(),
        "updated_at": view.updated_at.isoformat(),
        "queue": view.queue,
        "priority": view.priority,
        "holder": view.holder,
        "parent_id": view.parent_id,
        "contract_digest": view.contract_digest,
        "attributes": dict(view.attributes),
        "error": _error_json(view.error),
    }


def _error_json(error: "StepError | None") -> "JsonValue":
    return None if error is None else {"code": error.code.value, "kind": error.kind, "message": error.message}


def whole(view: "RunView") -> "dict[str, JsonValue]":
    """A run as JSON."""
    return {**brief(view), "input": view.input_data, "progress": view.progress, "output": result_of(view)}


def result_of(view: "RunView") -> "JsonValue":
    """What the workflow gave; the final document has it beside the account of its steps."""
    document = view.output
    return document.get("output") if isinstance(document, dict) and "steps" in document else document


def history(account: Account) -> "dict[str, JsonValue]":
    """Everything that is kept of a run: with its contract, its records and its final document."""
    return {
        **whole(account.view),
        "document": account.view.output,
        "records": [
            {"position": record.position, "name": record.name, **record.outcome.as_json()} for record in account.records
        ],
        "children": [child.workflow_id for child in account.children],
        "contract": {"root": account.bundle.root, "files": dict(account.bundle.files), "digest": account.bundle.digest},
    }


def bars_json(timeline: "Timeline") -> "list[JsonValue]":
    """The timeline as JSON."""
    return [
        {
            "step": bar.name,
            "status": bar.status,
            "attempts": bar.attempts,
            "started_at": stamp(bar.began) or None,
            "ended_at": stamp(bar.ended) or None,
            "duration_ms": round((bar.ended - bar.began) * 1_000, 3) if bar.began and bar.ended else None,
            "note": bar.note,
        }
        for bar in timeline.bars
    ]


def print_list(views: "Sequence[RunView]") -> None:
    """A table of runs, as they were given; in a narrow terminal without what can be left out."""
    from rich.text import Text

    from omnibase_runtime.commands._render import rows

    screen = _console.console()
    names = [_console.clean(f"{view.name} {view.version}") for view in views]
    ids = [_console.clean(view.workflow_id) for view in views]
    taken = max([3, *map(len, ids)]) + max([8, *map(len, names)]) + _STATUS_AND_CREATED
    wide = screen.width - taken >= _UPDATED_AND_ATTRIBUTES
    columns = ("RUN", "WORKFLOW", "STATUS", "CREATED", *(("UPDATED", "ATTRIBUTES") if wide else ()))
    table = rows(columns, header=True)
    for view, run, name in zip(views, ids, names, strict=True):
        created = stamp(view.created_at)
        cells: list[str | Text] = [run, name, Text(view.status.value, style=_STYLES.get(view.status, "")), created]
        if wide:
            cells += [stamp(view.updated_at), _console.clean(_pairs(view.attributes))]
        table.add_row(*cells)
    screen.print(table)


def _pairs(attributes: "Mapping[str, JsonValue]") -> str:
    shown = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in attributes.items())
    return ", ".join(shown)


def print_account(account: Account) -> None:
    """A run for a person: what it is, where it stands, and the timeline of its steps."""
    from omnibase_runtime.commands._render import heading, pairs, short

    view, screen = account.view, _console.console()
    timeline = account.timeline()
    print_timeline(view, timeline)
    screen.print()
    progress = view.progress if isinstance(view.progress, dict) and not view.status.ended else {}
    waits = progress.get("waiting")
    facts = [
        ("started", stamp(view.created_at)),
        ("ended" if view.status.ended else "changed", stamp(view.updated_at)),
        ("waits for", ", ".join(waits) if isinstance(waits, dict) else ""),
        ("queue", f"{view.queue}, priority {view.priority}" if view.queue else ""),
        ("worker", view.holder or ""),
        ("parent", view.parent_id or ""),
        ("children", ", ".join(f"{child.workflow_id} ({child.status.value})" for child in account.children)),
        ("attributes", _pairs(view.attributes)),
        ("contract", f"{account.bundle.root}, digest {view.contract_digest[:12]}"),
        ("input", "" if view.input_data is None else short(view.input_data, 200)),
        ("output", "" if view.output is None or result_of(view) is None else short(result_of(view), 200)),
        ("error", "" if view.error is None else f"{view.error.code.value}: {view.error.message}"),
    ]
    screen.print(pairs(facts, indent=0))
    if account.plan is None:
        heading(screen, "the contract of this run is not read by this version; only what is recorded is shown")


def print_timeline(view: "RunView", timeline: "Timeline") -> None:
    """Heading, the Gantt, and what there is to say of steps."""
    from omnibase_runtime.commands._render import count, heading, pairs
    from omnibase_runtime.commands._timeline_pictures import gantt, notes

    screen = _console.console()
    well, steps = timeline.counts
    heading(
        screen,
        f"{view.name} {view.version}",
        f"run {view.workflow_id}",
        view.status.value,
        f"{well} of {count(steps, 'step')}",
        length(timeline.end - timeline.start) if timeline.end > timeline.start else "",
    )
    if timeline.bars:
        screen.print(gantt(timeline, screen.width if _console.is_terminal() else None))
    said = list(notes(timeline))
    if said:
        screen.print(pairs(said))
