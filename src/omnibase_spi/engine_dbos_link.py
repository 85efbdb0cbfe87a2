"""The one place that reaches into dbos, which is pinned to 3.4 for it, and the engines that its statements go through.

Records by position. dbos numbers steps in the order in which they are drawn; ours stand at positions of the contract,
so that a replay is independent of any order. What a run has recorded is read once, when it is taken up, so a step need
not ask whether it was done: it is written by the function with which dbos writes its own steps (`record`), which locks
the run's row and refuses whoever does not own it any more.
"""

import logging
import sqlite3
import sys
import threading
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import WorkflowStoppedError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from dbos import DBOSClient

INTERPRETER_VERSION: Final = "onex-1"
"""What dbos takes for the application's version: runs are only taken up by workers that interpret plans alike."""

APPLICATION: Final = "onex"
WORKFLOW_NAME: Final = "onex_run"
_SUPPORTED: Final = ((3, 4), (3, 5))
_MAX_THREADS: Final = 64
_POOL_SIZE: Final = 20
_IDLE_MS: Final = 5_000
_BUSY_MS: Final = 30_000
_CONNECT_SECONDS: Final = 5

CarryOut = Callable[[str], Awaitable[JsonValue]]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What a queue lets through. concurrency: runs at once on all workers. worker_concurrency: on each worker.
    rate_limit: starts within `rate_period_s` seconds. None is no limit.
    """

    name: str
    concurrency: int | None = None
    worker_concurrency: int | None = None
    rate_limit: int | None = None
    rate_period_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of a step, as JSON, to be written by the execution that `owner` stands for."""

    workflow_id: str
    owner: str
    position: int
    name: str
    text: str
    started_ms: int


def check_dbos() -> None:
    """Raise CONFIGURATION_ERROR when dbos is missing or of a version that this driver was not proven with."""
    try:
        import_module("dbos")
    except ImportError as error:
        message = (
            f"The workflow engine needs dbos, which is missing or broken ({error}). "
            "Install it: pip install 'omnibase[workflow]'."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR) from error
    found = version("dbos")
    lowest, below = _SUPPORTED
    if not lowest <= tuple(int(part) for part in found.split(".")[:2]) < below:
        message = (
            f"dbos {found} is installed; the workflow engine works with 3.4. Say pip install 'omnibase[workflow]'."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)


def make_engine(url: str, idle_ms: int = _IDLE_MS) -> "sa.Engine":
    """An SQLAlchemy engine as dbos needs it: SQLite in WAL mode and durable, one writer at a time; PostgreSQL by
    psycopg, whose transactions the server ends when their client is still for `idle_ms`, because it was stopped:
    what it has locked is then free.
    """
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        parsed = None
    except ValueError as error:  # its port is no number
        message = "The URL of the workflow engine's database cannot be read: its port is no number."
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR) from error
    if parsed is None or parsed.get_backend_name() not in {"sqlite", "postgresql", "postgres"}:
        scheme = url.partition(":")[0]
        message = (
            f"The workflow engine keeps its runs in SQLite or PostgreSQL; the URL begins with "
            f"{(scheme if scheme.isalnum() and len(scheme) < 20 else '...')!r}. "
            "Set ONEX_DATABASE_URL to sqlite:///path or postgresql://..."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed)
        engine = sa.create_engine(parsed, pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=_CONNECT_SECONDS * 6)
        sa.event.listen(engine, "connect", prepare_sqlite)
        return engine
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_CONNECT_SECONDS * 6,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "options": f"-c idle_in_transaction_session_timeout={idle_ms}",
        },
    )


def _check_file(url: "sa.URL") -> None:
    """Raise CONFIGURATION_ERROR for an SQLite URL that can never serve; nothing is made."""
    if url.database in {None, "", ":memory:"}:
        problem = "an engine in memory forgets its runs; name a file (sqlite:///runs.db), or ONEX_ENGINE=memory"
    elif url.query:
        problem = f"unknown options: {', '.join(sorted(url.query))}; a file of SQLite has none"
    elif Path(file := str(url.database)).is_dir():
        problem = f"{file} is a directory; name a file in it"
    elif not Path(file).absolute().parent.is_dir():
        problem = f"{file}: its directory does not exist; make it, or name another file"
    else:
        return
    raise ModelOnexError(f"Where the workflow engine keeps its runs: {problem}.", EnumCoreErrorCode.CONFIGURATION_ERROR)


def prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Set a new connection up: a writer begins as one, waits for its turn, and what it committed is on the disk."""
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42):
        teach_subseconds(connection)


def teach_subseconds(connection: sqlite3.Connection) -> None:
    """Give an SQLite below 3.42 the `unixepoch('subsec')` that dbos asks for on Python 3.12 and later; what else is
    asked of `unixepoch` is whole seconds of now.
    """

    def unixepoch(*asked: str) -> float:
        now = datetime.now(UTC).timestamp()
        return now if "subsec" in asked or "subsecond" in asked else int(now)

    connection.create_function("unixepoch", -1, unixepoch, deterministic=False)
    connection.create_function("unixepoch", 1, unixepoch, deterministic=False)


def migrate(engine: "sa.Engine", schema: str) -> None:
    """Make the tables of dbos, or bring them up to date. Several processes may do so at once."""
    from dbos._serialization import DBOSPortableJSON
    from dbos._sys_db import SystemDatabase

    system = SystemDatabase.create(
        system_database_url="sqlite:///given" if engine.dialect.name == "sqlite" else "postgresql://given/given",
        engine_kwargs={},
        engine=engine,
        schema=schema,
        serializer=DBOSPortableJSON,
        executor_id=None,
        use_listen_notify=False,
        app_name=APPLICATION,
    )
    system.run_migrations()


def make_client(engine: "sa.Engine", schema: str) -> "DBOSClient":
    """A client for what is asked from outside a run: it raises where the database is away, and runs nothing."""
    from dbos import DBOSClient
    from dbos._serialization import DBOSPortableJSON

    return DBOSClient(
        system_database_engine=engine,
        dbos_system_schema=schema,
        serializer=DBOSPortableJSON,
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


class _Quiet(logging.Filter):
    """Failed runs are results, not errors of the engine: they are told by their status."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "asynchronous workflow" not in record.getMessage()


_QUIET: Final = _Quiet()
_worker_lock = threading.Lock()
_carry_out: CarryOut | None = None
_registered = False


async def _onex_run() -> JsonValue:
    """The one workflow function of dbos: its name and no argument are the same for all runs."""
    from dbos import DBOS

    workflow_id, carry_out = DBOS.workflow_id, _carry_out
    if workflow_id is None or carry_out is None:
        raise WorkflowStoppedError("closed")
    return await carry_out(workflow_id)


class DbosWorker:
    """The dbos of this process, which is a singleton: one at a time, and another after it has ended."""

    def __init__(self, carry_out: CarryOut) -> None:
        self._carry_out = carry_out

    def launch(
        self,
        engine: "sa.Engine",
        schema: str,
        executor_id: str,
        loop: AbstractEventLoop,
        only: str | None = None,
    ) -> None:
        """Start dbos, whose workflows then all run on this loop. Blocks: call it from a thread.

        only: the one queue from which runs are taken; None is all.
        """
        from dbos import DBOS, DBOSConfig
        from dbos._serialization import DBOSPortableJSON, WorkflowSerializationFormat

        global _carry_out, _registered  # noqa: PLW0603  # dbos has one registry per process, and so have we
        if not _worker_lock.acquire(blocking=False):
            message = (
                "A workflow engine runs in this process already, and dbos allows one. Close it first, or create this "
                "one without `run` to start and watch runs only."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.CONFLICT)
        try:
            _carry_out = self._carry_out
            logging.getLogger("dbos").addFilter(_QUIET)
            config: DBOSConfig = {
                "name": APPLICATION,
                "application_version": INTERPRETER_VERSION,
                "executor_id": executor_id,
                "system_database_engine": engine,
                "dbos_system_schema": schema,
                "serializer": DBOSPortableJSON,
                "run_migrations": False,
                "use_listen_notify": False,
                "notification_listener_polling_interval_sec": 0.2,
                "scheduler_polling_interval_sec": 3600.0,
                "max_executor_threads": _MAX_THREADS,
                "log_level": "ERROR",
            }
            made = DBOS(config=config)
            made._background_event_loop._main_loop = loop  # noqa: SLF001  # else a loop in a thread of its own
            if only is not None:
                DBOS.listen_queues([only])
            if not _registered:
                DBOS.workflow(
                    name=WORKFLOW_NAME,
                    serialization_type=WorkflowSerializationFormat.PORTABLE,
                )(_onex_run)
                _registered = True
            DBOS.launch()
        except BaseException:
            self.destroy()
            raise

    def tasks(self) -> "set[Task[object]]":
        """The executions of runs, also those that wait for the outcome that another one will write."""
        from dbos._dbos import _get_dbos_instance

        return set(_get_dbos_instance()._workflow_tasks)  # noqa: SLF001  # see `record`

    def stop_dequeuing(self) -> None:
        """Take no new runs; those under way go on."""
        from dbos._dbos import _get_dbos_instance

        for event in _get_dbos_instance().background_thread_stop_events:
            event.set()

    def destroy(self) -> None:
        """End dbos with all its threads. Blocks for up to some seconds; runs under way must have been stopped."""
        from dbos import DBOS

        try:
            DBOS.destroy()
        finally:
            self._forget()

    def _forget(self) -> None:
        global _carry_out  # noqa: PLW0603  # see launch
        _carry_out = None
        _worker_lock.release()


def current_owner() -> str:
    """The token with which dbos lets the execution at hand write."""
    from dbos._context import assert_current_dbos_context

    return assert_current_dbos_context().owner_xid or ""


def record(record: "Record") -> None:
    """Write a step's outcome down. Blocks, also while the database is away.

    Raises WorkflowStoppedError when this execution may not write any more, whatever the reason.
    """
    from dbos._dbos import _get_dbos_instance
    from dbos._error import DBOSException, DBOSStepNondeterminismError, DBOSWorkflowConflictIDError

    try:
        system = _get_dbos_instance()._sys_db  # noqa: SLF001  # the reason for this module
        system.record_operation_result(
            {
                "workflow_uuid": record.workflow_id,
                "function_id": record.position,
                "function_name": record.name,
                "output": record.text,
                "error": None,
                "serialization": "portable_json",
                "started_at_epoch_ms": record.started_ms,
                "child_workflow_id": None,
            },
            owner_xid=record.owner,
        )
    except DBOSWorkflowConflictIDError:
        raise WorkflowStoppedError("moved") from None
    except LeaseExpiredError:
        raise WorkflowStoppedError("lease") from None
    except DBOSStepNondeterminismError as error:
        message = (
            f"Step {record.name!r} of run {record.workflow_id!r}: position {record.position} has a record already. "
            "Two steps of a contract never share one; this is a mistake of the interpreter."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.INTERNAL_ERROR) from error
    except DBOSException:  # it was closed at this moment
        raise WorkflowStoppedError("moved") from None


def register_queues(client: "DBOSClient", queues: Sequence[QueueLimits], polling_s: float) -> None:
    for queue in queues:
        client.register_queue(
            queue.name,
            global_concurrency=queue.concurrency,
            worker_concurrency=queue.worker_concurrency,
            limiter=None if queue.rate_limit is None else {"limit": queue.rate_limit, "period": queue.rate_period_s},
            polling_interval_sec=polling_s,
            application_name=APPLICATION,
        )


def failure_of_run(error: Exception) -> Exception:
    """The error as dbos records it for a run that failed: kind, code, message, and the final document if it has one."""
    from dbos import PortableWorkflowError

    kind = type(error).__name__
    data: dict[str, JsonValue] = {"kind": kind}
    if not isinstance(error, ModelOnexError):
        return PortableWorkflowError(str(error), kind, EnumCoreErrorCode.INTERNAL_ERROR.value, data)
    if (document := error.context.get("document")) is not None:
        data["document"] = to_jsonable_python(document)
    return PortableWorkflowError(error.message, kind, error.error_code.value, data)
