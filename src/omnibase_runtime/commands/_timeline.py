"""What a run of a workflow did and does, step by step: bars between two times, out of its journal and its document."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumWorkflowStepType
from omnibase_runtime.commands._render import count

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_workflow_engine import RunView, StepOutcome, StepRecord
    from omnibase_core.utils.workflow_plan import PlannedStep, WorkflowPlan

UNDER_WAY: Final = "running"
WAITING: Final = "waiting"
TO_COME: Final = "to come"
_UNDONE: Final = "compensated"
_WELL: Final = frozenset({"completed", "skipped", _UNDONE})


@dataclass(frozen=True, slots=True)
class Bar:
    """A step. status: a word of `EnumStepStatus`, or running, waiting, to come. began, ended: seconds since 1970.

    note: what else there is to say: an error, whom it waits for, how many items. aside: it undoes a step or calls for
    help, and is none of the order.
    """

    name: str
    status: str
    attempts: int = 0
    began: float | None = None
    ended: float | None = None
    note: str = ""
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars of a run between two times, in the order of the plan; what was done beside it follows."""

    bars: tuple[Bar, ...]
    start: float
    end: float

    @property
    def counts(self) -> tuple[int, int]:
        """Steps that ended well, and all that belong to the order."""
        steps = [bar for bar in self.bars if not bar.aside]
        return sum(bar.status in _WELL for bar in steps), len(steps)


@dataclass(slots=True)
class _Seen:
    """What the journal has of one step. whole: of the step itself, not of an item."""

    whole: "StepOutcome | None" = None
    items: "list[StepOutcome]" = field(default_factory=list)


def timeline_of(view: "RunView", records: "Sequence[StepRecord]", plan: "WorkflowPlan | None", now: float) -> Timeline:
    """plan: None when the contract of the run cannot be read by this version; then only what is recorded is shown."""
    seen = _by_step(records, plan)
    told = _steps_told(view.output)
    planned = {} if plan is None else {plan.steps[index].step_id: plan.steps[index] for index in plan.order}
    names = list(planned) or list(told)
    waiting = view.progress.get("waiting") if isinstance(view.progress, dict) else None
    bars: dict[str, Bar] = {}
    for name in names:
        if name in told:
            bars[name] = _told_bar(name, told[name])
        else:
            bars[name] = _seen_bar(name, seen.get(name, _Seen()), waiting if isinstance(waiting, dict) else {}, now)
    if plan is not None and not view.status.ended:
        _mark_under_way(bars, plan, view, now)
    aside = sorted((name for name in seen if name not in bars), key=lambda name: _first_of(seen[name]))
    for name in aside:
        bars[name] = replace(_seen_bar(name, seen[name], {}, now, whole=True), aside=plan is not None or bool(told))
    return _between(tuple(bars.values()), view, now)


def _first_of(seen: _Seen) -> float:
    return min(outcome.started_at for outcome in (*seen.items, *([seen.whole] if seen.whole else [])))


def _by_step(records: "Sequence[StepRecord]", plan: "WorkflowPlan | None") -> dict[str, _Seen]:
    from omnibase_core.protocols.protocol_workflow_engine import StepOutcome

    found: dict[str, _Seen] = {}
    shared = _shared_units(plan)
    for record in records:
        name, bracket, _ = record.name.partition("[")
        steps, values = shared.get(record.name, ()), record.outcome.value
        if steps and isinstance(values, list) and len(values) == len(steps):
            for step, value in zip(steps, values, strict=True):
                if isinstance(value, dict):
                    found.setdefault(step, _Seen()).whole = StepOutcome.from_json(value)
            continue
        seen = found.setdefault(name, _Seen())
        if bracket:
            seen.items.append(record.outcome)
        else:
            seen.whole = record.outcome
    return found


def _shared_units(plan: "WorkflowPlan | None") -> dict[str, tuple[str, ...]]:
    """Steps that share a record, by its name."""
    units = [] if plan is None else [unit.steps for unit in plan.units if len(unit.steps) > 1]
    names = [tuple(plan.steps[index].step_id for index in steps) for steps in units] if plan is not None else []
    return {f"{steps[0]} and {len(steps) - 1} more": steps for steps in names}


def _steps_told(document: "JsonValue") -> "dict[str, Mapping[str, JsonValue]]":
    """The steps of a final document."""
    steps = document.get("steps") if isinstance(document, dict) else None
    return {name: entry for name, entry in steps.items() if isinstance(entry, dict)} if isinstance(steps, dict) else {}


def _told_bar(name: str, entry: "Mapping[str, JsonValue]") -> Bar:
    error, items = entry.get("error"), entry.get("items")
    notes = []
    if isinstance(items, dict):
        failed = f", {items['failed']} failed" if items.get("failed") else ""
        notes.append(count(int(str(items["total"])), "item") + failed)
    if isinstance(error, dict):
        code = "" if error.get("kind") == "Skipped" else f"{error['code']}: "
        notes.append(f"{code}{error['message']}")
    began, ended = (float(str(entry.get(key) or 0)) or None for key in ("started_at", "ended_at"))
    attempts = int(str(entry.get("attempts") or 0))
    return Bar(name, str(entry["status"]), attempts, began, ended, "; ".join(notes))


def _seen_bar(name: str, seen: _Seen, waiting: "Mapping[str, JsonValue]", now: float, *, whole: bool = False) -> Bar:
    """whole: what is recorded of items is all that there is of the step."""
    outcome, items = seen.whole, seen.items
    if outcome is not None:
        note = "" if outcome.error is None else f"{outcome.error.code.value}: {outcome.error.message}"
        began, ended = outcome.started_at or None, outcome.ended_at or None
        return Bar(name, outcome.status.value, outcome.attempts, began, ended, note)
    if items:
        began, ended = min(item.started_at for item in items), max(item.ended_at for item in items)
        failed = sum(item.status.value not in _WELL for item in items)
        note = count(len(items), "item") + ("" if whole else " so far") + (f", {failed} failed" if failed else "")
        status = ("failed" if failed else "completed") if whole else UNDER_WAY
        return Bar(name, status, max(item.attempts for item in items), began, ended, note)
    if name in waiting:
        wait = waiting[name]
        wanted = wait if isinstance(wait, dict) else {}
        prompt = f": {wanted['prompt']}" if wanted.get("prompt") else ""
        return Bar(name, WAITING, 0, None, now, f"for {wanted.get('for', name)}{prompt}")
    return Bar(name, TO_COME)


def _mark_under_way(bars: dict[str, Bar], plan: "WorkflowPlan", view: "RunView", now: float) -> None:
    """What must be under way, as nobody records a beginning: all before it has ended, and it has not."""
    started = view.created_at.timestamp()
    in_order = plan.coordination.value == "sequential"
    before = started
    for index in plan.order:
        step = plan.steps[index]
        bar = bars[step.step_id]
        if bar.status == TO_COME and view.status is EnumRunStatus.RUNNING and step.enabled and step.trigger is None:
            free = not in_order or all(_over(bars[other.step_id]) for other in _earlier(plan, index))
            if free and all(_over(bars[plan.steps[other].step_id]) for other in step.depends_on):
                bar = Bar(bar.name, _doing(step), 0, None, now)
        if bar.began is None and bar.status in {UNDER_WAY, WAITING}:
            ends = [bars[plan.steps[other].step_id].ended or started for other in step.depends_on]
            bar = Bar(bar.name, bar.status, bar.attempts, max([before if in_order else started, *ends]), now, bar.note)
        bars[step.step_id] = bar
        before = max(before, bar.ended or before)


def _doing(step: "PlannedStep") -> str:
    waits = step.kind in {EnumWorkflowStepType.WAIT, EnumWorkflowStepType.APPROVAL}
    return WAITING if waits else UNDER_WAY


def _over(bar: Bar) -> bool:
    return bar.status not in {TO_COME, UNDER_WAY, WAITING}


def _earlier(plan: "WorkflowPlan", index: int) -> "Iterator[PlannedStep]":
    for other in plan.order:
        if other == index:
            return
        if plan.steps[other].enabled:
            yield plan.steps[other]


def _between(bars: tuple[Bar, ...], view: "RunView", now: float) -> Timeline:
    document = view.output if isinstance(view.output, dict) else {}
    starts = [bar.began for bar in bars if bar.began is not None]
    ends = [bar.ended for bar in bars if bar.ended is not None]
    told = [float(str(document[key])) for key in ("started_at", "ended_at") if document.get(key)]
    start = min([*starts, *told[:1]], default=view.created_at.timestamp())
    end = max([*ends, *told[1:]], default=now if not view.status.ended else start)
    return Timeline(bars, start, max(start, end))
