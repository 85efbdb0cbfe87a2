"""The seams between a workflow and the engine that makes it durable (section 5.4).

The interpreter knows `DurableContext` only and decides from the contract, the input and recorded outcomes, so it
decides the same when a run is taken up again. A driver knows one engine and nothing of steps.

A record stands at a **position**, a number that the interpreter makes of the step's place in the contract
(`position_of`), never of the order in which things happened: branches may overtake each other in any order, and a
replay still finds each record.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus

BLOCK: Final = 1_000_000
"""Positions per step; engines keep positions in 32 bits, so that 2,000 steps and compensations fit."""


def event_topic(step_id: str, event_types: Sequence[str]) -> str:
    """The topic under which a run receives events of the bus for one step: each event once for each step.

    A driver that is asked to `receive` from such a topic subscribes to the types (`event_types_of`) and hands each
    event over as a signal: payload `{type, id, key, payload}`, key the event's id.
    """
    return f"event/{step_id}/{'|'.join(event_types)}"


def event_types_of(topic: str) -> tuple[str, ...]:
    """The types in a topic of `event_topic`; none for any other topic."""
    kind, _, rest = topic.partition("/")
    return tuple(rest.partition("/")[2].split("|")) if kind == "event" and "/" in rest else ()


def position_of(step_index: int, number: int = 0) -> int:
    """The position of a step's `number`-th record; index -1 is the workflow itself."""
    return (step_index + 1) * BLOCK + number


@dataclass(frozen=True, slots=True)
class StepError:
    """Why a step failed, as data: errors change their type when they are recorded, codes do not.

    kind: the class name of the exception.
    """

    code: EnumCoreErrorCode
    kind: str
    message: str


class Issued(NamedTuple):
    """Under what a step's action was issued: lease and token of who ran it, and the epoch that it had seen.

    The epoch of a run counts the actions whose outcome was there, those of items and compensations too.
    """

    lease: str
    token: int
    epoch: int


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The envelope of a record. `started_at`, `ended_at`: seconds since 1970 (UTC) by the clock of who ran it.

    issued: None for what is no action of a node. So the journal of a run is its action log.
    """

    status: EnumStepStatus
    value: JsonValue = None
    error: StepError | None = None
    attempts: int = 1
    started_at: float = 0.0
    ended_at: float = 0.0
    issued: Issued | None = None

    def as_json(self) -> dict[str, JsonValue]:
        error = self.error
        return {
            "status": self.status.value,
            "value": self.value,
            "error": None
            if error is None
            else {"code": error.code.value, "kind": error.kind, "message": error.message},
            "attempts": self.attempts,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "issued": None if self.issued is None else list(self.issued),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> "StepOutcome":
        """The outcome that `as_json` wrote."""
        error, issued = data["error"], data.get("issued")
        return cls(
            EnumStepStatus(str(data["status"])),
            data["value"],
            StepError(EnumCoreErrorCode(str(error["code"])), str(error["kind"]), str(error["message"]))
            if isinstance(error, dict)
            else None,
            int(str(data["attempts"])),
            float(str(data["started_at"])),
            float(str(data["ended_at"])),
            Issued(str(issued[0]), int(str(issued[1])), int(str(issued[2]))) if isinstance(issued, list) else None,
        )


Work = Callable[[], Awaitable[StepOutcome]]
"""What a step does. It tells failures by its outcome and raises only when it is cancelled."""


Again = Callable[[StepOutcome, int], float | None]
"""Given how an attempt ended and its number: after how many seconds there is another one, None for no more."""


class WorkflowStoppedError(BaseException):
    """The run must not go on in this process: cancelled, paused, handed over, or its lease is gone.

    Not an Exception: a step's boundary must not take it for a failure of the step. `reason` is a word of the driver.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WorkflowBundle:
    """The texts that a run is pinned to: the workflow's and those of the files it names, by path relative to it.

    `digest` is the SHA-256 of them all, hexadecimal.
    """

    root: str
    files: Mapping[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that was sent to a run. `key` makes sending it twice the same as once."""

    topic: str
    payload: JsonValue = None
    key: str | None = None
    sender: str | None = None


class DurableContext(Protocol):
    """What an interpreter may ask of the engine, inside one run."""

    @property
    def workflow_id(self) -> str: ...

    @property
    def fence(self) -> tuple[str, int]:
        """The lease under which this process runs the workflow, and its fencing token."""
        ...

    async def may_issue(self) -> None:
        """Return once something may be sent out under the lease; asked before each attempt of a step that acts.

        Raises WorkflowStoppedError when that will not be any more.
        """
        ...

    def clock(self) -> float:
        """Seconds since 1970 (UTC), of now and not recorded: for the inside of a step's work only."""
        ...

    async def step(
        self, position: int, name: str, work: Work, *, preemptible: bool = True, timeout_s: float | None = None
    ) -> StepOutcome:
        """Do the work and record its outcome; where a record stands, return that and do nothing.

        At least once when the process dies in between. preemptible: a cancelled run need not wait for its end.
        """
        ...

    async def tx_step(
        self, position: int, name: str, connection_name: str, work: Work, *, timeout_s: float | None = None
    ) -> StepOutcome:
        """Like `step`, with its effect exactly once: the record commits in the same transaction of the connection.

        An outcome that is not `completed` rolls the transaction back.
        """
        ...

    async def sleep_until(self, position: int, when: datetime) -> None:
        """Wait; a process that takes the run over waits for what is left."""
        ...

    async def now(self, position: int) -> datetime:
        """The time, recorded: a replay sees the same."""
        ...

    def anew(self, position: int) -> int:
        """How often this place was begun anew by people: rewound, or resumed after it failed or was undone.

        What is done anew is another action, which no target may take for a repetition. A replay sees the same.
        """
        ...

    def new_id(self, name: str) -> UUID:
        """An id made of the run and `name`: the same in each replay."""
        ...

    async def receive(self, position: int, topic: str, deadline: datetime | None) -> Signal | None:
        """The next signal of the topic, each given once, in the order of their coming; None after the deadline."""
        ...

    async def emit(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        """Publish an event, at least once; who listens knows a second one by its id."""
        ...

    def set_progress(self, progress: JsonValue) -> None:
        """What a query shows; the last one counts, nothing waits for it."""
        ...

    async def child(
        self,
        position: int,
        name: str,
        request: "StartRequest",
        *,
        wait: bool = True,
        again: "Again | None" = None,
        give_up: "Awaitable[StepError] | None" = None,
    ) -> StepOutcome:
        """Start a run of another workflow and wait for its end; a replay finds the same one.

        It is cancelled with its parent, and when its parent fails. again: whether one that has failed is resumed.
        give_up: a future; from when it has a result a child that goes on is cancelled with its own children, and once
        nothing of them is under way any more the outcome is `cancelled` with this error, with 0 attempts if the child
        had not begun. One that has ended all the same ends as it did.
        """
        ...

    async def patch(self, position: int, name: str) -> bool:
        """Whether this run goes the way of the patch: yes for runs that had not come here before it was there."""
        ...

    async def continue_as_new(self, input_data: JsonValue) -> None:
        """End this run and start the same workflow afresh under the same name with an empty history. Raises
        WorkflowStoppedError.
        """
        ...


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A run to be started.

    workflow_id: asking again with the same id and the same input is the same run; another input is CONFLICT.
    priority: 1 is served first. not_before: None is now. attributes: to search by. deduplication_key: while a run with
    it has not ended, another one is CONFLICT, also one that is resumed or rewound. parent_position: where in its parent
    it was asked for. fence: lease and token of who starts it, under which an engine without leases of its own
    (`has_leases`) carries it out. may_issue: of that lease, see `HeldLease.may_issue`; such an engine asks it before
    each step that acts, in this process only.
    """

    workflow_id: str
    bundle: WorkflowBundle
    input_data: JsonValue = None
    queue: str | None = None
    priority: int = 100
    not_before: datetime | None = None
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)
    deduplication_key: str | None = None
    parent_id: str | None = None
    fence: tuple[str, int] | None = None
    may_issue: Callable[[], Awaitable[None]] | None = None
    parent_position: int | None = None

    def under(self, other: "StartRequest | None") -> "StartRequest":
        """The same run under the lease of another request; None is under no lease of who asks."""
        if other is None:
            return replace(self, fence=None, may_issue=None)
        return replace(self, fence=other.fence, may_issue=other.may_issue)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as seen from outside. `output` is the interpreter's final document once it has ended."""

    workflow_id: str
    name: str
    version: str
    status: EnumRunStatus
    created_at: datetime
    updated_at: datetime
    input_data: JsonValue = None
    output: JsonValue = None
    error: StepError | None = None
    progress: JsonValue = None
    queue: str | None = None
    priority: int = 100
    holder: str | None = None
    parent_id: str | None = None
    contract_digest: str = ""
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A record of a run's journal."""

    position: int
    name: str
    outcome: StepOutcome


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; a field that is None asks nothing. Newest first, `limit` at most."""

    name: str | None = None
    status: EnumRunStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)
    parent_id: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """Runs by the clock. cron: five or six fields. timezone: an IANA name. Each run is `<name>-<time>`, so once."""

    name: str
    cron: str
    bundle: WorkflowBundle
    timezone: str = "UTC"
    input_data: JsonValue = None
    paused: bool = False
    next_at: datetime | None = None


@runtime_checkable
class EngineDriver(Protocol):
    """An engine: keeps runs and their journals, and takes them up again by itself.

    Errors: NOT_FOUND for an unknown run, CONFLICT for what a run's status does not allow (a signal to one that has
    ended), VALIDATION_ERROR for what cannot be kept (numbers that are not finite, texts that are no Unicode),
    RESOURCE_UNAVAILABLE when the store is away.
    """

    @property
    def has_leases(self) -> bool:
        """Whether who carries a run out has a lease of the engine, which goes over to another when a process dies."""
        ...

    async def start(self, request: StartRequest) -> RunView: ...

    async def signal(self, workflow_id: str, signal: Signal) -> None: ...

    async def query(self, workflow_id: str) -> RunView: ...

    async def bundle(self, workflow_id: str) -> WorkflowBundle:
        """The texts that the run is pinned to."""
        ...

    async def wait(self, workflow_id: str, timeout: timedelta | None = None) -> RunView:  # noqa: ASYNC109  # the engine's own wait, which must not cancel the run
        """The run once it has ended; TIMEOUT when it has not by then."""
        ...

    async def list(self, which: RunFilter) -> Sequence[RunView]: ...

    async def steps(self, workflow_id: str) -> Sequence[StepRecord]: ...

    async def cancel(self, workflow_ids: Sequence[str]) -> int:
        """Cancel runs and their children, in one go; returns how many had not ended."""
        ...

    async def pause(self, workflow_id: str) -> None: ...

    async def resume(self, workflow_id: str) -> None:
        """Go on with a run that was paused, cancelled or has failed; finished steps are not repeated.

        One that was to begin at a time that has not come waits for it.
        """
        ...

    async def fork(self, workflow_id: str, from_step: str, new_id: str | None = None) -> RunView:
        """A new run with the records of the steps before `from_step`."""
        ...

    async def rewind(self, workflow_id: str, to_step: str) -> RunView:
        """The same run again from this step on; its records from there on are dropped, and what it has started from
        there on is cancelled.
        """
        ...

    async def schedules(self) -> Sequence[Schedule]: ...

    async def put_schedule(self, schedule: Schedule) -> None: ...

    async def delete_schedule(self, name: str) -> None: ...

    async def trigger_schedule(self, name: str) -> RunView:
        """A run of it now."""
        ...

    async def backfill_schedule(self, name: str, start: datetime, end: datetime) -> Sequence[RunView]:
        """The runs that would have been started in between; those that were are not started again."""
        ...

    async def delete_before(self, when: datetime) -> int:
        """Delete runs that ended before, a child not before its parent; returns their number."""
        ...

    async def drain(self, limit: timedelta) -> int:
        """Take no new runs, let those under way come to a step's end, hand the rest back; returns how many."""
        ...

    async def aclose(self) -> None: ...


RunWorkflow = Callable[[DurableContext, WorkflowBundle, JsonValue], Awaitable[JsonValue]]
"""What a driver is given to run: the interpreter, bound to its nodes. Returns the final document; raises
WorkflowExecutionError for a run that failed, whose context has the document.
"""
