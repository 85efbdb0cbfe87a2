"""What every store of states promises."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import ConcurrentModificationError, EpochMismatchError, ModelOnexError, TransactionError
from omnibase_core.protocols.protocol_state import ProtocolStateManager, ProtocolTransactionManager
from omnibase_spi.store_memory import MemoryStateManager
from omnibase_spi.store_sql import SqlStateManager
from tests.support.databases import NAME, opened

Store = MemoryStateManager | SqlStateManager


@pytest.fixture(params=["memory store", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    kind: str = request.param
    if kind == "memory store":
        yield MemoryStateManager()
        return
    async for database in opened(kind, request, tmp_path):
        made = SqlStateManager(database.adapter, NAME, table=database.table)
        yield made
        await made.aclose()
        for suffix in ("_epoch", "_backup"):
            await database.run(f"DROP TABLE IF EXISTS {{t}}{suffix}")


def test_a_store_keeps_to_both_protocols(store: Store) -> None:
    """States and transactions are one object's."""
    assert isinstance(store, ProtocolStateManager)
    assert isinstance(store, ProtocolTransactionManager)


async def test_a_state_comes_back_with_a_growing_version(store: Store) -> None:
    """Version 0 means that nothing is stored; each update adds one."""
    assert (await store.get_state("o", "k")).version == 0
    await store.update_state("o", "k", {"n": [1]})
    second = await store.update_state("o", "k", {"n": [2]}, expected_version=1)
    third = await store.update_state("o", "k", None)

    assert (second.version, third.version) == (2, 3)
    assert await store.get_state("o", "k") == third
    assert (await store.get_state("o", "other")).version == 0
    assert (await store.get_state("other", "k")).version == 0


@pytest.mark.parametrize(
    "state", [None, "ü\0\ud800", [1.5e300, -0.0, 2**70], {"": {"a": [None, True]}}, "x" * 200_000], ids=lambda _: ""
)
async def test_any_json_comes_back_as_it_was(store: Store, state: JsonValue) -> None:
    """Whatever a database thinks of its characters."""
    written = await store.update_state("o", "k", state)

    assert written == await store.get_state("o", "k")
    assert repr(written.state) == repr(state)


async def test_what_is_handed_out_is_not_what_is_kept(store: Store) -> None:
    """Changing a state that was read or written changes nothing in the store."""
    mine: dict[str, JsonValue] = {"list": [1]}
    await store.update_state("o", "k", mine)
    mine["list"] = []
    read = (await store.get_state("o", "k")).state
    assert isinstance(read, dict)
    read.clear()

    assert (await store.get_state("o", "k")).state == {"list": [1]}


@pytest.mark.parametrize("state", [float("nan"), {"a": {1, 2}}, object()], ids=["NaN", "a set", "an object"])
async def test_what_is_no_json_is_refused(store: Store, state: JsonValue) -> None:
    """VALIDATION_ERROR, and nothing is stored."""
    with pytest.raises(ModelOnexError, match="not JSON") as caught:
        await store.update_state("o", "k", state)

    assert caught.value.error_code is Code.VALIDATION_ERROR
    assert (await store.get_state("o", "k")).version == 0


@pytest.mark.parametrize(
    "name", ["", "x" * 201, "a\0b", "a\nb", "\ud800"], ids=["empty", "long", "nul", "line", "half"]
)
async def test_a_name_that_some_store_could_not_keep_is_refused(store: Store, name: str) -> None:
    """By every store, for owners, keys and places of backups."""
    calls = (
        store.update_state(name, "k", 1),
        store.get_state("o", name),
        store.atomic_update(name, 0, 1, 1),
        store.create_backup(name, 1),
    )
    for call in calls:
        with pytest.raises(ModelOnexError) as caught:
            await call
        assert caught.value.error_code is Code.VALIDATION_ERROR


@pytest.mark.parametrize(("stored", "expected"), [(2, 1), (2, 3), (2, 0), (0, 1)])
async def test_a_stale_version_is_refused(store: Store, stored: int, expected: int) -> None:
    """ConcurrentModificationError with both versions, and the state stays."""
    for number in range(stored):
        await store.update_state("o", "k", number)
    before = await store.get_state("o", "k")

    with pytest.raises(ConcurrentModificationError, match=f"expected version {expected}, found {stored}"):
        await store.update_state("o", "k", 3, expected_version=expected)
    assert await store.get_state("o", "k") == before


async def test_of_many_first_updates_one_wins(store: Store) -> None:
    """Expecting version 0 is expecting that nothing is there."""
    results = await asyncio.gather(
        *(store.update_state("o", "k", number, expected_version=0) for number in range(8)), return_exceptions=True
    )

    won = [result for result in results if not isinstance(result, BaseException)]
    assert len(won) == 1
    assert all(isinstance(result, ConcurrentModificationError) for result in results if result not in won)
    assert await store.get_state("o", "k") == won[0]


async def test_no_update_of_several_tasks_is_lost(store: Store) -> None:
    """Each reads, adds one, and writes over what it read, until it succeeds."""

    async def add() -> None:
        done = 0
        while done < 10:
            read = await store.get_state("o", "k")
            count = read.state if isinstance(read.state, int) else 0
            await asyncio.sleep(0)
            try:
                await store.update_state("o", "k", count + 1, expected_version=read.version)
            except ConcurrentModificationError:
                continue
            done += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(add())

    stored = await store.get_state("o", "k")
    assert (stored.state, stored.version) == (40, 40)


async def test_a_rollback_puts_everything_back_and_a_commit_keeps_it(store: Store) -> None:
    """Values, versions, epochs, backups, and what was not there before."""
    await store.update_state("o", "a", 1)
    first = await store.begin_transaction()
    await store.update_state("o", "a", 2)
    await store.update_state("o", "new", 2)
    await store.atomic_update("o", 0, 2, 7)
    await store.create_backup("place", 2)
    assert (await store.get_state("o", "a")).state == 2
    await store.rollback_transaction(first)
    second = await store.begin_transaction()
    await store.update_state("o", "b", 3)
    await store.create_backup("place", 3)
    await store.commit_transaction(second)

    assert (await store.get_state("o", "a")).version == 1
    assert (await store.get_state("o", "new")).version == 0
    assert await store.get_current_epoch("o") == 0
    assert (await store.get_state("o", "b")).state == 3
    assert await store.restore_backup("place") == 3
    assert len(await store.list_backups("place")) == 1


async def test_a_transaction_as_a_block_commits_or_rolls_back(store: Store) -> None:
    """Whatever ends it, a cancellation included."""
    async with store.transaction():
        await store.update_state("o", "a", 1)
    with pytest.raises(KeyError):
        async with store.transaction():
            await store.update_state("o", "a", 2)
            raise KeyError
    inside = asyncio.Event()

    async def waits() -> None:
        async with store.transaction():
            await store.update_state("o", "a", 3)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await inside.wait()
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert (await store.get_state("o", "a")).state == 1
    assert (await store.update_state("o", "a", 4)).version == 2


async def test_a_stale_version_inside_a_transaction_leaves_the_choice(store: Store) -> None:
    """What is caught does not cost the transaction."""
    await store.update_state("o", "a", 1)
    async with store.transaction():
        with pytest.raises(ConcurrentModificationError):
            await store.update_state("o", "a", 2, expected_version=5)
        await store.update_state("o", "b", 2)

    assert (await store.get_state("o", "b")).state == 2


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_transaction_inside_another_is_a_part_of_it(store: Store, keeps: bool) -> None:
    """What it keeps, the outer one decides about; what it undoes is undone."""
    outer = await store.begin_transaction()
    await store.update_state("o", "a", 1)
    inner = await store.begin_transaction()
    await store.update_state("o", "a", 2)
    await store.update_state("o", "b", 2)
    if keeps:
        await store.commit_transaction(inner)
    else:
        await store.rollback_transaction(inner)
    assert (await store.get_state("o", "a")).state == (2 if keeps else 1)
    await store.update_state("o", "c", 3)
    if keeps:
        await store.rollback_transaction(outer)
    else:
        await store.commit_transaction(outer)

    states = [(await store.get_state("o", key)).state for key in "abc"]
    assert states == ([None, None, None] if keeps else [1, None, 3])


async def test_a_rollback_takes_what_is_open_inside_with_it(store: Store) -> None:
    """Nothing of it can be ended afterwards, and later writes are free of it."""
    outer = await store.begin_transaction()
    await store.update_state("o", "a", 1)
    inner = await store.begin_transaction()
    await store.update_state("o", "b", 2)

    await store.rollback_transaction(outer)

    with pytest.raises(TransactionError) as caught:
        await store.commit_transaction(inner)
    assert caught.value.error_code is Code.NOT_FOUND
    assert (await store.update_state("o", "a", 3)).version == 1
    assert (await store.get_state("o", "b")).version == 0


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_transaction_ends_once(store: Store, end: str) -> None:
    """NOT_FOUND for one that has ended or never was, listing those that are open."""
    ended = await store.begin_transaction()
    await store.commit_transaction(ended)
    still_open = await store.begin_transaction()

    for unknown in (ended, "never"):
        with pytest.raises(TransactionError, match=f"open are {still_open}") as caught:
            await (store.commit_transaction(unknown) if end == "commit" else store.rollback_transaction(unknown))
        assert caught.value.error_code is Code.NOT_FOUND
    await store.commit_transaction(still_open)


async def test_a_transaction_is_committed_by_those_who_work_in_it(store: Store) -> None:
    """Begun in a task of its own it holds nothing of this one: it is refused, and can be rolled back."""
    elsewhere = await asyncio.create_task(store.begin_transaction())

    with pytest.raises(TransactionError, match="begun in another task"):
        await store.commit_transaction(elsewhere)
    await store.rollback_transaction(elsewhere)

    assert (await store.update_state("o", "a", 1)).version == 1


async def test_an_outer_transaction_is_not_committed_before_an_inner_one(store: Store) -> None:
    """Refused, and both can still be ended in order."""
    outer = await store.begin_transaction()
    inner = await store.begin_transaction()
    await store.update_state("o", "a", 1)

    with pytest.raises(TransactionError, match="innermost first"):
        await store.commit_transaction(outer)
    await store.commit_transaction(inner)
    await store.commit_transaction(outer)

    assert (await store.get_state("o", "a")).state == 1


async def test_tasks_started_inside_a_transaction_join_it(store: Store) -> None:
    """One that goes on after its end is told so, instead of writing for itself."""
    written, go_on = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        await store.update_state("o", "a", 1)
        written.set()
        await go_on.wait()
        await store.update_state("o", "a", 2)

    async with store.transaction():
        task = asyncio.create_task(late())
        await written.wait()
        assert (await store.get_state("o", "a")).version == 1
    go_on.set()
    with pytest.raises(ModelOnexError, match="has ended"):
        await task

    assert (await store.get_state("o", "a")).state == 1


async def test_nobody_outside_sees_what_is_not_committed(store: Store) -> None:
    """Nor can anybody change it: who tries waits for the end, or is refused."""
    await store.update_state("o", "a", 1)
    written, go_on = asyncio.Event(), asyncio.Event()

    async def inside() -> None:
        async with store.transaction():
            await store.update_state("o", "a", 2)
            await store.create_backup("place", 2)
            written.set()
            await go_on.wait()

    async def outside() -> int:
        try:
            return (await store.update_state("o", "a", 9, expected_version=1)).version
        except ConcurrentModificationError:
            return -1

    task = asyncio.create_task(inside())
    await written.wait()
    seen = (await store.get_state("o", "a")).state
    backups = await store.list_backups("place")
    other = asyncio.create_task(outside())
    await asyncio.sleep(0.05)
    go_on.set()
    await task

    assert (seen, backups) == (1, [])
    assert await other == -1
    assert (await store.get_state("o", "a")).state == 2


async def test_epochs_grow_and_are_compared_in_the_step_that_writes(store: Store) -> None:
    """EpochMismatchError with what was found, for another epoch and for one that does not grow."""
    assert await store.get_current_epoch("w") == 0
    assert await store.atomic_update("w", 0, {"s": 1}, 1) == 1
    for expected, new in ((0, 1), (1, 1), (1, 0), (2, 3)):
        with pytest.raises(EpochMismatchError) as caught:
            await store.atomic_update("w", expected, {"s": 2}, new)
        assert caught.value.context["found_epoch"] == 1
    assert await store.atomic_update("w", 1, {"s": 3}, 5) == 5

    stored = await store.get_epoch_state("w")
    assert (stored.state, stored.version) == ({"s": 3}, 5)
    assert (await store.get_epoch_state("other")).version == 0


async def test_of_many_who_move_an_epoch_one_does(store: Store) -> None:
    """The others know that they lost."""
    await store.atomic_update("w", 0, "first", 1)

    for epoch in (1, 2, 3):
        moves = (store.atomic_update("w", epoch, number, epoch + 1) for number in range(6))
        results = await asyncio.gather(*moves, return_exceptions=True)
        assert sum(result == epoch + 1 for result in results) == 1
        assert sum(isinstance(result, EpochMismatchError) for result in results) == 5


async def test_backups_are_kept_and_found_by_id_or_as_the_newest(store: Store) -> None:
    """NOT_FOUND, with the ids that there are, when there is none."""
    first = await store.create_backup("place", {"n": 1})
    second = await store.create_backup("place", {"n": 2})
    await store.create_backup("elsewhere", 3)

    assert await store.restore_backup("place") == {"n": 2}
    assert await store.restore_backup("place", first) == {"n": 1}
    listed = await store.list_backups("place")
    assert [backup.backup_id for backup in listed] == [second, first]
    assert listed[0].created_at >= listed[1].created_at
    for backup_id in (None, first, "x", "9" * 30):
        with pytest.raises(ModelOnexError, match="known, newest first: ") as caught:
            await store.restore_backup("nowhere" if backup_id in {None, first} else "place", backup_id)
        assert caught.value.error_code is Code.NOT_FOUND


async def test_backups_beyond_their_number_are_deleted(store: Store) -> None:
    """The oldest of the same place; the new one always stays."""
    await store.create_backup("elsewhere", 0)
    for number in range(5):
        await store.create_backup("place", number, keep=3)

    left = [await store.restore_backup("place", each.backup_id) for each in await store.list_backups("place")]
    assert left == [4, 3, 2]
    await store.create_backup("place", 5, keep=1)
    assert len(await store.list_backups("place")) == 1
    assert await store.restore_backup("elsewhere") == 0
    with pytest.raises(ModelOnexError, match="at least 1"):
        await store.create_backup("place", 6, keep=0)


async def test_closing_rolls_back_what_was_never_ended(store: Store) -> None:
    """And the store can be used again."""
    await store.update_state("o", "a", 1)
    await store.begin_transaction()
    await store.update_state("o", "a", 2)
    await store.begin_transaction()

    await store.aclose()

    assert (await store.get_state("o", "a")).state == 1
    assert (await store.update_state("o", "a", 3)).version == 2
