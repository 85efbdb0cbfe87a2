"""What an interpreter asks of dbos inside one run (`DurableContext`)."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Final, Protocol
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import (
    Again,
    RunView,
    Signal,
    StartRequest,
    StepError,
    StepOutcome,
    StepRecord,
    Work,
    WorkflowStoppedError,
    event_types_of,
)
from omnibase_spi.engine_dbos_link import Record
from omnibase_spi.engine_dbos_tables import ENDING, NOTE, Loaded
from omnibase_spi.workflow_anew import times_asked, times_done
from omnibase_spi.workflow_checks import check_value
from omnibase_spi.workflow_names import ids_of
from omnibase_spi.workflow_tx import TransactionalSteps

_LONGEST_SLEEP_S: Final = 3600.0
_TIMER: Final = f"{NOTE}timer"
_NOW: Final = f"{NOTE}now"

BLOCKING = ("lease", "cancelled", "moved", "cut", ENDING)
"""Reasons that do not wait for the end of a step that can be interrupted. cut: the time of draining is over."""


class RunHost(Protocol):
    """What a context needs of its driver."""

    async def write(self, what: Record) -> None: ...

    async def recall(self, control: "RunControl", position: int) -> StepRecord: ...

    async def take_signal(self, control: "RunControl", topic: str, position: int) -> Signal | None: ...

    @property
    def publishes(self) -> bool: ...

    async def start_child(self, control: "RunControl", request: StartRequest, *, wait: bool) -> RunView: ...

    async def wait_for(
        self, workflow_id: str, control: "RunControl", given_up: "asyncio.Future[StepError] | None"
    ) -> RunView | None: ...

    async def end_child(self, control: "RunControl", workflow_id: str) -> RunView | None: ...

    async def resume_child(self, control: "RunControl", workflow_id: str) -> None: ...

    async def publish(self, event_type: str, payload: JsonValue, event_id: UUID) -> None: ...

    async def subscribe(self, control: "RunControl", topic: str) -> None: ...

    def note_progress(self, workflow_id: str, progress: JsonValue) -> None: ...

    async def begin_anew(self, control: "RunControl", input_data: JsonValue) -> bool: ...


class RunControl:
    """One execution of a run in this process, and how it is told to stop."""

    def __init__(self, workflow_id: str, owner: str, token: int) -> None:
        self.workflow_id = workflow_id
        self.owner = owner
        self.token = token
        self.reason: str | None = None
        self.handed_over = False
        self.subscriptions: dict[str, Callable[[], Awaitable[None]]] = {}
        self._bells: set[asyncio.Event] = set()
        self._at_work: dict[asyncio.Task[object], bool] = {}

    def stop(self, reason: str) -> None:
        """Stop at the next boundary; a step that can be interrupted is, unless it may end (pause, drain)."""
        if self.reason in BLOCKING:
            return
        self.reason = reason
        self.ring()
        if reason in BLOCKING:
            for task, preemptible in list(self._at_work.items()):
                if preemptible:
                    task.cancel()

    def ring(self) -> None:
        """Let those who wait look again."""
        for bell in self._bells:
            bell.set()

    def check(self) -> None:
        if self.reason is not None:
            raise WorkflowStoppedError(self.reason)

    async def wait(self, bell: asyncio.Event, seconds: float | None) -> None:
        """Wait until the bell rings, at most so long. Raises WorkflowStoppedError as soon as the run is to stop."""
        self.check()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await bell.wait()
        bell.clear()
        self.check()

    def bell(self, other: "asyncio.Future[StepError] | None" = None) -> "_Bell":
        """A bell of this run, which something else may ring too."""
        return _Bell(self._bells, other)

    async def at_work(self, work: Work, *, preemptible: bool) -> StepOutcome:
        """Do the work so that `stop` can interrupt it."""
        task = asyncio.current_task()
        if task is None:
            message = "a step runs in a task"
            raise ModelOnexError(message, EnumCoreErrorCode.INTERNAL_ERROR)
        self.check()
        self._at_work[task] = preemptible
        try:
            return await work()
        except asyncio.CancelledError:
            if self.reason not in BLOCKING or not preemptible:
                raise
            if task.uncancel():  # somebody else cancels too
                raise
            raise WorkflowStoppedError(self.reason) from None
        finally:
            self._at_work.pop(task, None)


class _Bell:
    def __init__(self, bells: set[asyncio.Event], other: "asyncio.Future[StepError] | None") -> None:
        self._bells = bells
        self._other = other
        self._event = asyncio.Event()

    def _ring(self, _: object) -> None:
        self._event.set()

    def __enter__(self) -> asyncio.Event:
        self._bells.add(self._event)
        if self._other is not None:
            self._other.add_done_callback(self._ring)
        return self._event

    def __exit__(self, *_: object) -> None:
        self._bells.discard(self._event)
        if self._other is not None:
            self._other.remove_done_callback(self._ring)


class DbosContext:
    """`DurableContext` over dbos: records stand at their positions in its journal, signals and progress in our tables.

    The journal is read once, when the run is taken up: what stands there is given without asking dbos again. Outcomes
    of steps are let go of when they were given or written, so that a long run does not hold them all in memory; one
    that is asked for again is read again.
    """

    def __init__(
        self,
        host: RunHost,
        control: RunControl,
        executor_id: str,
        loaded: Loaded,
        transactions: TransactionalSteps | None,
    ) -> None:
        self._host = host
        self._control = control
        self._executor_id = executor_id
        self._journal = loaded.journal
        self._given = set[int]()
        self._last = max(loaded.journal, default=-1)
        self._cuts = loaded.cuts
        self._transactions = transactions
        self.new_id = ids_of(control.workflow_id, loaded.cuts.count(0)).of
        self.tells = host.publishes

    @property
    def workflow_id(self) -> str:
        return self._control.workflow_id

    @property
    def fence(self) -> tuple[str, int]:
        return self._executor_id, self._control.token

    async def may_issue(self) -> None:
        self._control.check()

    def clock(self) -> float:
        return time.time()

    async def step(
        self, position: int, name: str, work: Work, *, preemptible: bool = True, timeout_s: float | None = None
    ) -> StepOutcome:
        recorded = await self._standing(position, name)
        if recorded is not None:
            return recorded
        try:
            if timeout_s is None:
                outcome = await self._control.at_work(work, preemptible=preemptible)
            else:
                outcome = await self._in_time(work, timeout_s, preemptible=preemptible)
        except Exception as error:  # noqa: BLE001  # the boundary of a step: whatever it raises is its outcome
            outcome = _failed(error)
        return await self._record(position, name, outcome)

    async def _in_time(self, work: Work, timeout_s: float, *, preemptible: bool) -> StepOutcome:
        started = time.time()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._control.at_work(work, preemptible=preemptible)
        except TimeoutError:
            error = StepError(EnumCoreErrorCode.TIMEOUT, "TimeoutError", f"no end within {timeout_s:g} s")
            return StepOutcome(EnumStepStatus.UNKNOWN, None, error, 1, started, time.time())

    async def tx_step(
        self, position: int, name: str, connection_name: str, work: Work, *, timeout_s: float | None = None
    ) -> StepOutcome:
        transactions = self._transactions
        if transactions is None:
            message = (
                f"Step {name!r} commits with its record on connection {connection_name!r}, but this engine was made "
                "without a database adapter: give `DbosDriver.create` one (`db=`)."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)
        key = self.workflow_id
        if anew := self.anew(position):
            key = f"{key}#{anew}"
        return await self.step(
            position, name, lambda: transactions.run(connection_name, key, position, work), timeout_s=timeout_s
        )

    async def sleep_until(self, position: int, when: datetime) -> None:
        if self._recorded(position, _TIMER) is not None:
            return
        with self._control.bell() as bell:
            while (left := (when - datetime.now(UTC)).total_seconds()) > 0:
                await self._control.wait(bell, min(left, _LONGEST_SLEEP_S))
        await self._note(position, _TIMER, when.isoformat())

    async def now(self, position: int) -> datetime:
        recorded = self._recorded(position, _NOW)
        value = (
            recorded.value
            if recorded is not None
            else (await self._note(position, _NOW, datetime.now(UTC).isoformat())).value
        )
        return datetime.fromisoformat(str(value))

    async def receive(self, position: int, topic: str, deadline: datetime | None) -> Signal | None:
        name = f"{NOTE}receive {topic}"
        recorded = self._recorded(position, name)
        if recorded is not None:
            return _signal_of(recorded.value)
        control = self._control
        if event_types_of(topic):
            await self._host.subscribe(control, topic)
        with control.bell() as bell:
            while True:
                bell.clear()
                control.check()
                signal = await self._host.take_signal(control, topic, position)
                left = None if deadline is None else (deadline - datetime.now(UTC)).total_seconds()
                if signal is not None or (left is not None and left <= 0):
                    break
                await control.wait(bell, _LONGEST_SLEEP_S if left is None else min(left, _LONGEST_SLEEP_S))
        value: JsonValue = (
            None
            if signal is None
            else {"topic": signal.topic, "payload": signal.payload, "key": signal.key, "sender": signal.sender}
        )
        return _signal_of((await self._note(position, name, value)).value)

    def anew(self, position: int) -> int:
        return times_asked(self._cuts, position) if self._cuts else 0

    async def emit(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        self._control.check()
        await self._host.publish(event_type, payload, event_id)

    def set_progress(self, progress: JsonValue) -> None:
        if self._control.reason is None:
            self._host.note_progress(self.workflow_id, progress)

    async def child(
        self,
        position: int,
        name: str,
        request: StartRequest,
        *,
        wait: bool = True,
        again: Again | None = None,
        give_up: Awaitable[StepError] | None = None,
    ) -> StepOutcome:
        recorded = await self._standing(position, name)
        if recorded is not None:
            return recorded
        self._control.check()
        started = time.time()
        done = times_done(self._cuts, position)
        name_of_it = f"{request.workflow_id}~{done}" if done else request.workflow_id
        request = replace(request, workflow_id=name_of_it, parent_id=self.workflow_id, parent_position=position)
        given_up = None if give_up is None else asyncio.ensure_future(give_up)
        if given_up is not None and given_up.done():
            outcome = StepOutcome(EnumStepStatus.CANCELLED, None, given_up.result(), 1, started)
            return await self._end(position, name, request.workflow_id, outcome)
        view = await self._host.start_child(self._control, request, wait=wait)
        if wait and view.status is EnumRunStatus.FAILED and self.anew(position) > done:
            await self._host.resume_child(self._control, request.workflow_id)
        outcome = _outcome_of(view, started, waited=False)
        for attempt in count(1) if wait else ():
            found = await self._host.wait_for(request.workflow_id, self._control, given_up)
            if found is None and given_up is not None:
                outcome = StepOutcome(EnumStepStatus.CANCELLED, None, given_up.result(), attempt, started)
                return await self._end(position, name, request.workflow_id, outcome)
            view = found or view
            outcome = replace(_outcome_of(view, started, waited=True), attempts=attempt)
            failed = outcome.status is EnumStepStatus.FAILED
            delay = again(outcome, attempt) if again is not None and failed else None
            if delay is None:
                break
            await self._pause(delay, given_up)
            if given_up is not None and given_up.done():
                break
            await self._host.resume_child(self._control, request.workflow_id)
        return await self._record(position, name, outcome)

    async def _end(self, position: int, name: str, workflow_id: str, given_up: StepOutcome) -> StepOutcome:
        view = await self._host.end_child(self._control, workflow_id)
        outcome = replace(given_up, attempts=0, ended_at=time.time())
        if view is not None:
            outcome = replace(_outcome_of(view, given_up.started_at, waited=True), attempts=given_up.attempts)
            if outcome.status is EnumStepStatus.CANCELLED:
                outcome = replace(outcome, error=given_up.error)
        return await self._record(position, name, outcome)

    async def _pause(self, seconds: float, given_up: "asyncio.Future[StepError] | None") -> None:
        until = time.monotonic() + seconds
        with self._control.bell(given_up) as bell:
            while (left := until - time.monotonic()) > 0 and not (given_up is not None and given_up.done()):
                await self._control.wait(bell, left)

    async def patch(self, position: int, name: str) -> bool:
        name = f"{NOTE}patch {name}"
        recorded = self._recorded(position, name)
        if recorded is None:
            recorded = await self._note(position, name, self._last <= position)
        return recorded.value is True

    async def continue_as_new(self, input_data: JsonValue) -> None:
        self._control.check()
        kept = await self._host.begin_anew(self._control, input_data)
        raise WorkflowStoppedError("continued" if kept else "moved")

    async def _standing(self, position: int, name: str) -> StepOutcome | None:
        """The record of a step, which is then let go of."""
        if position in self._given:
            self._journal[position] = await self._host.recall(self._control, position)
        recorded = self._recorded(position, name)
        if recorded is not None:
            del self._journal[position]
            self._given.add(position)
        return recorded

    def _recorded(self, position: int, name: str) -> StepOutcome | None:
        record = self._journal.get(position)
        if record is None:
            return None
        if record.name != name:
            message = (
                f"Run {self.workflow_id!r} asks for {name!r} at position {position}, where {record.name!r} is "
                "recorded. A run is pinned to its contract; what interprets it must be of the same version."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.INTERNAL_ERROR)
        return record.outcome

    async def _note(self, position: int, name: str, value: JsonValue) -> StepOutcome:
        """Record a value that is there already. Raises VALIDATION_ERROR for one that is no JSON: what is read from a
        note is never that it failed.
        """
        at = time.time()
        check_value(value, f"What {name!r} of workflow {self.workflow_id!r} has")
        outcome = StepOutcome(EnumStepStatus.COMPLETED, value, started_at=at, ended_at=at)
        outcome = await self._record(position, name, outcome)
        self._given.discard(position)
        self._journal[position] = StepRecord(position, name, outcome)
        return outcome

    async def _record(self, position: int, name: str, outcome: StepOutcome) -> StepOutcome:
        control = self._control
        if control.reason in BLOCKING:
            control.check()
        try:
            text = _text_of(outcome)
        except (TypeError, ValueError) as error:  # JSON in UTF-8 cannot hold it
            message = f"What step {name!r} gave cannot be recorded, it is no JSON: {error}"
            refused = StepError(EnumCoreErrorCode.VALIDATION_ERROR, type(error).__name__, message)
            outcome = replace(outcome, status=EnumStepStatus.FAILED, value=None, error=refused)
            text = _text_of(outcome)
        started_ms = int((outcome.started_at or time.time()) * 1000)
        await self._host.write(Record(control.workflow_id, control.owner, position, name, text, started_ms))
        self._given.add(position)
        return outcome


def _text_of(outcome: StepOutcome) -> str:
    text = json.dumps(outcome.as_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()
    return text


def _failed(error: Exception) -> StepOutcome:
    code = error.error_code if isinstance(error, ModelOnexError) else EnumCoreErrorCode.INTERNAL_ERROR
    at = time.time()
    return StepOutcome(
        EnumStepStatus.FAILED, None, StepError(code, type(error).__name__, str(error)), started_at=at, ended_at=at
    )


def _signal_of(value: JsonValue) -> Signal | None:
    if not isinstance(value, dict):
        return None
    key, sender = value["key"], value["sender"]
    return Signal(
        str(value["topic"]),
        value["payload"],
        None if key is None else str(key),
        None if sender is None else str(sender),
    )


def _outcome_of(view: RunView, started: float, *, waited: bool) -> StepOutcome:
    at = time.time()
    if not waited:
        return StepOutcome(EnumStepStatus.COMPLETED, view.workflow_id, started_at=started, ended_at=at)
    if view.status is EnumRunStatus.COMPLETED:
        return StepOutcome(EnumStepStatus.COMPLETED, view.output, started_at=started, ended_at=at)
    if view.status is EnumRunStatus.CANCELLED:
        return StepOutcome(EnumStepStatus.CANCELLED, view.output, view.error, started_at=started, ended_at=at)
    return StepOutcome(EnumStepStatus.FAILED, view.output, view.error, started_at=started, ended_at=at)
