"""Who has carried out which idempotency key, and with what outcome."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.models.model_intent import ModelIntent


@dataclass(frozen=True, slots=True)
class LedgerOutcome:
    """How an intent ended: COMPLETED, FAILED, or UNKNOWN when it may have happened.

    settled: a person said so. Of a failure that means that it shall not be tried again.
    """

    state: EnumLedgerState
    result: JsonValue = None
    error: str | None = None
    attempts: int = 0
    settled: bool = False


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What stands in a ledger. `owner`: whose run it is, opaque. `changed_at`: by the writer's clock, in UTC."""

    key: str
    intent: ModelIntent
    owner: str
    changed_at: datetime
    outcome: LedgerOutcome


@runtime_checkable
class ProtocolIntentLedger(Protocol):
    """Keeps an entry per key, written before the intent runs, and its outcome after.

    An entry whose owner died without an outcome reads as UNKNOWN. Entries stay until somebody reopens them.
    """

    async def begin(self, key: str, intent: ModelIntent) -> LedgerEntry | None:
        """Write an entry that runs; None when the key is the caller's now, else the entry that stands."""
        ...

    async def take_over(self, entry: LedgerEntry) -> bool:
        """Run an UNKNOWN entry again; False when it is not as `entry` says any more."""
        ...

    async def finish(self, key: str, outcome: LedgerOutcome) -> None:
        """Write the outcome of what the caller began."""
        ...

    async def release(self, key: str) -> None:
        """Forget what the caller began and did not run, so that the key runs again; nothing where that is not so."""
        ...

    async def entry(self, key: str) -> LedgerEntry | None: ...

    async def entries(self, state: EnumLedgerState | None = None, limit: int = 1000) -> Sequence[LedgerEntry]:
        """Entries of a state, or all, oldest change first."""
        ...

    async def settle(self, key: str, outcome: LedgerOutcome) -> None:
        """A person's word about an UNKNOWN or FAILED entry, kept as `settled`. NOT_FOUND for no such key, CONFLICT for
        an entry that runs or is COMPLETED, or that another changed in between.
        """
        ...

    async def reopen(self, key: str, seen: LedgerEntry | None = None) -> None:
        """Forget an UNKNOWN or FAILED entry, so that the key runs again. Errors as of `settle`.

        seen: the entry that is meant; CONFLICT for a later one.
        """
        ...

    def transaction(self, connection_name: str) -> AbstractAsyncContextManager[object] | None:
        """A transaction that entries and writes on this connection share; None when the ledger is kept elsewhere."""
        ...
