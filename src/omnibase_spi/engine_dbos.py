"""The workflow engine on dbos: runs in an SQLite file, or in PostgreSQL for many processes on many machines.

    start -> a row of ours and a queued row of dbos, in one transaction
    a worker's dbos takes it from the queue -> `_carry_out` -> the interpreter, over `DbosContext`
    each step -> a record of dbos at the step's position, committed under the worker's lease

All runs of a process are carried out on the event loop on which its driver was made.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import uuid4

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
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
)
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.engine_dbos_link import QueueLimits, check_dbos
from omnibase_spi.engine_dbos_runner import DbosRunner
from omnibase_spi.engine_dbos_schedules import ScheduleTable
from omnibase_spi.engine_dbos_store import DbosStore
from omnibase_spi.engine_dbos_tables import NOTE, PAUSED
from omnibase_spi.workflow_checks import check_attributes, check_signal, check_word
from omnibase_spi.workflow_cron import times_between

_IDLE_MS: Final = 5_000
_LEAST_IDLE_MS: Final = 2_000
"""A busy machine lets a thread stand still for a while; a shorter lease is no reason to undo what it does."""
_WAIT_POLL_S: Final = 0.25
_RESUMABLE: Final = "Resume what was paused, cancelled or has failed; rewind what is done."
_PAUSE_LOOK_S: Final = 0.05
_PAUSE_LOOKS: Final = 40


class DbosDriver:
    """`EngineDriver` over dbos. Made by `create`; closed by `aclose`."""

    has_leases: Final = True

    def __init__(self, store: DbosStore) -> None:
        self._store = store
        self._runner: DbosRunner | None = None
        self._ended: set[asyncio.Event] = set()

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
        only: str | None = None,
        retention: timedelta | None = None,
    ) -> Self:
        """Open the store, making its tables, and begin to carry runs out.

        url: `sqlite:///file.db` or `postgresql://...`. run: the interpreter; without one nothing is carried out here,
        only started, watched and steered. lease_ttl_ms: after so long without a sign of life (300..3,600,000) others
        take the runs of this process over. queues: beside `onex`. bus: where events go and come from. db: for steps
        that commit with their record. schema: of PostgreSQL, for all tables. only: a queue, made where it is not there;
        nothing but its runs, and what they start, is carried out here. retention: runs that ended longer ago are
        deleted, at the start and then once an hour; None: none is.

        Raises CONFIGURATION_ERROR (dbos missing, URL), RESOURCE_UNAVAILABLE (database away) and CONFLICT (a worker is
        in this process already).
        """
        idle_ms = _IDLE_MS if run is None else max(lease_ttl_ms, _LEAST_IDLE_MS)
        driver = cls(await asyncio.to_thread(_store, url, schema, idle_ms))
        store = driver._store
        try:
            await store.do(store.open, [*queues, *([] if only is None else [QueueLimits(only)])])
            if run is not None:
                runner = DbosRunner(driver, store, run, lease_ttl_ms, bus, db, only, retention)
                driver._runner = runner
                await store.do(runner.launch)
        except BaseException:
            await driver.aclose()
            raise
        return driver

    # runs

    async def start(self, request: StartRequest) -> RunView:
        return await self._begin(request, None)

    async def start_child(self, request: StartRequest, owner: str) -> RunView:
        """A child, if this execution still has its parent; else WorkflowStoppedError."""
        return await self._begin(request, owner)

    async def _begin(self, request: StartRequest, owner: str | None) -> RunView:
        if self._runner is not None and self._runner.draining:
            message = f"Start of workflow {request.workflow_id!r}: this engine is draining. Start it by another one."
            raise ModelOnexError(message, EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        await self._store.do(self._store.begin, request, None, owner)
        return await self.query(request.workflow_id)

    async def query(self, workflow_id: str) -> RunView:
        check_word(workflow_id, "The id of a run")
        view = await self._store.do(self._store.tables.run, workflow_id)
        if view is None:
            raise _unknown(workflow_id)
        return view

    async def bundle(self, workflow_id: str) -> WorkflowBundle:
        view = await self.query(workflow_id)
        return await self._store.do(self._store.tables.bundle, view.contract_digest)

    async def list(self, which: RunFilter) -> Sequence[RunView]:
        check_word(which.name, "The name of a workflow")
        check_word(which.parent_id, "The id of a run")
        check_attributes(which.attributes, "A list of runs")
        return await self._store.do(self._store.tables.runs, which)

    async def steps(self, workflow_id: str) -> Sequence[StepRecord]:
        await self.query(workflow_id)
        records = await self._store.do(self._store.tables.journal, workflow_id)
        return [record for record in records if not record.name.startswith(NOTE)]

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
        check_signal(workflow_id, signal)
        await self._store.do(self._store.signals.send, workflow_id, signal)
        if self._runner is not None:
            self._runner.ring(workflow_id)

    async def cancel(self, workflow_ids: Sequence[str]) -> int:
        for workflow_id in workflow_ids:
            await self.query(workflow_id)
        found = await self._store.do(self._store.tables.cancel, workflow_ids)
        self._stop_here(found)
        return len(found)

    def _stop_here(self, cancelled: Sequence[str]) -> None:
        if self._runner is not None:
            for workflow_id in cancelled:
                self._runner.stop_run(workflow_id, "cancelled")

    async def pause(self, workflow_id: str) -> None:
        view = await self.query(workflow_id)
        if view.status.ended or view.status is EnumRunStatus.PAUSED:
            raise _refused("A pause", view, "Only a run that goes on can be paused.")
        await self._store.do(self._store.tables.want_pause, workflow_id)
        if self._runner is not None:
            self._runner.stop_run(workflow_id, PAUSED)
        for _ in range(_PAUSE_LOOKS):  # it stops at its next boundary, which may be in another process, and far away
            if (await self.query(workflow_id)).status is not EnumRunStatus.RUNNING:
                return
            await asyncio.sleep(_PAUSE_LOOK_S)

    async def resume(self, workflow_id: str) -> None:
        view = await self.query(workflow_id)
        if view.status not in {EnumRunStatus.PAUSED, EnumRunStatus.CANCELLED, EnumRunStatus.FAILED}:
            raise _refused("Resuming", view, _RESUMABLE)
        if not await self._store.do(self._store.tables.go_on, view):
            raise _refused("Resuming", await self.query(workflow_id), _RESUMABLE)

    async def fork(self, workflow_id: str, from_step: str, new_id: str | None = None) -> RunView:
        view = await self.query(workflow_id)
        cut = await self._cut(workflow_id, from_step)
        made = new_id or f"{workflow_id}.fork-{uuid4().hex[:8]}"
        request = StartRequest(
            made,
            await self._store.do(self._store.tables.bundle, view.contract_digest),
            view.input_data,
            view.queue,
            view.priority,
            None,
            view.attributes,
        )
        if not await self._store.do(self._store.begin, request, (workflow_id, cut)):
            raise _refused("Fork", await self.query(made), "A run of this id is there already; choose another id.")
        return await self.query(made)

    async def rewind(self, workflow_id: str, to_step: str) -> RunView:
        cut = await self._cut(workflow_id, to_step)
        ended = await self._store.do(self._store.tables.rewind, workflow_id, cut)
        if self._runner is not None:
            self._runner.stop_run(workflow_id, "moved")
        self._stop_here(ended)
        return await self.query(workflow_id)

    async def _cut(self, workflow_id: str, step: str) -> int:
        """Where the positions of a step begin that has a record; items of a step are `<step>[<n>]`."""
        records = await self.steps(workflow_id)
        for record in records:
            if record.name.partition("[")[0] == step:
                return record.position // BLOCK * BLOCK
        known = dict.fromkeys(record.name.partition("[")[0] for record in records)
        message = (
            f"Workflow {workflow_id!r}: no step {step!r} is recorded. Recorded are "
            f"{', '.join(repr(name) for name in list(known)[:20]) or 'none'}."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.NOT_FOUND, {"workflow_id": workflow_id, "step": step})

    async def delete_before(self, when: datetime) -> int:
        deleted = 0
        while found := await self._store.do(self._store.delete_some, when):
            deleted += found
        return deleted

    # schedules

    async def schedules(self) -> Sequence[Schedule]:
        return await self._store.do(self._store.schedules.all)

    async def put_schedule(self, schedule: Schedule) -> None:
        await self._store.do(self._store.schedules.put, schedule)

    async def delete_schedule(self, name: str) -> None:
        await self._store.do(self._store.schedules.delete, name)

    async def trigger_schedule(self, name: str) -> RunView:
        schedule = await self._store.do(self._store.schedules.one, name)
        return await self.start(ScheduleTable.run_of(schedule, datetime.now(UTC)))

    async def backfill_schedule(self, name: str, start: datetime, end: datetime) -> Sequence[RunView]:
        schedule = await self._store.do(self._store.schedules.one, name)
        requests = [ScheduleTable.run_of(schedule, at) for at in times_between(schedule, start, end)]
        return [await self.start(request) for request in requests]

    # the end

    async def drain(self, limit: timedelta) -> int:
        return 0 if self._runner is None else await self._runner.drain(limit)

    async def aclose(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.close()
        await asyncio.to_thread(self._store.close)

    async def crash(self) -> None:
        """For tests: end at once, as a killed process does. The lease is not given back, nothing more is written."""
        if self._runner is not None:
            self._runner.lease.abandon()
        await self.aclose()

    def run_ended(self) -> None:
        """Let those who wait for a run of this process look at once."""
        for bell in self._ended:
            bell.set()


def _store(url: str, schema: str, idle_ms: int) -> DbosStore:
    """In a thread, because dbos takes a while to import."""
    check_dbos()
    return DbosStore(url, schema, idle_ms)


def _unknown(workflow_id: str) -> ModelOnexError:
    message = f"Workflow {workflow_id!r} is unknown here. `onex workflow list` shows what is known."
    return ModelOnexError(message, EnumCoreErrorCode.NOT_FOUND, {"workflow_id": workflow_id})


def _refused(what: str, view: RunView, advice: str) -> ModelOnexError:
    message = f"{what} of workflow {view.workflow_id!r} is refused: it is {view.status.value}. {advice}"
    return ModelOnexError(message, EnumCoreErrorCode.CONFLICT, {"workflow_id": view.workflow_id})
