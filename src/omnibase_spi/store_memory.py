"""State in memory: the container's default, gone with the process."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Final, NamedTuple, cast
from uuid import uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ConcurrentModificationError, EpochMismatchError, ModelOnexError, TransactionError
from omnibase_core.protocols.protocol_state import StoredBackup, StoredState

MAX_NAME: Final = 200
NOTHING: Final = StoredState(None, 0)

_Place = tuple[str, str, str]
"""Kind, owner or location, key."""


class _Row(NamedTuple):
    """A version of a state, or a backup and its number, as JSON text: what is handed out is never what is kept."""

    number: int
    text: str
    created_at: datetime | None = None


_Rows = tuple[_Row, ...]


@dataclass(eq=False, slots=True)
class _Open:
    """An open transaction: the first value of everything it touches."""

    transaction_id: str
    outer: "_Open | None"
    before: dict[_Place, _Rows] = field(default_factory=dict)
    ended: bool = False

    def is_inside(self, other: "_Open") -> bool:
        level: _Open | None = self
        while level is not None and level is not other:
            level = level.outer
        return level is other


_current: ContextVar[Mapping[object, _Open] | None] = ContextVar("onex_memory_transactions", default=None)


def check_names(**names: str) -> None:
    """Raise VALIDATION_ERROR for what no store could keep as an owner, a key or a location."""
    for kind, name in names.items():
        if not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
            raise ModelOnexError(
                f"{kind} {name!r:.220}: 1..{MAX_NAME} printable characters, please", EnumCoreErrorCode.VALIDATION_ERROR
            )


def as_text(what: str, value: JsonValue) -> str:
    """A value as JSON text; VALIDATION_ERROR for what is none."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ModelOnexError(
            f"{what}: not JSON (text, numbers but NaN and infinity, true, false, null, lists, maps with text keys)",
            EnumCoreErrorCode.VALIDATION_ERROR,
        ) from None


def as_value(text: str) -> JsonValue:
    return cast("JsonValue", json.loads(text))  # written by `as_text`


def check_keep(location: str, keep: int | None) -> None:
    """Raise VALIDATION_ERROR for a retention that would delete the backup that is made."""
    if keep is not None and keep < 1:
        raise ModelOnexError(
            f"backup of {location!r}: keep is {keep}, but must be at least 1, or None",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )


def stale(owner: str, key: str, expected: int, found: int) -> ConcurrentModificationError:
    return ConcurrentModificationError(
        f"state {owner}/{key}: expected version {expected}, found {found}; read it again",
        context={"expected_version": expected, "found_version": found},
    )


def epoch_mismatch(owner: str, expected: int, found: int, new: int) -> EpochMismatchError:
    return EpochMismatchError(
        f"state of {owner}: expected epoch {expected} and a greater one after it, found {found} and {new}",
        context={"expected_epoch": expected, "found_epoch": found, "new_epoch": new},
    )


def no_backup(location: str, backup_id: str | None, known: Iterable[StoredBackup]) -> ModelOnexError:
    ids = ", ".join(backup.backup_id for backup in list(known)[:20]) or "none"
    return ModelOnexError(
        f"backup {backup_id or 'newest'} of {location!r}: there is none; known, newest first: {ids}",
        EnumCoreErrorCode.NOT_FOUND,
    )


def not_open(transaction_id: str, known: Iterable[str]) -> TransactionError:
    return TransactionError(
        f"transaction {transaction_id}: not open; open are {', '.join(known) or 'none'}", EnumCoreErrorCode.NOT_FOUND
    )


def not_here(transaction_id: str) -> TransactionError:
    return TransactionError(
        f"transaction {transaction_id}: it is not what this task works in, because it was begun in another task or "
        "another one inside it is open; end it where it was begun, innermost first, or use `async with "
        "manager.transaction()`",
        EnumCoreErrorCode.OPERATION_FAILED,
    )


class MemoryStateManager:
    """`ProtocolStateManager` and `ProtocolTransactionManager` over a dict. No method suspends, so each is atomic.

    What an open transaction changed is seen by nobody else, and cannot be changed from outside of it:
    ConcurrentModificationError, at once.
    """

    def __init__(self) -> None:
        self._kept: dict[_Place, _Rows] = {}
        self._open: dict[str, _Open] = {}
        self._numbers = count(1)
        self._token = object()
        """Stands for this manager in contexts, which may outlive it."""

    async def get_state(self, owner: str, key: str) -> StoredState:
        check_names(owner=owner, key=key)
        return _state(self._seen(("state", owner, key)))

    async def update_state(
        self, owner: str, key: str, state: JsonValue, *, expected_version: int | None = None
    ) -> StoredState:
        check_names(owner=owner, key=key)
        text = as_text(f"state {owner}/{key}", state)
        place = ("state", owner, key)
        found = _state(self._changeable(place)).version
        if expected_version is not None and found != expected_version:
            raise stale(owner, key, expected_version, found)
        self._change(place, (_Row(found + 1, text),))
        return StoredState(as_value(text), found + 1)

    async def create_backup(self, location: str, data: JsonValue, *, keep: int | None = None) -> str:
        check_names(location=location)
        check_keep(location, keep)
        text = as_text(f"backup of {location}", data)
        place = ("backup", location, "")
        made = _Row(next(self._numbers), text, datetime.now(UTC))
        self._change(place, (made, *self._changeable(place))[:keep])
        return _backup_id(made)

    async def list_backups(self, location: str) -> Sequence[StoredBackup]:
        check_names(location=location)
        rows = self._seen(("backup", location, ""))
        return [StoredBackup(_backup_id(row), row.created_at) for row in rows if row.created_at is not None]

    async def restore_backup(self, location: str, backup_id: str | None = None) -> JsonValue:
        for row in self._seen(("backup", location, "")):
            if backup_id in {None, _backup_id(row)}:
                return as_value(row.text)
        raise no_backup(location, backup_id, await self.list_backups(location))

    async def get_current_epoch(self, owner: str) -> int:
        return (await self.get_epoch_state(owner)).version

    async def get_epoch_state(self, owner: str) -> StoredState:
        check_names(owner=owner)
        return _state(self._seen(("epoch", owner, "")))

    async def atomic_update(self, owner: str, expected_epoch: int, new_state: JsonValue, new_epoch: int) -> int:
        check_names(owner=owner)
        text = as_text(f"state of {owner}", new_state)
        place = ("epoch", owner, "")
        found = _state(self._changeable(place)).version
        if found != expected_epoch or new_epoch <= found:
            raise epoch_mismatch(owner, expected_epoch, found, new_epoch)
        self._change(place, (_Row(new_epoch, text),))
        return new_epoch

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[str]:
        transaction_id = await self.begin_transaction()
        try:
            yield transaction_id
        except BaseException:
            if transaction_id in self._open:
                await self.rollback_transaction(transaction_id)
            raise
        await self.commit_transaction(transaction_id)

    async def begin_transaction(self) -> str:
        made = _Open(str(uuid4()), self._joined())
        self._open[made.transaction_id] = made
        self._stand_in(made)
        return made.transaction_id

    async def commit_transaction(self, transaction_id: str) -> None:
        ended = self._known(transaction_id)
        if self._joined() is not ended:
            raise not_here(transaction_id)
        self._end(ended)
        if ended.outer is not None:
            for place, rows in ended.before.items():
                ended.outer.before.setdefault(place, rows)

    async def rollback_transaction(self, transaction_id: str) -> None:
        """With everything that is open inside it."""
        undone = self._known(transaction_id)
        for level in reversed(list(self._open.values())):
            if level.is_inside(undone):
                self._end(level)
                for place, rows in level.before.items():
                    self._put(place, rows)

    async def aclose(self) -> None:
        """Roll back what is open."""
        for transaction_id in list(self._open):
            if transaction_id in self._open:
                await self.rollback_transaction(transaction_id)

    def _known(self, transaction_id: str) -> _Open:
        found = self._open.get(transaction_id)
        if found is None:
            raise not_open(transaction_id, self._open)
        return found

    def _end(self, ended: _Open) -> None:
        del self._open[ended.transaction_id]
        ended.ended = True
        if (_current.get() or {}).get(self._token) is ended:
            self._stand_in(ended.outer)

    def _stand_in(self, transaction: _Open | None) -> None:
        others = {token: open_ for token, open_ in (_current.get() or {}).items() if token is not self._token}
        _current.set(others if transaction is None else {**others, self._token: transaction})

    def _joined(self) -> _Open | None:
        mine = (_current.get() or {}).get(self._token)
        if mine is not None and mine.ended:
            raise TransactionError(
                f"transaction {mine.transaction_id}: it has ended; a task that was started inside of it and goes on "
                "after it needs a context of its own"
            )
        return mine

    def _strange(self, place: _Place) -> _Open | None:
        """The outermost open transaction that touched the place and is not ours."""
        mine = self._joined()
        for other in self._open.values():
            if place in other.before and (mine is None or not mine.is_inside(other)):
                return other
        return None

    def _seen(self, place: _Place) -> _Rows:
        other = self._strange(place)
        return self._kept.get(place, ()) if other is None else other.before[place]

    def _changeable(self, place: _Place) -> _Rows:
        if self._strange(place) is not None:
            raise ConcurrentModificationError(
                f"{place[0]} {'/'.join(place[1:]).rstrip('/')}: an open transaction has changed it; try again later"
            )
        return self._kept.get(place, ())

    def _change(self, place: _Place, rows: _Rows) -> None:
        mine = self._joined()
        if mine is not None:
            mine.before.setdefault(place, self._kept.get(place, ()))
        self._put(place, rows)

    def _put(self, place: _Place, rows: _Rows) -> None:
        if rows:
            self._kept[place] = rows
        else:
            self._kept.pop(place, None)


def _state(rows: _Rows) -> StoredState:
    return StoredState(as_value(rows[0].text), rows[0].number) if rows else NOTHING


def _backup_id(row: _Row) -> str:
    return f"{row.number:08d}"
