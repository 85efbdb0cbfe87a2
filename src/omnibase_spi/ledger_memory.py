"""A ledger of intents in memory: the container's default, gone with the process."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome

RUNNING: Final = LedgerOutcome(EnumLedgerState.RUNNING)


def refuse_state(key: str, entry: LedgerEntry | None, *allowed: EnumLedgerState) -> LedgerEntry:
    """The entry; or raise what `settle` and `reopen` raise."""
    if entry is None:
        raise ModelOnexError(f"ledger: there is no entry of key {key!r}", EnumCoreErrorCode.NOT_FOUND)
    if entry.outcome.state not in allowed:
        words = " or ".join(state.value for state in allowed)
        raise ModelOnexError(
            f"ledger: the entry of key {key!r} is {entry.outcome.state.value}, not {words}", EnumCoreErrorCode.CONFLICT
        )
    return entry


def only_once(standing: LedgerEntry, changed: int) -> None:
    """What was looked at may be somebody else's by now: to take it from him could do the effect twice."""
    if not changed:
        raise ModelOnexError(
            f"ledger: the entry of key {standing.key!r} was changed by another at this moment; look again",
            EnumCoreErrorCode.CONFLICT,
        )


class MemoryIntentLedger:
    """`ProtocolIntentLedger` over a dict. No method suspends, so each is atomic. Entries are kept for ever."""

    def __init__(self) -> None:
        self._entries: dict[str, LedgerEntry] = {}

    async def begin(self, key: str, intent: ModelIntent) -> LedgerEntry | None:
        standing = self._entries.get(key)
        if standing is None:
            self._entries[key] = LedgerEntry(key, intent, "memory", datetime.now(UTC), RUNNING)
        return standing

    async def take_over(self, entry: LedgerEntry) -> bool:
        unknown = entry.outcome.state is EnumLedgerState.UNKNOWN and self._entries.get(entry.key) == entry
        if unknown:
            self._change(entry.key, RUNNING)
        return unknown

    async def finish(self, key: str, outcome: LedgerOutcome) -> None:
        self._change(key, outcome)

    async def release(self, key: str) -> None:
        standing = self._entries.get(key)
        if standing is not None and standing.outcome.state is EnumLedgerState.RUNNING:
            del self._entries[key]

    async def entry(self, key: str) -> LedgerEntry | None:
        return self._entries.get(key)

    async def entries(self, state: EnumLedgerState | None = None, limit: int = 1000) -> Sequence[LedgerEntry]:
        fitting = [entry for entry in self._entries.values() if state in {None, entry.outcome.state}]
        return sorted(fitting, key=lambda entry: entry.changed_at)[:limit]

    async def settle(self, key: str, outcome: LedgerOutcome) -> None:
        refuse_state(key, self._entries.get(key), EnumLedgerState.UNKNOWN, EnumLedgerState.FAILED)
        self._change(key, replace(outcome, settled=True))

    async def reopen(self, key: str, seen: LedgerEntry | None = None) -> None:
        standing = self._entries.get(key)
        found = refuse_state(key, seen or standing, EnumLedgerState.UNKNOWN, EnumLedgerState.FAILED)
        only_once(found, found == standing)
        del self._entries[key]

    def transaction(self, connection_name: str) -> AbstractAsyncContextManager[object] | None:
        del connection_name
        return None

    def _change(self, key: str, outcome: LedgerOutcome) -> None:
        self._entries[key] = replace(self._entries[key], outcome=outcome, changed_at=datetime.now(UTC))
