"""Where state is kept, with versions, epochs and backups."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state and its version, which grows by one with every update; 0 means that nothing is stored."""

    state: JsonValue
    version: int


@runtime_checkable
class ProtocolStateManager(Protocol):
    """Keeps states by owner and key, and the epoch of each owner."""

    async def get_state(self, owner: str, key: str) -> StoredState:
        """The state, with version 0 and None when there is none."""
        ...

    async def update_state(
        self, owner: str, key: str, state: JsonValue, *, expected_version: int | None = None
    ) -> StoredState:
        """Store a state. With `expected_version` only over that version: else ConcurrentModificationError."""
        ...

    async def create_backup(self, location: str, data: JsonValue) -> str:
        """Keep `data` under `location`; returns an id for `restore_backup`. Earlier backups of the place stay."""
        ...

    async def restore_backup(self, location: str, backup_id: str | None = None) -> JsonValue:
        """The backup, by default the newest of the place; ModelOnexError NOT_FOUND when there is none."""
        ...

    async def get_current_epoch(self, owner: str) -> int:
        """The epoch of an owner, 0 before its first update."""
        ...

    async def atomic_update(self, owner: str, expected_epoch: int, new_state: JsonValue, new_epoch: int) -> int:
        """Store state and epoch in one step; EpochMismatchError unless the stored epoch is the expected one and
        grows.
        """
        ...


@runtime_checkable
class ProtocolTransactionManager(Protocol):
    """Transactions over a state manager: what is done between begin and commit is kept as a whole or not at all."""

    async def begin_transaction(self) -> str:
        """Begin; returns the transaction's id. Updates of the same task join it."""
        ...

    async def commit_transaction(self, transaction_id: str) -> None:
        """Keep what was done; TransactionError for an unknown or ended transaction."""
        ...

    async def rollback_transaction(self, transaction_id: str) -> None:
        """Undo what was done; TransactionError for an unknown or ended transaction."""
        ...
