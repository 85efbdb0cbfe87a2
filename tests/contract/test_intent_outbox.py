"""The outbox, over the databases that can have one."""

from collections.abc import AsyncIterator, Sequence
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
from omnibase_spi.outbox import MAX_TRIES, SqlOutbox
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

        async def reopen(self, key: str, seen: LedgerEntry | None = None) -> None:
            await ledger.reopen(key)
            await relayed(ledger)
            await ledger.reopen(key, seen)

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
    assert [(found.intent, found.error) for found in await outbox.given_up()] == [(wrong, "no such field")]


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


async def test_what_a_person_has_settled_as_failed_is_not_carried_out(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Whether the word came to the ledger alone, or by way of the outbox; a person may still say otherwise."""
    route = ScriptedRoute("sent")
    executor.register("x", "*", route)
    no = LedgerOutcome(EnumLedgerState.FAILED, None, "not wanted")
    for key in ("ledger", "outbox"):
        await outbox.add([intent("x", idempotency_key=key)])
        await ledger.begin(key, intent("x"))
        await ledger.finish(key, LedgerOutcome(EnumLedgerState.UNKNOWN))
    await outbox.relay(executor, ledger)

    await ledger.settle("ledger", no)
    assert await outbox.settle(ledger, "outbox", no)
    for _ in range(3):
        await _make_due(database)
        await outbox.relay(executor, ledger)

    assert (route.seen, await outbox.waiting(), await outbox.given_up()) == ([], 0, [])
    assert await outbox.settle(ledger, "ledger", None)
    assert statuses(await outbox.relay(executor, ledger)) == [COMPLETED]


async def test_a_person_may_stop_what_waits_for_its_next_try(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Or before its first one; with the ledger's word that it did happen it is done."""
    route = ScriptedRoute(ModelOnexError("down"))
    executor.register("x", "*", route)
    await outbox.add([intent("x", idempotency_key="tried")])
    await outbox.relay(executor, ledger)
    await outbox.add([intent("x", idempotency_key="fresh")])

    await outbox.settle(ledger, "tried", LedgerOutcome(EnumLedgerState.FAILED))
    await outbox.settle(ledger, "fresh", LedgerOutcome(EnumLedgerState.COMPLETED))
    await _make_due(database)

    assert await outbox.relay(executor, ledger) == []
    assert len(route.seen) == 1
    standing = [await ledger.entry(key) for key in ("tried", "fresh")]
    assert [entry is not None and entry.outcome.settled for entry in standing] == [True, True]


async def test_what_nobody_knows_does_not_stop_the_others(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Whatever was looked at stands at the end of the queue, and each time for longer."""
    executor.register("lost", "*", ScriptedRoute("ok"))
    executor.register("x", "*", ScriptedRoute("ok"))
    for number in range(3):
        await outbox.add([intent("lost", idempotency_key=f"k{number}")])
        await ledger.begin(f"k{number}", intent("lost"))
        await ledger.finish(f"k{number}", LedgerOutcome(EnumLedgerState.UNKNOWN))

    seen = []
    for _ in range(12):
        await outbox.relay(executor, ledger, limit=3)
        (row, *_) = await database.run("SELECT tries, not_before - changed_at AS wait_s FROM {t}")
        assert isinstance(row, dict)
        seen.append((row["tries"], round(float(str(row["wait_s"])))))
        await _make_due(database)
    await outbox.add([intent("x")])

    assert seen == [(0, wait) for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300)]
    assert statuses(await outbox.relay(executor, ledger, limit=1)) == [COMPLETED]


async def test_the_most_urgent_is_carried_out_first(
    outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Also when what came before it is more than a round can take; of one urgency the oldest."""
    route = ScriptedRoute("ok")
    executor.register("x", "*", route)
    executor.max_concurrency = 1
    await outbox.add([intent("x", "a"), intent("x", "b"), intent("x", "c", priority="low")])
    await outbox.add([intent("x", "urgent", priority="critical")])

    for _ in range(4):
        await outbox.relay(executor, ledger, limit=1)

    assert [seen.target for seen in route.seen] == ["urgent", "a", "b", "c"]


async def test_one_id_in_two_intents_is_settled_by_the_result_of_each(
    outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """They are not carried out in the order in which they were stored."""
    executor.register("x", "good", ScriptedRoute("ok"))
    executor.register("x", "bad", ScriptedRoute(ModelOnexError("no", EnumCoreErrorCode.VALIDATION_ERROR)))
    bad = intent("x", "bad", idempotency_key="bad")
    await outbox.add([bad, intent("x", "good", intent_id=bad.intent_id, priority="critical", idempotency_key="good")])

    await outbox.relay(executor, ledger)

    assert [found.intent.target for found in await outbox.given_up()] == ["bad"]
    assert await outbox.waiting() == 0


async def test_an_effect_that_conflicts_is_given_up_in_the_end(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """A row that is there already is no other executor at work, for which the outbox would wait."""
    executor.register("x", "*", ScriptedRoute(ModelOnexError("a row of this id", EnumCoreErrorCode.CONFLICT)))
    await outbox.add([intent("x", idempotency_key="mine")])
    await outbox.add([intent("x", idempotency_key="running")])
    await ledger.begin("running", intent("x"))

    for _ in range(MAX_TRIES + 2):
        await outbox.relay(executor, ledger)
        await _make_due(database)

    assert [found.intent.idempotency_key for found in await outbox.given_up()] == ["mine"]
    assert await outbox.waiting() == 1


@pytest.mark.parametrize("reached", [True, False], ids=["refused by the handler", "without a route"])
async def test_what_was_given_up_comes_back_on_a_persons_word(
    database: Database, outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger, reached: bool
) -> None:
    """With all its tries, and at once."""
    if reached:
        executor.register("x", "*", ScriptedRoute(ModelOnexError("off", EnumCoreErrorCode.VALIDATION_ERROR)))
    await outbox.add([intent("x", idempotency_key="k")])
    for _ in range(MAX_TRIES):
        await outbox.relay(executor, ledger)
        await _make_due(database)
    assert len(await outbox.given_up()) == 1
    executor.register("x", "*", ScriptedRoute("ok"))

    assert await outbox.settle(ledger, "k", None)

    assert await outbox.given_up() == []
    assert statuses(await outbox.relay(executor, ledger)) == [COMPLETED]


@pytest.mark.parametrize("state", [EnumLedgerState.COMPLETED, EnumLedgerState.FAILED])
async def test_what_was_given_up_leaves_the_list_on_a_persons_word(
    outbox: SqlOutbox, ledger: MemoryIntentLedger, executor: IntentExecutor, state: EnumLedgerState
) -> None:
    """It was done by hand, or nobody wants it; to say so twice does no harm."""
    executor.register("x", "*", ScriptedRoute(ModelOnexError("off", EnumCoreErrorCode.VALIDATION_ERROR)))
    await outbox.add([intent("x", idempotency_key="k"), intent("x", idempotency_key="k")])
    await outbox.relay(executor, ledger)
    assert await outbox.given_up()

    for _ in range(1 if state is EnumLedgerState.COMPLETED else 2):
        await outbox.settle(ledger, "k", LedgerOutcome(state))

    assert (await outbox.given_up(), await outbox.waiting()) == ([], 0)
    standing = await ledger.entry("k")
    assert standing is not None
    assert standing.outcome == LedgerOutcome(state, settled=True)


@pytest.mark.parametrize("state", [EnumLedgerState.FAILED, EnumLedgerState.UNKNOWN])
async def test_a_relay_opens_no_key_of_which_more_is_known_by_now(
    database: Database, outbox: SqlOutbox, state: EnumLedgerState
) -> None:
    """Just after it saw a failed try, a person did not want it any more, or the next try was lost."""

    class Overtaken(MemoryIntentLedger):
        """Somebody else has the key before this one opens it."""

        async def reopen(self, key: str, seen: LedgerEntry | None = None) -> None:
            if state is EnumLedgerState.FAILED:
                await self.settle(key, LedgerOutcome(state))
            else:
                await self.finish(key, LedgerOutcome(state))
            await super().reopen(key, seen)

    route = ScriptedRoute(ModelOnexError("down"), "sent")
    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", overtaken := Overtaken())
    executor = IntentExecutor(container)
    executor.register("x", "*", route)
    await outbox.add([intent("x", idempotency_key="k")])
    for _ in range(2):
        await outbox.relay(executor, overtaken)
        await _make_due(database)

    standing = await overtaken.entry("k")

    assert len(route.seen) == 1
    assert standing is not None
    assert standing.outcome.state is state


async def test_a_relay_does_not_overrule_a_person_who_spoke_meanwhile(
    outbox: SqlOutbox, executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """It failed for good, and before the relay wrote that down, somebody had let it run again."""
    fails = ScriptedRoute(ModelOnexError("off", EnumCoreErrorCode.VALIDATION_ERROR))

    class Slow(IntentExecutor):
        """A person is faster than the rest of the round."""

        async def execute_intents(
            self, intents: Sequence[ModelIntent], *, stop_on_failure: bool = False
        ) -> list[IntentExecutionResult]:
            results = await super().execute_intents(intents, stop_on_failure=stop_on_failure)
            await outbox.settle(ledger, "k", None)
            return results

    slow = Slow(executor.container)
    slow.register("x", "*", fails)
    await outbox.add([intent("x", idempotency_key="k")])

    await outbox.relay(slow, ledger)

    assert (await outbox.waiting(), await outbox.given_up()) == (1, [])


async def test_a_key_that_is_nowhere_is_not_settled(outbox: SqlOutbox, ledger: MemoryIntentLedger) -> None:
    """Nor one that was carried out; codes as of the ledger."""
    await ledger.begin("done", intent("x"))
    await ledger.finish("done", LedgerOutcome(EnumLedgerState.COMPLETED))

    for key, code in {"nothing": EnumCoreErrorCode.NOT_FOUND, "done": EnumCoreErrorCode.CONFLICT}.items():
        for word in (None, LedgerOutcome(EnumLedgerState.FAILED), LedgerOutcome(EnumLedgerState.COMPLETED)):
            with pytest.raises(ModelOnexError) as caught:
                await outbox.settle(ledger, key, word)
            assert caught.value.error_code is code
