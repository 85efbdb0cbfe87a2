"""What the engine in memory keeps of its runs. It may outlive its engine, as a database outlives a process."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import (
    BLOCK,
    RunFilter,
    RunView,
    Schedule,
    Signal,
    StartRequest,
    StepError,
    StepRecord,
)
from omnibase_spi.workflow_anew import failed_at, undone_at
from omnibase_spi.workflow_names import names_of

if TYPE_CHECKING:
    from omnibase_spi.engine_memory_context import MemoryContext


@dataclass(slots=True)
class MemoryRun:
    """A run. records, times, received: the journal, by position. generation: grows with `continue_as_new`. anew: what
    was begun anew (`workflow_anew`).
    """

    request: StartRequest
    status: EnumRunStatus
    created: float
    updated: float
    input_hash: bytes
    number: int
    records: dict[int, StepRecord] = field(default_factory=dict)
    times: dict[int, datetime] = field(default_factory=dict)
    received: dict[int, Signal | None] = field(default_factory=dict)
    patches: dict[int, bool] = field(default_factory=dict)
    signals: dict[str, deque[Signal]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=set)
    children: list[str] = field(default_factory=list)
    anew: list[int] = field(default_factory=list)
    output: JsonValue = None
    error: StepError | None = None
    progress: JsonValue = None
    holder: str | None = None
    generation: int = 0
    stop: str | None = None
    task: asyncio.Task[None] | None = None
    context: "MemoryContext | None" = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def view(self) -> RunView:
        request = self.request
        name, version = names_of(request.bundle)
        return RunView(
            workflow_id=request.workflow_id,
            name=name,
            version=version,
            status=self.status,
            created_at=datetime.fromtimestamp(self.created, UTC),
            updated_at=datetime.fromtimestamp(self.updated, UTC),
            input_data=request.input_data,
            output=self.output,
            error=self.error,
            progress=self.progress,
            queue=request.queue,
            priority=request.priority,
            holder=self.holder,
            parent_id=request.parent_id,
            contract_digest=request.bundle.digest,
            attributes=request.attributes,
        )

    def drop_from(self, position: int) -> None:
        """Forget what stands at this position and behind, and when the run began: its time begins anew."""
        for journal in (self.records, self.times, self.received, self.patches):
            for each in [each for each in journal if each >= position]:
                del journal[each]
        self.times.pop(0, None)


@dataclass(slots=True)
class MemoryStore:
    """All runs and schedules. keys: the run that has a deduplication key. latest: the latest moment that an engine on
    it has seen, so that time never goes back.
    """

    runs: dict[str, MemoryRun] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    latest: float = 0.0
    started: dict[str, list[float]] = field(default_factory=dict)
    count: int = 0
    ended: deque[MemoryRun] = field(default_factory=deque)

    def delete_before(self, when: float) -> int:
        """Delete runs that ended before. A child stays while its parent is there, which may go on and ask for it."""
        runs, deleted = self.runs, 0
        while old := [
            name
            for name, run in runs.items()
            if run.status.ended and run.updated < when and run.request.parent_id not in runs
        ]:
            for name in old:
                del runs[name]
            deleted += len(old)
        return deleted

    def forget(self, run: MemoryRun) -> None:
        """Let go of a run that has ended, with its children; one that failed stays while its parent does."""
        runs, name = self.runs, run.request.workflow_id
        needed = run.status is not EnumRunStatus.COMPLETED and run.request.parent_id in runs
        if not run.status.ended or runs.get(name) is not run or needed:
            return
        del runs[name]
        for child in run.children:
            if child in runs:
                self.forget(runs[child])


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much of a queue runs at once (None: all), and how many runs may start within `per_seconds`."""

    concurrency: int | None = None
    rate: int | None = None
    per_seconds: float = 1.0


def hash_of(request: StartRequest) -> bytes:
    """What two requests with one id must have in common."""
    return hashlib.sha256(request.bundle.digest.encode() + b"\n" + to_json(request.input_data)).digest()


def matches(found: Mapping[str, JsonValue], wanted: Mapping[str, JsonValue]) -> bool:
    """Whether all wanted attributes are there."""
    return all(found.get(name) == value for name, value in wanted.items())


def is_document(value: JsonValue) -> bool:
    """Whether a value is the final document of a run."""
    return isinstance(value, dict) and "steps" in value


def place_of(run: MemoryRun, step: str) -> int:
    """Where the records of a step begin. NOT_FOUND for a step without one."""
    for position, record in run.records.items():
        if record.name.partition("[")[0] == step:
            return position // BLOCK * BLOCK
    names = ", ".join(sorted({record.name.partition("[")[0] for record in run.records.values()})) or "none"
    raise ModelOnexError(
        f"workflow run {run.request.workflow_id!r} has no record of a step {step!r}; there are: {names}",
        EnumCoreErrorCode.NOT_FOUND,
    )


def forget_failures(run: MemoryRun) -> None:
    """Drop what did not end well, and what was undone with what undid it, so that it is done again."""
    again = {str(each.get(key)) for each in _compensations(run) for key in ("by", "step_id")}
    for position, record in list(run.records.items()):
        well = record.outcome.status in {EnumStepStatus.COMPLETED, EnumStepStatus.SKIPPED}
        undone = record.name.partition("[")[0] in again
        if not well or undone:
            del run.records[position]
            if undone:
                run.anew.append(undone_at(position))
            elif record.outcome.status is EnumStepStatus.FAILED:
                run.anew.append(failed_at(position))
            start = position // BLOCK * BLOCK
            for journal in (run.times, run.received):
                for each in [each for each in journal if start <= each < start + BLOCK]:
                    del journal[each]
    run.times.pop(0, None)


def _compensations(run: MemoryRun) -> list[dict[str, JsonValue]]:
    found = run.output.get("compensations") if isinstance(run.output, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def fits(view: RunView, which: RunFilter) -> bool:
    """Whether a run is one of those that are asked for."""
    return (
        (which.name is None or view.name == which.name)
        and (which.status is None or view.status is which.status)
        and (which.created_after is None or view.created_at > which.created_after)
        and (which.created_before is None or view.created_at < which.created_before)
        and (which.parent_id is None or view.parent_id == which.parent_id)
        and matches(view.attributes, which.attributes)
    )
