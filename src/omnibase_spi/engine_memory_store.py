"""What the engine in memory keeps of its runs. It may outlive its engine, as a database outlives a process."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.models.primitives.identifiers import NamedIds
from omnibase_core.protocols.protocol_workflow_engine import (
    BLOCK,
    RunView,
    Schedule,
    Signal,
    StartRequest,
    StepError,
    StepRecord,
)
from omnibase_spi.workflow_names import names_of

if TYPE_CHECKING:
    from omnibase_spi.engine_memory_context import MemoryContext

_RUNS: Final = NamedIds(UUID("1f6a3f0e-0b1d-5c55-8b43-6f6f3f1c9a10"))


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

    def first_position(self, step: str) -> int | None:
        """Where the block of a step begins; None for one without a record."""
        for position, record in self.records.items():
            if record.name.partition("[")[0] == step:
                return position // BLOCK * BLOCK
        return None


@dataclass(slots=True)
class MemoryStore:
    """All runs and schedules. latest: the latest moment that an engine on it has seen, so that time never goes back."""

    runs: dict[str, MemoryRun] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    latest: float = 0.0
    started: dict[str, list[float]] = field(default_factory=dict)
    count: int = 0
    ended: deque[MemoryRun] = field(default_factory=deque)


def hash_of(request: StartRequest) -> bytes:
    """What two requests with one id must have in common."""
    return hashlib.sha256(request.bundle.digest.encode() + b"\n" + to_json(request.input_data)).digest()


def ids_of(workflow_id: str, generation: int) -> NamedIds:
    """Ids made of a run and a name; a run that began anew has others."""
    return NamedIds(_RUNS.of(f"{workflow_id}/{generation}" if generation else workflow_id))


def matches(found: Mapping[str, JsonValue], wanted: Mapping[str, JsonValue]) -> bool:
    """Whether all wanted attributes are there."""
    return all(found.get(name) == value for name, value in wanted.items())
