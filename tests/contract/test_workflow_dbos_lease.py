"""The lease of a worker, on SQLite and PostgreSQL: what is written without it is refused where it is written."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import StartRequest
from omnibase_spi import engine_dbos_link
from omnibase_spi.engine_dbos_lease import ExecutorLease
from omnibase_spi.engine_dbos_link import check_dbos, make_engine, teach_subseconds
from omnibase_spi.engine_dbos_store import DbosStore
from omnibase_spi.engine_dbos_tables import WorkflowTables
from tests.support.workflow_runs import BUNDLE

INSERT = "INSERT INTO {s}onex_bundles (digest, root, files) VALUES (:digest, '', '{}')"
COUNT = "SELECT count(*) AS n FROM {s}onex_bundles"


@pytest.fixture(params=("sqlite", "postgresql"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DbosStore]:
    url = f"sqlite:///{tmp_path}/runs.db" if request.param == "sqlite" else request.getfixturevalue("engine_database")
    made = DbosStore(url, "onex")
    made.open([])
    yield made
    made.close()


@pytest.fixture
def lease(store: DbosStore) -> Iterator[ExecutorLease]:
    made = ExecutorLease(store.tables, 60_000, lambda: None)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def fenced(store: DbosStore, lease: ExecutorLease) -> Iterator[WorkflowTables]:
    """Tables on an engine that the lease fences."""
    engine = make_engine(store.url)
    lease.fence(engine)
    yield WorkflowTables(engine, store.schema)
    engine.dispose()


def expire(store: DbosStore, lease: ExecutorLease) -> None:
    """As the database sees it; the holder does not know."""
    store.tables.change("UPDATE {s}onex_executors SET expires = {now} - 1 WHERE token = :token", token=lease.token)


def pending(store: DbosStore, workflow_id: str, executor_id: str) -> None:
    """A run that this executor has, as dbos writes it down."""
    store.begin(StartRequest(workflow_id, BUNDLE))
    store.tables.change(
        "UPDATE {s}workflow_status SET status = 'PENDING', executor_id = :me WHERE workflow_uuid = :id",
        me=executor_id,
        id=workflow_id,
    )


def test_what_is_written_under_the_lease_stands(store: DbosStore, fenced: WorkflowTables) -> None:
    """A holder writes and reads as if there were no fence."""
    assert fenced.change(INSERT, digest="a") == 1

    assert store.tables.rows(COUNT)[0]["n"] == 1
    assert fenced.rows(COUNT)[0]["n"] == 1


def test_a_transaction_after_the_end_is_refused_whole(
    store: DbosStore, lease: ExecutorLease, fenced: WorkflowTables
) -> None:
    """The check is in the transaction that writes: one that began in time and commits too late writes nothing."""
    with pytest.raises(LeaseExpiredError, match="others may have taken its runs over"), fenced.writing() as connection:
        fenced.change_in(connection, INSERT, digest="a")
        if not fenced.is_sqlite:  # the one writer of SQLite is this transaction
            expire(store, lease)
        else:
            fenced.change_in(connection, "UPDATE {s}onex_executors SET expires = 0")

    assert store.tables.rows(COUNT)[0]["n"] == 0
    assert fenced.rows(COUNT)[0]["n"] == 0


def test_statements_that_commit_by_themselves_are_refused(
    store: DbosStore, lease: ExecutorLease, fenced: WorkflowTables
) -> None:
    """A statement in autocommit is checked before it is sent."""
    expire(store, lease)

    with pytest.raises(LeaseExpiredError), fenced.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(fenced.text(INSERT), {"digest": "a"})

    assert store.tables.rows(COUNT)[0]["n"] == 0


def test_a_holder_that_slept_is_refused_by_its_own_clock(
    store: DbosStore, lease: ExecutorLease, fenced: WorkflowTables
) -> None:
    """Two thirds of the time after the last renewal a holder writes no more, whatever the database says."""
    lease._until = time.monotonic() - 1

    with pytest.raises(LeaseExpiredError):
        fenced.change(INSERT, digest="a")


def test_runs_of_the_dead_are_taken_once(store: DbosStore, lease: ExecutorLease) -> None:
    """Of many that look at the same time one takes each run, and nobody those of the living."""
    for number in range(5):
        pending(store, f"dead-{number}", "nobody")
    pending(store, "alive", lease.executor_id)
    others = [ExecutorLease(store.tables, 60_000, lambda: None) for _ in range(4)]
    taken: list[int] = []

    threads = [threading.Thread(target=lambda other=other: taken.append(other.take_over())) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    statuses = store.tables.statuses([f"dead-{number}" for number in range(5)] + ["alive"])
    assert sum(taken) == 5
    assert statuses == {f"dead-{number}": "ENQUEUED" for number in range(5)} | {"alive": "PENDING"}


def test_who_lapsed_comes_back_under_a_later_token(store: DbosStore) -> None:
    """The runs it had are queued again, it says so to its driver, and its token grows."""
    told = threading.Event()
    lease = ExecutorLease(store.tables, 300, told.set)
    lease.start()
    first = lease.token
    pending(store, "mine", lease.executor_id)

    expire(store, lease)

    assert told.wait(5)
    deadline = time.monotonic() + 5
    while lease.token == first and time.monotonic() < deadline:
        time.sleep(0.01)
    lease.stop()
    assert lease.token > first
    assert store.tables.statuses(["mine"]) == {"mine": "ENQUEUED"}


def test_a_lease_that_ends_hands_back(store: DbosStore) -> None:
    """Who stops in good order leaves its runs in the queue at once."""
    lease = ExecutorLease(store.tables, 60_000, lambda: None)
    lease.start()
    pending(store, "mine", lease.executor_id)

    lease.stop()

    assert store.tables.statuses(["mine"]) == {"mine": "ENQUEUED"}
    assert not lease.held


@pytest.mark.parametrize("ttl_ms", [0, 299, 3_600_001])
def test_leases_have_bounds(tmp_path: Path, ttl_ms: int) -> None:
    """A lease of no time, or of more than an hour, is refused."""
    engine = make_engine(f"sqlite:///{tmp_path}/runs.db")

    with pytest.raises(ModelOnexError, match="300 to 3,600,000"):
        ExecutorLease(WorkflowTables(engine, "onex"), ttl_ms, lambda: None)


@pytest.mark.parametrize("url", ["mysql://u:secret@127.0.0.1/db", "nothing", "sqlite://", "sqlite:///:memory:"])
def test_databases_that_cannot_keep_runs_are_refused(url: str) -> None:
    """The message says what is allowed, and no password."""
    with pytest.raises(ModelOnexError) as refused:
        make_engine(url)

    assert refused.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "secret" not in refused.value.message


def test_another_dbos_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches into dbos works with one minor version of it."""
    check_dbos()
    monkeypatch.setattr(engine_dbos_link, "version", lambda _: "3.5.1")

    with pytest.raises(ModelOnexError, match=r"dbos 3\.5\.1 is installed"):
        check_dbos()


def test_a_missing_dbos_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIGURATION_ERROR with the command that installs it."""

    def missing(name: str) -> JsonValue:
        raise ImportError(name)

    monkeypatch.setattr(engine_dbos_link, "import_module", missing)

    with pytest.raises(ModelOnexError, match=r"pip install 'omnibase\[workflow\]'") as refused:
        check_dbos()
    assert refused.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


def test_an_old_sqlite_learns_subseconds() -> None:
    """The default that dbos gives its tables on Python 3.12 works on an SQLite that has no `subsec`."""
    connection = sqlite3.connect(":memory:")
    teach_subseconds(connection)
    connection.execute("CREATE TABLE t (n INTEGER, at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000))")

    connection.execute("INSERT INTO t (n) VALUES (1)")

    (at,) = connection.execute("SELECT at FROM t").fetchone()
    connection.close()
    assert abs(at - time.time() * 1000) < 5000


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """WAL, and a commit is on the disk."""
    engine = make_engine(f"sqlite:///{tmp_path}/runs.db")
    with engine.connect() as connection:
        found = [connection.execute(sa.text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()

    assert found == ["wal", 2]


async def test_a_transaction_that_the_server_ended_is_a_database_that_is_away(engine_database: str) -> None:
    """Its process stood still for longer than the server waits; the work is left undone and may be asked for again."""
    store = DbosStore(engine_database, "onex", idle_ms=100)

    def stand_still() -> None:
        with store.tables.writing() as connection:
            store.tables.rows_in(connection, COUNT)
            time.sleep(0.3)  # the server's clock is a real one
            store.tables.rows_in(connection, COUNT)

    try:
        with pytest.raises(ModelOnexError, match="does not answer") as caught:
            await store.do(stand_still)
        assert (await store.do(store.tables.rows, COUNT))[0]["n"] == 0
    finally:
        store.close()

    assert caught.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
