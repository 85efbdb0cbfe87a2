"""A store of states in SQLite does what the one in memory does, whatever is asked in whatever order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase_core.errors import ModelOnexError
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_spi.store_memory import MemoryStateManager
from omnibase_spi.store_sql import SqlStateManager
from tests.support.databases import NAME, adapter_on

Store = MemoryStateManager | SqlStateManager
KEYS = st.sampled_from(["a", "b"])
SMALL = st.integers(0, 3)


@dataclass(frozen=True)
class Ask:
    """One thing that is asked of a store; `begin`, `commit` and `rollback` are about the innermost open transaction, or
    with number 1 about the one around it.
    """

    what: str
    key: str = "a"
    number: int = 0
    expected: int | None = None


ASKS = st.one_of(
    st.builds(Ask, st.sampled_from(["update"]), KEYS, SMALL, st.none() | SMALL),
    st.builds(Ask, st.sampled_from(["epoch", "backup"]), KEYS, SMALL, st.integers(0, 3)),
    st.builds(Ask, st.sampled_from(["begin", "commit", "rollback"]), KEYS, st.sampled_from([0, 0, 0, 1])),
)


class Asked:
    """A store, its open transactions, and the ids of its backups in the order of their making."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open: list[str] = []
        self.ended = "never begun"
        self.backups: list[str] = []

    async def answer(self, ask: Ask) -> object:
        """What comes back; of an error its class and code."""
        try:
            return await self._do(ask)
        except ModelOnexError as error:
            return type(error).__name__, error.error_code

    async def _do(self, ask: Ask) -> object:
        store = self.store
        match ask.what:
            case "update":
                return await store.update_state("o", ask.key, [ask.number], expected_version=ask.expected)
            case "epoch":
                return await store.atomic_update(ask.key, ask.expected or 0, ask.number, ask.number)
            case "backup":
                self.backups.append(await store.create_backup(ask.key, ask.number, keep=ask.expected))
                return len(await store.list_backups(ask.key))
            case "begin":
                self.open.append(await store.begin_transaction())
                return len(self.open)
            case _:
                return await self._end(ask)

    async def _end(self, ask: Ask) -> object:
        end: Callable[[str], Awaitable[None]] = (
            self.store.commit_transaction if ask.what == "commit" else self.store.rollback_transaction
        )
        if len(self.open) <= ask.number:
            await end(self.ended)
            return "ended twice"
        place = len(self.open) - 1 - ask.number
        await end(self.open[place])
        self.ended = self.open[place]
        del self.open[place:]
        return len(self.open)

    async def everything(self) -> list[object]:
        states: list[StoredState] = []
        backups: list[object] = []
        for key in ("a", "b"):
            states += [await self.store.get_state("o", key), await self.store.get_epoch_state(key)]
            kept = [backup.backup_id for backup in await self.store.list_backups(key)]
            backups.append([await self.store.restore_backup(key, backup_id) for backup_id in kept])
        return [*states, *backups]


@settings(deadline=None, max_examples=100)
@given(st.lists(ASKS, min_size=8, max_size=40))
def test_the_stores_agree(asks: Sequence[Ask]) -> None:
    """On every answer, on every error, and on what is kept when all that is open has been rolled back."""
    asyncio.run(_compare(asks))


async def _compare(asks: Sequence[Ask]) -> None:
    adapter = adapter_on("sqlite:///:memory:")
    model, real = Asked(MemoryStateManager()), Asked(SqlStateManager(adapter, NAME))
    try:
        for ask in asks:
            assert await real.answer(ask) == await model.answer(ask), ask
            assert await real.everything() == await model.everything(), ask
        for each in (real, model):
            await each.store.aclose()
        assert await real.everything() == await model.everything()
    finally:
        await adapter.aclose()
