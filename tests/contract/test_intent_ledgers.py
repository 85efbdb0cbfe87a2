"""What every ledger of intents promises."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome, ProtocolIntentLedger
from omnibase_spi.ledger_memory import MemoryIntentLedger
from omnibase_spi.ledger_owner import is_alive, this_owner
from omnibase_spi.ledger_sql import SqlIntentLedger
from tests.support.databases import NAME, Database, opened
from tests.support.intents import intent

COMPLETED = LedgerOutcome(EnumLedgerState.COMPLETED, {"n": [1, None, "ä"]}, None, 2)
FAILED = LedgerOutcome(EnumLedgerState.FAILED, None, "no", 1)
UNKNOWN = LedgerOutcome(EnumLedgerState.UNKNOWN, None, "cancelled")


@pytest.fixture(params=["memory ledger", "sqlite", "postgresql", "mysql"])
async def ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ProtocolIntentLedger]:
    kind: str = request.param
    if kind == "memory ledger":
        yield MemoryIntentLedger()
        return
    async for made in opened(kind, request, tmp_path_factory.mktemp("ledger")):
        yield SqlIntentLedger(made.adapter, NAME, table=made.table)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    kind: str = request.param
    async for made in opened(kind, request, tmp_path_factory.mktemp("ledger")):
        yield made


@pytest.fixture
def dead_owner() -> str:
    """What a process that has ended called itself."""
    program = "from omnibase_spi.ledger_owner import this_owner; print(this_owner())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


async def test_a_key_is_given_once(ledger: ProtocolIntentLedger) -> None:
    """Who comes second is told what stands, which is the first one's intent."""
    first = intent("x", "orders", {"a": [1.5, "ü"]}, idempotency_key="k")

    assert await ledger.begin("k", first) is None
    standing = await ledger.begin("k", intent("x"))

    assert standing is not None
    assert (standing.key, standing.intent, standing.outcome.state) == ("k", first, EnumLedgerState.RUNNING)
    assert await ledger.entry("k") == standing
    assert await ledger.entry("other") is None


async def test_of_many_at_once_one_gets_the_key(ledger: ProtocolIntentLedger) -> None:
    """However they come."""
    answers = await asyncio.gather(*(ledger.begin("k", intent("x")) for _ in range(8)))

    assert sum(answer is None for answer in answers) == 1


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED, UNKNOWN], ids=["completed", "failed", "unknown"])
async def test_an_outcome_comes_back_as_it_was_written(ledger: ProtocolIntentLedger, outcome: LedgerOutcome) -> None:
    """State, result, error and attempts."""
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", outcome)

    standing = await ledger.begin("k", intent("x"))

    assert standing is not None
    assert standing.outcome == outcome


async def test_entries_are_listed_by_state_oldest_first(ledger: ProtocolIntentLedger) -> None:
    """Up to a limit."""
    for key, outcome in {"a": UNKNOWN, "b": COMPLETED, "c": UNKNOWN, "d": FAILED}.items():
        await ledger.begin(key, intent("x"))
        await ledger.finish(key, outcome)
    await ledger.begin("e", intent("x"))

    assert [entry.key for entry in await ledger.entries()] == ["a", "b", "c", "d", "e"]
    assert [entry.key for entry in await ledger.entries(EnumLedgerState.UNKNOWN)] == ["a", "c"]
    assert [entry.key for entry in await ledger.entries(EnumLedgerState.RUNNING)] == ["e"]
    assert [entry.key for entry in await ledger.entries(limit=2)] == ["a", "b"]


async def test_an_unknown_entry_is_taken_over_by_one(ledger: ProtocolIntentLedger) -> None:
    """A running or a finished one by nobody."""
    await ledger.begin("k", intent("x"))
    running = await ledger.entry("k")
    await ledger.finish("k", UNKNOWN)
    unknown = await ledger.entry("k")
    assert running is not None
    assert unknown is not None

    assert not await ledger.take_over(running)
    assert await ledger.take_over(unknown)
    assert not await ledger.take_over(unknown)
    await ledger.finish("k", COMPLETED)
    assert not await ledger.take_over(unknown)


async def test_a_person_settles_or_reopens_what_is_unknown(ledger: ProtocolIntentLedger) -> None:
    """Settled, it answers like any other; reopened, it runs again. What completed stays."""
    for key in ("settled", "reopened"):
        await ledger.begin(key, intent("x"))
        await ledger.finish(key, UNKNOWN)

    await ledger.settle("settled", COMPLETED)
    await ledger.reopen("reopened")

    standing = await ledger.begin("settled", intent("x"))
    assert standing is not None
    assert standing.outcome == replace(COMPLETED, settled=True)
    assert await ledger.begin("reopened", intent("x")) is None


async def test_a_failed_entry_may_be_reopened(ledger: ProtocolIntentLedger) -> None:
    """Its cause may be gone."""
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", FAILED)

    await ledger.reopen("k")

    assert await ledger.entry("k") is None


@pytest.mark.parametrize("word", [COMPLETED, FAILED], ids=["completed", "failed"])
async def test_a_person_may_settle_what_failed(ledger: ProtocolIntentLedger, word: LedgerOutcome) -> None:
    """It was done by hand, or shall not be tried again: the entry tells that from an attempt that failed."""
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", FAILED)

    await ledger.settle("k", word)

    standing = await ledger.entry("k")
    assert standing is not None
    assert standing.outcome == replace(word, settled=True)


async def test_an_entry_is_reopened_only_as_it_was_seen(ledger: ProtocolIntentLedger) -> None:
    """What became of its key meanwhile is kept."""
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", FAILED)
    seen = await ledger.entry("k")
    await ledger.settle("k", FAILED)

    with pytest.raises(ModelOnexError, match="look again") as caught:
        await ledger.reopen("k", seen)

    assert caught.value.error_code is EnumCoreErrorCode.CONFLICT
    await ledger.reopen("k", await ledger.entry("k"))
    assert await ledger.entry("k") is None


async def test_a_key_that_did_not_run_is_given_back(ledger: ProtocolIntentLedger) -> None:
    """It may run again at once; one that has an outcome keeps it."""
    await ledger.begin("begun", intent("x"))
    await ledger.begin("done", intent("x"))
    await ledger.finish("done", COMPLETED)

    for key in ("begun", "done", "nothing"):
        await ledger.release(key)

    assert await ledger.begin("begun", intent("x")) is None
    standing = await ledger.begin("done", intent("x"))
    assert standing is not None
    assert standing.outcome == COMPLETED


async def test_what_is_settled_already_or_not_there_is_refused(ledger: ProtocolIntentLedger) -> None:
    """With codes that a caller can tell apart."""
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", COMPLETED)

    for key, code in {"k": EnumCoreErrorCode.CONFLICT, "nothing": EnumCoreErrorCode.NOT_FOUND}.items():
        with pytest.raises(ModelOnexError) as caught:
            await ledger.settle(key, FAILED)
        assert caught.value.error_code is code
        with pytest.raises(ModelOnexError) as caught:
            await ledger.reopen(key)
        assert caught.value.error_code is code


async def test_an_entry_of_a_dead_process_is_unknown(database: Database, dead_owner: str) -> None:
    """It reads so at once, on the machine where it ran."""
    ledger = SqlIntentLedger(database.adapter, NAME, table=database.table)
    await ledger.begin("k", intent("x"))
    await database.run("UPDATE {t} SET owner = $1", dead_owner)

    (entry,) = await ledger.entries(EnumLedgerState.UNKNOWN)

    assert entry.key == "k"
    assert await ledger.take_over(entry)
    assert [found.key for found in await ledger.entries(EnumLedgerState.RUNNING)] == ["k"]


class _Overtaken(SqlIntentLedger):
    """Somebody else opens the key again and begins, just after this one has looked at the entry."""

    async def entry(self, key: str) -> LedgerEntry | None:
        seen = await super().entry(key)
        await self._table.changed("DELETE FROM {t}")
        await self.begin(key, intent("x"))
        return seen


@pytest.mark.parametrize("how", ["settle", "reopen"])
async def test_an_entry_that_was_taken_in_between_is_left_to_who_took_it(database: Database, how: str) -> None:
    """CONFLICT: else both would carry it out."""
    ledger = SqlIntentLedger(database.adapter, NAME, table=database.table)
    overtaken = _Overtaken(database.adapter, NAME, table=database.table)
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", UNKNOWN)

    with pytest.raises(ModelOnexError, match="look again") as caught:
        await (overtaken.settle("k", COMPLETED) if how == "settle" else overtaken.reopen("k"))

    assert caught.value.error_code is EnumCoreErrorCode.CONFLICT
    standing = await ledger.entry("k")
    assert standing is not None
    assert standing.outcome.state is EnumLedgerState.RUNNING


async def test_entry_and_write_commit_together_or_not_at_all(database: Database) -> None:
    """In the transaction of the ledger's own connection; there is none on another."""
    ledger = SqlIntentLedger(database.adapter, NAME, table=database.table)
    opening = ledger.transaction(NAME)
    assert opening is not None
    assert ledger.transaction("elsewhere") is None

    with pytest.raises(RuntimeError):
        async with opening:
            await ledger.begin("k", intent("x"))
            raise RuntimeError

    assert await ledger.entry("k") is None


async def test_two_ledgers_may_make_their_table_at_the_same_moment(database: Database) -> None:
    """Whoever loses finds it there."""
    ledgers = [SqlIntentLedger(database.adapter, NAME, table=database.table) for _ in range(4)]

    answers = await asyncio.gather(*(each.begin("k", intent("x")) for each in ledgers))

    assert sum(answer is None for answer in answers) == 1


def test_a_table_name_that_needs_quoting_is_refused(database: Database) -> None:
    """It stands in the text of the statements."""
    with pytest.raises(ModelOnexError, match="table name"):
        SqlIntentLedger(database.adapter, NAME, table="a; drop table b")


def test_who_is_alive() -> None:
    """This process is; one of the same number that started at another time is not; elsewhere the lease decides."""
    owner = this_owner()
    host, pid, _ = owner.split("/")

    assert is_alive(owner, 0.0)
    assert not is_alive(f"{host}/{pid}/1", 0.0)
    assert not is_alive("elsewhere/1/1", 0.0)
    assert is_alive("elsewhere/1/1", 1e12)
