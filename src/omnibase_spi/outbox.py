"""The outbox: new state and the intents that follow from it are stored together; a relay carries the intents out.

A program that dies between the two leaves the intents to the next relay. Delivery is at least once, and the ledger
makes it once: an intent without a key gets one that is made of its id and of whose it is.

A row waits until its intent is carried out; then it is deleted. It is given up when it fails for good, and dropped when
a person does not want it any more; both stay, so that a person can let them run after all.
"""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import uuid4, uuid5

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus, EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome, ProtocolIntentLedger
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import Row, SqlTable

MAX_TRIES: Final = 20
"""Tries after which an intent that fails is left to a person; waits double up to `_MAX_WAIT_SECONDS`."""
_MAX_WAIT_SECONDS: Final = 300.0
_MOST_DOUBLINGS: Final = 9
_OF_OTHERS: Final = frozenset({EnumCoreErrorCode.OUTCOME_UNKNOWN, EnumCoreErrorCode.CONFLICT})
"""Where nothing was tried: somebody must settle it, or is at it. The row waits for that, and it is no try."""


class GivenUp(NamedTuple):
    """An intent that failed for good, with its last error, and when that was, in UTC."""

    intent: ModelIntent
    error: str
    since: datetime


class SqlOutbox:
    """Intents that wait in the table `onex_intent_outbox` of a named connection (SQLite, PostgreSQL, MySQL)."""

    def __init__(
        self, adapter: DbAdapter, connection_name: str = "default", *, table: str = "onex_intent_outbox"
    ) -> None:
        self._table = SqlTable(
            adapter,
            connection_name,
            table,
            # place: of the queue, by priority and by when it is due. rounds: of relays that had it, tries: those in
            # which it failed. words: of persons; a relay that had the row before the last one leaves it alone
            "row_id VARCHAR(32) PRIMARY KEY, place VARCHAR(80) NOT NULL UNIQUE, idem_key VARCHAR(500) NOT NULL, "
            "intent TEXT NOT NULL, state VARCHAR(20) NOT NULL, tries INTEGER NOT NULL, rounds INTEGER NOT NULL, "
            "words INTEGER NOT NULL, not_before DOUBLE PRECISION NOT NULL, changed_at DOUBLE PRECISION NOT NULL, "
            "error TEXT",
        )
        self._numbers = itertools.count()

    async def prepare(self) -> None:
        """Make the table; what opens the transaction for `add` by itself should have this done before."""
        await self._table.prepare()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[ProtocolDbTransaction]:
        """A transaction for the state update and `add`; statements on the same adapter and connection join it."""
        await self._table.prepare()
        async with self._table.adapter.transaction(self._table.connection_name) as opened:
            yield opened

    async def add(self, intents: Sequence[ModelIntent], *, of: str = "") -> None:
        """Store intents, in the ambient transaction where there is one.

        of: whose they are, such as the key of a state. It goes into the keys that are made here: an action that
        several states take gives each of them intents of the same ids, and all are to be carried out.
        """
        for intent in intents:
            keyed = intent if intent.idempotency_key is not None else _with_key(intent, of)
            await self._table.changed(
                "INSERT INTO {t} (row_id, place, idem_key, intent, state, tries, rounds, words, not_before, "
                "changed_at, error) VALUES ($1, $2, $3, $4, 'waiting', 0, 0, 0, 0, $5, NULL)",
                uuid4().hex,
                self._place(keyed),
                keyed.idempotency_key,
                keyed.model_dump_json(),
                time.time(),
            )

    def _place(self, intent: ModelIntent, wait_s: float = 0.0) -> str:
        due = time.time_ns() + int(wait_s * 1e9)
        return f"{intent.priority.rank}-{due:020d}-{next(self._numbers):010d}-{uuid4().hex}"

    async def waiting(self) -> int:
        """How many intents are not carried out yet, those left to a person not counted."""
        return len(await self._table.run("SELECT row_id FROM {t} WHERE state = 'waiting'"))

    async def given_up(self, limit: int = 1000) -> list[GivenUp]:
        """Intents that failed for good, up to `limit`, oldest first; `settle` says what becomes of them."""
        rows = await self._table.run(
            "SELECT intent, error, changed_at FROM {t} WHERE state = 'given_up' "  # noqa: S608  # a number
            f"ORDER BY changed_at, place LIMIT {int(limit)}"
        )
        return [
            GivenUp(_intent(row), str(row["error"]), datetime.fromtimestamp(float(str(row["changed_at"])), UTC))
            for row in rows
        ]

    async def settle(self, ledger: ProtocolIntentLedger, key: str, outcome: LedgerOutcome | None) -> bool:
        """A person's word about a key, to its entry in the ledger and to its rows here: how it ended, or None to let
        the next relay run it again. Whether there were rows.

        Errors as of the ledger's `settle` and `reopen`, but an intent that never came as far as the ledger, for example
        for want of a route, is settled as well.
        """
        rows = await self._table.run("SELECT intent FROM {t} WHERE idem_key = $1", key)
        standing = await ledger.entry(key)
        if outcome is None:
            if standing is not None or not rows:
                await ledger.reopen(key)
        elif standing is None and rows and await ledger.begin(key, _intent(rows[0])) is None:
            await ledger.finish(key, replace(outcome, settled=True))
        elif not (rows and outcome.state is EnumLedgerState.COMPLETED and _is_completed(standing)):
            await ledger.settle(key, outcome)
        if outcome is not None and outcome.state is EnumLedgerState.COMPLETED:
            await self._table.changed("DELETE FROM {t} WHERE idem_key = $1", key)
        else:
            await self._table.changed(
                "UPDATE {t} SET state = $1, tries = 0, rounds = 0, words = words + 1, not_before = 0, changed_at = $2 "
                "WHERE idem_key = $3",
                "waiting" if outcome is None else "dropped",
                time.time(),
                key,
            )
        return bool(rows)

    async def relay(
        self, executor: IntentExecutor, ledger: ProtocolIntentLedger, *, limit: int = 100
    ) -> list[IntentExecutionResult]:
        """Carry out what is due, up to `limit`, the most urgent first, and of these what is due for longest; one round,
        nothing goes on afterwards.

        ledger: the executor's. What failed comes again after a wait that doubles; its key is opened for that, unless a
        person has settled it.
        """
        rows = await self._table.run(
            "SELECT row_id, intent, tries, rounds, words FROM {t} "  # noqa: S608  # a number
            f"WHERE state = 'waiting' AND not_before <= $1 ORDER BY place LIMIT {int(limit)}",
            time.time(),
        )
        batch = sorted(((row, _intent(row)) for row in rows), key=lambda each: each[1].priority.rank)
        for row, intent in batch:
            standing = await ledger.entry(intent.idempotency_key or "") if row["rounds"] else None
            if standing is not None and _is_failed_try(standing.outcome):
                await _reopen(ledger, standing)
        results = await executor.execute_intents([intent for _, intent in batch])
        for (row, intent), result in zip(batch, results, strict=True):  # both by priority
            await self._note(ledger, row, intent, result)
        return results

    async def _note(
        self, ledger: ProtocolIntentLedger, row: Row, intent: ModelIntent, result: IntentExecutionResult
    ) -> None:
        repeated = result.status is EnumIntentStatus.DUPLICATE
        if result.status is EnumIntentStatus.COMPLETED or (repeated and result.error is None):
            await self._table.changed("DELETE FROM {t} WHERE row_id = $1", row["row_id"])
            return
        standing = await ledger.entry(intent.idempotency_key or "") if repeated else None
        tries, rounds = int(str(row["tries"])), int(str(row["rounds"])) + 1
        tries += result.attempts > 0 or result.error_code not in _OF_OTHERS
        if standing is not None and standing.outcome.settled:
            state = "dropped"
        elif result.error_code is EnumCoreErrorCode.VALIDATION_ERROR or tries >= MAX_TRIES:
            state = "given_up"
        else:
            state = "waiting"
        wait_s = min(_MAX_WAIT_SECONDS, 2.0 ** min(rounds - 1, _MOST_DOUBLINGS))
        now = time.time()
        await self._table.changed(
            "UPDATE {t} SET place = $1, state = $2, tries = $3, rounds = $4, not_before = $5, changed_at = $6, "
            "error = $7 WHERE row_id = $8 AND words = $9",
            self._place(intent, wait_s),
            state,
            tries,
            rounds,
            now + wait_s,
            now,
            result.error,
            row["row_id"],
            row["words"],
        )


def _intent(row: Row) -> ModelIntent:
    return ModelIntent.model_validate_json(str(row["intent"]))


def _with_key(intent: ModelIntent, of: str) -> ModelIntent:
    name = uuid5(intent.intent_id, of) if of else intent.intent_id
    return intent.model_copy(update={"idempotency_key": f"outbox:{name}"})


def _is_failed_try(outcome: LedgerOutcome) -> bool:
    return outcome.state is EnumLedgerState.FAILED and not outcome.settled


def _is_completed(entry: LedgerEntry | None) -> bool:
    return entry is not None and entry.outcome.state is EnumLedgerState.COMPLETED


async def _reopen(ledger: ProtocolIntentLedger, seen: LedgerEntry) -> None:
    try:
        await ledger.reopen(seen.key, seen)
    except ModelOnexError as error:  # another relay was faster and is at it, or a person was
        if error.error_code not in {EnumCoreErrorCode.NOT_FOUND, EnumCoreErrorCode.CONFLICT}:
            raise
