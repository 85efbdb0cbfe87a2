"""The workflow engine on dbos: runs in an SQLite file, or in PostgreSQL for many processes on many machines.

    start -> a row of ours and a queued row of dbos, in one transaction
    a worker's dbos takes it from the queue -> `_carry_out` -> the interpreter, over `DbosContext`
    each step -> a record of dbos at the step's position, committed under the worker's lease

All runs of a process are carried out on the event loop on which its driver was made.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar
from uuid import UUID, uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_workflow_engine import (
    BLOCK,
    RunFilter,
    RunView,
    RunWorkflow,
    Schedule,
    Signal,
    StartRequest,
    StepRecord,
    WorkflowBundle,
    WorkflowStoppedError,
    event_types_of,
)
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.engine_dbos_context import DbosContext, RunControl
from omnibase_spi.engine_dbos_janitor import Janitor
from omnibase_spi.engine_dbos_lease import ExecutorLease
from omnibase_spi.engine_dbos_link import (
    INTERPRETER_VERSION,
    WORKFLOW_NAME,
    DbosWorker,
    QueueLimits,
    check_dbos,
    current_owner,
    failure_of_run,
    make_client,
    make_engine,
    migrate,
    register_queues,
)
from omnibase_spi.engine_dbos_schedules import ScheduleTable
from omnibase_spi.engine_dbos_tables import PAUSED, WorkflowTables
from omnibase_spi.workflow_names import names_of
from omnibase_spi.workflow_tx import TransactionalSteps

if TYPE_CHECKING:
    import sqlalchemy as sa
    from dbos import DBOSClient

DEFAULT_QUEUE: Final = "onex"
_log: Final = logging.getLogger(__name__)
_QUEUE_POLL_S: Final = 0.1
_WAIT_POLL_S: Final = 0.25
_PAUSE_LOOK_S: Final = 0.05
_PAUSE_LOOKS: Final = 40
_THREADS: Final = 8
_DELETED_AT_ONCE: Final = 500

T = TypeVar("T")


class DbosDriver:
    """`EngineDriver` over dbos. Made by `create`; closed by `aclose`."""

    def __init__(self, engine: "sa.Engine", schema: str) -> None:
        self._engine = engine
        self._schema = schema
        self._tables = WorkflowTables(engine, schema)
        self._schedules = ScheduleTable(self._tables)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="onex-engine")
        self._client: DBOSClient | None = None
        self._worker: _Worker | None = None
        self._ended: set[asyncio.Event] = set()
        self._queues: set[str] = set()

    @classmethod
    async def create(
        cls,
        url: str,
        run: RunWorkflow | None = None,
        *,
        lease_ttl_ms: int = 15_000,
        queues: Sequence[QueueLimits] = (),
        bus: ProtocolEventBus | None = None,
        db: DbAdapter | None = None,
        schema: str = "onex",
    ) -> Self:
        """Open the store, making its tables, and begin to carry runs out.

        url: `sqlite:///file.db` or `postgresql://...`. run: the interpreter; without one nothing is carried out here,
        only started, watched and steered. lease_ttl_ms: after so long without a sign of life (300..3,600,000) others
        take the runs of this process over. queues: beside `onex`. bus: where events go and come from. db: for steps
        that commit with their record. schema: of PostgreSQL, for all tables.

        Raises CONFIGURATION_ERROR (dbos missing, URL), RESOURCE_UNAVAILABLE (database away) and CONFLICT (a worker is
        in this process already).
        """
        check_dbos()
        driver = cls(make_engine(url), schema)
        loop = asyncio.get_running_loop()
        try:
            await driver._do(driver._open, list(queues))
            if run is not None:
                worker = _Worker(driver, run, loop, lease_ttl_ms, make_engine(url), bus, db)
                await driver._do(worker.lease.start)
                driver._worker = worker
                worker.launch()
        except BaseException:
            await driver.aclose()
            raise
        return driver

    def _open(self, queues: Sequence[QueueLimits]) -> None:
        migrate(self._engine, self._schema)
        self._tables.make()
        self._client = make_client(self._engine, self._schema)
        register_queues(self._client, [QueueLimits(DEFAULT_QUEUE), *queues], _QUEUE_POLL_S)
        self._queues = {queue.name for queue in self._client.list_queues()}

    # runs

    async def start(self, request: StartRequest) -> RunView:
        await self._do(self._start, request)
        return await self.query(request.workflow_id)

    def _start(self, request: StartRequest, cut: tuple[str, int] | None = None) -> bool:
        """Write a run down and queue it; with `cut`, after the records of another run below a position."""
        from dbos import EnqueueOptions, WorkflowSerializationFormat
        from dbos._error import DBOSQueueDeduplicatedError

        if not request.workflow_id.strip():
            message = "Start of a workflow: its id is empty. Give one, or leave it out to have one made."
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
        queue = request.queue or DEFAULT_QUEUE
        if queue not in self._queues:
            self._queues = {found.name for found in self._dbos.list_queues()}
            if queue not in self._queues:
                message = (
                    f"Start of workflow {request.workflow_id!r}: unknown queue {queue!r}. "
                    f"Known are {', '.join(sorted(self._queues))}."
                )
                raise ModelOnexError(message, EnumCoreErrorCode.NOT_FOUND)
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW_NAME,
            "queue_name": queue,
            "workflow_id": request.workflow_id,
            "app_version": INTERPRETER_VERSION,
            "priority": request.priority,
            "serialization_type": WorkflowSerializationFormat.PORTABLE,
        }
        if request.deduplication_key is not None:
            options["deduplication_id"] = request.deduplication_key
        if request.not_before is not None:
            seconds = (request.not_before - datetime.now(UTC)).total_seconds()
            if seconds > 0:
                options["delay_seconds"] = seconds
        tables = self._tables
        try:
            with tables.writing() as connection:
                tables.put_bundle(connection, request.bundle)
                if not tables.insert_run(connection, request, names_of(request.bundle), queue):
                    return False
                self._dbos.enqueue_in_transaction(connection, options)
                if cut is not None:
                    tables.copy_records(connection, cut[0], request.workflow_id, cut[1])
        except DBOSQueueDeduplicatedError:
            message = (
                f"Start of workflow {request.workflow_id!r}: a run with the deduplication key "
                f"{request.deduplication_key!r} has not ended. Wait for it, or cancel it."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.CONFLICT) from None
        return True

    async def query(self, workflow_id: str) -> RunView:
        view = await self._do(self._tables.run, workflow_id)
        if view is None:
            raise _unknown(workflow_id)
        return view

    async def bundle(self, workflow_id: str) -> WorkflowBundle:
        view = await self.query(workflow_id)
        return await self._do(self._tables.bundle, view.contract_digest)

    async def list(self, which: RunFilter) -> Sequence[RunView]:
        return await self._do(self._tables.runs, which)

    async def steps(self, workflow_id: str) -> Sequence[StepRecord]:
        await self.query(workflow_id)
        return await self._do(self._tables.journal, workflow_id)

    async def wait(self, workflow_id: str, timeout: timedelta | None = None) -> RunView:  # noqa: ASYNC109  # the seam's
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout.total_seconds()
        bell = asyncio.Event()
        self._ended.add(bell)
        try:
            while True:
                bell.clear()
                view = await self.query(workflow_id)
                if view.status.ended:
                    return view
                left = None if deadline is None else deadline - loop.time()
                if left is not None and left <= 0:
                    message = (
                        f"Waiting for workflow {workflow_id!r}: it is {view.status.value} after {timeout}. It goes on; "
                        "wait again, or look at its steps."
                    )
                    raise ModelOnexError(message, EnumCoreErrorCode.TIMEOUT, {"workflow_id": workflow_id})
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WAIT_POLL_S if left is None else min(left, _WAIT_POLL_S)):
                        await bell.wait()
        finally:
            self._ended.discard(bell)

    async def signal(self, workflow_id: str, signal: Signal) -> None:
        view = await self.query(workflow_id)
        if view.status.ended:
            raise _refused("A signal", view, "Only a run that goes on can receive it.")
        await self._do(self._tables.send, workflow_id, signal)
        if self._worker is not None:
            self._worker.ring(workflow_id)

    async def cancel(self, workflow_ids: Sequence[str]) -> int:
        def cancel() -> "list[str]":
            found = self._tables.with_descendants(workflow_ids)
            if found:
                self._dbos.cancel_workflows(found)
                self._tables.forget_wish(found)
            return found

        for workflow_id in workflow_ids:
            await self.query(workflow_id)
        found = await self._do(cancel)
        if self._worker is not None:
            for workflow_id in found:
                self._worker.stop_run(workflow_id, "cancelled")
        return len(found)

    async def pause(self, workflow_id: str) -> None:
        view = await self.query(workflow_id)
        if view.status.ended:
            raise _refused("A pause", view, "Only a run that goes on can be paused.")
        await self._do(self._tables.want_pause, workflow_id)
        if self._worker is not None:
            self._worker.stop_run(workflow_id, PAUSED)
        for _ in range(_PAUSE_LOOKS):  # it stops at its next boundary, which may be in another process, and far away
            if (await self.query(workflow_id)).status is not EnumRunStatus.RUNNING:
                return
            await asyncio.sleep(_PAUSE_LOOK_S)

    async def resume(self, workflow_id: str) -> None:
        view = await self.query(workflow_id)
        if view.status is EnumRunStatus.COMPLETED:
            raise _refused("Resuming", view, "Rewind it to a step, or fork it.")
        await self._do(self._tables.go_on, workflow_id)

    async def fork(self, workflow_id: str, from_step: str, new_id: str | None = None) -> RunView:
        view = await self.query(workflow_id)
        cut = await self._cut(workflow_id, from_step)
        made = new_id or f"{workflow_id}-{uuid4().hex[:8]}"
        request = StartRequest(
            made,
            await self._do(self._tables.bundle, view.contract_digest),
            view.input_data,
            view.queue,
            view.priority,
            None,
            view.attributes,
        )
        await self._do(self._start, request, (workflow_id, cut))
        return await self.query(made)

    async def rewind(self, workflow_id: str, to_step: str) -> RunView:
        cut = await self._cut(workflow_id, to_step)
        await self._do(self._tables.begin_again, workflow_id, cut)
        if self._worker is not None:
            self._worker.stop_run(workflow_id, "moved")
        return await self.query(workflow_id)

    async def _cut(self, workflow_id: str, step: str) -> int:
        """The first position of a step that has a record; items of a step are `<step>[<n>]`."""
        records = await self.steps(workflow_id)
        for record in records:
            if record.position >= BLOCK and (record.name == step or record.name.startswith((f"{step}[", f"{step}/"))):
                return record.position // BLOCK * BLOCK
        known = dict.fromkeys(record.name for record in records if record.position >= BLOCK)
        message = (
            f"Workflow {workflow_id!r}: no step {step!r} is recorded. Recorded are "
            f"{', '.join(repr(name) for name in list(known)[:20]) or 'none'}."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.NOT_FOUND, {"workflow_id": workflow_id, "step": step})

    async def delete_before(self, when: datetime) -> int:
        def delete() -> int:
            deleted = 0
            while found := self._tables.ended_before(when, _DELETED_AT_ONCE):
                self._dbos.delete_workflows(found)
                self._tables.forget_runs(found)
                deleted += len(found)
            return deleted

        return await self._do(delete)

    # schedules

    async def schedules(self) -> Sequence[Schedule]:
        return await self._do(self._schedules.all)

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._do(self._schedules.put, schedule)

    async def delete_schedule(self, name: str) -> None:
        await self._do(self._schedules.delete, name)

    async def trigger_schedule(self, name: str) -> RunView:
        schedule = await self._do(self._schedules.one, name)
        return await self.start(ScheduleTable.run_of(schedule, datetime.now(UTC)))

    async def backfill_schedule(self, name: str, start: datetime, end: datetime) -> Sequence[RunView]:
        schedule = await self._do(self._schedules.one, name)
        requests = [ScheduleTable.run_of(schedule, at) for at in ScheduleTable.times(schedule, start, end)]
        return [await self.start(request) for request in requests]

    # the end

    async def drain(self, limit: timedelta) -> int:
        worker = self._worker
        return 0 if worker is None else await worker.drain(limit)

    async def aclose(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()
        if self._client is not None:
            self._client.destroy()
            self._client = None
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    @property
    def _dbos(self) -> "DBOSClient":
        if self._client is None:
            raise ModelOnexError("This workflow engine is closed.", EnumCoreErrorCode.CONFLICT)
        return self._client

    def run_ended(self) -> None:
        """Let those who wait for a run of this process look at once."""
        for bell in self._ended:
            bell.set()

    async def _do(self, work: Callable[..., T], *args: object) -> T:
        """Blocking work of the database, in a thread. Raises RESOURCE_UNAVAILABLE when the database is away."""
        import sqlalchemy as sa

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            where = self._engine.url.render_as_string(hide_password=True)
            message = (
                f"The database of the workflow engine, {where}, does not answer ({type(error).__name__}). "
                "Nothing is lost: runs go on when it is back. Check ONEX_DATABASE_URL and the server."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.RESOURCE_UNAVAILABLE) from None


class _Worker:
    """The part of a driver that carries runs out (`RunHost`)."""

    def __init__(
        self,
        driver: DbosDriver,
        run: RunWorkflow,
        loop: asyncio.AbstractEventLoop,
        ttl_ms: int,
        fenced: "sa.Engine",
        bus: ProtocolEventBus | None,
        db: DbAdapter | None,
    ) -> None:
        self._driver = driver
        self._run = run
        self._loop = loop
        self._bus = bus
        self._engine = fenced
        self._active: dict[str, RunControl] = {}
        self._at_home: set[asyncio.Task[object]] = set()
        self._progress: dict[str, JsonValue] = {}
        self._draining = False
        self._transactions = None if db is None else TransactionalSteps(db)
        self._own_engine = fenced
        self.lease = ExecutorLease(driver._tables, ttl_ms, partial(self._from_thread, self._stop_all, "lease"))  # noqa: SLF001  # the other half of one thing
        self.lease.fence(fenced)
        self._tables = WorkflowTables(fenced, driver._schema)  # noqa: SLF001  # see above
        self._dbos = DbosWorker(self._carry_out, loop)
        self._janitor = Janitor(self, driver._tables, driver._schedules, self.lease, ttl_ms)  # noqa: SLF001  # see above
        self._launched = False

    def launch(self) -> None:
        self._dbos.launch(self._engine, self._driver._schema, self.lease.executor_id)  # noqa: SLF001  # see above
        self._launched = True
        self._janitor.start()

    # a run

    async def _carry_out(self, workflow_id: str) -> JsonValue:
        """An execution of a run, called by dbos. Raises what dbos records as the error of a run that failed."""
        owner, task = current_owner(), asyncio.current_task()
        control = RunControl(workflow_id, owner, self.lease.token)
        if self._draining or not self.lease.held:
            control.stop("drained" if self._draining else "lease")
        if task is not None:
            self._at_home.add(task)
        self._active[workflow_id] = control
        try:
            loaded = await self._driver._do(self._tables.load, workflow_id, control.token)  # noqa: SLF001  # see above
            if loaded.wanted == PAUSED:
                control.stop(PAUSED)
            control.check()
            context = DbosContext(self, control, self.lease.executor_id, loaded, self._transactions)
            return await self._run(context, loaded.bundle, loaded.input_data)
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
            self._loop.call_later(0.05, self._driver.run_ended)

    async def _let_go(self, control: RunControl, reason: str) -> None:
        status = {PAUSED: "CANCELLED", "drained": "ENQUEUED"}.get(reason)
        if status is not None:
            await self._driver._do(self._tables.hand_over, control.workflow_id, control.owner, status)  # noqa: SLF001  # see above

    async def take_signal(self, workflow_id: str, topic: str, position: int) -> Signal | None:
        return await self._driver._do(self._tables.take, workflow_id, topic, position)  # noqa: SLF001  # see above

    async def start(self, request: StartRequest) -> RunView:
        return await self._driver.start(request)

    async def wait_for(self, workflow_id: str, control: RunControl) -> RunView:
        """The child once it has ended, unless its parent is to stop first."""
        waiting = asyncio.ensure_future(self._driver.wait(workflow_id))
        try:
            with control.bell() as bell:
                waiting.add_done_callback(lambda _: bell.set())
                while not waiting.done():
                    await control.wait(bell, None)
            return waiting.result()
        finally:
            waiting.cancel()
            with suppress(asyncio.CancelledError, ModelOnexError):
                await waiting

    async def publish(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        if self._bus is not None:
            await self._bus.publish(
                ModelEventEnvelope[JsonValue](event_type=event_type, payload=payload, envelope_id=event_id)
            )

    async def subscribe(self, control: RunControl, topic: str) -> None:
        """Hand each event of these types to the run as a signal, as long as it is carried out here."""
        if topic in control.subscriptions or self._bus is None:
            return
        workflow_id, bus = control.workflow_id, self._bus

        async def keep(event: ModelEventEnvelope[JsonValue]) -> None:
            payload: JsonValue = {
                "type": event.event_type,
                "id": str(event.envelope_id),
                "key": event.partition_key,
                "payload": event.payload,
            }
            signal = Signal(topic, payload, str(event.envelope_id))
            await self._driver._do(self._driver._tables.send, workflow_id, signal)  # noqa: SLF001  # see above
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

    async def begin_anew(self, workflow_id: str, input_data: JsonValue) -> bool:
        return await self._driver._do(  # noqa: SLF001  # see above
            self._tables.begin_again, workflow_id, 0, current_owner(), (input_data,)
        )

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

    def start_now(self, request: StartRequest) -> None:
        self._driver._start(request)  # noqa: SLF001  # see above

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
        self._draining = True
        if self._launched:
            self._dbos.stop_dequeuing()
        before = len(self._active)
        self._stop_all("drained")
        await self._until_idle(limit.total_seconds())
        left = len(self._active)
        self._stop_all("moved")
        return max(before, left)

    async def _until_idle(self, seconds: float) -> None:
        if self._at_home:
            await asyncio.wait(self._at_home, timeout=seconds)

    async def close(self) -> None:
        """Stop all runs, hand them back, end dbos. What a step does at this moment is interrupted and done again."""
        self._draining = True
        self._stop_all("moved")
        await self._until_idle(1.0)
        for task in list(self._at_home):
            task.cancel()
        loop = asyncio.get_running_loop()
        own = ThreadPoolExecutor(1, thread_name_prefix="onex-close")
        try:
            await loop.run_in_executor(own, self._janitor.stop)
            with suppress(Exception):
                await loop.run_in_executor(own, self.lease.stop)
            if self._launched:
                await loop.run_in_executor(own, self._dbos.destroy)
                self._dbos.restore_threads()
        finally:
            own.shutdown(wait=False)
            self._engine.dispose()


def _unknown(workflow_id: str) -> ModelOnexError:
    message = f"Workflow {workflow_id!r} is unknown here. `onex workflow list` shows what is known."
    return ModelOnexError(message, EnumCoreErrorCode.NOT_FOUND, {"workflow_id": workflow_id})


def _refused(what: str, view: RunView, advice: str) -> ModelOnexError:
    message = f"{what} of workflow {view.workflow_id!r} is refused: it is {view.status.value}. {advice}"
    return ModelOnexError(message, EnumCoreErrorCode.CONFLICT, {"workflow_id": view.workflow_id})
