"""Entries of the ledger when the task that writes them is cancelled."""

import asyncio

import pytest

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome
from omnibase_spi.ledger_memory import MemoryIntentLedger
from omnibase_spi.testing import run_virtual
from tests.support.intents import ScriptedRoute, SharedLedger, intent

UNKNOWN = LedgerOutcome(EnumLedgerState.UNKNOWN)


class SlowLedger(MemoryIntentLedger):
    """Waits a little before and after each change, as a database does; so a cancellation comes in the midst of it."""

    def __init__(self, *, forever_in: str = "") -> None:
        super().__init__()
        self._forever_in = forever_in

    async def begin(self, key: str, intent: ModelIntent) -> LedgerEntry | None:
        await self._wait("")
        standing = await super().begin(key, intent)
        await self._wait("begin")
        return standing

    async def take_over(self, entry: LedgerEntry) -> bool:
        await self._wait("")
        taken = await super().take_over(entry)
        await self._wait("")
        return taken

    async def finish(self, key: str, outcome: LedgerOutcome) -> None:
        await self._wait("")
        await super().finish(key, outcome)
        await self._wait("")

    async def release(self, key: str) -> None:
        await self._wait("")
        await super().release(key)

    async def _wait(self, where: str) -> None:
        if where and where == self._forever_in:
            await asyncio.Event().wait()
        for _ in range(2):
            await asyncio.sleep(0)


def _executor(ledger: MemoryIntentLedger) -> IntentExecutor:
    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", ledger)
    return IntentExecutor(container)


async def _cancelled_after(steps: int, task: asyncio.Task[object], times: int = 1) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({task})


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("standing", [None, UNKNOWN], ids=["new", "unknown"])
@pytest.mark.parametrize("steps", range(30))
async def test_wherever_a_cancellation_comes_no_entry_stays_running(
    standing: LedgerOutcome | None, steps: int, times: int
) -> None:
    """What did not run stands as before, what ran is completed, and what was under way is unknown."""
    ledger = SlowLedger()
    executor = _executor(ledger)
    did: list[str] = []

    async def work(_each: ModelIntent) -> None:
        did.append("began")
        await asyncio.sleep(0)
        did.append("ended")

    executor.register("x", "*", work, idempotent=True)
    if standing is not None:
        await ledger.begin("k", intent("x"))
        await ledger.finish("k", standing)

    task = asyncio.create_task(executor.execute_intents([intent("x", idempotency_key="k")]))
    await _cancelled_after(steps, task, times)

    entry = await ledger.entry("k")
    found = entry and entry.outcome.state
    assert (
        found
        == {
            (): standing and standing.state,
            ("began",): EnumLedgerState.UNKNOWN,
            ("began", "ended"): EnumLedgerState.COMPLETED,
        }[tuple(did)]
    )


@pytest.mark.parametrize("steps", range(30))
async def test_a_cancelled_write_that_failed_leaves_no_running_entry(steps: int) -> None:
    """Its entry is written by itself, after the transaction."""

    class SlowShared(SharedLedger, SlowLedger):
        pass

    executor = _executor(ledger := SlowShared())
    route = ScriptedRoute(ModelOnexError("no"))
    route.database = "main"
    executor.register("x", "*", route)

    task = asyncio.create_task(executor.execute_intents([intent("x", idempotency_key="k")]))
    await _cancelled_after(steps, task)

    assert {entry.outcome.state for entry in await ledger.entries()} <= {EnumLedgerState.FAILED}


@pytest.mark.parametrize("steps", range(8))
async def test_a_loop_that_cancels_all_tasks_leaves_no_running_entry(steps: int) -> None:
    """It cancels what writes the entry, too; then nobody knows whether it was written."""
    ledger = SlowLedger()
    executor = _executor(ledger)
    executor.register("x", "*", ScriptedRoute("ok"))
    task = asyncio.create_task(executor.execute_intents([intent("x", idempotency_key="k")]))
    for _ in range(steps):
        await asyncio.sleep(0)

    others = asyncio.all_tasks() - {asyncio.current_task()}
    for each in others:
        each.cancel()
    await asyncio.wait({task})

    assert EnumLedgerState.RUNNING not in {entry.outcome.state for entry in await ledger.entries()}


def test_a_cancellation_does_not_wait_long_for_a_ledger_that_hangs() -> None:
    """Whoever cancels wants to go."""

    async def scenario() -> None:
        executor = _executor(SlowLedger(forever_in="begin"))
        executor.register("x", "*", ScriptedRoute("ok"))
        loop = asyncio.get_running_loop()
        started = loop.time()

        task = asyncio.create_task(executor.execute_intents([intent("x", idempotency_key="k")]))
        await _cancelled_after(10, task)

        assert task.cancelled()
        assert loop.time() - started < 5

    run_virtual(scenario())
