"""State in memory: the container's default, gone with the process."""

import copy
from contextvars import ContextVar
from itertools import count
from typing import Final
from uuid import uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ConcurrentModificationError, EpochMismatchError, ModelOnexError, TransactionError
from omnibase_core.protocols.protocol_state import StoredState

_NOTHING: Final = StoredState(None, 0)
_EPOCH_KEY: Final = "\0epoch"
_current: ContextVar[str | None] = ContextVar("onex_memory_transaction", default=None)

_Key = tuple[str, str]


class MemoryStateManager:
    """`ProtocolStateManager` and `ProtocolTransactionManager` over dicts. No method suspends, so each is atomic.

    A transaction keeps the first value of everything it touches. A key that an open transaction touched cannot be
    updated from outside of it: ConcurrentModificationError.
    """

    def __init__(self) -> None:
        self._states: dict[_Key, StoredState] = {}
        self._backups: dict[str, list[tuple[str, JsonValue]]] = {}
        self._before: dict[str, dict[_Key, StoredState]] = {}
        self._numbers = count(1)

    async def get_state(self, owner: str, key: str) -> StoredState:
        stored = self._states.get((owner, key), _NOTHING)
        return StoredState(copy.deepcopy(stored.state), stored.version)

    async def update_state(
        self, owner: str, key: str, state: JsonValue, *, expected_version: int | None = None
    ) -> StoredState:
        place = (owner, key)
        stored = self._states.get(place, _NOTHING)
        if expected_version is not None and stored.version != expected_version:
            raise ConcurrentModificationError(
                f"state {owner}/{key}: expected version {expected_version}, found {stored.version}; read it again",
                context={"expected_version": expected_version, "found_version": stored.version},
            )
        return self._store(place, state, stored.version + 1)

    def _store(self, place: _Key, state: JsonValue, version: int) -> StoredState:
        mine = _current.get()
        for transaction, touched in self._before.items():
            if place in touched and transaction != mine:
                raise ConcurrentModificationError(f"state {place[0]}/{place[1]}: an open transaction has changed it")
        if mine in self._before:
            self._before[mine].setdefault(place, self._states.get(place, _NOTHING))
        self._states[place] = StoredState(copy.deepcopy(state), version)
        return StoredState(state, version)

    async def create_backup(self, location: str, data: JsonValue) -> str:
        backup_id = f"{next(self._numbers):08d}"
        self._backups.setdefault(location, []).append((backup_id, copy.deepcopy(data)))
        return backup_id

    async def restore_backup(self, location: str, backup_id: str | None = None) -> JsonValue:
        for known, data in reversed(self._backups.get(location, [])):
            if backup_id in {None, known}:
                return copy.deepcopy(data)
        known_ids = ", ".join(known for known, _ in self._backups.get(location, [])) or "none"
        raise ModelOnexError(
            f"backup {backup_id or 'newest'} of {location!r}: there is none; known: {known_ids}",
            EnumCoreErrorCode.NOT_FOUND,
        )

    async def get_current_epoch(self, owner: str) -> int:
        return self._states.get((owner, _EPOCH_KEY), _NOTHING).version

    async def atomic_update(self, owner: str, expected_epoch: int, new_state: JsonValue, new_epoch: int) -> int:
        found = await self.get_current_epoch(owner)
        if found != expected_epoch or new_epoch <= found:
            raise EpochMismatchError(
                f"state of {owner}: expected epoch {expected_epoch} and a greater one after it, "
                f"found {found} and {new_epoch}",
                context={"expected_epoch": expected_epoch, "found_epoch": found, "new_epoch": new_epoch},
            )
        self._store((owner, _EPOCH_KEY), new_state, new_epoch)
        return new_epoch

    async def begin_transaction(self) -> str:
        transaction_id = str(uuid4())
        self._before[transaction_id] = {}
        _current.set(transaction_id)
        return transaction_id

    async def commit_transaction(self, transaction_id: str) -> None:
        self._end(transaction_id)

    async def rollback_transaction(self, transaction_id: str) -> None:
        for place, stored in self._end(transaction_id).items():
            if stored.version:
                self._states[place] = stored
            else:
                self._states.pop(place, None)

    def _end(self, transaction_id: str) -> dict[_Key, StoredState]:
        before = self._before.pop(transaction_id, None)
        if before is None:
            raise TransactionError(
                f"transaction {transaction_id}: not open; open are {', '.join(self._before) or 'none'}",
                EnumCoreErrorCode.NOT_FOUND,
            )
        if _current.get() == transaction_id:
            _current.set(None)
        return before
