"""The part of a driver that carries runs out: what dbos calls, and what a context asks of it (`RunHost`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_workflow_engine import (
    RunView,
    RunWorkflow,
    Signal,
    StartRequest,
    StepError,
    StepRecord,
    WorkflowStoppedError,
    event_types_of,
)
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.engine_dbos_context import BLOCKING, DbosContext, RunControl
from omnibase_spi.engine_dbos_janitor import Janitor
from omnibase_spi.engine_dbos_lease import ExecutorLease
from omnibase_spi.engine_dbos_link import DbosWorker, Record, current_owner, failure_of_run, make_engine, record
from omnibase_spi.engine_dbos_signals import SignalTable
from omnibase_spi.engine_dbos_store import DbosStore
from omnibase_spi.engine_dbos_tables import ENDING, PAUSED, WorkflowTables
from omnibase_spi.engine_memory_events import as_signal
from omnibase_spi.workflow_tx import TransactionalSteps

_log: Final = logging.getLogger("onex.workflow")
_HANDED_OVER: Final = {PAUSED: "CANCELLED", ENDING: "CANCELLED", "drained": "ENQUEUED"}
_AGAIN_S: Final = 0.3
_PATIENCE_S: Final = 1.0
_LAUNCHES: Final = 5
_WRITERS: Final = 16
_END_LOOK_S: Final = 0.05
_TOLD_AFTER_S: Final = 0.03
"""dbos writes the outcome after the run's function has returned: those who wait are told when it may be there."""


T = TypeVar("T")


class Engine(Protocol):
    """What the runner asks of its driver."""

    async def start_child(self, request: StartRequest, owner: str) -> RunView: ...

    async def wait(self, workflow_id: str, timeout: timedelta | None = None) -> RunView: ...  # noqa: ASYNC109  # the seam's

    async def resume(self, workflow_id: str) -> None: ...

    async def cancel(self, workflow_ids: Sequence[str]) -> int: ...

    async def query(self, workflow_id: str) -> RunView: ...

    def run_ended(self) -> None: ...


class DbosRunner:
    """The part of a driver that carries runs out (`RunHost`)."""

    def __init__(
        self,
        driver: Engine,
        store: DbosStore,
        run: RunWorkflow,
        ttl_ms: int,
        bus: ProtocolEventBus | None,
        db: DbAdapter | None,
        only: str | None = None,
        retention: timedelta | None = None,
    ) -> None:
        self._driver = driver
        self._only = only
        self._store = store
        self._retention = retention
        self._run = run
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._active: dict[str, RunControl] = {}
        self._at_home: set[asyncio.Task[object]] = set()
        self._progress: dict[str, JsonValue] = {}
        self.draining = False
        self._transactions = None if db is None else TransactionalSteps(db)
        self.lease = ExecutorLease(store.tables, ttl_ms, partial(self._from_thread, self._stop_all, "lease"))
        self._engine = make_engine(store.url, ttl_ms)
        self.lease.fence(self._engine)
        self._tables = WorkflowTables(self._engine, store.schema)
        self._signals = SignalTable(self._tables)
        self._dbos = DbosWorker(self._carry_out)
        self._janitor = Janitor(self, store.tables, store.schedules, self.lease, ttl_ms)
        self._launched = False
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="onex-records")

    def launch(self) -> None:
        """Take the lease and start dbos. On a machine so busy that the lease ran out meanwhile, once more."""
        self.lease.start()
        for left in range(_LAUNCHES - 1, -1, -1):
            try:
                self._dbos.launch(self._engine, self._store.schema, self.lease.executor_id, self._loop, self._only)
                break
            except LeaseExpiredError:
                if not left or not self.lease.wait_until_held():
                    raise
        self._launched = True
        self._janitor.start()

    @property
    def publishes(self) -> bool:
        """Whether anybody could hear of events."""
        return self._bus is not None

    # a run

    async def _carry_out(self, workflow_id: str) -> JsonValue:
        """An execution of a run, called by dbos. Raises what dbos records as the error of a run that failed."""
        owner, task = current_owner(), asyncio.current_task()
        control = RunControl(workflow_id, owner, self.lease.token)
        if self.draining or not self.lease.held:
            control.stop("drained" if self.draining else "lease")
        if task is not None:
            self._at_home.add(task)
        self._active[workflow_id] = control
        try:
            loaded = await self._surely(control, partial(self._store.do, self._tables.load, workflow_id, control.token))
            if loaded.wanted is not None:
                control.stop(loaded.wanted)
            control.check()
            context = DbosContext(self, control, self.lease.executor_id, loaded, self._transactions)
            try:
                return await self._run(context, loaded.bundle, loaded.input_data)
            except Exception:
                await self._end_children(control)
                raise
        except WorkflowStoppedError as stopped:
            await self._let_go(control, stopped.reason)
            raise
        except Exception as error:
            raise failure_of_run(error) from error
        finally:
            if self._active.get(workflow_id) is control:
                del self._active[workflow_id]
            for unsubscribe in control.subscriptions.values():
                await unsubscribe()
            if task is not None:
                self._at_home.discard(task)
            self._loop.call_later(_TOLD_AFTER_S, self._driver.run_ended)

    async def _end_children(self, control: RunControl) -> None:
        """Cancel what a run has started and that goes on, before its failure is recorded: so a replay does it too."""
        ending = partial(self._store.do, self._store.tables.cancel_children, control.workflow_id)
        for child in await self._surely(control, ending):
            self.stop_run(child, "cancelled")

    async def _let_go(self, control: RunControl, reason: str) -> None:
        status = _HANDED_OVER.get(reason)
        if status is not None and not control.handed_over:
            control.handed_over = True
            handing = partial(self._store.do, self._tables.hand_over, control.workflow_id, control.owner, status)
            await self._surely(control, handing)

    async def _surely(self, control: RunControl, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the database answers: a run does not fail because it is away for a while. Raises
        WorkflowStoppedError when the run may not go on here.
        """
        while True:
            try:
                return await ask()
            except LeaseExpiredError:
                raise WorkflowStoppedError("lease") from None
            except ModelOnexError as error:
                if error.error_code is not EnumCoreErrorCode.RESOURCE_UNAVAILABLE:
                    raise
            if self.draining:
                raise WorkflowStoppedError("drained")
            if control.reason in BLOCKING:
                control.check()
            await asyncio.sleep(_AGAIN_S)

    async def write(self, what: Record) -> None:
        await self._loop.run_in_executor(self._writers, record, what)

    async def recall(self, control: RunControl, position: int) -> StepRecord:
        """What this run has recorded at a position."""
        records = await self._surely(control, partial(self._store.do, self._tables.journal, control.workflow_id))
        return next(record for record in records if record.position == position)

    async def take_signal(self, control: RunControl, topic: str, position: int) -> Signal | None:
        taking = partial(self._store.do, self._signals.take, control.workflow_id, topic, position)
        return await self._surely(control, taking)

    async def start_child(self, control: RunControl, request: StartRequest, *, wait: bool) -> RunView:
        """A child's run; one that was paused or cancelled goes on, as its parent does."""
        if self._only is not None:
            request = replace(request, queue=self._only)
        view = await self._surely(control, partial(self._driver.start_child, request, control.owner))
        if wait and view.status in {EnumRunStatus.PAUSED, EnumRunStatus.CANCELLED}:
            await self.resume_child(control, request.workflow_id)
        return view

    async def resume_child(self, control: RunControl, workflow_id: str) -> None:
        """Let a child go on; where somebody else has done so, it is waited for all the same."""
        try:
            await self._surely(control, partial(self._driver.resume, workflow_id))
        except ModelOnexError as error:
            if error.error_code is not EnumCoreErrorCode.CONFLICT:
                raise

    async def wait_for(
        self, workflow_id: str, control: RunControl, given_up: "asyncio.Future[StepError] | None"
    ) -> RunView | None:
        """The child once it has ended, unless its parent is to stop first; None when it was given up before."""
        waiting = asyncio.ensure_future(self._surely(control, partial(self._driver.wait, workflow_id)))
        try:
            with control.bell(given_up) as bell:
                waiting.add_done_callback(lambda _: bell.set())
                while not waiting.done():
                    if given_up is not None and given_up.done():
                        return None
                    await control.wait(bell, None)
            return waiting.result()
        finally:
            waiting.cancel()
            with suppress(asyncio.CancelledError, ModelOnexError, WorkflowStoppedError):
                await waiting

    async def end_child(self, control: RunControl, workflow_id: str) -> RunView | None:
        """Cancel a child and what it has started, once whoever carries them out has let go of them; None for one that
        is not there.
        """
        store = self._store
        if await self._surely(control, partial(store.do, store.tables.run, workflow_id)) is None:
            return None
        while active := await self._surely(control, partial(store.do, store.tables.want_end, workflow_id)):
            for each in active:
                self.stop_run(each, ENDING)
            with control.bell() as bell:
                await control.wait(bell, _END_LOOK_S)
        await self._surely(control, partial(self._driver.cancel, [workflow_id]))
        return await self._surely(control, partial(self._driver.query, workflow_id))

    async def publish(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        """Publish an event of a run. One that cannot be published is logged: what it tells has happened already."""
        if self._bus is None:
            return
        event: ModelEventEnvelope[object] = ModelEventEnvelope(
            event_type=event_type, payload=payload, envelope_id=event_id, source="/onex/workflow"
        )
        try:
            await self._bus.publish(event)
        except Exception as error:  # noqa: BLE001  # a run does not fail because nobody could be told
            _log.warning("event %s of a workflow was not published: %s", event_type, redact(str(error)))

    async def subscribe(self, control: RunControl, topic: str) -> None:
        """Hand each event of these types to the run as a signal, as long as it is carried out here."""
        if topic in control.subscriptions:
            return
        bus, workflow_id = self._bus, control.workflow_id
        if bus is None:
            message = f"Workflow {workflow_id!r} waits for events, and its engine has no event bus."
            raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)

        async def keep(event: ModelEventEnvelope[object]) -> None:
            signal = Signal(topic, as_signal(event), str(event.envelope_id), event.source)
            await self._store.do(self._store.signals.send, workflow_id, signal)
            control.ring()

        made = [bus.subscribe(name, keep, f"{workflow_id}/{topic}/{name}") for name in event_types_of(topic)]

        async def unsubscribe() -> None:
            for subscription in made:
                await subscription.unsubscribe()

        control.subscriptions[topic] = unsubscribe
        for subscription in made:
            await subscription.ready()

    def note_progress(self, workflow_id: str, progress: JsonValue) -> None:
        self._progress[workflow_id] = progress

    async def begin_anew(self, control: RunControl, input_data: JsonValue) -> bool:
        again = partial(self._tables.continue_as_new, control.workflow_id, control.owner, input_data)
        return await self._surely(control, partial(self._store.do, again))

    # what the janitor sees and says, from its thread

    @property
    def active(self) -> frozenset[str]:
        return frozenset(self._active.copy())

    def take_progress(self) -> dict[str, JsonValue]:
        taken, self._progress = self._progress, {}
        return taken

    def write_progress(self, progress: dict[str, JsonValue]) -> None:
        self._tables.write_progress(progress, self.lease.token)

    def tell(self, workflow_id: str, reason: str | None) -> None:
        """Ring a run's bell, or stop it."""
        self._from_thread(*((self.ring, workflow_id) if reason is None else (self.stop_run, workflow_id, reason)))

    def queue_again(self, workflow_ids: Sequence[str]) -> None:
        """Runs that the database says are here, and that are not."""
        self.lease.queue_again(workflow_ids)

    def start_now(self, request: StartRequest) -> None:
        self._store.begin(request)

    def forget_some(self) -> int:
        """Delete runs that are kept for long enough; 0 when there are no more."""
        return 0 if self._retention is None else self._store.delete_some(datetime.now(UTC) - self._retention)

    def _from_thread(self, call: Callable[..., None], *args: str) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *args)

    def ring(self, workflow_id: str) -> None:
        control = self._active.get(workflow_id)
        if control is not None:
            control.ring()

    def stop_run(self, workflow_id: str, reason: str) -> None:
        control = self._active.get(workflow_id)
        if control is not None:
            control.stop(reason)

    def _stop_all(self, reason: str) -> None:
        for control in list(self._active.values()):
            control.stop(reason)

    # the end

    async def drain(self, limit: timedelta) -> int:
        self.draining = True
        if self._launched:
            self._dbos.stop_dequeuing()
        controls = list(self._active.values())
        self._stop_all("drained")
        await self._until_idle(limit.total_seconds())
        for control in list(self._active.values()):
            await self._let_go(control, "drained")
            control.stop("cut")
        return sum(control.handed_over for control in controls)

    async def _until_idle(self, seconds: float) -> None:
        if self._at_home:
            await asyncio.wait(self._at_home, timeout=seconds)

    async def close(self) -> None:
        """Stop all runs, hand them back, end dbos. What a step does at this moment is interrupted and done again."""
        self.draining = True
        self._stop_all("cut")
        await self._until_idle(_PATIENCE_S)
        if self._launched and (left := self._dbos.tasks()):
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_PATIENCE_S)
        loop = asyncio.get_running_loop()
        own = ThreadPoolExecutor(1, thread_name_prefix="onex-close")
        try:
            await loop.run_in_executor(own, self._janitor.stop)
            with suppress(Exception):
                await loop.run_in_executor(own, self.lease.stop)
            if self._launched:
                await loop.run_in_executor(own, self._dbos.destroy)
        finally:
            own.shutdown(wait=False)
            self._writers.shutdown(wait=False)
            self._engine.dispose()
