"""What every store of states promises; memory now, others will have to pass the same."""

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import ConcurrentModificationError, EpochMismatchError, ModelOnexError, TransactionError
from omnibase_core.protocols.protocol_state import ProtocolStateManager, ProtocolTransactionManager
from omnibase_spi.store_memory import MemoryStateManager


@pytest.fixture(params=[MemoryStateManager])
def store(request: pytest.FixtureRequest) -> MemoryStateManager:
    made: MemoryStateManager = request.param()
    assert isinstance(made, ProtocolStateManager)
    assert isinstance(made, ProtocolTransactionManager)
    return made


async def test_a_state_comes_back_with_a_growing_version(store: MemoryStateManager) -> None:
    """Version 0 means that nothing is stored; each update adds one."""
    assert (await store.get_state("o", "k")).version == 0
    await store.update_state("o", "k", {"n": [1]})
    second = await store.update_state("o", "k", {"n": [2]}, expected_version=1)

    assert second.version == 2
    assert (await store.get_state("o", "k")).state == {"n": [2]}
    assert (await store.get_state("o", "other")).state is None


async def test_what_is_handed_out_is_not_what_is_kept(store: MemoryStateManager) -> None:
    """Changing a state that was read or written changes nothing in the store."""
    mine: dict[str, object] = {"list": [1]}
    await store.update_state("o", "k", mine)  # type: ignore[arg-type]  # JSON by its content
    mine["list"] = []
    read = (await store.get_state("o", "k")).state
    assert isinstance(read, dict)
    read.clear()

    assert (await store.get_state("o", "k")).state == {"list": [1]}


async def test_a_stale_version_is_refused(store: MemoryStateManager) -> None:
    """ConcurrentModificationError, and the state stays."""
    await store.update_state("o", "k", 1)
    await store.update_state("o", "k", 2)

    with pytest.raises(ConcurrentModificationError, match="expected version 1, found 2"):
        await store.update_state("o", "k", 3, expected_version=1)
    assert (await store.get_state("o", "k")).state == 2


async def test_a_rollback_puts_everything_back_and_a_commit_keeps_it(store: MemoryStateManager) -> None:
    """Values, versions, and what was not there before."""
    await store.update_state("o", "a", 1)
    first = await store.begin_transaction()
    await store.update_state("o", "a", 2)
    await store.update_state("o", "new", 2)
    await store.rollback_transaction(first)
    second = await store.begin_transaction()
    await store.update_state("o", "b", 3)
    await store.commit_transaction(second)

    assert (await store.get_state("o", "a")).version == 1
    assert (await store.get_state("o", "new")).version == 0
    assert (await store.get_state("o", "b")).state == 3
    with pytest.raises(TransactionError):
        await store.commit_transaction(first)


async def test_epochs_grow_and_are_compared_in_the_step_that_writes(store: MemoryStateManager) -> None:
    """EpochMismatchError for another epoch, and for one that does not grow."""
    assert await store.get_current_epoch("w") == 0
    assert await store.atomic_update("w", 0, {"s": 1}, 1) == 1
    for expected, new in ((0, 1), (1, 1), (1, 0)):
        with pytest.raises(EpochMismatchError):
            await store.atomic_update("w", expected, {"s": 2}, new)

    assert await store.get_current_epoch("w") == 1


async def test_backups_are_kept_and_found_by_id_or_as_the_newest(store: MemoryStateManager) -> None:
    """NOT_FOUND when there is none."""
    first = await store.create_backup("place", {"n": 1})
    await store.create_backup("place", {"n": 2})

    assert await store.restore_backup("place") == {"n": 2}
    assert await store.restore_backup("place", first) == {"n": 1}
    with pytest.raises(ModelOnexError) as caught:
        await store.restore_backup("elsewhere")
    assert caught.value.error_code is Code.NOT_FOUND
