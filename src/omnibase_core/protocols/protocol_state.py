"""Where state is kept, with versions, epochs and backups."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state and its version, which grows by one with every update; 0 means that nothing is stored."""

    state: JsonValue
    version: int


@dataclass(frozen=True, slots=True)
class StoredBackup:
    """A backup without its data. created_at: by the writer's clock, in UTC."""

    backup_id: str
    created_at: datetime


@runtime_checkable
class ProtocolStateManager(Protocol):
    """Keeps states by owner and key, and the epoch of each owner.

    Owners, keys and locations are texts of 1..200 characters; a state is JSON. Everything that is written in an open
    transaction of the same manager and task joins it. A write of which nobody knows whether it was stored is
    ModelOnexError OUTCOME_UNKNOWN: reading tells.
    """

    async def get_state(self, owner: str, key: str) -> StoredState:
        """The state, with version 0 and None when there is none."""
        ...

    async def update_state(
        self, owner: str, key: str, state: JsonValue, *, expected_version: int | None = None
    ) -> StoredState:
        """Store a state. With `expected_version` only over that version (0: only where nothing is stored), compared in
        the step that writes: else ConcurrentModificationError.
        """
        ...

    async def create_backup(self, location: str, data: JsonValue, *, keep: int | None = None) -> str:
        """Keep `data` under `location`; returns an id for `restore_backup`.

        keep: how many backups of the place stay, this one included; older ones are deleted. None: all.
        """
        ...

    async def list_backups(self, location: str) -> Sequence[StoredBackup]:
        """The backups of a place, newest first."""
        ...

    async def restore_backup(self, location: str, backup_id: str | None = None) -> JsonValue:
        """The backup, by default the newest of the place; ModelOnexError NOT_FOUND when there is none."""
        ...

    async def get_current_epoch(self, owner: str) -> int:
        """The epoch of an owner, 0 before its first update."""
        ...

    async def get_epoch_state(self, owner: str) -> StoredState:
        """What `atomic_update` stored, with the epoch as its version."""
        ...

    async def atomic_update(self, owner: str, expected_epoch: int, new_state: JsonValue, new_epoch: int) -> int:
        """Store state and epoch in one step; EpochMismatchError unless the stored epoch is the expected one and
        grows.
        """
        ...


@runtime_checkable
class ProtocolTransactionManager(Protocol):
    """Transactions over a state manager: what is done between begin and commit is kept as a whole or not at all.

    What the task that began it (and tasks that it starts) reads and writes on the manager joins it; one that is begun
    inside another is a part of that. One that is never ended is rolled back when the manager is closed.
    """

    def transaction(self) -> AbstractAsyncContextManager[str]:
        """Begin; commit after a normal end, roll back after an exception or a cancellation. Gives the id.

        Errors of the commit are those of `commit_transaction`.
        """
        ...

    async def begin_transaction(self) -> str:
        """Begin; returns the transaction's id. Not to be wrapped into a task of its own (`asyncio.wait_for` does so):
        nothing else would join it. Prefer `transaction`, which cannot be left open.
        """
        ...

    async def commit_transaction(self, transaction_id: str) -> None:
        """Keep what was done.

        Raises TransactionError: NOT_FOUND for an unknown or ended transaction, OUTCOME_UNKNOWN when the store's answer
        was lost, OPERATION_FAILED when nothing was kept, or for another task than that which began it; and
        ConcurrentModificationError when the store rolled back in favour of another transaction.
        """
        ...

    async def rollback_transaction(self, transaction_id: str) -> None:
        """Undo what was done, from whatever task; TransactionError NOT_FOUND for an unknown or ended transaction."""
        ...
