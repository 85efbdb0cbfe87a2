"""What stores of leases promise when an answer is lost or a call is cancelled."""

import pytest

from omnibase_core.enums.enum_action import EnumLeaseEvent as Event
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import ModelOnexError
from omnibase_spi.lease_sql import SqlLeaseStore
from tests.support.databases import NAME, Database
from tests.support.leases import LEASE, TTL, Stores, action_of, shared
from tests.support.lost_answers import through_proxy
from tests.support.suspensions import cancelled_at

__all__ = ["shared"]

A = str(LEASE)


@pytest.mark.parametrize("delivered", [True, False])
async def test_a_commit_whose_answer_is_lost_is_unknown_and_repeated_once(postgres: Database, delivered: bool) -> None:
    """OUTCOME_UNKNOWN, never a false success or failure; the same action again gives its epoch."""
    proxy, through = await through_proxy(postgres)
    direct = SqlLeaseStore(postgres.adapter, NAME, table=postgres.table)
    record = await direct.acquire("w", A, "ada", TTL)
    action = action_of(record, command_payload={"word": "lose this answer"})
    proxy.word, proxy.deliver, proxy.armed = b"lose this answer", delivered, True
    store = SqlLeaseStore(through.adapter, NAME, table=postgres.table)

    with pytest.raises(ModelOnexError, match="the same action again") as caught:
        await store.commit(action, {"n": 1})

    assert caught.value.error_code is Code.OUTCOME_UNKNOWN
    assert "lose this answer" not in str(caught.value)
    assert await direct.commit(action, {"n": 1}) == 1
    assert (await direct.state("w")).version == 1
    assert [entry.event for entry in await direct.audit("w")] == [Event.ACQUIRED, Event.COMMITTED]
    await through.adapter.aclose()
    await proxy.stop()
    await postgres.run("DROP TABLE {t}_log")


async def test_a_commit_that_is_cancelled_anywhere_is_whole_or_not_there(shared: Stores) -> None:
    """State and audit agree; the same action again gives the epoch that it has or gets."""
    store = shared.store
    n, reached = 0, True
    while reached:
        record = await store.acquire(f"w{n}", A, "ada", TTL)
        action = action_of(record)
        reached = await cancelled_at(store.commit(action, n), n)

        version = (await shared.again.state(f"w{n}")).version
        committed = [entry for entry in await shared.again.audit(f"w{n}") if entry.event is Event.COMMITTED]
        assert len(committed) == version
        assert await store.commit(action, n) == 1
        assert (await shared.again.state(f"w{n}")).state == n
        n += 1

    assert n > 1, "never suspended"


async def test_acquiring_that_is_cancelled_anywhere_can_be_done_again(shared: Stores) -> None:
    """By the same holder under the same id: it is renewed, or had anew."""
    n, reached = 0, True
    while reached:
        reached = await cancelled_at(shared.store.acquire(f"w{n}", A, "ada", TTL), n)

        record = await shared.again.acquire(f"w{n}", A, "ada", TTL)
        assert record.token == 1
        granted = [entry for entry in await shared.again.audit(f"w{n}") if entry.event is Event.ACQUIRED]
        assert len(granted) == 1
        n += 1

    assert n > 1, "never suspended"
