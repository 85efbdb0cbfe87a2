"""Transactions of `DbAdapter` over every database: what is issued, what it means, and that the state is a fact."""

import asyncio

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_effect_handler import ProtocolEffectHandler, ProtocolTransactionalHandler
from omnibase_spi.db.transaction import Transaction
from tests.support.databases import NAME, Database, adapter_on

COMMITTED, ROLLED_BACK = EnumTransactionState.COMMITTED, EnumTransactionState.ROLLED_BACK


class _OurError(Exception):
    """What a user's code may raise."""


async def test_the_adapter_keeps_to_its_protocols(database: Database) -> None:
    """It is a handler, and one that has transactions."""
    assert isinstance(database.adapter, ProtocolEffectHandler)
    assert isinstance(database.adapter, ProtocolTransactionalHandler)


@pytest.mark.parametrize("level", [None, *EnumIsolationLevel])
@pytest.mark.parametrize("read_only", [False, True])
async def test_begin_is_really_issued(database: Database, level: EnumIsolationLevel | None, read_only: bool) -> None:
    """The database's own log shows BEGIN with the isolation level, the statement, and COMMIT, in this order."""
    if read_only and database.kind == "sqlite":
        pytest.skip("the trace is of the connection that writes")
    await database.make_table()
    mark = database.mark()

    async with database.adapter.transaction(NAME, isolation_level=level, read_only=read_only) as transaction:
        await database.run("SELECT n FROM {t}", operation="select")

    seen = [sql for sql in database.statements_since(mark) if not sql.startswith("PRAGMA")]
    named = f" ISOLATION LEVEL {level.sql}" if level else ""
    select = f"SELECT n FROM {database.table}"
    only = " READ ONLY" if read_only else ""
    expected = {
        "postgresql": [f"BEGIN{named}{only}", select, "COMMIT"],
        "mysql": [*([f"SET TRANSACTION{named}"] if level else []), f"START TRANSACTION{only}", select, "COMMIT"],
    }.get(database.kind, ["BEGIN" if read_only else "BEGIN IMMEDIATE", select, "COMMIT"])
    assert seen == expected
    assert transaction.state is COMMITTED


async def test_savepoints_are_really_issued(database: Database) -> None:
    """An inner transaction is SAVEPOINT and RELEASE, or ROLLBACK TO after an exception."""
    await database.make_table()
    mark = database.mark()

    async with database.adapter.transaction(NAME) as outer:
        async with database.adapter.transaction(NAME) as kept:
            await database.run("INSERT INTO {t} VALUES (1, 1)")
        with pytest.raises(_OurError):
            async with database.adapter.transaction(NAME) as undone:
                await database.run("INSERT INTO {t} VALUES (2, 2)")
                raise _OurError
        async with outer.savepoint():
            await database.run("INSERT INTO {t} VALUES (3, 3)")
        with pytest.raises(_OurError):
            async with outer.savepoint():
                await database.run("INSERT INTO {t} VALUES (4, 4)")
                raise _OurError

    words = [sql.split(" onex")[0] for sql in database.statements_since(mark) if "INSERT" not in sql]
    assert words[1:] == [
        *("SAVEPOINT", "RELEASE SAVEPOINT"),
        *("SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT"),
        *("SAVEPOINT", "RELEASE SAVEPOINT"),
        *("SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT"),
        "COMMIT",
    ]
    assert (kept.state, undone.state, outer.state) == (COMMITTED, ROLLED_BACK, COMMITTED)
    assert await database.numbers() == [1, 3]


async def test_an_exception_rolls_back(database: Database) -> None:
    """ROLLBACK is issued, nothing remains, and the exception passes."""
    await database.make_table()
    mark = database.mark()

    with pytest.raises(_OurError):
        async with database.adapter.transaction(NAME) as transaction:
            await database.run("INSERT INTO {t} VALUES (1, 1)")
            raise _OurError

    assert database.statements_since(mark)[-1] == "ROLLBACK"
    assert transaction.state is ROLLED_BACK
    assert await database.numbers() == []


async def test_ending_by_hand(database: Database) -> None:
    """After `commit` or `rollback` the block's end does nothing more, and a statement in it is refused."""
    await database.make_table()

    async with database.adapter.transaction(NAME) as first:
        await database.run("INSERT INTO {t} VALUES (1, 1)")
        await first.commit()
        late = await database.fault("INSERT INTO {t} VALUES (2, 2)")
    async with database.adapter.transaction(NAME) as second:
        await database.run("INSERT INTO {t} VALUES (3, 3)")
        await second.rollback()
        with pytest.raises(EffectFault, match="ended already"):
            await second.commit()

    assert (first.state, second.state) == (COMMITTED, ROLLED_BACK)
    assert "ended already" in late.message
    assert await database.numbers() == [1]


async def test_statements_of_other_tasks_do_not_join(database: Database) -> None:
    """A task from outside sees nothing of an open transaction; one started inside joins it."""
    if database.kind == "memory":
        pytest.skip("a database in memory has one connection, for which the other task waits")
    await database.make_table()
    begun, looked = asyncio.Event(), asyncio.Event()
    seen: list[object] = []

    async def outsider() -> None:
        await begun.wait()
        seen.append(await database.run("SELECT n FROM {t}", operation="select"))
        looked.set()

    task = asyncio.create_task(outsider())
    async with database.adapter.transaction(NAME):
        await database.run("INSERT INTO {t} VALUES (1, 1)")
        begun.set()
        await looked.wait()
        child = asyncio.create_task(database.run("SELECT n FROM {t}", operation="select"))
        seen.append(await child)
    await task

    assert seen == [[], [{"n": 1}]]


async def test_two_statements_at_once_are_refused(database: Database) -> None:
    """A transaction has one connection: of two concurrent statements the second gets a clear fault."""
    await database.make_table()

    async with database.adapter.transaction(NAME) as transaction:
        results = await asyncio.gather(
            database.run("INSERT INTO {t} VALUES (1, 1)"),
            database.run("INSERT INTO {t} VALUES (2, 2)"),
            return_exceptions=True,
        )

    assert results[0] == []
    assert isinstance(results[1], EffectFault)
    assert "one after another" in results[1].message
    assert transaction.state is COMMITTED
    assert await database.numbers() == [1]


async def test_a_task_that_outlives_the_transaction_is_refused(database: Database) -> None:
    """It inherited a transaction that is over; running outside of it silently would be wrong."""
    await database.make_table()
    over = asyncio.Event()

    async def late() -> EffectFault:
        await over.wait()
        return await database.fault("INSERT INTO {t} VALUES (1, 1)")

    async with database.adapter.transaction(NAME):
        task = asyncio.create_task(late())
        await database.run("SELECT 1 AS one")
    over.set()

    assert "ended already (committed)" in (await task).message
    assert await database.numbers() == []


async def test_what_an_inner_transaction_cannot_have(database: Database) -> None:
    """Nothing stronger than the outer one has; the same or something weaker is satisfied by it."""
    async with database.adapter.transaction(NAME):
        async with database.adapter.transaction(NAME, isolation_level=EnumIsolationLevel.READ_COMMITTED):
            await database.run("SELECT 1 AS one")
        stronger = [] if database.kind in {"sqlite", "memory"} else [(EnumIsolationLevel.SERIALIZABLE, False)]
        for level, read_only in [*stronger, (None, True)]:
            with pytest.raises(ModelOnexError) as caught:
                async with database.adapter.transaction(NAME, isolation_level=level, read_only=read_only):
                    pytest.fail("entered")
            assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


async def test_a_read_only_transaction_cannot_write(database: Database) -> None:
    """The database refuses, and can write again afterwards."""
    await database.make_table()

    with pytest.raises(EffectFault) as caught:
        async with database.adapter.transaction(NAME, read_only=True) as transaction:
            await database.run("INSERT INTO {t} VALUES (1, 1)")
    await database.run("INSERT INTO {t} VALUES (2, 2)")

    assert caught.value.error_kind == "READ_ONLY"
    assert transaction.state is ROLLED_BACK
    assert await database.numbers() == [2]


async def test_a_read_only_statement_inside_a_writing_transaction(database: Database) -> None:
    """It reads what was written, cannot write, and leaves the transaction able to write."""
    await database.make_table()

    async with database.adapter.transaction(NAME) as transaction:
        await database.run("INSERT INTO {t} VALUES (1, 1)")
        read = await database.run("SELECT n FROM {t}", operation="select", read_only=True)
        fault = await database.fault("INSERT INTO {t} VALUES (2, 2)", operation="select", read_only=True)
        await database.run("INSERT INTO {t} VALUES (3, 3)")

    assert read == [{"n": 1}]
    assert fault.error_kind == "READ_ONLY"
    assert transaction.state is COMMITTED
    assert await database.numbers() == [1, 3]


async def test_a_failed_statement_and_its_savepoint(database: Database) -> None:
    """What a savepoint undoes is undone, and the rest is committed, on every database."""
    await database.make_table()

    async with database.adapter.transaction(NAME) as transaction:
        await database.run("INSERT INTO {t} VALUES (1, 1)")
        with pytest.raises(EffectFault):
            async with transaction.savepoint():
                await database.run("INSERT INTO {t} VALUES (2, 2)")
                await database.run("INSERT INTO {t} VALUES (1, 1)")
        await database.run("INSERT INTO {t} VALUES (3, 3)")

    assert transaction.state is COMMITTED
    assert await database.numbers() == [1, 3]


async def test_committing_an_aborted_transaction_is_a_rollback(postgres: Database) -> None:
    """PostgreSQL answers such a COMMIT with ROLLBACK: the state says so, and it is a fault."""
    await postgres.make_table()

    with pytest.raises(EffectFault, match="rolled back") as caught:
        async with postgres.adapter.transaction(NAME) as transaction:
            await postgres.run("INSERT INTO {t} VALUES (1, 1)")
            await postgres.fault("SELECT 1/0")

    assert caught.value.phase is EnumFaultPhase.REJECTED
    assert transaction.state is ROLLED_BACK
    assert await postgres.numbers() == []


async def test_a_commit_that_the_database_refuses(database: Database) -> None:
    """A deferred constraint fails at COMMIT: ROLLED_BACK, REJECTED, and the connection goes on."""
    if database.kind == "mysql":
        pytest.skip("MariaDB has no deferred constraints")
    await database.make_table("id integer primary key, n integer REFERENCES {t} (id) DEFERRABLE INITIALLY DEFERRED")

    with pytest.raises(EffectFault) as caught:
        async with database.adapter.transaction(NAME) as transaction:
            await database.run("INSERT INTO {t} VALUES (1, 99)")

    assert caught.value.phase is EnumFaultPhase.REJECTED
    assert not caught.value.transient
    assert transaction.state is ROLLED_BACK
    assert await database.numbers() == []
    await database.run("INSERT INTO {t} VALUES (1, 1)")


async def _crossing(server: Database, first: int, second: int, both: asyncio.Barrier) -> Transaction | EffectFault:
    transaction = None
    try:
        async with server.adapter.transaction(NAME) as transaction:
            await server.run("UPDATE {t} SET n = n + 1 WHERE id = $1", first)
            await both.wait()
            await server.run("UPDATE {t} SET n = n + 1 WHERE id = $1", second)
    except EffectFault as fault:
        assert transaction is not None
        assert transaction.state is ROLLED_BACK
        return fault
    assert isinstance(transaction, Transaction)
    return transaction


async def test_a_deadlock_is_rejected_and_may_be_repeated(server: Database) -> None:
    """The victim gets DEADLOCK, REJECTED and transient, and is rolled back; the other commits."""
    await server.make_table()
    await server.run("INSERT INTO {t} VALUES (1, 0), (2, 0)")
    both = asyncio.Barrier(2)

    results = await asyncio.gather(_crossing(server, 1, 2, both), _crossing(server, 2, 1, both))

    (fault,) = [result for result in results if isinstance(result, EffectFault)]
    (winner,) = [result for result in results if isinstance(result, Transaction)]
    assert (fault.error_kind, fault.phase, fault.transient) == ("DEADLOCK", EnumFaultPhase.REJECTED, True)
    assert winner.state is COMMITTED
    assert await server.numbers() == [1, 1]


async def test_after_a_deadlock_nothing_runs_outside_of_the_lost_transaction(mysql: Database) -> None:
    """InnoDB has rolled everything back and would run what follows by itself; it is refused instead."""
    await mysql.make_table()
    await mysql.run("INSERT INTO {t} VALUES (1, 0), (2, 0)")
    both = asyncio.Barrier(2)

    async def stubborn(first: int, second: int) -> str:
        with pytest.raises(EffectFault) as caught:
            async with mysql.adapter.transaction(NAME) as transaction:
                await mysql.run("UPDATE {t} SET n = n + 1 WHERE id = $1", first)
                await both.wait()
                try:
                    await mysql.run("UPDATE {t} SET n = n + 1 WHERE id = $1", second)
                except EffectFault:
                    await mysql.run("INSERT INTO {t} VALUES (3, 3)")
                await transaction.rollback()
                raise EffectFault("rolled back by hand")
        return caught.value.message

    messages = await asyncio.gather(stubborn(1, 2), stubborn(2, 1))

    assert sum("cannot go on" in message for message in messages) == 1
    assert await mysql.numbers() == [0, 0]


async def test_a_serialisation_failure_may_be_repeated(postgres: Database) -> None:
    """40001 is REJECTED and transient, and the transaction is rolled back."""
    await postgres.make_table()
    await postgres.run("INSERT INTO {t} VALUES (1, 0)")
    level = EnumIsolationLevel.REPEATABLE_READ
    changed, read = asyncio.Event(), asyncio.Event()

    async def change() -> None:
        await read.wait()
        await postgres.run("UPDATE {t} SET n = 5 WHERE id = 1")
        changed.set()

    task = asyncio.create_task(change())
    with pytest.raises(EffectFault) as caught:
        async with postgres.adapter.transaction(NAME, isolation_level=level) as transaction:
            await postgres.run("SELECT n FROM {t}", operation="select")
            read.set()
            await changed.wait()
            await postgres.run("UPDATE {t} SET n = n + 1 WHERE id = 1")
    await task

    fault = caught.value
    assert (fault.sqlstate, fault.phase, fault.transient) == ("40001", EnumFaultPhase.REJECTED, True)
    assert transaction.state is ROLLED_BACK
    assert await postgres.numbers() == [5]


async def test_a_lock_that_is_not_given_in_time(database: Database) -> None:
    """Waiting for another writer ends with a transient REJECTED fault, not with silence."""
    if database.kind in {"memory", "postgresql"}:
        pytest.skip("one connection only, or no limit to waiting")
    await database.make_table()
    await database.run("INSERT INTO {t} VALUES (1, 0)")
    waiting = adapter_on(database.url, busy_timeout_ms=50) if database.kind == "sqlite" else adapter_on(database.url)
    other = Database("x", database.url, waiting, database.table, database.mark, database.statements_since)

    async with database.adapter.transaction(NAME):
        await database.run("UPDATE {t} SET n = 1")
        fault = await other.fault("UPDATE {t} SET n = 2")
    await waiting.aclose()

    assert (fault.phase, fault.transient) == (EnumFaultPhase.REJECTED, True)
    assert await database.numbers() == [1]


async def test_a_cancelled_transaction_is_rolled_back(database: Database) -> None:
    """The running statement is cancelled in the database, ROLLBACK is carried out, and the connection is used again."""
    await database.make_table()
    held: list[Transaction] = []

    async def work() -> None:
        async with database.adapter.transaction(NAME) as transaction:
            assert isinstance(transaction, Transaction)
            held.append(transaction)
            await database.run("INSERT INTO {t} VALUES (1, 1)")
            await database.run(database.sleep, 30, operation="select")

    task = asyncio.create_task(work())
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert held[0].state is ROLLED_BACK
    assert await database.numbers() == []
    await database.run("INSERT INTO {t} VALUES (2, 2)")
    pools = database.adapter._current
    assert pools is not None
    assert pools.by_name[NAME].write.open_connections == 1


async def test_a_statement_that_commits_by_itself(mysql: Database) -> None:
    """CREATE TABLE commits what was open in MySQL: the state says so, although the block fails."""
    await mysql.make_table()

    with pytest.raises(EffectFault, match="ended the transaction"):
        async with mysql.adapter.transaction(NAME) as transaction:
            await mysql.run("INSERT INTO {t} VALUES (1, 1)")
            await mysql.run("CREATE TABLE {t}_2 (id integer)")

    assert transaction.state is COMMITTED
    assert await mysql.numbers() == [1]
    await mysql.run("DROP TABLE {t}_2")


async def test_sqlite_gives_up_a_transaction_by_itself(database: Database) -> None:
    """ON CONFLICT ROLLBACK ends the transaction: what follows is refused, and the state is ROLLED_BACK."""
    if database.kind not in {"sqlite", "memory"}:
        pytest.skip("only SQLite has it")
    await database.make_table()
    await database.run("INSERT INTO {t} VALUES (1, 1)")

    with pytest.raises(EffectFault) as caught:
        async with database.adapter.transaction(NAME) as transaction:
            await database.run("INSERT INTO {t} VALUES (2, 2)")
            await database.fault("INSERT OR ROLLBACK INTO {t} VALUES (1, 1)")
            late = await database.fault("INSERT INTO {t} VALUES (3, 3)")

    assert "cannot go on" in late.message
    assert caught.value.phase is EnumFaultPhase.REJECTED
    assert transaction.state is ROLLED_BACK
    assert await database.numbers() == [1]
