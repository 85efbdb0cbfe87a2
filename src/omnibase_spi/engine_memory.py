"""The engine in memory: for tests, in virtual time too, and for runs that need not outlive the program.

Everything that a run has done stands in a `MemoryStore`, which may outlive its engine; a new engine on the same store
takes up what the old one left. All timers are those of the running event loop. A run is one task; an engine has none.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.protocols.protocol_workflow_engine import (
    RunFilter,
    RunView,
    RunWorkflow,
    Schedule,
    Signal,
    StartRequest,
    StepError,
    StepOutcome,
    StepRecord,
    Work,
    WorkflowBundle,
    WorkflowStoppedError,
)
from omnibase_spi.engine_memory_context import MemoryContext
from omnibase_spi.engine_memory_schedules import MemorySchedules
from omnibase_spi.engine_memory_store import (
    MemoryRun,
    MemoryStore,
    QueueLimits,
    fits,
    forget_failures,
    hash_of,
    is_document,
    place_of,
)
from omnibase_spi.workflow_checks import check_attributes, check_signal, check_start

if TYPE_CHECKING:
    from omnibase_spi.engine_memory_events import RunEvents

_log = logging.getLogger("onex.workflow")
_RUNNING: Final = EnumRunStatus.RUNNING
_FIRST_TURNS: Final = 4
"""Turns of the loop in which a run that is started may come to wait for something."""
_WAITING: Final = frozenset({EnumRunStatus.QUEUED, EnumRunStatus.SCHEDULED})


Transact = Callable[[str, str, int, Work], Awaitable[StepOutcome]]


class MemoryEngine:
    """`EngineDriver` in memory.

    run: the interpreter. store: what an engine before has left. queues: limits by name; a queue without is unlimited.
    events: carries events to and from runs. transact: does the work of a `tx_step` (connection, run, position, work);
    without one such a step is like any other. holder: how this engine calls itself.
    keep_ended: how many runs that have ended are kept, None for all.

    `clock` gives seconds since 1970 by the clock of the loop, which may be virtual.
    """

    has_leases: Final = False

    def __init__(
        self,
        run: RunWorkflow,
        store: MemoryStore | None = None,
        *,
        queues: Mapping[str, QueueLimits] | None = None,
        events: "RunEvents | None" = None,
        transact: Transact | None = None,
        holder: str = "memory",
        keep_ended: int | None = None,
    ) -> None:
        self._run = run
        self.store = MemoryStore() if store is None else store
        self._queues = dict(queues or {})
        self.events = events
        self._transact = transact
        self._holder = holder
        self._keep_ended = keep_ended
        self._schedules = MemorySchedules(self, self.store)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.clock: Callable[[], float] = time.time
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refuses = ""

    # time and loops

    def _enter(self) -> None:
        """Come to the running loop: after another one has ended, take up what it left."""
        if self._refuses:
            raise ModelOnexError(
                f"the workflow engine {self._refuses}; start another one", EnumCoreErrorCode.RESOURCE_UNAVAILABLE
            )
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        self._loop = loop
        base, loop_time = max(time.time(), self.store.latest) - loop.time(), loop.time
        self.clock = lambda: base + loop_time()
        self._timers.clear()
        for run in list(self.store.runs.values()):
            run.request = run.request.under(None)  # whoever held a lease for it was in the other loop
            if run.status is _RUNNING:
                self._begin(run)
            elif run.status in _WAITING:
                self._enqueue(run)
        self._schedules.take_up()

    async def recover(self) -> int:
        """Take up the runs that the store has; returns how many have not ended. Calls do so by themselves."""
        self._enter()
        return sum(not run.status.ended for run in self.store.runs.values())

    # starting

    async def start(self, request: StartRequest) -> RunView:
        """See `EngineDriver.start`."""
        self._enter()
        if request.parent_id is None:  # what a run gives to its children is its own
            check_start(request)
        known = self.store.runs.get(request.workflow_id)
        digest = hash_of(request)
        if known is not None:
            if known.input_hash != digest:
                raise _conflict(request.workflow_id, "exists with another input or contract; choose another id")
            return known.view()
        self._claim(request)
        run = self._add(request, digest)
        self._enqueue(run)
        for _ in range(_FIRST_TURNS):  # let it begin, so that it hears of events that are published from now on
            if run.context is None or run.context.waits:
                break
            await asyncio.sleep(0)
        return run.view()

    def _claim(self, request: StartRequest) -> None:
        """Let a run have its deduplication key."""
        key, name = request.deduplication_key, request.workflow_id
        if key is not None:
            other = self.store.runs.get(self.store.keys.get(key, name))
            if other is not None and other.request.workflow_id != name and not other.status.ended:
                raise _conflict(name, f"would double {other.request.workflow_id!r}, whose key {key!r} it has")
            self.store.keys[key] = name

    def _enqueue(self, run: MemoryRun) -> None:
        when = run.request.not_before
        wait = 0.0 if when is None else when.timestamp() - self.clock()
        if wait > 0:
            run.status = EnumRunStatus.SCHEDULED
            self.at(f"run/{run.request.workflow_id}", wait, lambda: self._enqueue(run))
            return
        run.status = EnumRunStatus.QUEUED
        if run.request.queue is not None:
            self._admit(run.request.queue)
        elif not self._refuses:
            self._begin(run)

    def _admit(self, queue: str | None) -> None:
        """Begin what stands in a queue, the smallest priority first, as far as its limits allow."""
        if self._refuses or queue is None:
            return
        mine = [run for run in self.store.runs.values() if run.request.queue == queue]
        waiting = [run for run in mine if run.status is EnumRunStatus.QUEUED]
        limits = self._queues.get(queue, QueueLimits())
        room = len(waiting)
        if limits.concurrency is not None:
            room = limits.concurrency - sum(run.status is _RUNNING for run in mine)
        for run in sorted(waiting, key=lambda each: (each.request.priority, each.number)):
            if room <= 0 or not self._in_rate(queue, limits):
                return
            room -= 1
            self._begin(run)

    def _in_rate(self, queue: str, limits: QueueLimits) -> bool:
        if limits.rate is None:
            return True
        now = self.clock()
        started = [moment for moment in self.store.started.get(queue, []) if moment > now - limits.per_seconds]
        allowed = len(started) < limits.rate
        if allowed:
            started.append(now)
        else:
            self.at(f"queue/{queue}", started[0] + limits.per_seconds - now, lambda: self._admit(queue))
        self.store.started[queue] = started
        return allowed

    def _begin(self, run: MemoryRun) -> None:
        run.status = _RUNNING
        run.holder = self._holder
        run.stop = None
        run.updated = self.clock()
        run.context = MemoryContext(self, run, self._holder)
        run.task = asyncio.get_running_loop().create_task(self._carry_out(run, run.context))

    async def _carry_out(self, run: MemoryRun, context: MemoryContext) -> None:
        status, output, error = EnumRunStatus.COMPLETED, None, None
        try:
            output = await self._run(context, run.request.bundle, run.request.input_data)
        except WorkflowStoppedError:
            if run.context is context:
                self._stopped(run)
            return
        except asyncio.CancelledError:
            if run.context is context and run.stop is not None:
                self._stopped(run)
                return
            raise
        except ModelOnexError as failure:
            document = failure.context.get("document")
            output = document if isinstance(document, dict) else None
            status, error = EnumRunStatus.FAILED, _error(failure.error_code, failure, failure.message)
        except Exception as failure:  # noqa: BLE001  # the boundary of a run: a mistake of ours must not go unseen
            _log.exception("run %s of a workflow failed unexpectedly", run.request.workflow_id)
            status = EnumRunStatus.FAILED
            error = _error(EnumCoreErrorCode.INTERNAL_ERROR, failure, f"{type(failure).__name__}: {failure}")
        if run.context is context:
            self._end(run, status, output, error)

    def _stopped(self, run: MemoryRun) -> None:
        """What follows when a run was stopped from outside."""
        reason = run.stop
        run.context, run.task = None, None
        if reason == "continued":
            run.progress = None
            self._begin(run)
        elif reason == "cancelled":
            cause = StepError(EnumCoreErrorCode.CANCELLED, "CancelledError", "the run was cancelled")
            self._end(run, EnumRunStatus.CANCELLED, run.progress if is_document(run.progress) else None, cause)
        else:
            run.status = EnumRunStatus.PAUSED if reason == "paused" else EnumRunStatus.QUEUED
            run.updated, run.holder = self.clock(), None
            self._tell_waiters(run)
            self._admit(run.request.queue)

    def _end(self, run: MemoryRun, status: EnumRunStatus, output: JsonValue, error: StepError | None) -> None:
        run.status, run.output, run.error = status, output, error
        if run.request.deduplication_key is not None:
            self.store.keys.pop(run.request.deduplication_key, None)
        if status is not EnumRunStatus.COMPLETED:
            for child in run.children:
                if child in self.store.runs:
                    self._cancel(self.store.runs[child])
        run.updated = self.store.latest = self.clock()
        run.holder, run.context, run.task = None, None, None
        if self.events is not None:
            self.events.forget(run)
        self._tell_waiters(run)
        if self._keep_ended is not None:
            self.store.ended.append(run)
            while len(self.store.ended) > self._keep_ended:
                self.store.forget(self.store.ended.popleft())
        self._admit(run.request.queue)

    @staticmethod
    def _tell_waiters(run: MemoryRun) -> None:
        for waiter in run.waiters:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)
        run.waiters.clear()

    # from outside

    async def signal(self, workflow_id: str, signal: Signal) -> None:
        """See `EngineDriver.signal`."""
        self._enter()
        run = self._found(workflow_id)
        if run.status.ended:
            raise _conflict(workflow_id, f"is {run.status.value}: nothing waits for {signal.topic!r} any more")
        check_signal(workflow_id, signal)
        self.deliver(run, signal)

    def deliver(self, run: MemoryRun, signal: Signal) -> None:
        """Put a signal before a run, once for its key."""
        if signal.key is not None:
            mark = f"{signal.topic}\n{signal.key}"
            if mark in run.seen:
                return
            run.seen.add(mark)
        run.signals.setdefault(signal.topic, deque()).append(signal)
        if run.context is not None:
            run.context.ring()

    async def query(self, workflow_id: str) -> RunView:
        """See `EngineDriver.query`."""
        self._enter()
        return self._found(workflow_id).view()

    async def bundle(self, workflow_id: str) -> WorkflowBundle:
        """See `EngineDriver.bundle`."""
        return self._found(workflow_id).request.bundle

    async def wait(self, workflow_id: str, timeout: timedelta | None = None) -> RunView:  # noqa: ASYNC109  # see the protocol
        """See `EngineDriver.wait`."""
        self._enter()
        run = self._found(workflow_id)
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                while not run.status.ended or run.task is not None:
                    waiter = asyncio.get_running_loop().create_future()
                    run.waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise ModelOnexError(
                f"workflow run {workflow_id!r} is still {run.status.value} after {timeout}", EnumCoreErrorCode.TIMEOUT
            ) from None
        return run.view()

    async def end(self, workflow_id: str) -> RunView | None:
        """Cancel a run and its children and wait until nothing of them is under way; None for one that is not there."""
        self._enter()
        run = self.store.runs.get(workflow_id)
        if run is None:
            return None
        self._cancel(run)
        family = [run]
        for each in family:
            family += [self.store.runs[child] for child in each.children if child in self.store.runs]
            if each.task is not None:
                await self.wait(each.request.workflow_id)
        return run.view()

    async def list(self, which: RunFilter) -> Sequence[RunView]:
        """See `EngineDriver.list`."""
        self._enter()
        check_attributes(which.attributes, "A list of runs")
        runs = sorted(self.store.runs.values(), key=lambda run: run.number, reverse=True)
        views = (run.view() for run in runs)
        return [view for view in views if fits(view, which)][: which.limit]

    async def steps(self, workflow_id: str) -> Sequence[StepRecord]:
        """See `EngineDriver.steps`."""
        self._enter()
        return [record for _, record in sorted(self._found(workflow_id).records.items())]

    async def cancel(self, workflow_ids: Sequence[str]) -> int:
        """See `EngineDriver.cancel`."""
        self._enter()
        count = 0
        for run in [self._found(each) for each in workflow_ids]:
            count += self._cancel(run)
        return count

    def _cancel(self, run: MemoryRun) -> int:
        count = int(not run.status.ended)
        for child in run.children:
            if child in self.store.runs:
                count += self._cancel(self.store.runs[child])
        if not run.status.ended and (run.stop != "cancelled" or run.task is None):
            self._stop(run, "cancelled")  # once: a second cancellation would cut short what tidies up
        return count

    def _stop(self, run: MemoryRun, reason: str) -> None:
        run.stop = reason
        self.unset(f"run/{run.request.workflow_id}")
        if run.task is None:
            self._stopped(run)
        elif reason == "cancelled":
            run.task.cancel()
        elif run.context is not None:
            run.context.ring()

    async def pause(self, workflow_id: str) -> None:
        """See `EngineDriver.pause`."""
        self._enter()
        run = self._found(workflow_id)
        if run.status.ended or run.status is EnumRunStatus.PAUSED:
            raise _conflict(workflow_id, f"is {run.status.value} and cannot be paused")
        self._stop(run, "paused")
        if run.task is not None:
            await asyncio.wait([run.task])

    async def resume(self, workflow_id: str, under: StartRequest | None = None) -> None:
        """See `EngineDriver.resume`. under: under whose lease a run that had ended goes on, None without one."""
        self._enter()
        run = self._found(workflow_id)
        if run.status not in {EnumRunStatus.PAUSED, EnumRunStatus.CANCELLED, EnumRunStatus.FAILED}:
            raise _conflict(workflow_id, f"is {run.status.value}; a paused, cancelled or failed one can be resumed")
        self._claim(run.request)
        if run.status is not EnumRunStatus.PAUSED:
            forget_failures(run)
            run.request = run.request.under(under)
        run.output, run.error, run.stop = None, None, None
        self._enqueue(run)

    async def fork(self, workflow_id: str, from_step: str, new_id: str | None = None) -> RunView:
        """See `EngineDriver.fork`."""
        self._enter()
        run = self._found(workflow_id)
        position = place_of(run, from_step)
        name = new_id or f"{workflow_id}.fork-{self.store.count + 1}"
        if name in self.store.runs:
            raise _conflict(name, "exists already; choose another id")
        request = replace(
            run.request.under(None),
            workflow_id=name,
            deduplication_key=None,
            not_before=None,
            parent_id=None,
            parent_position=None,
        )
        check_start(request)
        made = self._add(request, run.input_hash)
        made.records, made.times = dict(run.records), dict(run.times)
        made.received, made.patches = dict(run.received), dict(run.patches)
        made.drop_from(position)
        self._enqueue(made)
        return made.view()

    async def rewind(self, workflow_id: str, to_step: str) -> RunView:
        """See `EngineDriver.rewind`."""
        self._enter()
        run = self._found(workflow_id)
        position = place_of(run, to_step)
        self._claim(run.request)
        task = run.task
        if task is not None:
            self._stop(run, "paused")
        for child in [self.store.runs[name] for name in run.children if name in self.store.runs]:
            if (child.request.parent_position or 0) >= position:
                self._cancel(child)
        if task is not None:
            await asyncio.wait([task])
        if run.status.ended:
            run.request = run.request.under(None)
        run.drop_from(position)
        run.anew.append(position)
        run.output, run.error, run.stop = None, None, None
        self._enqueue(run)
        return run.view()

    def _found(self, workflow_id: str) -> MemoryRun:
        run = self.store.runs.get(workflow_id)
        if run is None:
            raise ModelOnexError(
                f"there is no workflow run {workflow_id!r}", EnumCoreErrorCode.NOT_FOUND, {"workflow_id": workflow_id}
            )
        return run

    # schedules

    async def schedules(self) -> Sequence[Schedule]:
        """See `EngineDriver.schedules`."""
        self._enter()
        return self._schedules.all()

    async def put_schedule(self, schedule: Schedule) -> None:
        """See `EngineDriver.put_schedule`."""
        self._enter()
        self._schedules.put(schedule)

    async def delete_schedule(self, name: str) -> None:
        """See `EngineDriver.delete_schedule`."""
        self._enter()
        self._schedules.delete(name)

    async def trigger_schedule(self, name: str) -> RunView:
        """See `EngineDriver.trigger_schedule`."""
        self._enter()
        return self._schedules.trigger(name).view()

    async def backfill_schedule(self, name: str, start: datetime, end: datetime) -> Sequence[RunView]:
        """See `EngineDriver.backfill_schedule`."""
        self._enter()
        return [run.view() for run in self._schedules.backfill(name, start, end)]

    @property
    def refuses(self) -> bool:
        """Whether nothing begins here any more."""
        return bool(self._refuses)

    def begin_once(self, request: StartRequest) -> MemoryRun:
        """The run of this id, begun unless it is there."""
        run = self.store.runs.get(request.workflow_id)
        if run is None:
            run = self._add(request, hash_of(request))
            self._enqueue(run)
        return run

    def _add(self, request: StartRequest, input_hash: bytes) -> MemoryRun:
        now = self.clock()
        self.store.count += 1
        run = MemoryRun(request, EnumRunStatus.QUEUED, now, now, input_hash, self.store.count)
        self.store.runs[request.workflow_id] = run
        return run

    # the end

    async def delete_before(self, when: datetime) -> int:
        """See `EngineDriver.delete_before`."""
        self._enter()
        return self.store.delete_before(when.timestamp())

    async def drain(self, limit: timedelta) -> int:
        """See `EngineDriver.drain`."""
        self._enter()
        return await self._leave(limit.total_seconds(), "is draining")

    async def _leave(self, seconds: float, why: str) -> int:
        self._refuses = why
        self.store.latest = self.clock()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        mine = [run for run in self.store.runs.values() if run.task is not None]
        for run in mine:
            self._stop(run, "drained")
        tasks = [run.task for run in mine if run.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        return sum(not run.status.ended for run in mine)

    async def aclose(self) -> None:
        """Stop runs where they are; another engine on the same store takes them up."""
        if self._loop is asyncio.get_running_loop():
            await self._leave(0.0, "is closed")
        self._refuses = "is closed"
        if self.events is not None:
            await self.events.aclose()

    async def crash(self) -> None:
        """For tests: end at once, as a killed process does. Nothing more is written, what was recorded stays."""
        self._refuses = "has crashed"
        self.store.latest = self.clock()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = []
        for run in self.store.runs.values():
            if run.task is not None:
                run.context, run.stop = None, None
                tasks.append(run.task)
                run.task.cancel()
                run.task = None
        if tasks:
            await asyncio.wait(tasks)

    # for contexts

    def listen(self, run: MemoryRun, topic: str) -> None:
        """Have events of the bus put before a run, for as long as it goes on."""
        if topic not in run.topics or self.events is None or not self.events.knows(run, topic):
            run.topics.add(topic)
            if self.events is None:
                raise ModelOnexError(
                    f"workflow run {run.request.workflow_id!r} waits for events, and the engine has no event bus",
                    EnumCoreErrorCode.CONFIGURATION_ERROR,
                )
            self.events.listen(run, topic, self.deliver)

    async def transact(self, connection_name: str, workflow_id: str, position: int, work: Work) -> StepOutcome:
        """The work of a `tx_step`."""
        if self._transact is None:
            return await work()
        return await self._transact(connection_name, workflow_id, position, work)

    def unset(self, key: str) -> None:
        """Do not do it."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def at(self, key: str, seconds: float, what: Callable[[], None]) -> None:
        """Do something later; `key` tells what for."""
        if key in self._timers and key.startswith("queue/"):
            return

        def fire() -> None:
            self._timers.pop(key, None)
            what()

        self._timers[key] = asyncio.get_running_loop().call_later(max(0.0, seconds), fire)


def _conflict(workflow_id: str, said: str) -> ModelOnexError:
    return ModelOnexError(
        f"workflow run {workflow_id!r} {said}", EnumCoreErrorCode.CONFLICT, {"workflow_id": workflow_id}
    )


def _error(code: EnumCoreErrorCode, error: Exception, message: str) -> StepError:
    return StepError(code, type(error).__name__, redact(message))
