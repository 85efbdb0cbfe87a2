"""A ledger of intents in a named database connection, of which SQLite and PostgreSQL are held to the contract.

It speaks through `DbAdapter`, so that its statements join the ambient transaction of their connection: that is how an
entry and a write commit together.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import Row, SqlTable
from omnibase_spi.ledger_memory import RUNNING, only_once, refuse_state
from omnibase_spi.ledger_owner import is_alive, this_owner

_COLUMNS: Final = "idem_key, intent, owner, state, outcome, changed_at"


class SqlIntentLedger:
    """`ProtocolIntentLedger` in the table `onex_intent_ledger` of a named connection."""

    def __init__(
        self, adapter: DbAdapter, connection_name: str = "default", *, table: str = "onex_intent_ledger"
    ) -> None:
        self._table = SqlTable(
            adapter,
            connection_name,
            table,
            "idem_key VARCHAR(500) PRIMARY KEY, intent TEXT NOT NULL, owner VARCHAR(300) NOT NULL, "
            "state VARCHAR(20) NOT NULL, outcome TEXT NOT NULL, changed_at DOUBLE PRECISION NOT NULL",
        )
        self._connection_name = connection_name
        self._owner = this_owner()

    async def begin(self, key: str, intent: ModelIntent) -> LedgerEntry | None:
        mine = await self._table.changed(
            self._table.insert_once(_COLUMNS, "idem_key"),
            key,
            intent.model_dump_json(),
            self._owner,
            EnumLedgerState.RUNNING.value,
            _outcome_text(RUNNING),
            _now(),
        )
        if mine:
            return None
        standing = await self.entry(key)
        if standing is None:  # reopened at this moment
            return await self.begin(key, intent)
        return standing

    async def take_over(self, entry: LedgerEntry) -> bool:
        return bool(
            await self._table.changed(
                "UPDATE {t} SET owner = $1, state = $2, outcome = $3, changed_at = $4 "
                "WHERE idem_key = $5 AND owner = $6 AND changed_at = $7 AND state IN ('running', 'unknown')",
                self._owner,
                EnumLedgerState.RUNNING.value,
                _outcome_text(RUNNING),
                _now(),
                *_version(entry),
            )
            if entry.outcome.state is EnumLedgerState.UNKNOWN
            else 0
        )

    async def finish(self, key: str, outcome: LedgerOutcome) -> None:
        await self._table.changed(
            "UPDATE {t} SET state = $1, outcome = $2, changed_at = $3 WHERE idem_key = $4 AND owner = $5",
            outcome.state.value,
            _outcome_text(outcome),
            _now(),
            key,
            self._owner,
        )

    async def release(self, key: str) -> None:
        await self._table.changed(
            "DELETE FROM {t} WHERE idem_key = $1 AND owner = $2 AND state = $3",
            key,
            self._owner,
            EnumLedgerState.RUNNING.value,
        )

    async def entry(self, key: str) -> LedgerEntry | None:
        rows = await self._table.run(f"SELECT {_COLUMNS} FROM {{t}} WHERE idem_key = $1", key)  # noqa: S608  # constants
        return _entry(rows[0]) if rows else None

    async def entries(self, state: EnumLedgerState | None = None, limit: int = 1000) -> Sequence[LedgerEntry]:
        asked = {EnumLedgerState.UNKNOWN: ("unknown", "running")}.get(state, (str(state), str(state))) if state else ()
        condition = "WHERE state IN ($1, $2)" if asked else ""
        query = f"SELECT {_COLUMNS} FROM {{t}} {condition} ORDER BY changed_at, idem_key"  # noqa: S608  # constants
        rows = await self._table.run(query, *asked)
        found = [_entry(row) for row in rows]
        return [entry for entry in found if state in {None, entry.outcome.state}][:limit]

    async def settle(self, key: str, outcome: LedgerOutcome) -> None:
        standing = refuse_state(key, await self.entry(key), EnumLedgerState.UNKNOWN, EnumLedgerState.FAILED)
        only_once(
            standing,
            await self._table.changed(
                "UPDATE {t} SET state = $1, outcome = $2, changed_at = $3 "
                "WHERE idem_key = $4 AND owner = $5 AND changed_at = $6",
                outcome.state.value,
                _outcome_text(replace(outcome, settled=True)),
                _now(),
                *_version(standing),
            ),
        )

    async def reopen(self, key: str, seen: LedgerEntry | None = None) -> None:
        found = seen or await self.entry(key)
        standing = refuse_state(key, found, EnumLedgerState.UNKNOWN, EnumLedgerState.FAILED)
        only_once(
            standing,
            await self._table.changed(
                "DELETE FROM {t} WHERE idem_key = $1 AND owner = $2 AND changed_at = $3", *_version(standing)
            ),
        )

    def transaction(self, connection_name: str) -> AbstractAsyncContextManager[object] | None:
        return self._transaction() if connection_name == self._connection_name else None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[object]:
        await self._table.prepare()
        async with self._table.adapter.transaction(self._connection_name) as opened:
            yield opened


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _version(entry: LedgerEntry) -> tuple[str, str, float]:
    """What tells an entry from a later one of its key."""
    return entry.key, entry.owner, entry.changed_at.timestamp()


def _outcome_text(outcome: LedgerOutcome) -> str:
    return json.dumps(
        {
            "result": outcome.result,
            "error": outcome.error,
            "attempts": outcome.attempts,
            "settled": outcome.settled,
        }
    )


def _entry(row: Row) -> LedgerEntry:
    outcome = json.loads(str(row["outcome"]))
    state = EnumLedgerState(str(row["state"]))
    owner, changed_at = str(row["owner"]), float(str(row["changed_at"]))
    if state is EnumLedgerState.RUNNING and not is_alive(owner, changed_at):
        state = EnumLedgerState.UNKNOWN
    return LedgerEntry(
        str(row["idem_key"]),
        ModelIntent.model_validate_json(str(row["intent"])),
        owner,
        datetime.fromtimestamp(changed_at, UTC),
        LedgerOutcome(state, outcome["result"], outcome["error"], outcome["attempts"], outcome["settled"]),
    )
