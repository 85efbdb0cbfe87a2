"""Changes of a ledger's entry that a cancellation does not leave half done.

A statement that is cut off may have been carried out, and an entry that says "running" while nothing runs would be
stuck for as long as the process lives. So each change runs to its end in a task of its own. A cancellation waits for
it, though not for long, leaves in the entry what is true, and passes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Final, TypeVar

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome, ProtocolIntentLedger

_LEAVING_SECONDS: Final = 2.0
"""How long a cancellation waits for a ledger. What it could not write is UNKNOWN when this process has ended."""
_CANCELLED: Final = LedgerOutcome(EnumLedgerState.UNKNOWN, None, "cancelled")

T = TypeVar("T")


async def begin_entry(ledger: ProtocolIntentLedger, key: str, intent: ModelIntent) -> LedgerEntry | None:
    """As the ledger's `begin`; cancelled, the key is given back, because the intent did not run."""

    async def give_back(beginning: "asyncio.Task[LedgerEntry | None]") -> None:
        if beginning.cancelled():
            await _doubt(ledger, key, intent)
        elif beginning.result() is None:
            await ledger.release(key)

    return await _whole(ledger.begin(key, intent), give_back)


async def take_entry_over(ledger: ProtocolIntentLedger, entry: LedgerEntry) -> bool:
    """As the ledger's `take_over`; cancelled, the entry is UNKNOWN as before."""

    async def give_back(taking: "asyncio.Task[bool]") -> None:
        if taking.cancelled():
            await _doubt(ledger, entry.key, entry.intent)
        elif taking.result():
            await ledger.finish(entry.key, entry.outcome)

    return await _whole(ledger.take_over(entry), give_back)


async def finish_entry(ledger: ProtocolIntentLedger, key: str, outcome: LedgerOutcome) -> None:
    """As the ledger's `finish`; cancelled, the outcome is written all the same."""

    async def again(finishing: "asyncio.Task[None]") -> None:
        if finishing.cancelled():
            await ledger.finish(key, outcome)

    await _whole(ledger.finish(key, outcome), again)


async def leave_entry(ledger: ProtocolIntentLedger, key: str) -> None:
    """On the way out of an intent that was interrupted: nobody knows how it ended."""

    async def done(_finishing: "asyncio.Task[None]") -> None: ...

    await _leave(asyncio.create_task(ledger.finish(key, _CANCELLED)), done)


async def _doubt(ledger: ProtocolIntentLedger, key: str, intent: ModelIntent) -> None:
    """The change itself was cancelled, as all tasks are at the end of a loop: nobody knows whether the key is ours."""
    entry = await ledger.entry(key)
    ours = entry is not None and entry.intent.intent_id == intent.intent_id
    if ours and entry is not None and entry.outcome.state is EnumLedgerState.RUNNING:
        await ledger.finish(key, _CANCELLED)


async def _whole(work: Coroutine[object, object, T], then: "Callable[[asyncio.Task[T]], Awaitable[None]]") -> T:
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _leave(task, then)
        raise


async def _leave(task: "asyncio.Task[T]", then: "Callable[[asyncio.Task[T]], Awaitable[None]]") -> None:
    """Wait for the task and for what is to be done then; another cancellation does not make it shorter."""

    async def both() -> None:
        await asyncio.wait({task})
        await then(task)

    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LEAVING_SECONDS
    leaving = asyncio.create_task(both())
    while not leaving.done() and loop.time() < deadline:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({leaving}, timeout=deadline - loop.time())
    for each in (task, leaving):
        each.cancel()
    await asyncio.gather(task, leaving, return_exceptions=True)
