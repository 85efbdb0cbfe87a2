"""The history of a run as lines in the order of time, made of its journal and its children."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_runtime.commands._render import count
from omnibase_runtime.commands._timeline import TO_COME, UNDER_WAY, WAITING
from omnibase_runtime.commands._times import length

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_workflow_engine import RunView
    from omnibase_runtime.commands._runs import Account
    from omnibase_runtime.commands._timeline import Bar

_AT_REST = frozenset({EnumRunStatus.PAUSED, *(status for status in EnumRunStatus if status.ended)})


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that happened. at: seconds since 1970. facts: what a program would ask for."""

    at: float
    event: str
    text: str
    facts: "Mapping[str, JsonValue]" = field(default_factory=dict)

    @property
    def when(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def document(self) -> "dict[str, JsonValue]":
        return {"at": self.when, "event": self.event, **self.facts, "message": self.text}


def log_of(account: "Account") -> list[LogLine]:
    """What is kept of a run. A step that begins when another one ends stands behind it."""
    view = account.view
    lines = [LogLine(view.created_at.timestamp(), "run_started", f"{view.name} {view.version} started")]
    for bar in account.timeline().bars:
        lines += _of_step(bar)
    for record in account.records:
        outcome = record.outcome
        if "[" in record.name and outcome.ended_at:
            why = "" if outcome.error is None else f"{outcome.error.code.value}: {outcome.error.message}"
            lines.append(
                _ended(
                    "item_ended",
                    record.name,
                    outcome.status.value,
                    outcome.attempts,
                    (outcome.started_at, outcome.ended_at),
                    why,
                )
            )
    for child in account.children:
        lines += _of_child(child)
    lines.sort(key=lambda line: (line.at, line.event.endswith(("_began", "_waits"))))
    if view.status in _AT_REST:
        why = "" if view.error is None else f": {view.error.code.value}: {view.error.message}"
        at = max(view.updated_at.timestamp(), lines[-1].at)
        lines.append(LogLine(at, "run_ended" if view.status.ended else "run_paused", f"{view.status.value}{why}"))
    return lines


def _of_step(bar: "Bar") -> Iterator[LogLine]:
    if bar.began is None or bar.status == TO_COME:
        return
    facts: dict[str, JsonValue] = {"step": bar.name}
    if bar.status == WAITING:
        yield LogLine(bar.began, "step_waits", f"step {bar.name} waits {bar.note}".rstrip(), facts)
        return
    yield LogLine(bar.began, "step_began", f"step {bar.name} began", facts)
    if bar.status != UNDER_WAY and bar.ended is not None:
        yield _ended("step_ended", bar.name, bar.status, bar.attempts, (bar.began, bar.ended), bar.note)


def _ended(event: str, name: str, status: str, attempts: int, times: tuple[float, float], note: str) -> LogLine:
    tries = count(attempts, "attempt")
    text = f"step {name} {status}, {tries}, {length(times[1] - times[0])}{f': {note}' if note else ''}"
    return LogLine(times[1], event, text, {"step": name, "status": status, "attempts": attempts})


def _of_child(child: "RunView") -> Iterator[LogLine]:
    facts: dict[str, JsonValue] = {"run": child.workflow_id}
    yield LogLine(child.created_at.timestamp(), "child_started", f"run {child.workflow_id} started", facts)
    if child.status in _AT_REST:
        text = f"run {child.workflow_id} {child.status.value}"
        event = "child_ended" if child.status.ended else "child_paused"
        yield LogLine(child.updated_at.timestamp(), event, text, {**facts, "status": child.status.value})
