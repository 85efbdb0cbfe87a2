"""A store of runs on dbos: its engine, our tables and dbos's client, and what is done with all three at once."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import StartRequest, WorkflowStoppedError
from omnibase_spi.engine_dbos_link import (
    INTERPRETER_VERSION,
    WORKFLOW_NAME,
    QueueLimits,
    make_client,
    make_engine,
    migrate,
    register_queues,
)
from omnibase_spi.engine_dbos_schedules import ScheduleTable
from omnibase_spi.engine_dbos_signals import SignalTable
from omnibase_spi.engine_dbos_tables import WorkflowTables
from omnibase_spi.workflow_checks import check_start
from omnibase_spi.workflow_names import names_of

if TYPE_CHECKING:
    import sqlalchemy as sa
    from dbos import DBOSClient

DEFAULT_QUEUE: Final = "onex"
_QUEUE_POLL_S: Final = 0.1
_THREADS: Final = 8
_DELETED_AT_ONCE: Final = 500

_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)

T = TypeVar("T")


class DbosStore:
    """What `create` opens. Its methods block, but `do`."""

    def __init__(self, url: str, schema: str, idle_ms: int = 5_000) -> None:
        self.url = url
        self.schema = schema
        self.engine: sa.Engine = make_engine(url, idle_ms)
        self.tables = WorkflowTables(self.engine, schema)
        self.schedules = ScheduleTable(self.tables)
        self.signals = SignalTable(self.tables)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="onex-engine")
        self._client: DBOSClient | None = None
        self._queues: set[str] = set()

    def open(self, queues: Sequence[QueueLimits]) -> None:
        migrate(self.engine, self.schema)
        self.tables.make()
        self._client = make_client(self.engine, self.schema)
        register_queues(self._client, [QueueLimits(DEFAULT_QUEUE), *queues], _QUEUE_POLL_S)
        self._queues = {queue.name for queue in self._client.list_queues()}

    def begin(self, request: StartRequest, cut: tuple[str, int] | None = None, owner: str | None = None) -> bool:
        """Write a run down and queue it; with `cut`, after the records of another run below a position.

        owner: the execution of its parent, which starts nothing when the parent is no longer its own
        (WorkflowStoppedError).
        """
        from dbos import EnqueueOptions, WorkflowSerializationFormat

        check_start(request)
        queue = request.queue or DEFAULT_QUEUE
        if queue not in self._queues:
            self._queues = {found.name for found in self.client.list_queues()}
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
        if request.not_before is not None:
            seconds = (request.not_before - datetime.now(UTC)).total_seconds()
            if seconds > 0:
                options["delay_seconds"] = seconds
        tables = self.tables
        with tables.writing() as connection:
            if owner is not None and not tables.owns(connection, str(request.parent_id), owner):
                raise WorkflowStoppedError("moved")
            tables.put_bundle(connection, request.bundle)
            if not tables.insert_run(connection, request, names_of(request.bundle), queue):
                return False
            self.client.enqueue_in_transaction(connection, options)
            if cut is not None:
                tables.copy_records(connection, cut[0], request.workflow_id, cut[1])
        return True

    def delete_some(self, before: datetime) -> int:
        """Delete runs that ended before, some hundred at a time. Returns how many; 0 when there are no more."""
        found = self.tables.ended_before(before, _DELETED_AT_ONCE)
        if found:
            self.client.delete_workflows(found)
            self.tables.forget_runs(found)
        return len(found)

    def close(self) -> None:
        if self._client is not None:
            self._client.destroy()
            self._client = None
        self._threads.shutdown(wait=True)
        self.engine.dispose()

    @property
    def client(self) -> "DBOSClient":
        if self._client is None:
            raise ModelOnexError("This workflow engine is closed.", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        return self._client

    async def do(self, work: Callable[..., T], *args: object) -> T:
        """Blocking work of the database, in a thread. Raises RESOURCE_UNAVAILABLE when the database is away."""
        import sqlalchemy as sa

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args))
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            if not _is_away(error):
                raise
            where = self.engine.url.render_as_string(hide_password=True)
            message = (
                f"The database of the workflow engine, {where}, does not answer ({type(error).__name__}). "
                "Nothing is lost: runs go on when it is back. Check ONEX_DATABASE_URL and the server."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.RESOURCE_UNAVAILABLE) from None


def _is_away(error: "sa.exc.SQLAlchemyError") -> bool:
    """Whether the connection failed, also by the server's ending it (25P03: its client stood still for too long).

    SQLite has one class for everything: by its code a statement that it does not understand is a mistake of ours.
    """
    import sqlalchemy as sa

    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in _AWAY
    if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)):
        return True
    lost = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    return lost or getattr(cause, "sqlstate", None) == "25P03"
