"""What an interpreter asks of the engine in memory, inside one run."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Protocol
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
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
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.engine_memory_store import MemoryRun, MemoryStore
from omnibase_spi.workflow_anew import times_asked, times_done
from omnibase_spi.workflow_names import ids_of

_STATUS = {
    EnumRunStatus.COMPLETED: EnumStepStatus.COMPLETED,
    EnumRunStatus.CANCELLED: EnumStepStatus.CANCELLED,
}


class Host(Protocol):
    """What a context needs of its engine."""

    @property
    def clock(self) -> Callable[[], float]: ...

    async def start(self, request: StartRequest) -> RunView: ...

    async def resume(self, workflow_id: str, under: StartRequest | None = None) -> None: ...

    async def end(self, workflow_id: str) -> RunView | None: ...

    @property
    def store(self) -> MemoryStore: ...

    async def transact(self, connection_name: str, workflow_id: str, position: int, work: Work) -> StepOutcome: ...

    @property
    def events(self) -> RunEvents | None: ...

    def listen(self, run: MemoryRun, topic: str) -> None: ...


class MemoryContext:
    """`DurableContext` over the journal of one run."""

    def __init__(self, host: Host, run: MemoryRun, holder: str) -> None:
        self._host = host
        self._run = run
        self._records = run.records
        self._holder = holder
        self._bells: set[asyncio.Future[None]] = set()
        self.clock = host.clock
        self.new_id = ids_of(run.request.workflow_id, run.generation).of

    @property
    def workflow_id(self) -> str:
        return self._run.request.workflow_id

    @property
    def fence(self) -> tuple[str, int]:
        return self._run.request.fence or (self._holder, self._run.generation + 1)

    async def may_issue(self) -> None:
        """See `DurableContext.may_issue`."""
        self._check()
        ask = self._run.request.may_issue
        if ask is None:
            return
        try:
            await ask()
        except LeaseExpiredError:
            if self._run.context is self and self._run.stop is None:
                self._run.stop = "cancelled"
            raise WorkflowStoppedError("lease") from None
        self._check()

    @property
    def waits(self) -> bool:
        """Whether something in the run waits for time or signals."""
        return bool(self._bells)

    def ring(self) -> None:
        """Let all that wait look again."""
        for bell in self._bells:
            if not bell.done():
                bell.set_result(None)

    def _check(self) -> None:
        if self._run.stop is not None or self._run.context is not self:
            raise WorkflowStoppedError(self._run.stop or "moved")

    async def _bell(
        self,
        until: float | None,
        other: "asyncio.Future[StepError] | None" = None,
        child: MemoryRun | None = None,
    ) -> None:
        """Wait until something has changed, at most until this moment. other, child: what changes may be of too."""
        self._check()
        loop = asyncio.get_running_loop()
        bell = loop.create_future()
        self._bells.add(bell)
        timer = None
        if until is not None:
            timer = loop.call_later(max(0.0, until - self.clock()), _ring, bell)
        if child is not None:
            child.waiters.append(bell)

        def ring(_: object) -> None:
            _ring(bell)

        if other is not None:
            other.add_done_callback(ring)
        try:
            await bell
        finally:
            self._bells.discard(bell)
            if other is not None:
                other.remove_done_callback(ring)
            if timer is not None:
                timer.cancel()
        self._check()

    async def step(
        self,
        position: int,
        name: str,
        work: Work,
        *,
        preemptible: bool = True,
        timeout_s: float | None = None,
    ) -> StepOutcome:
        """See `DurableContext.step`."""
        record = self._records.get(position)
        if record is not None:
            return record.outcome
        self._check()
        outcome = await (work() if preemptible and timeout_s is None else self._guarded(work, preemptible, timeout_s))
        if self._run.context is not self:  # taken over by another while this worked: the record is theirs
            raise WorkflowStoppedError("moved")
        self._records[position] = StepRecord(position, name, outcome)
        return outcome

    async def _guarded(self, work: Work, preemptible: bool, timeout_s: float | None) -> StepOutcome:
        began = self.clock()
        task = asyncio.ensure_future(work())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait([task])
        except TimeoutError:
            task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                error = StepError(EnumCoreErrorCode.TIMEOUT, "TimeoutError", f"no end within {timeout_s:g} s")
                return StepOutcome(EnumStepStatus.UNKNOWN, None, error, 1, began, self.clock())
        except asyncio.CancelledError:
            if preemptible:
                task.cancel()
            await asyncio.wait([task])
            raise
        return task.result()

    async def tx_step(
        self,
        position: int,
        name: str,
        connection_name: str,
        work: Work,
        *,
        timeout_s: float | None = None,
    ) -> StepOutcome:
        """See `DurableContext.tx_step`."""
        anew = self.anew(position)
        key = f"{self.workflow_id}#{anew}" if anew else self.workflow_id

        async def transact() -> StepOutcome:
            began = self.clock()
            try:
                return await self._host.transact(connection_name, key, position, work)
            except ModelOnexError as error:
                failure = StepError(error.error_code, type(error).__name__, error.message)
                return StepOutcome(EnumStepStatus.FAILED, None, failure, 1, began, self.clock())

        return await self.step(position, name, transact, timeout_s=timeout_s)

    async def sleep_until(self, position: int, when: datetime) -> None:
        """See `DurableContext.sleep_until`."""
        if position in self._run.times:
            return
        until = when.timestamp()
        while self.clock() < until:
            await self._bell(until)
        self._run.times[position] = when

    async def now(self, position: int) -> datetime:
        """See `DurableContext.now`."""
        times = self._run.times
        if position not in times:
            self._check()
            times[position] = datetime.fromtimestamp(self.clock(), UTC)
        return times[position]

    async def receive(self, position: int, topic: str, deadline: datetime | None) -> Signal | None:
        """See `DurableContext.receive`."""
        run = self._run
        if position in run.received:
            return run.received[position]
        until = None if deadline is None else deadline.timestamp()
        waiting = run.signals.setdefault(topic, deque())
        if event_types_of(topic):
            self._host.listen(run, topic)
        while not waiting:
            if until is not None and self.clock() >= until:
                run.received[position] = None
                return None
            await self._bell(until)
        self._check()
        signal = run.received[position] = waiting.popleft()
        return signal

    def anew(self, position: int) -> int:
        """See `DurableContext.anew`."""
        entries = self._run.anew
        return times_asked(entries, position) if entries else 0

    async def emit(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        """See `DurableContext.emit`."""
        events = self._host.events
        if events is not None:
            await events.publish(event_type, payload, event_id)

    def wants(self, event_type: str) -> bool:
        """Whether anybody could hear such an event; a run need not make what nobody hears."""
        events = self._host.events
        return events is not None and events.wants(event_type)

    def set_progress(self, progress: JsonValue) -> None:
        """See `DurableContext.set_progress`."""
        if self._run.context is self:
            self._run.progress = progress

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
        """See `DurableContext.child`."""
        record = self._records.get(position)
        if record is not None:
            return record.outcome
        self._check()
        began = self.clock()
        done = times_done(self._run.anew, position)
        request = replace(
            request,
            workflow_id=f"{request.workflow_id}~{done}" if done else request.workflow_id,
            parent_id=self.workflow_id,
            parent_position=position,
            may_issue=self._run.request.may_issue,
        )
        given_up = None if give_up is None else asyncio.ensure_future(give_up)
        if given_up is not None and given_up.done():
            outcome = StepOutcome(EnumStepStatus.CANCELLED, None, given_up.result(), 1, began)
            return await self._end(position, name, request.workflow_id, outcome)
        children = self._run.children
        if request.workflow_id not in children:
            children.append(request.workflow_id)  # before it is there: it may be cancelled while it is started
        try:
            view = await self._host.start(request)
        except ModelOnexError:
            children.remove(request.workflow_id)
            raise
        if not wait:
            return await self.step(position, name, _given(StepOutcome(EnumStepStatus.COMPLETED, request.workflow_id)))
        failed_before = view.status is EnumRunStatus.FAILED and self.anew(position) > done
        if failed_before or view.status in {EnumRunStatus.PAUSED, EnumRunStatus.CANCELLED}:
            await self._host.resume(request.workflow_id, request)  # its parent goes on, so it does
        for attempt in count(1):
            found = await self._end_of(self._host.store.runs[request.workflow_id], given_up)
            if found is None and given_up is not None:
                outcome = StepOutcome(EnumStepStatus.CANCELLED, None, given_up.result(), attempt, began)
                return await self._end(position, name, request.workflow_id, outcome)
            view = found or view
            outcome = _outcome_of(view, attempt, began, self.clock())
            delay = again(outcome, attempt) if again is not None and view.status is EnumRunStatus.FAILED else None
            if delay is None:
                break
            until = self.clock() + delay
            while self.clock() < until and not _is_done(given_up):
                await self._bell(until, given_up)
            if _is_done(given_up):
                break
            with suppress(ModelOnexError):  # CONFLICT: somebody else has resumed it: it is waited for all the same
                await self._host.resume(request.workflow_id, request)
        return await self.step(position, name, _given(outcome))

    async def _end_of(self, child: MemoryRun, given_up: "asyncio.Future[StepError] | None") -> RunView | None:
        """A child once nothing of it is under way; None when it was given up before."""
        while not child.status.ended or child.task is not None:
            if _is_done(given_up):
                return None
            await self._bell(None, given_up, child)
        return child.view()

    async def _end(self, position: int, name: str, workflow_id: str, given_up: StepOutcome) -> StepOutcome:
        view = await self._host.end(workflow_id)
        outcome = replace(given_up, attempts=0, ended_at=self.clock())
        if view is not None:
            outcome = _outcome_of(view, given_up.attempts, given_up.started_at, self.clock())
            if outcome.status is EnumStepStatus.CANCELLED:
                outcome = replace(outcome, error=given_up.error)
        return await self.step(position, name, _given(outcome))

    async def patch(self, position: int, name: str) -> bool:  # noqa: ARG002  # of the protocol; the position tells it
        """See `DurableContext.patch`; a run that has records behind this position had been here before."""
        patches = self._run.patches
        if position not in patches:
            patches[position] = not any(each > position for each in self._records)
        return patches[position]

    async def continue_as_new(self, input_data: JsonValue) -> None:
        """See `DurableContext.continue_as_new`."""
        self._check()
        run = self._run
        run.request = replace(run.request, input_data=input_data, not_before=None)
        for journal in (run.records, run.times, run.received, run.patches):
            journal.clear()
        run.anew.append(0)
        run.generation += 1
        run.stop = "continued"
        raise WorkflowStoppedError("continued")


def _given(outcome: StepOutcome) -> Work:
    async def work() -> StepOutcome:
        return outcome

    return work


def _outcome_of(view: RunView, attempt: int, began: float, ended: float) -> StepOutcome:
    status = _STATUS.get(view.status, EnumStepStatus.FAILED)
    return StepOutcome(status, view.output, view.error, attempt, began, ended)


def _is_done(future: "asyncio.Future[StepError] | None") -> bool:
    return future is not None and future.done()


def _ring(bell: "asyncio.Future[None]") -> None:
    if not bell.done():
        bell.set_result(None)
