"""State in a named database connection: SQLite or PostgreSQL.

It speaks through `DbAdapter`, so that its statements join the ambient transaction of their connection: that is how a
state and the intents that follow from it commit together.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ConcurrentModificationError, ModelOnexError, TransactionError
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction
from omnibase_core.protocols.protocol_state import StoredBackup, StoredState
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import Row, SqlTable
from omnibase_spi.db.transaction import Savepoint
from omnibase_spi.store_memory import (
    NOTHING,
    as_text,
    as_value,
    check_keep,
    check_names,
    epoch_mismatch,
    no_backup,
    not_here,
    not_open,
    stale,
)

_DATABASES: Final = ("sqlite", "postgresql")
_LOST_THE_RACE: Final = frozenset({"40001", "40P01"})
"""SQLSTATEs of a serialisation failure and of a deadlock: the database gave another transaction precedence."""
_ACTIVE: Final = EnumTransactionState.ACTIVE


@dataclass(frozen=True, slots=True)
class _Held:
    """A transaction between begin and commit, and the block that gives its connection back."""

    opened: ProtocolDbTransaction
    block: AbstractAsyncContextManager[ProtocolDbTransaction]
    loop: asyncio.AbstractEventLoop

    def is_inside(self, other: ProtocolDbTransaction) -> bool:
        level: object = self.opened
        while isinstance(level, Savepoint) and level is not other:
            level = level.outer
        return level is other


class SqlStateManager:
    """`ProtocolStateManager` and `ProtocolTransactionManager` in three tables: `<table>`, `<table>_epoch`,
    `<table>_backup`, which are made when they are first used.

    Who updates what an open transaction changed waits for its end. Faults of the database are EffectFault.
    Raises ModelOnexError CONFIGURATION_ERROR for a connection of another database, and like `DbAdapter` for an unknown
    one.
    """

    def __init__(self, adapter: DbAdapter, connection_name: str = "default", *, table: str = "onex_state") -> None:
        database = adapter.driver_name(connection_name)
        if database not in _DATABASES:
            raise ModelOnexError(
                f"state in connection {connection_name!r}: it is {database}; allowed: {', '.join(_DATABASES)}",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        self.adapter = adapter
        self.connection_name = connection_name
        self._states = SqlTable(
            adapter,
            connection_name,
            table,
            "owner TEXT NOT NULL, state_key TEXT NOT NULL, state TEXT NOT NULL, version BIGINT NOT NULL, "
            "PRIMARY KEY (owner, state_key)",
        )
        self._epochs = SqlTable(
            adapter,
            connection_name,
            f"{table}_epoch",
            "owner TEXT PRIMARY KEY, state TEXT NOT NULL, epoch BIGINT NOT NULL",
        )
        self._backups = SqlTable(
            adapter,
            connection_name,
            f"{table}_backup",
            "number {serial}, location TEXT NOT NULL, data TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, "
            "UNIQUE (location, number)",
        )
        self._held: dict[str, _Held] = {}
        self._upsert = (
            "INSERT INTO {t} AS mine (owner, state_key, state, version) VALUES ($1, $2, $3, 1) "
            "ON CONFLICT (owner, state_key) DO UPDATE SET state = excluded.state, version = mine.version + 1 "
            "RETURNING version"
        )

    async def prepare(self) -> None:
        """Make the tables; what writes states in a transaction of its own should have this done before."""
        for table in (self._states, self._epochs, self._backups):
            await table.prepare()

    async def get_state(self, owner: str, key: str) -> StoredState:
        check_names(owner=owner, key=key)
        rows = await self._states.run("SELECT state, version FROM {t} WHERE owner = $1 AND state_key = $2", owner, key)
        return _stored(rows)

    async def update_state(
        self, owner: str, key: str, state: JsonValue, *, expected_version: int | None = None
    ) -> StoredState:
        check_names(owner=owner, key=key)
        what = f"state {owner}/{key}"
        text = as_text(what, state)
        if expected_version is None:
            rows = await self._write(what, self._states, self._upsert, owner, key, text)
        elif expected_version == 0:
            rows = await self._write(
                what,
                self._states,
                "INSERT INTO {t} (owner, state_key, state, version) VALUES ($1, $2, $3, 1) "
                "ON CONFLICT (owner, state_key) DO NOTHING RETURNING version",
                owner,
                key,
                text,
            )
        else:
            rows = await self._write(
                what,
                self._states,
                "UPDATE {t} SET state = $3, version = version + 1 "
                "WHERE owner = $1 AND state_key = $2 AND version = $4 RETURNING version",
                owner,
                key,
                text,
                expected_version,
            )
        if not rows:
            raise stale(owner, key, expected_version or 0, (await self.get_state(owner, key)).version)
        return StoredState(as_value(text), _number(rows[0]["version"]))

    async def create_backup(self, location: str, data: JsonValue, *, keep: int | None = None) -> str:
        check_names(location=location)
        check_keep(location, keep)
        text = as_text(f"backup of {location}", data)
        if keep is None:
            return await self._add_backup(location, text)
        async with self.transaction():
            made = await self._add_backup(location, text)
            await self._write(
                f"backups of {location}",
                self._backups,
                "DELETE FROM {t} WHERE location = $1 AND number NOT IN "
                "(SELECT number FROM {t} WHERE location = $1 ORDER BY number DESC LIMIT $2)",
                location,
                keep,
            )
        return made

    async def _add_backup(self, location: str, text: str) -> str:
        rows = await self._write(
            f"backup of {location}",
            self._backups,
            "INSERT INTO {t} (location, data, created_at) VALUES ($1, $2, $3) RETURNING number",
            location,
            text,
            datetime.now(UTC).timestamp(),
        )
        return f"{_number(rows[0]['number']):08d}"

    async def list_backups(self, location: str) -> Sequence[StoredBackup]:
        check_names(location=location)
        rows = await self._backups.run(
            "SELECT number, created_at FROM {t} WHERE location = $1 ORDER BY number DESC", location
        )
        return [
            StoredBackup(f"{_number(row['number']):08d}", datetime.fromtimestamp(float(str(row["created_at"])), UTC))
            for row in rows
        ]

    async def restore_backup(self, location: str, backup_id: str | None = None) -> JsonValue:
        check_names(location=location)
        if backup_id is None:
            query = "SELECT data FROM {t} WHERE location = $1 ORDER BY number DESC LIMIT 1"
            rows = await self._backups.run(query, location)
        elif backup_id.isdecimal() and len(backup_id) < 19:
            query = "SELECT data FROM {t} WHERE location = $1 AND number = $2"
            rows = await self._backups.run(query, location, int(backup_id))
        else:
            rows = []
        if not rows:
            raise no_backup(location, backup_id, await self.list_backups(location))
        return as_value(str(rows[0]["data"]))

    async def get_current_epoch(self, owner: str) -> int:
        return (await self.get_epoch_state(owner)).version

    async def get_epoch_state(self, owner: str) -> StoredState:
        check_names(owner=owner)
        return _stored(await self._epochs.run("SELECT state, epoch AS version FROM {t} WHERE owner = $1", owner))

    async def atomic_update(self, owner: str, expected_epoch: int, new_state: JsonValue, new_epoch: int) -> int:
        check_names(owner=owner)
        what = f"state of {owner}"
        text = as_text(what, new_state)
        rows: list[Row] = []
        if new_epoch > expected_epoch == 0:
            rows = await self._write(
                what,
                self._epochs,
                "INSERT INTO {t} (owner, state, epoch) VALUES ($1, $2, $3) ON CONFLICT (owner) DO NOTHING "
                "RETURNING epoch",
                owner,
                text,
                new_epoch,
            )
        elif new_epoch > expected_epoch:
            rows = await self._write(
                what,
                self._epochs,
                "UPDATE {t} SET state = $2, epoch = $3 WHERE owner = $1 AND epoch = $4 RETURNING epoch",
                owner,
                text,
                new_epoch,
                expected_epoch,
            )
        if not rows:
            raise epoch_mismatch(owner, expected_epoch, await self.get_current_epoch(owner), new_epoch)
        return new_epoch

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[str]:
        await self.prepare()
        transaction_id = str(uuid4())
        async with self.adapter.transaction(self.connection_name) as opened:
            yield transaction_id
            await _commit(transaction_id, opened)

    async def begin_transaction(self) -> str:
        for transaction_id in [known for known, held in self._held.items() if held.opened.state is not _ACTIVE]:
            await self._leave(transaction_id)  # its event loop, or what it was inside of, has ended
        transaction_id = str(uuid4())
        block = self.adapter.transaction(self.connection_name)
        try:
            await self.prepare()
            opened = await block.__aenter__()
        except EffectFault as fault:
            message = f"transaction on {self.connection_name!r} could not be begun: {fault.message}"
            raise TransactionError(message, fault.error_code) from None
        self._held[transaction_id] = _Held(opened, block, asyncio.get_running_loop())
        self.adapter.holders.add(self)
        return transaction_id

    async def commit_transaction(self, transaction_id: str) -> None:
        opened = self._known(transaction_id).opened
        if opened.state is _ACTIVE and self.adapter.ambient(self.connection_name) is not opened:
            raise not_here(transaction_id)
        try:
            await _commit(transaction_id, opened)
        finally:
            await self._leave(transaction_id)

    async def rollback_transaction(self, transaction_id: str) -> None:
        """With everything that is open inside it."""
        undone = self._known(transaction_id)
        inside = [known for known, held in self._held.items() if held.is_inside(undone.opened)]
        try:
            if undone.opened.state is _ACTIVE:
                await undone.opened.rollback()
        except EffectFault as fault:
            raise TransactionError(
                f"transaction {transaction_id}: ROLLBACK could not be carried out, so its connection was closed, with "
                f"which the database rolls back: {fault.message}"
            ) from None
        finally:
            for known in reversed(inside):
                await self._leave(known)

    async def aclose(self) -> None:
        """Roll back what is open. The adapter stays open, and closes its stores before itself."""
        loop = asyncio.get_running_loop()
        for transaction_id, held in list(self._held.items()):
            if transaction_id in self._held and held.loop is loop:
                with contextlib.suppress(TransactionError):  # its connection was lost: nothing is left to undo
                    await self.rollback_transaction(transaction_id)
        self._held.clear()

    def _known(self, transaction_id: str) -> _Held:
        found = self._held.get(transaction_id)
        if found is None:
            raise not_open(transaction_id, self._held)
        return found

    async def _leave(self, transaction_id: str) -> None:
        """Give the connection of an ended transaction back; one that could not be ended in order is closed."""
        held = self._held.pop(transaction_id)
        await held.block.__aexit__(None, None, None)

    async def _write(self, what: str, table: SqlTable, query: str, *params: JsonValue) -> list[Row]:
        alone = self.adapter.ambient(self.connection_name) is None
        try:
            return await table.run(query, *params)
        except EffectFault as fault:
            if fault.sqlstate in _LOST_THE_RACE:
                raise _lost(what, fault) from None
            if alone and fault.phase is EnumFaultPhase.AMBIGUOUS:
                raise ModelOnexError(
                    f"{what}: nobody knows whether it was stored; read it to find out. {fault.message}",
                    EnumCoreErrorCode.OUTCOME_UNKNOWN,
                    {"connection": self.connection_name},
                ) from None
            raise


async def _commit(transaction_id: str, opened: ProtocolDbTransaction) -> None:
    try:
        await opened.commit()
    except EffectFault as fault:
        what = f"transaction {transaction_id}"
        if fault.sqlstate in _LOST_THE_RACE:
            raise _lost(what, fault) from None
        if opened.state is EnumTransactionState.UNKNOWN:
            raise TransactionError(
                f"{what}: COMMIT was sent and its answer was lost: nobody knows whether it was kept; read a state "
                f"to find out. {fault.message}",
                EnumCoreErrorCode.OUTCOME_UNKNOWN,
            ) from None
        raise TransactionError(f"{what}: nothing was kept. {fault.message}") from None


def _lost(what: str, fault: EffectFault) -> ConcurrentModificationError:
    return ConcurrentModificationError(
        f"{what}: another transaction changed the same at the same time; read it again. {fault.message}",
        context={"sqlstate": fault.sqlstate},
    )


def _stored(rows: list[Row]) -> StoredState:
    return StoredState(as_value(str(rows[0]["state"])), _number(rows[0]["version"])) if rows else NOTHING


def _number(value: JsonValue) -> int:
    return int(str(value))
