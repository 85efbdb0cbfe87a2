"""What the stores of states in databases promise besides: other processes, lost connections, transactions of others."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors import ConcurrentModificationError, ModelOnexError, TransactionError
from omnibase_spi.store_sql import SqlStateManager
from tests.support.databases import CORRELATION, NAME, Database, adapter_on, context, opened, until
from tests.support.lost_answers import through_proxy

COUNT = """
import asyncio, sys
from omnibase_core.errors import ConcurrentModificationError
from omnibase_spi.store_sql import SqlStateManager
from tests.support.databases import NAME, adapter_on

async def main(url, table, rounds):
    store = SqlStateManager(adapter_on(url), NAME, table=table)
    done = lost = 0
    while done < rounds:
        read = await store.get_state("o", "k")
        try:
            await store.update_state("o", "k", (read.state or 0) + 1, expected_version=read.version)
        except ConcurrentModificationError:
            lost += 1
            continue
        done += 1
    await store.adapter.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    kind: str = request.param
    async for made in opened(kind, request, tmp_path):
        yield made
        await _drop(made)


async def _drop(database: Database) -> None:
    for suffix in ("_epoch", "_backup", "_x"):
        await database.run(f"DROP TABLE IF EXISTS {{t}}{suffix}")


@pytest.fixture
def store(database: Database) -> SqlStateManager:
    return SqlStateManager(database.adapter, NAME, table=database.table)


async def test_no_update_of_several_processes_is_lost(database: Database, store: SqlStateManager) -> None:
    """They begin at once, so that the table and the first version are raced for as well."""
    command = [sys.executable, "-c", COUNT, database.url, database.table, "25"]
    processes = [await asyncio.create_subprocess_exec(*command, stderr=PIPE) for _ in range(3)]
    told = [(await process.communicate())[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], told
    stored = await store.get_state("o", "k")
    assert (stored.state, stored.version) == (75, 75)


@pytest.mark.parametrize("deliver", [True, False])
async def test_a_lost_answer_to_commit_is_an_unknown_outcome(
    postgres: Database, store_behind: SqlStateManager, deliver: bool
) -> None:
    """Whether it arrived or not: never success, never failure; reading tells."""
    proxy, through = await through_proxy(postgres)
    proxy.deliver = deliver
    store = SqlStateManager(through.adapter, NAME, table=postgres.table)
    try:
        transaction = await store.begin_transaction()
        await store.update_state("o", "k", "new")
        proxy.armed = True
        with pytest.raises(TransactionError, match="read a state") as caught:
            await store.commit_transaction(transaction)
        with pytest.raises(TransactionError) as again:
            await store.commit_transaction(transaction)
    finally:
        await through.adapter.aclose()
        await proxy.stop()

    assert (caught.value.error_code, again.value.error_code) == (Code.OUTCOME_UNKNOWN, Code.NOT_FOUND)
    if deliver:

        async def arrived() -> bool:
            return (await store_behind.get_state("o", "k")).state == "new"

        await until(arrived, "the delivered COMMIT took effect")
    else:
        assert (await store_behind.get_state("o", "k")).version == 0


@pytest.fixture
async def store_behind(postgres: Database) -> AsyncIterator[SqlStateManager]:
    store = SqlStateManager(postgres.adapter, NAME, table=postgres.table)
    await store.prepare()
    yield store
    await _drop(postgres)


async def test_a_lost_answer_to_an_update_is_an_unknown_outcome(
    postgres: Database, store_behind: SqlStateManager
) -> None:
    """An update of its own is its own transaction."""
    proxy, through = await through_proxy(postgres)
    proxy.word = b"INSERT INTO"
    store = SqlStateManager(through.adapter, NAME, table=postgres.table)
    try:
        await store.prepare()
        proxy.armed = True
        with pytest.raises(ModelOnexError, match="nobody knows") as caught:
            await store.update_state("o", "k", "new")
    finally:
        await through.adapter.aclose()
        await proxy.stop()

    assert caught.value.error_code is Code.OUTCOME_UNKNOWN

    async def arrived() -> bool:
        return (await store_behind.get_state("o", "k")).state == "new"

    await until(arrived, "the update took effect")


async def test_a_backend_that_dies_before_commit_keeps_nothing(
    postgres: Database, store_behind: SqlStateManager
) -> None:
    """COMMIT was not sent: that is no unknown outcome."""
    other = SqlStateManager(postgres.other(), NAME, table=postgres.table)
    with pytest.raises(TransactionError, match="nothing was kept") as caught:
        async with store_behind.transaction():
            await store_behind.update_state("o", "k", 1)
            (row,) = await postgres.run("SELECT pg_backend_pid() AS id")
            assert isinstance(row, dict)
            await _terminate(postgres, row["id"])

    assert caught.value.error_code is Code.OPERATION_FAILED
    assert (await other.get_state("o", "k")).version == 0


async def _terminate(postgres: Database, backend: JsonValue) -> None:
    """And wait until the server says that it is gone."""
    other = postgres.other()
    await other.execute(context("SELECT pg_terminate_backend($1)", backend), CORRELATION)

    async def gone() -> bool:
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE pid = $1"
        return (await other.execute(context(query, backend), CORRELATION))["rows"] == [{"n": 0}]

    await until(gone, "the backend ended")


async def test_a_rollback_on_a_lost_connection_is_told_and_leaves_nothing(
    postgres: Database, store_behind: SqlStateManager
) -> None:
    """The next transaction works."""
    transaction = await store_behind.begin_transaction()
    await store_behind.update_state("o", "k", 1)
    (row,) = await postgres.run("SELECT pg_backend_pid() AS id")
    assert isinstance(row, dict)
    await _terminate(postgres, row["id"])

    with pytest.raises(TransactionError, match="ROLLBACK could not"):
        await store_behind.rollback_transaction(transaction)
    async with store_behind.transaction():
        await store_behind.update_state("o", "k", 2)

    stored = await store_behind.get_state("o", "k")
    assert (stored.state, stored.version) == (2, 1)


async def test_a_transaction_that_the_database_gave_up_is_a_concurrent_modification(
    postgres: Database, store_behind: SqlStateManager
) -> None:
    """As a stale version is: read it again."""
    await store_behind.update_state("o", "k", 1)
    other = SqlStateManager(postgres.other(), NAME, table=postgres.table)
    with pytest.raises(ConcurrentModificationError, match="at the same time"):
        async with postgres.adapter.transaction(NAME, isolation_level=EnumIsolationLevel.REPEATABLE_READ):
            await store_behind.get_state("o", "k")
            await other.update_state("o", "k", 2)
            await store_behind.update_state("o", "k", 3)

    assert (await store_behind.get_state("o", "k")).state == 2


async def test_states_join_a_transaction_of_the_adapter(database: Database, store: SqlStateManager) -> None:
    """Also when the tables are made inside of it, and go with it."""
    with pytest.raises(KeyError):
        async with database.adapter.transaction(NAME):
            await database.run("CREATE TABLE {t}_x (n integer)")
            await store.update_state("o", "k", 1)
            await store.update_state("o", "k", 2)
            raise KeyError
    async with database.adapter.transaction(NAME):
        await database.run("CREATE TABLE {t}_x (n integer)")
        await store.update_state("o", "k", 3)

    stored = await store.get_state("o", "k")
    assert (stored.state, stored.version) == (3, 1)


async def test_a_transaction_that_nobody_ends_leaves_nothing_behind(database: Database) -> None:
    """Closing the adapter rolls it back and lets its connection go, with the store closed before or not at all."""
    for closes_the_store in (True, False):
        adapter = adapter_on(database.url)
        store = SqlStateManager(adapter, NAME, table=database.table)
        await store.begin_transaction()
        await store.update_state("o", "k", 1)
        if closes_the_store:
            await store.aclose()
        await adapter.aclose()

        other = SqlStateManager(database.other(), NAME, table=database.table)
        assert (await other.get_state("o", "k")).version == 0
        async with asyncio.timeout(3):
            written = await other.update_state("o", f"free {closes_the_store}", 1)
        assert written.version == 1


def test_a_loop_that_ends_rolls_back_what_is_open(tmp_path: Path) -> None:
    """Its id is unknown in the next loop, where the store works on."""
    store = SqlStateManager(adapter_on(f"sqlite:///{tmp_path}/x.db"), NAME)

    async def begins() -> str:
        transaction = await store.begin_transaction()
        await store.update_state("o", "k", 1)
        return transaction

    async def goes_on() -> tuple[int, int]:
        before = (await store.get_state("o", "k")).version
        await store.commit_transaction(await store.begin_transaction())
        async with store.transaction():
            after = (await store.update_state("o", "k", 2)).version
        await store.adapter.aclose()
        return before, after

    async def ends(transaction: str) -> None:
        await store.commit_transaction(transaction)

    with pytest.raises(TransactionError, match="nothing was kept"):
        asyncio.run(ends(asyncio.run(begins())))
    asyncio.run(begins())
    assert asyncio.run(goes_on()) == (0, 1)


async def test_a_transaction_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """TransactionError, with the code of the fault."""
    adapter = adapter_on("postgresql://nobody@127.0.0.1:1/x")
    store = SqlStateManager(adapter, NAME)

    with pytest.raises(TransactionError, match="could not be begun") as caught:
        await store.begin_transaction()

    assert caught.value.error_code is Code.OPERATION_FAILED
    await adapter.aclose()


def test_a_database_that_is_not_supported_is_refused() -> None:
    """When the store is made."""
    with pytest.raises(ModelOnexError, match="it is mysql; allowed: sqlite, postgresql") as caught:
        SqlStateManager(adapter_on("mysql://root@127.0.0.1:1/x"), NAME)

    assert caught.value.error_code is Code.CONFIGURATION_ERROR
