"""Order, failures, retries and the ledger, on scripted routes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_intent import EnumIntentStatus, EnumLedgerState
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute, ModelIntentRoutes
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome
from omnibase_spi.ledger_memory import RUNNING, MemoryIntentLedger
from omnibase_spi.testing import run_virtual
from tests.support.intents import ScriptedRoute, SharedLedger, intent, statuses

COMPLETED, FAILED = EnumIntentStatus.COMPLETED, EnumIntentStatus.FAILED
DUPLICATE, SKIPPED = EnumIntentStatus.DUPLICATE, EnumIntentStatus.SKIPPED
UNKNOWN = LedgerOutcome(EnumLedgerState.UNKNOWN)


class Odd:
    def __str__(self) -> str:
        return "odd"


RESET = EffectFault("lost", error_kind="ECONNRESET")
REFUSED = EffectFault("refused", error_kind="ECONNREFUSED", phase=EnumFaultPhase.NOT_SENT)


@pytest.fixture
def ledger() -> MemoryIntentLedger:
    return MemoryIntentLedger()


@pytest.fixture
def executor(ledger: MemoryIntentLedger) -> IntentExecutor:
    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", ledger)
    return IntentExecutor(container)


async def test_intents_run_by_priority_and_stable_inside_one(executor: IntentExecutor) -> None:
    """The results are in the order in which they ran."""
    executor.max_concurrency = 1
    seen: list[str] = []

    async def note(each: ModelIntent) -> None:
        seen.append(each.target)

    executor.register("x", "*", note)
    words = ["background", "normal", "critical", "normal", "low", "high", "critical"]
    intents = [intent("x", f"{word}{number}", priority=word) for number, word in enumerate(words)]

    results = await executor.execute_intents(intents)

    assert seen == ["critical2", "critical6", "high5", "normal1", "normal3", "low4", "background0"]
    by_id = {each.intent_id: each.target for each in intents}
    assert [by_id[result.intent_id] for result in results] == seen


async def test_one_priority_runs_at_once_within_the_bound_and_two_never(executor: IntentExecutor) -> None:
    """Nothing of a lower priority begins before all of the higher one has ended."""
    executor.max_concurrency = 3
    running = most = 0
    order: list[str] = []

    async def work(each: ModelIntent) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        order.append(each.target)

    executor.register("x", "*", work)
    await executor.execute_intents(
        [intent("x", "low", priority="low"), *(intent("x", f"high{n}", priority="high") for n in range(7))]
    )

    assert most == 3
    assert order[-1] == "low"


async def test_a_failure_does_not_stop_the_others_unless_asked(executor: IntentExecutor) -> None:
    """Asked to stop, what has not begun is skipped."""
    executor.max_concurrency = 1
    executor.register("bad", "*", ScriptedRoute(ModelOnexError("no", EnumCoreErrorCode.NOT_FOUND)))
    executor.register("good", "*", ScriptedRoute("fine"))
    intents = [intent("bad"), intent("good"), intent("good", priority="low")]

    on = await executor.execute_intents(intents)
    stopped = await executor.execute_intents(intents, stop_on_failure=True)

    assert statuses(on) == [FAILED, COMPLETED, COMPLETED]
    assert (on[0].error, on[0].error_code, on[0].attempts) == ("no", EnumCoreErrorCode.NOT_FOUND, 1)
    assert (on[1].result, on[1].attempts) == ("fine", 1)
    assert statuses(stopped) == [FAILED, SKIPPED, SKIPPED]


async def test_an_intent_without_a_route_fails_and_says_what_to_do(executor: IntentExecutor) -> None:
    """The others are carried out."""
    (result,) = await executor.execute_intents([intent("acme.print")])

    assert result.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "no route; add a row" in str(result.error)


async def test_the_latest_registration_that_fits_counts(executor: IntentExecutor) -> None:
    """The others are as if they were not there."""

    async def first(_each: ModelIntent) -> JsonValue:
        return "first"

    async def second(_each: ModelIntent) -> JsonValue:
        return "second"

    executor.register("x", "*", first)
    executor.register("x", "b*", second)

    results = await executor.execute_intents([intent("x", "a"), intent("x", "b")])

    assert [result.result for result in results] == ["first", "second"]


async def test_what_a_function_did_is_done_whatever_it_returns(executor: IntentExecutor) -> None:
    """A failure would be repeated: what is no JSON is told as text, and a function that does not wait is one too."""
    done: list[str] = []

    async def odd(each: ModelIntent) -> object:
        done.append(each.target)
        return {"when": datetime(2026, 1, 2, tzinfo=UTC), "share": float("nan"), "many": {1}, "what": Odd()}

    def at_once(each: ModelIntent) -> object:
        done.append(each.target)
        return 5

    executor.register("x", "odd", odd)
    executor.register("x", "at_once", at_once)  # type: ignore[arg-type]  # what callers without a type checker do

    results = await executor.execute_intents([intent("x", "odd", idempotency_key="k"), intent("x", "at_once")])

    assert statuses(results) == [COMPLETED, COMPLETED]
    assert results[0].result == {"when": "2026-01-02T00:00:00Z", "share": None, "many": [1], "what": "odd"}
    assert results[1].result == 5
    assert sorted(done) == ["at_once", "odd"]


def test_a_fault_is_repeated_as_the_policy_says() -> None:
    """The intent's policy goes before the route's; what was never sent may always be repeated."""

    async def scenario() -> None:
        container = ModelONEXContainer()
        row = ModelIntentRoute(intent_type="x", retry_policy=ModelEffectRetryPolicy(max_retries=1))
        container.register_service("ModelIntentRoutes", ModelIntentRoutes(routes=[row]))
        route = ScriptedRoute(REFUSED, REFUSED, "there")
        container.register_service("IntentHandler:x", route)
        executor = IntentExecutor(container)

        (first,) = await executor.execute_intents([intent("x")])
        route.seen.clear()
        (second,) = await executor.execute_intents([intent("x", retry_policy={"max_retries": 2})])

        assert (first.status, first.attempts) == (FAILED, 2)
        assert (second.status, second.attempts, second.result) == (COMPLETED, 3, "there")
        assert second.duration_ms > 1500

    run_virtual(scenario())


def test_what_may_have_happened_is_repeated_only_when_that_does_no_harm() -> None:
    """A lost answer ends an effect that is not idempotent, with OUTCOME_UNKNOWN."""

    async def scenario() -> None:
        executor = IntentExecutor(ModelONEXContainer())
        executor.register("once", "*", ScriptedRoute(RESET))
        executor.register("often", "*", ScriptedRoute(RESET, "done", idempotent=True))

        once, often = await executor.execute_intents([intent("once"), intent("often")])

        assert (once.status, once.error_code, once.attempts) == (FAILED, EnumCoreErrorCode.OUTCOME_UNKNOWN, 1)
        assert (often.status, often.attempts) == (COMPLETED, 2)

    run_virtual(scenario())


def test_a_longer_wait_that_the_other_side_asks_for_is_kept_unless_told_otherwise() -> None:
    """Retry-After only lengthens; a wait beyond the limit ends the intent."""

    async def scenario() -> None:
        busy = EffectFault("busy", error_kind="BUSY", phase=EnumFaultPhase.REJECTED, transient=True, retry_after_s=20.0)
        executor = IntentExecutor(ModelONEXContainer(), limit_s=60)
        executor.register("x", "*", ScriptedRoute(busy, "ok"))
        executor.register("y", "*", ScriptedRoute(busy, "ok"))
        executor.register("z", "*", ScriptedRoute(busy, busy, busy, busy))

        heeded, hasty, given_up = await executor.execute_intents(
            [intent("x"), intent("y", retry_policy={"respect_retry_after": False}), intent("z")]
        )

        assert heeded.duration_ms >= 20_000
        assert hasty.duration_ms < 2_000
        assert (given_up.status, given_up.attempts) == (FAILED, 3)

    run_virtual(scenario())


def test_a_handler_that_hangs_is_cut_off() -> None:
    """`limit_s` is for everything that an intent takes."""

    async def scenario() -> None:
        async def hang(_each: ModelIntent) -> None:
            await asyncio.Event().wait()

        executor = IntentExecutor(ModelONEXContainer(), limit_s=5)
        executor.register("x", "*", hang)

        (result,) = await executor.execute_intents([intent("x")])

        assert (result.status, result.error_code) == (FAILED, EnumCoreErrorCode.OUTCOME_UNKNOWN)
        assert result.duration_ms == pytest.approx(5000, abs=1)

    run_virtual(scenario())


@pytest.mark.parametrize("wrong", [{"max_concurrency": 0}, {"limit_s": 0}])
def test_bounds_that_allow_nothing_are_refused(wrong: dict[str, int]) -> None:
    """When the executor is made."""
    with pytest.raises(ModelOnexError, match="needs max_concurrency"):
        IntentExecutor(ModelONEXContainer(), **wrong)


async def test_as_a_node_it_takes_intents_from_its_input(executor: IntentExecutor) -> None:
    """JSON or models; the results are the node's result."""
    executor.register("x", "*", ScriptedRoute("ok"))
    first = intent("x")

    output = await executor.process(
        ModelEffectInput(operation_data={"intents": [first.model_dump(mode="json"), first], "stop_on_failure": True})
    )

    assert isinstance(output.result, dict)
    assert statuses(output.result["results"]) == [COMPLETED, COMPLETED]
    with pytest.raises(ModelOnexError, match="a list of intents, found NoneType"):
        await executor.process(ModelEffectInput(operation_data={}, retry_enabled=False))


# the ledger


async def test_a_key_runs_once_and_then_answers_with_its_first_outcome(executor: IntentExecutor) -> None:
    """Also beside itself in one batch, and also when the first time failed."""
    good, bad = ScriptedRoute({"n": 1}), ScriptedRoute(ModelOnexError("no"))
    executor.register("good", "*", good)
    executor.register("bad", "*", bad)

    together = await executor.execute_intents([intent("good", idempotency_key="a") for _ in range(5)])
    later = await executor.execute_intents([intent("good", idempotency_key="a")])
    failed = await executor.execute_intents([intent("bad", idempotency_key="b") for _ in range(2)])

    assert sorted(statuses(together)) == [COMPLETED, *[DUPLICATE] * 4]
    assert all(result.result == {"n": 1} for result in [*together, *later])
    assert (statuses(later), later[0].attempts) == ([DUPLICATE], 0)
    assert (statuses(failed), failed[1].error) == ([FAILED, DUPLICATE], "no")
    assert (len(good.seen), len(bad.seen)) == (1, 1)


async def test_an_unknown_outcome_is_repeated_only_when_that_does_no_harm(
    executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Else a person must settle it."""
    once, often = ScriptedRoute(RESET), ScriptedRoute("done", idempotent=True)
    executor.register("once", "*", once)
    executor.register("often", "*", often)
    await ledger.begin("often", intent("often"))
    await ledger.finish("often", UNKNOWN)

    first = await executor.execute_intents([intent("once", idempotency_key="once")])
    again = await executor.execute_intents(
        [intent("once", idempotency_key="once"), intent("often", idempotency_key="often")]
    )

    assert first[0].error_code is EnumCoreErrorCode.OUTCOME_UNKNOWN
    assert statuses(again) == [FAILED, COMPLETED]
    assert again[0].error_code is EnumCoreErrorCode.OUTCOME_UNKNOWN
    assert "onex intents settle" in str(again[0].error)
    assert len(once.seen) == 1
    assert [entry.key for entry in await ledger.entries(EnumLedgerState.UNKNOWN)] == ["once"]


async def test_an_intent_whose_handler_was_lost_to_a_limit_is_unknown_though_idempotent(
    executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """So that the next time repeats it, and does not answer with the failure."""
    executor.register(
        "x", "*", ScriptedRoute(EffectFault("lost", error_kind="OTHER"), "ok", idempotent=True, retries_itself=True)
    )

    first = await executor.execute_intents([intent("x", idempotency_key="k")])
    second = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert (statuses(first), statuses(second)) == ([FAILED], [COMPLETED])


async def test_a_key_that_somebody_else_runs_is_a_conflict(
    executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """It is neither done twice nor waited for."""
    executor.register("x", "*", ScriptedRoute("ok"))
    await ledger.begin("k", intent("x"))

    (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert (result.status, result.error_code) == (FAILED, EnumCoreErrorCode.CONFLICT)


async def test_an_unknown_key_that_was_taken_meanwhile_is_a_conflict(executor: IntentExecutor) -> None:
    """Whoever comes second leaves it alone."""

    class Lost(MemoryIntentLedger):
        async def take_over(self, entry: LedgerEntry) -> bool:
            return False

    ledger = Lost()
    executor.container.register_service("ProtocolIntentLedger", ledger)  # type: ignore[attr-defined]  # a real one
    executor.register("x", "*", ScriptedRoute("ok", idempotent=True))
    await ledger.begin("k", intent("x"))
    await ledger.finish("k", UNKNOWN)

    (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert (result.status, result.error_code) == (FAILED, EnumCoreErrorCode.CONFLICT)


async def test_a_cancelled_intent_is_unknown_and_the_cancellation_passes(
    executor: IntentExecutor, ledger: MemoryIntentLedger
) -> None:
    """Nobody knows how far it came."""
    begun = asyncio.Event()

    async def hang(_each: ModelIntent) -> None:
        begun.set()
        await asyncio.Event().wait()

    executor.register("x", "*", hang)
    task = asyncio.create_task(executor.execute_intents([intent("x", idempotency_key="k")]))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    entry = await ledger.entry("k")
    assert entry is not None
    assert entry.outcome.state is EnumLedgerState.UNKNOWN


async def test_an_outcome_that_the_ledger_did_not_take_is_told(executor: IntentExecutor) -> None:
    """What was carried out stays carried out."""

    class Deaf(MemoryIntentLedger):
        async def finish(self, key: str, outcome: LedgerOutcome) -> None:
            raise EffectFault("database is gone")

    executor.container.register_service("ProtocolIntentLedger", Deaf())  # type: ignore[attr-defined]  # a real one
    executor.register("x", "*", ScriptedRoute("ok"))

    (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert (result.status, result.result) == (COMPLETED, "ok")
    assert result.error == "carried out; but the ledger did not take the outcome: database is gone"


async def test_without_a_ledger_a_key_is_refused() -> None:
    """Rather than promise what nobody keeps."""
    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", object())
    executor = IntentExecutor(container)
    executor.register("x", "*", ScriptedRoute("ok"))

    (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert result.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


def _shared(ledger: SharedLedger, *answers: JsonValue | BaseException) -> tuple[IntentExecutor, ScriptedRoute]:
    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", ledger)
    executor = IntentExecutor(container)
    route = ScriptedRoute(*answers)
    route.database = "main"
    executor.register("x", "*", route)
    return executor, route


async def test_entry_and_write_are_one_transaction_where_they_can_be() -> None:
    """A failure rolls both back and is then written by itself; a success is there with its entry."""
    good, _ = _shared(ledger := SharedLedger(), {"row_count": 1})
    bad, _ = _shared(other := SharedLedger(), ModelOnexError("no"))

    first = await good.execute_intents([intent("x", idempotency_key="k")])
    second = await good.execute_intents([intent("x", idempotency_key="k")])
    failed = await bad.execute_intents([intent("x", idempotency_key="k")])

    assert (statuses(first), statuses(second), statuses(failed)) == ([COMPLETED], [DUPLICATE], [FAILED])
    assert second[0].result == {"row_count": 1}
    assert [entry.outcome.state for entry in await ledger.entries()] == [EnumLedgerState.COMPLETED]
    assert [entry.outcome.state for entry in await other.entries()] == [EnumLedgerState.FAILED]


def test_a_lost_answer_to_commit_is_found_out_by_asking_again() -> None:
    """The repeated attempt finds the entry of the first, and does nothing."""

    async def scenario() -> None:
        executor, route = _shared(SharedLedger(lost_answers=1), "written")

        (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

        assert (result.status, result.result, result.attempts) == (COMPLETED, "written", 2)
        assert len(route.seen) == 1

    run_virtual(scenario())


async def test_a_write_whose_outcome_stays_unknown_leaves_the_key_open() -> None:
    """The next time finds out; nothing is written down that might be wrong."""
    executor, _ = _shared(ledger := SharedLedger(), EffectFault("lost", error_kind="OTHER"))

    (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert result.status is FAILED
    assert await ledger.entries() == []


async def test_a_ledger_that_moves_away_in_between_is_a_conflict() -> None:
    """Nothing is written without its entry."""
    executor, route = _shared(SharedLedger(transactions=1), "written")

    (result,) = await executor.execute_intents([intent("x", idempotency_key="k")])

    assert (result.status, result.error_code) == (FAILED, EnumCoreErrorCode.CONFLICT)
    assert route.seen == []


async def test_a_memory_ledger_gives_nothing_to_who_looks_at_an_old_entry(ledger: MemoryIntentLedger) -> None:
    """An entry can be taken over only as it stands, and only when it is unknown."""
    await ledger.begin("k", intent("x"))
    running = await ledger.entry("k")
    assert running is not None
    await ledger.finish("k", UNKNOWN)

    assert not await ledger.take_over(running)
    assert not await ledger.take_over(replace(running, outcome=UNKNOWN, changed_at=datetime.now(UTC)))
    assert running.outcome == RUNNING
