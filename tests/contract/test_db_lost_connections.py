"""Transactions that lose their connection or an answer: no state is claimed that the database did not confirm."""

import asyncio
import random

import pytest

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_spi.db.transaction import Transaction
from tests.support.databases import NAME, Database, until
from tests.support.lost_answers import through_proxy

COMMITTED, ROLLED_BACK = EnumTransactionState.COMMITTED, EnumTransactionState.ROLLED_BACK
FAILED, UNKNOWN = EnumTransactionState.FAILED, EnumTransactionState.UNKNOWN


class _OurError(Exception):
    """What a user's code may raise."""


async def _connection_id(server: Database) -> int:
    query = "SELECT pg_backend_pid() AS id" if server.kind == "postgresql" else "SELECT CONNECTION_ID() AS id"
    row = (await server.run(query, operation="select"))[0]
    assert isinstance(row, dict)
    number = row["id"]
    assert isinstance(number, int)
    return number


async def _kill(server: Database, number: int) -> None:
    """End a connection of the adapter from outside, and wait until the server says that it is gone."""
    other = Database("x", server.url, server.other(), server.table, server.mark, server.statements_since)
    if server.kind == "postgresql":
        await other.run("SELECT pg_terminate_backend($1)", number)
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE pid = $1"
    else:
        await other.run(f"KILL {number}")
        query = "SELECT count(*) AS n FROM information_schema.processlist WHERE id = $1"

    async def gone() -> bool:
        return await other.run(query, number, operation="select") == [{"n": 0}]

    await until(gone, "the connection is gone")


async def test_a_connection_killed_while_idle_is_replaced(server: Database) -> None:
    """That it is dead is seen before anything is sent: the statement goes over a new one."""
    await server.make_table()
    await _kill(server, await _connection_id(server))

    await server.run("INSERT INTO {t} VALUES (1, 1)", operation="insert")

    assert await server.numbers() == [1]


async def test_a_connection_killed_in_a_statement_is_ambiguous(server: Database) -> None:
    """ECONNRESET and AMBIGUOUS: nobody knows how far it came. The next statement works."""
    number = await _connection_id(server)
    task = asyncio.create_task(server.fault(server.sleep, 30, operation="select"))
    await asyncio.sleep(0.1)

    await _kill(server, number)
    fault = await task

    assert (fault.error_kind, fault.phase) == ("ECONNRESET", EnumFaultPhase.AMBIGUOUS)
    assert not fault.transient
    assert await server.run("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize("step", ["after begin", "after a statement", "after a savepoint", "before commit"])
async def test_a_connection_killed_in_a_transaction_is_never_called_committed(server: Database, step: str) -> None:
    """Lost before COMMIT was sent is FAILED; the database shows nothing of it."""
    await server.make_table()

    async def kill_at(here: str) -> None:
        if here == step:
            await _kill(server, number)

    with pytest.raises(EffectFault):
        async with server.adapter.transaction(NAME) as transaction:
            number = await _connection_id(server)
            await kill_at("after begin")
            await server.run("INSERT INTO {t} VALUES (1, 1)")
            await kill_at("after a statement")
            async with transaction.savepoint():
                await kill_at("after a savepoint")
                await server.run("INSERT INTO {t} VALUES (2, 2)")
            await kill_at("before commit")

    assert transaction.state is FAILED
    assert await server.numbers() == []


async def test_a_connection_killed_before_rollback_is_never_called_rolled_back(server: Database) -> None:
    """ROLLED_BACK only when a rollback was carried out."""
    await server.make_table()

    with pytest.raises(_OurError):
        async with server.adapter.transaction(NAME) as transaction:
            await server.run("INSERT INTO {t} VALUES (1, 1)")
            await _kill(server, await _connection_id(server))
            raise _OurError

    assert transaction.state is FAILED
    assert await server.numbers() == []


@pytest.mark.parametrize("deliver", [True, False])
async def test_a_lost_answer_to_commit_is_unknown(server: Database, deliver: bool) -> None:
    """Whether COMMIT arrived cannot be known from here: UNKNOWN and AMBIGUOUS, whatever really happened."""
    await server.make_table()
    proxy, through = await through_proxy(server)
    proxy.deliver = deliver
    try:
        with pytest.raises(EffectFault) as caught:
            async with through.adapter.transaction(NAME) as transaction:
                await through.run("INSERT INTO {t} VALUES (1, 1)")
                proxy.armed = True
    finally:
        await through.adapter.aclose()
        await proxy.stop()

    assert transaction.state is UNKNOWN
    assert (caught.value.error_kind, caught.value.phase) == ("ECONNRESET", EnumFaultPhase.AMBIGUOUS)
    if deliver:

        async def arrived() -> bool:
            return await server.numbers() == [1]

        await until(arrived, "the delivered COMMIT took effect")


async def test_a_cancelled_commit_finds_out_what_happened(database: Database) -> None:
    """COMMIT is awaited for a moment although the task is cancelled: the state is what the database said."""
    await database.make_table()
    held: list[Transaction] = []
    ending = asyncio.Event()

    async def work() -> None:
        async with database.adapter.transaction(NAME) as transaction:
            assert isinstance(transaction, Transaction)
            held.append(transaction)
            await database.run("INSERT INTO {t} VALUES (1, 1)")
            ending.set()

    task = asyncio.create_task(work())
    await ending.wait()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert held[0].state is COMMITTED
    assert await database.numbers() == [1]


async def test_a_cancelled_commit_without_an_answer_is_unknown(server: Database) -> None:
    """The wait for the answer is bounded: well within a second the cancellation passes, and the state is UNKNOWN."""
    await server.make_table()
    proxy, through = await through_proxy(server)
    proxy.cut = False
    held: list[Transaction] = []

    async def work() -> None:
        async with through.adapter.transaction(NAME) as transaction:
            assert isinstance(transaction, Transaction)
            held.append(transaction)
            await through.run("INSERT INTO {t} VALUES (1, 1)")
            proxy.armed = True

    task = asyncio.create_task(work())
    try:
        await proxy.committing.wait()
        task.cancel()
        async with asyncio.timeout(0.9):
            await asyncio.wait({task})
        assert task.cancelled()
    finally:
        await through.adapter.aclose()
        await proxy.stop()

    assert held[0].state is UNKNOWN


@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("seed", range(2))
async def test_no_state_is_ever_false(server: Database, step: int, seed: int) -> None:
    """Killed at some moment of a step: committed means that all rows are there, rolled back and failed that none is."""
    await server.make_table()
    delay = random.Random(10 * step + seed).uniform(0, 0.0003)
    held: list[Transaction] = []
    reached = asyncio.Event()

    async def work() -> None:
        async with server.adapter.transaction(NAME) as transaction:
            assert isinstance(transaction, Transaction)
            held.append(transaction)
            for number in range(8):
                if number == step:
                    reached.set()
                await server.run("INSERT INTO {t} VALUES ($1, $1)", number)
            reached.set()

    await server.other().ping(NAME)
    number = await _connection_id(server)
    task = asyncio.create_task(work())
    await reached.wait()
    await asyncio.sleep(delay)
    await _kill(server, number)
    await asyncio.wait({task})
    task.exception()

    rows = await server.numbers()
    expected: dict[EnumTransactionState, list[list[int]]] = {
        COMMITTED: [list(range(8))],
        ROLLED_BACK: [[]],
        FAILED: [[]],
        UNKNOWN: [[], list(range(8))],
    }
    assert rows in expected[held[0].state]
