"""The outbox, over the databases that can have one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus, EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome
from omnibase_spi.ledger_memory import MemoryIntentLedger
from omnibase_spi.outbox import SqlOutbox
from tests.support.databases import NAME, Database, opened
from tests.support.intents import ScriptedRoute, intent, statuses

COMPLETED, FAILED = EnumIntentStatus.COMPLETED, EnumIntentStatus.FAILED


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    kind: str = request.param
    async for made in opened(kind, request, tmp_path):
        yield made
        await made.run("DROP TABLE IF EXISTS {t}_s")


@pytest.fixture
def outbox(database: Database) -> SqlOutbox:
    return SqlOutbox(database.adapter, NAME, table=database.table)


@pytest.fixture
def ledger() -> MemoryIntentLedger:
    return MemoryIntentLedger()


@pytest.fixture
def executor(ledger: MemoryIntentLedger) -> IntentExecutor:
    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", ledger)
    return IntentExecutor(container)


async def _make_due(database: Database) -> None:
    await database.run("UPDATE {t} SET not_before = 0")


async def test_state_and_intents_are_stored_together_or_not_at_all(database: Database, outbox: SqlOutbox) -> None:
    """A statement of the program's own joins the outbox's transaction."""
    await database.run("CREATE TABLE {t}_s (n integer)")

    with pytest.raises(RuntimeError):
        async with outbox.transaction():
            await database.run("INSERT INTO {t}_s VALUES (1)")
            await outbox.add([intent("x")])
            raise RuntimeError
    async with outbox.transaction():
        await database.run("INSERT INTO {t}_s VALUES (2)")
        await outbox.add([intent("x"), intent("x")])

    assert await database.run("SELECT n FROM {t}_s") == [{"n": 2}]
    assert await outbox.waiting() == 2


async def test_a_relay_carries_out_once_what_waits(
    outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """In order, up to its limit; the same intent stored twice is a duplicate."""
    route = ScriptedRoute("ok")
    executor.register("x", "*", route)
    executor.max_concurrency = 1
    intents = [intent("x", target) for target in "abc"]
    await outbox.add([*intents, intents[0]])

    first = await outbox.relay(executor, ledger, limit=2)
    second = await outbox.relay(executor, ledger)

    assert (statuses(first), statuses(second)) == ([COMPLETED] * 2, [COMPLETED, EnumIntentStatus.DUPLICATE])
    assert [seen.target for seen in route.seen] == ["a", "b", "c"]
    assert await outbox.waiting() == 0
    assert await outbox.relay(executor, ledger) == []


async def test_the_same_intent_stored_twice_leaves_nothing_behind(
    outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Each row is settled by a result of its own."""
    executor.register("x", "*", ScriptedRoute("ok"))
    same = intent("x")
    await outbox.add([same, same])

    results = await outbox.relay(executor, ledger)

    assert sorted(statuses(results)) == [COMPLETED, EnumIntentStatus.DUPLICATE]
    assert await outbox.waiting() == 0


async def test_what_failed_comes_again_later(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Its key is opened for that."""
    executor.register("x", "*", ScriptedRoute(ModelOnexError("down"), "up"))
    await outbox.add([intent("x", idempotency_key="k")])

    first = await outbox.relay(executor, ledger)
    at_once = await outbox.relay(executor, ledger)
    await _make_due(database)
    later = await outbox.relay(executor, ledger)

    assert (statuses(first), at_once, statuses(later)) == ([FAILED], [], [COMPLETED])


async def test_a_relay_leaves_to_another_what_that_one_took(
    database: Database, outbox: SqlOutbox, ledger: MemoryIntentLedger
) -> None:
    """Both saw the same failed intent; it is carried out once more, not twice."""
    route = ScriptedRoute(ModelOnexError("down"), "up")

    class Overtaken(MemoryIntentLedger):
        """The other relay carries the intent out, just before this one opens its key."""

        async def reopen(self, key: str) -> None:
            await ledger.reopen(key)
            await relayed(ledger)
            await ledger.reopen(key)

        async def entry(self, key: str) -> LedgerEntry | None:
            return await ledger.entry(key)

        async def begin(self, key: str, intent: ModelIntent) -> LedgerEntry | None:
            return await ledger.begin(key, intent)

    async def relayed(known: MemoryIntentLedger) -> list[IntentExecutionResult]:
        container = ModelONEXContainer()
        container.register_service("ProtocolIntentLedger", known)
        executor = IntentExecutor(container)
        executor.register("x", "*", route)
        return await outbox.relay(executor, known)

    await outbox.add([intent("x", idempotency_key="k")])
    await relayed(ledger)
    await _make_due(database)

    (result,) = await relayed(Overtaken())

    assert (len(route.seen), result.status) == (2, EnumIntentStatus.DUPLICATE)
    assert await outbox.waiting() == 0


async def test_what_is_hopeless_is_left_to_a_person(
    outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """With its error."""
    wrong = intent("x", idempotency_key="k")
    executor.register("x", "*", ScriptedRoute(ModelOnexError("no such field", EnumCoreErrorCode.VALIDATION_ERROR)))
    await outbox.add([wrong])

    await outbox.relay(executor, ledger)

    assert await outbox.waiting() == 0
    assert await outbox.given_up() == [(wrong, "no such field")]


async def test_an_unknown_outcome_waits_until_a_person_has_settled_it(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Then it is done, and nothing is carried out again."""
    route = ScriptedRoute("ok")
    executor.register("x", "*", route)
    await outbox.add([intent("x", idempotency_key="k")])
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", LedgerOutcome(EnumLedgerState.UNKNOWN))

    (unknown,) = await outbox.relay(executor, ledger)
    await ledger.settle("k", LedgerOutcome(EnumLedgerState.COMPLETED))
    await _make_due(database)
    (settled,) = await outbox.relay(executor, ledger)

    assert unknown.error_code is EnumCoreErrorCode.OUTCOME_UNKNOWN
    assert settled.status is EnumIntentStatus.DUPLICATE
    assert (route.seen, await outbox.waiting()) == ([], 0)
