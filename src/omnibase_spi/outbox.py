"""The outbox: new state and the intents that follow from it are stored together; a relay carries the intents out.

A program that dies between the two leaves the intents to the next relay. Delivery is at least once, and the ledger
makes it once: an intent without a key gets one that is made of its id and of whose it is.
"""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid4, uuid5

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus, EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction
from omnibase_core.protocols.protocol_intent_ledger import ProtocolIntentLedger
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import Row, SqlTable

MAX_TRIES: Final = 20
"""Rounds after which an intent that fails is left to a person; waits double up to `_MAX_WAIT_SECONDS`."""
_MAX_WAIT_SECONDS: Final = 300.0
_NOT_COUNTED: Final = frozenset({EnumCoreErrorCode.OUTCOME_UNKNOWN, EnumCoreErrorCode.CONFLICT})
"""Somebody must settle it, or is at it: the row waits for that."""


class SqlOutbox:
    """Intents that wait in the table `onex_intent_outbox` of a named connection (SQLite, PostgreSQL, MySQL)."""

    def __init__(
        self, adapter: DbAdapter, connection_name: str = "default", *, table: str = "onex_intent_outbox"
    ) -> None:
        self._table = SqlTable(
            adapter,
            connection_name,
            table,
            "position VARCHAR(80) PRIMARY KEY, intent TEXT NOT NULL, state VARCHAR(20) NOT NULL, "
            "tries INTEGER NOT NULL, not_before DOUBLE PRECISION NOT NULL, error TEXT",
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
            position = f"{time.time_ns():020d}-{next(self._numbers):010d}-{uuid4().hex}"
            keyed = intent if intent.idempotency_key is not None else _with_key(intent, of)
            await self._table.changed(
                "INSERT INTO {t} (position, intent, state, tries, not_before, error) "
                "VALUES ($1, $2, 'waiting', 0, 0, NULL)",
                position,
                keyed.model_dump_json(),
            )

    async def waiting(self) -> int:
        """How many intents are not carried out yet, those left to a person not counted."""
        return len(await self._table.run("SELECT position FROM {t} WHERE state = 'waiting'"))

    async def given_up(self) -> list[tuple[ModelIntent, str]]:
        """Intents that failed for good, with the last error."""
        rows = await self._table.run("SELECT intent, error FROM {t} WHERE state = 'given_up' ORDER BY position")
        return [(ModelIntent.model_validate_json(str(row["intent"])), str(row["error"])) for row in rows]

    async def relay(
        self, executor: IntentExecutor, ledger: ProtocolIntentLedger, *, limit: int = 100
    ) -> list[IntentExecutionResult]:
        """Carry out what is due, oldest first, up to `limit`; one round, nothing goes on afterwards.

        ledger: the executor's. What failed comes again after a wait that doubles; its key is opened for that.
        """
        rows = await self._table.run(
            "SELECT position, intent, tries FROM {t} WHERE state = 'waiting' AND not_before <= $1 "  # noqa: S608  # a number
            f"ORDER BY position LIMIT {int(limit)}",
            time.time(),
        )
        intents = []
        waiting: dict[UUID, list[Row]] = {}
        for row in rows:
            intent = ModelIntent.model_validate_json(str(row["intent"]))
            intents.append(intent)
            waiting.setdefault(intent.intent_id, []).append(row)
            standing = await ledger.entry(intent.idempotency_key or "") if row["tries"] else None
            if standing is not None and standing.outcome.state is EnumLedgerState.FAILED:
                await _reopen(ledger, standing.key)
        results = await executor.execute_intents(intents)
        for result in results:
            await self._settle(waiting[result.intent_id].pop(0), result)
        return results

    async def _settle(self, row: Row, result: IntentExecutionResult) -> None:
        done = result.status is EnumIntentStatus.COMPLETED or (
            result.status is EnumIntentStatus.DUPLICATE and result.error is None
        )
        if done:
            await self._table.changed("DELETE FROM {t} WHERE position = $1", row["position"])
            return
        tries = int(str(row["tries"])) + (result.error_code not in _NOT_COUNTED)
        hopeless = result.error_code is EnumCoreErrorCode.VALIDATION_ERROR or tries >= MAX_TRIES
        wait_s = min(_MAX_WAIT_SECONDS, 2.0 ** max(tries - 1, 0))
        await self._table.changed(
            "UPDATE {t} SET state = $1, tries = $2, not_before = $3, error = $4 WHERE position = $5",
            "given_up" if hopeless else "waiting",
            tries,
            time.time() + wait_s,
            result.error,
            row["position"],
        )


def _with_key(intent: ModelIntent, of: str) -> ModelIntent:
    name = uuid5(intent.intent_id, of) if of else intent.intent_id
    return intent.model_copy(update={"idempotency_key": f"outbox:{name}"})


async def _reopen(ledger: ProtocolIntentLedger, key: str) -> None:
    try:
        await ledger.reopen(key)
    except ModelOnexError as error:  # another relay was faster, and is at it
        if error.error_code not in {EnumCoreErrorCode.NOT_FOUND, EnumCoreErrorCode.CONFLICT}:
            raise
