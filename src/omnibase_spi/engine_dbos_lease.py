"""The lease of a process that carries runs out: who may write, and whose runs are taken over.

A row of `onex_executors` per grant; only the clock of the database compares times, and a lease that has run out is
never renewed, so that what one transaction saw as lapsed stays lapsed. The process renews at a third of the time and
stops itself after two thirds without a renewal, counted from before the request by its own monotonic clock.

Every transaction of dbos that writes is fenced (`fence`): before its COMMIT the row must still be valid, by both
clocks. A step's record also locks the run's row and compares its owner there (dbos does it), and taking over changes
that owner: between the look at the lease and the COMMIT nobody can have taken the run.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
from omnibase_spi.engine_dbos_link import INTERPRETER_VERSION
from omnibase_spi.engine_dbos_tables import WorkflowTables

if TYPE_CHECKING:
    import sqlalchemy as sa

_log: Final = logging.getLogger("onex.workflow")
_KEPT_SECONDS: Final = 86_400
_TAKE_OVER: Final = (
    "UPDATE {s}workflow_status AS w SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL, "
    "queue_name = COALESCE(queue_name, '_dbos_internal_queue'), updated_at = {now_ms} WHERE "
)
_DEAD: Final = (
    "w.status = 'PENDING' AND w.application_version = :version AND NOT EXISTS "
    "(SELECT 1 FROM {s}onex_executors e WHERE e.executor_id = w.executor_id AND e.expires > {now})"
)
_LEFT_BEHIND: Final = "SELECT 1 FROM {s}workflow_status w WHERE " + _DEAD + " LIMIT 1"  # noqa: S608  # constants


class ExecutorLease:
    """The lease of this process under an id that no other process has, also not a later one of this machine."""

    def __init__(self, tables: WorkflowTables, ttl_ms: int, on_lapse: Callable[[], None]) -> None:
        if not 300 <= ttl_ms <= 3_600_000:
            message = f"The lease of a worker is {ttl_ms} ms; 300 to 3,600,000 are allowed (ONEX_WORKER_LEASE_MS)."
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
        self.executor_id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:12]}"
        self.token = 0
        self._tables = tables
        self._ttl_s = ttl_ms / 1000
        self._until = 0.0
        self._abandoned = False
        self._on_lapse = on_lapse
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="onex-lease", daemon=True)

    @property
    def held(self) -> bool:
        """Whether this process may still issue work."""
        return time.monotonic() < self._until

    def start(self) -> None:
        """Take the lease, and keep it by a thread with a connection of its own. Blocks."""
        self._acquire()
        self._thread.start()

    def wait_until_held(self) -> bool:
        """Whether there is a lease, waiting for twice its time for a new one. Blocks."""
        deadline = time.monotonic() + 2 * self._ttl_s
        while not self.held and time.monotonic() < deadline and not self._stop.wait(0.01):
            pass
        return self.held

    def stop(self) -> None:
        """Release the lease, and hand back what is still pending, so that others need not wait for its end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._until = 0.0
        if not self._abandoned:
            with self._tables.writing() as connection:
                self._give_up(connection)

    def abandon(self) -> None:
        """Neither keep the lease nor give it back: from now on nothing is written under it."""
        self._stop.set()
        self._until = 0.0
        self._abandoned = True

    def fence(self, engine: "sa.Engine") -> None:
        """Let this engine commit only what is written under the lease."""
        import sqlalchemy as sa

        check = self._tables.text("SELECT 1 FROM {s}onex_executors WHERE token = :token AND expires > {now}").compile(
            engine
        )
        query = str(check)
        named = engine.dialect.paramstyle in {"pyformat", "named"}

        def refuse_unless_held(connection: sa.Connection) -> None:
            cursor = connection.connection.cursor()
            try:
                token = self.token
                valid = self.held and cursor.execute(query, {"token": token} if named else (token,)).fetchone()
            finally:
                cursor.close()
            if not valid:
                message = (
                    f"A write of executor {self.executor_id!r} is refused: its lease (token {self.token}) has run out, "
                    "and others may have taken its runs over."
                )
                raise LeaseExpiredError(message, context={"executor_id": self.executor_id, "token": self.token})

        @sa.event.listens_for(engine, "before_cursor_execute")
        def note_writes(
            connection: sa.Connection, _cursor: object, statement: str, _p: object, _c: object, _m: object
        ) -> None:
            if statement.startswith("SELECT"):
                return
            if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
                refuse_unless_held(connection)
            else:
                connection.info["onex_wrote"] = True

        @sa.event.listens_for(engine, "commit")
        def before_commit(connection: sa.Connection) -> None:
            if connection.info.pop("onex_wrote", False):
                refuse_unless_held(connection)

        @sa.event.listens_for(engine, "rollback")
        def after_rollback(connection: sa.Connection) -> None:
            connection.info.pop("onex_wrote", None)

    def take_over(self) -> int:
        """Queue the runs of executors whose lease has run out; of several processes one takes each. Returns how many.

        Level-triggered: what one round missed, the next finds.
        """
        tables, version = self._tables, INTERPRETER_VERSION
        if not tables.rows(_LEFT_BEHIND, version=version):
            return 0
        with tables.writing() as connection:
            return tables.change_in(
                connection,
                _TAKE_OVER + _DEAD,
                version=version,
            )

    def queue_again(self, workflow_ids: Sequence[str]) -> None:
        """Queue runs of this executor that it does not carry out, because their start was lost on the way."""
        with self._tables.writing() as connection:
            for workflow_id in workflow_ids:
                self._tables.change_in(
                    connection,
                    _TAKE_OVER + "w.status = 'PENDING' AND w.executor_id = :me AND w.workflow_uuid = :id",
                    me=self.executor_id,
                    id=workflow_id,
                )

    def forget_old(self) -> None:
        """Delete rows of leases that ended a day ago. Tokens are not given again."""
        self._tables.change("DELETE FROM {s}onex_executors WHERE expires < {now} - :kept", kept=_KEPT_SECONDS)

    def _acquire(self) -> None:
        """Take a lease under the next token; runs that the last one left pending are queued again."""
        asked = time.monotonic()
        tables = self._tables
        with tables.writing() as connection:
            self._give_up(connection)
            rows = tables.rows_in(
                connection,
                "INSERT INTO {s}onex_executors (executor_id, holder, expires) VALUES (:id, :holder, {now} + :ttl) "
                "RETURNING token",
                id=self.executor_id,
                holder=f"{socket.gethostname()}:{os.getpid()}",
                ttl=self._ttl_s,
            )
        self.token = int(str(rows[0]["token"]))
        self._until = asked + self._ttl_s * 2 / 3

    def _give_up(self, connection: "sa.Connection") -> None:
        tables = self._tables
        tables.change_in(
            connection,
            "UPDATE {s}onex_executors SET expires = 0 WHERE executor_id = :id AND expires > 0",
            id=self.executor_id,
        )
        tables.change_in(
            connection,
            _TAKE_OVER.replace("SET ", "SET recovery_attempts = 0, ") + "w.status = 'PENDING' AND w.executor_id = :id",
            id=self.executor_id,
        )

    def _renew(self) -> bool:
        asked = time.monotonic()
        renewed = self._tables.change(
            "UPDATE {s}onex_executors SET expires = {now} + :ttl WHERE token = :token AND expires > {now}",
            ttl=self._ttl_s,
            token=self.token,
        )
        if renewed:
            self._until = asked + self._ttl_s * 2 / 3
        return bool(renewed)

    def _keep(self) -> None:
        """Renew until stopped. Whoever lapsed says so first, and then asks for a new lease until it is given one."""
        pause = self._ttl_s / 3
        while not self._stop.wait(pause):
            pause = self._ttl_s / 3
            try:
                if not self.held or not self._renew():
                    self._lapsed()
                    self._acquire()
                    _log.warning("executor %s has a new lease, token %d", self.executor_id, self.token)
            except Exception as error:  # noqa: BLE001  # a database that is away comes back; nothing else may end this
                _log.warning("executor %s: lease not renewed: %s", self.executor_id, type(error).__name__)
                pause = min(1.0, self._ttl_s / 12)
                if not self.held:
                    self._lapsed()

    def _lapsed(self) -> None:
        if self._until:
            _log.warning("executor %s: its lease has run out; its runs stop here", self.executor_id)
        self._until = 0.0
        self._on_lapse()
