"""The thread of a worker that looks at the database a few times a second: signals that came from elsewhere, runs that
were cancelled, paused or taken over, runs of processes that died, schedules that are due, progress to be written, and
now and then runs that are kept for long enough.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from pydantic import JsonValue

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import StartRequest
from omnibase_spi.engine_dbos_lease import ExecutorLease
from omnibase_spi.engine_dbos_schedules import ScheduleTable
from omnibase_spi.engine_dbos_signals import SignalTable
from omnibase_spi.engine_dbos_tables import WorkflowTables

_log: Final = logging.getLogger("onex.workflow")
_TICK_S: Final = 0.2
_LOST_AFTER_S: Final = 5.0
_SCHEDULES_S: Final = 1.0
_FORGET_S: Final = 3600.0


class WatchedWorker(Protocol):
    """What the janitor sees of a worker, and tells it; all from its own thread."""

    @property
    def active(self) -> frozenset[str]: ...

    def take_progress(self) -> dict[str, JsonValue]: ...

    def write_progress(self, progress: dict[str, JsonValue]) -> None: ...

    def tell(self, workflow_id: str, reason: str | None) -> None: ...

    def queue_again(self, workflow_ids: Sequence[str]) -> None: ...

    def start_now(self, request: StartRequest) -> None: ...

    def forget_some(self) -> int: ...


class Janitor:
    """Looks, tells the worker, and is never in the way: whatever fails is tried again at the next look."""

    def __init__(
        self,
        worker: WatchedWorker,
        tables: WorkflowTables,
        schedules: ScheduleTable,
        lease: ExecutorLease,
        ttl_ms: int,
    ) -> None:
        self._worker = worker
        self._tables = tables
        self._signals = SignalTable(tables)
        self._schedules = schedules
        self._lease = lease
        self._lost_after_s = min(_LOST_AFTER_S, ttl_ms / 1000)
        self._tick_s = min(_TICK_S, ttl_ms / 8000)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="onex-janitor", daemon=True)
        self._next_schedules = 0.0
        self._next_forget = 0.0
        self._next_old_runs = 0.0
        self._suspects: frozenset[str] = frozenset()
        self._absent: dict[str, float] = {}
        self._away = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._attempt(self._write_progress)

    def _look_after(self) -> None:
        while not self._stop.wait(self._tick_s):
            if not self._lease.held:
                continue
            now = time.monotonic()
            self._attempt(self._lease.take_over)
            self._attempt(self._look_at_runs)
            self._attempt(self._write_progress)
            if now >= self._next_schedules:
                self._next_schedules = now + _SCHEDULES_S
                self._attempt(self._fire)
            if now >= self._next_forget:
                self._next_forget = now + _FORGET_S
                self._attempt(self._lease.forget_old)
            if now >= self._next_old_runs:
                self._next_old_runs = now + _FORGET_S
                self._attempt(self._forget_runs)

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # a database that is away comes back; nothing else may end this thread
            if not self._away:
                _log.warning("workflow engine: %s; it is tried again", type(error).__name__)
            self._away = True
        else:
            self._away = False

    def _look_at_runs(self) -> None:
        active = self._worker.active
        mine = self._tables.mine(self._lease.executor_id)
        self._look_for_lost(mine.keys() - active)
        if not active:
            return
        gone = active - mine.keys()
        # one that is not there twice in a row: in between it may just have ended
        if lost := gone & self._suspects:
            statuses = self._tables.statuses(sorted(lost))
            for workflow_id in lost:
                self._worker.tell(workflow_id, "cancelled" if statuses.get(workflow_id) == "CANCELLED" else "moved")
        self._suspects = gone
        for workflow_id, wanted in mine.items():
            if wanted is not None:
                self._worker.tell(workflow_id, wanted)
        for workflow_id in self._signals.waiting(self._lease.executor_id):
            self._worker.tell(workflow_id, None)

    def _look_for_lost(self, absent: AbstractSet[str]) -> None:
        """Runs that this process has taken and does not carry out, for longer than a start takes, are queued again."""
        now = time.monotonic()
        self._absent = {workflow_id: self._absent.get(workflow_id, now) for workflow_id in absent}
        lost = [workflow_id for workflow_id, since in self._absent.items() if now - since > self._lost_after_s]
        if lost:
            self._worker.queue_again(lost)

    def _write_progress(self) -> None:
        progress = self._worker.take_progress()
        if progress:
            self._worker.write_progress(progress)

    def _forget_runs(self) -> None:
        forgotten = self._worker.forget_some()
        if forgotten:
            _log.info("%d runs were kept for long enough and are deleted", forgotten)
            self._next_old_runs = 0.0  # more of them at the next look; the other duties come in between

    def _fire(self) -> None:
        for schedule, request in self._schedules.due():
            try:
                self._worker.start_now(request)
            except ModelOnexError as error:
                _log.warning("schedule %s: %s", schedule.name, error.message)
            self._schedules.done(schedule)
