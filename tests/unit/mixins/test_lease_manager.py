"""Leases as a program holds them, in virtual time."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from omnibase_core.enums.enum_action import EnumActionTarget as Target
from omnibase_core.enums.enum_action import EnumActionType as Kind
from omnibase_core.enums.enum_action import EnumLeaseEvent as Event
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import LeaseConflictError, LeaseExpiredError, LeaseValidationError, ModelOnexError
from omnibase_core.mixins.lease_manager import DEFAULT_TTL_MS, LeaseManager
from omnibase_core.mixins.workflow_actions import WorkflowStateManager
from omnibase_core.nodes import WorkflowLease
from omnibase_core.protocols.protocol_lease import LeaseRecord, ProtocolLeaseManager
from omnibase_spi.lease_memory import MemoryLeaseStore
from omnibase_spi.testing import run_virtual

TTL = 3_000
"""Renewed every second."""


def _loop_ms() -> int:
    return round(asyncio.get_running_loop().time() * 1000)


class Away(MemoryLeaseStore):
    """A store that can be out of reach: requests of renewal then fail, or get no answer."""

    def __init__(self) -> None:
        super().__init__(_loop_ms)
        self.renewed_at: list[int] = []
        self.fails = False
        self.hangs = False
        self.delay_s = 0.0

    async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
        self.renewed_at.append(_loop_ms())
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise ModelOnexError("the database is away", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        await asyncio.sleep(self.delay_s)
        return await super().renew(resource, lease_id, token, ttl_ms)


def _virtually(test: Callable[[Away], Awaitable[None]]) -> None:
    """Run it on a virtual clock that the store shares, and see that no task is left."""

    async def main() -> None:
        await test(Away())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_lease_has_what_its_holder_needs() -> None:
    """Ids as they were given, the end, the epoch and the token; the default length is 15 s."""

    async def test(store: Away) -> None:
        manager, workflow, lease_id = LeaseManager(store), uuid4(), uuid4()
        assert isinstance(manager, ProtocolLeaseManager)

        lease = await manager.acquire_lease(workflow, lease_id)

        end = datetime.fromtimestamp((_loop_ms() + DEFAULT_TTL_MS) / 1000, UTC)
        assert lease == WorkflowLease(lease_id, workflow, end, 0, 1)
        assert manager.remaining_ms(lease) == DEFAULT_TTL_MS
        assert (await manager.acquire_lease("other")).lease_id != lease_id

    _virtually(test)


def test_the_end_that_is_asked_for_is_turned_into_a_length_of_time() -> None:
    """The store's clock may stand elsewhere: here it is decades behind ours."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store)

        lease = await manager.acquire_lease("w", uuid4(), datetime.now(UTC) + timedelta(seconds=30))

        left_ms = lease.expires_at.timestamp() * 1000 - _loop_ms()
        assert 29_000 < left_ms <= 30_000
        for wrong in (datetime.now(UTC) - timedelta(seconds=1), datetime.now()):  # noqa: DTZ005  # one without a zone
            with pytest.raises(ModelOnexError, match="time") as caught:
                await manager.acquire_lease("x", uuid4(), wrong)
            assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR

    _virtually(test)


def test_two_managers_are_two_holders() -> None:
    """Also under one lease id; whoever comes second is told who the first one is."""

    async def test(store: Away) -> None:
        first, second, lease_id = LeaseManager(store), LeaseManager(store), uuid4()
        lease = await first.acquire_lease("w", lease_id)

        with pytest.raises(LeaseConflictError) as caught:
            await second.acquire_lease("w", lease_id)

        assert caught.value.context["holder"] == first.holder
        assert await second.verify_lease("w", lease_id) == lease
        assert not await second.release_lease("w", lease_id)
        assert (await first.acquire_lease("w", lease_id)).token == 1
        assert await first.release_lease("w", lease_id)
        assert (await second.acquire_lease("w")).token == 2

    _virtually(test)


@pytest.mark.parametrize("holder", ["", "h" * 301])
def test_a_holder_has_a_name_that_stores_take(holder: str) -> None:
    """VALIDATION_ERROR otherwise; the default names this process."""
    with pytest.raises(ModelOnexError, match="300 characters") as caught:
        LeaseManager(MemoryLeaseStore(), holder=holder)

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert f"/{os.getpid()}/" in LeaseManager(MemoryLeaseStore()).holder


def test_verifying_asks_the_store() -> None:
    """LeaseValidationError for a lease that never was one of the resource, LeaseExpiredError for one that was."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        lease = await manager.acquire_lease("w")

        with pytest.raises(LeaseValidationError):
            await manager.verify_lease("w", uuid4())
        with pytest.raises(LeaseValidationError):
            await manager.verify_lease("x", lease.lease_id)
        await asyncio.sleep(TTL / 1000)
        with pytest.raises(LeaseExpiredError):
            await manager.verify_lease("w", lease.lease_id)
        with pytest.raises(LeaseExpiredError):
            await manager.renew_lease(lease)

    _virtually(test)


def test_nothing_is_issued_after_two_thirds_without_a_renewal() -> None:
    """Counted from before the request; a renewal opens it again."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        lease = await manager.acquire_lease("w")
        await asyncio.sleep(1.999)
        action = manager.issue(lease, Kind.DELEGATE_TASK, Target.EFFECT, {"a": 1})
        await asyncio.sleep(0.001)

        with pytest.raises(LeaseExpiredError, match="not renewed for 2000 ms of its 3000 ms"):
            manager.issue(lease, Kind.DELEGATE_TASK, Target.EFFECT)
        store.delay_s = 0.5
        renewed = await manager.renew_lease(lease)
        assert manager.remaining_ms(renewed) == TTL - 500
        manager.issue(renewed, Kind.DELEGATE_TASK, Target.EFFECT)

        assert (action.lease_id, action.workflow_id, action.epoch, action.token) == (lease.lease_id, "w", 0, 1)
        assert action.command_payload == {"a": 1}

    _virtually(test)


def test_an_action_is_issued_at_the_last_epoch_that_was_seen() -> None:
    """Changes of the state through the same manager count."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        states = WorkflowStateManager(manager)
        lease = await manager.acquire_lease("w")

        for epoch in range(1, 4):
            action = manager.issue(lease, Kind.UPDATE_STATE, Target.REDUCER)
            assert await states.update_state_with_action(action, epoch) == epoch

        assert manager.current(lease).epoch == 3

    _virtually(test)


def test_a_held_lease_is_renewed_every_third() -> None:
    """Also where the answer is slow, since the request counts; at the end it is free and nothing renews it."""

    async def test(store: Away) -> None:
        manager, began = LeaseManager(store, ttl_ms=TTL), _loop_ms()
        store.delay_s = 0.25
        async with manager.hold("w") as held:
            await asyncio.sleep(10.1)
            assert held.issue(Kind.DELEGATE_TASK, Target.EFFECT).token == 1

        assert [moment - began for moment in store.renewed_at] == [1000 * number for number in range(1, 11)]
        record = await store.lease("w")
        assert record is not None
        assert record.remaining_ms == 0
        assert [entry.event for entry in await store.audit("w")] == [Event.ACQUIRED, Event.RELEASED]
        await asyncio.sleep(10)
        assert len(store.renewed_at) == 10

    _virtually(test)


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_a_holder_that_cannot_renew_stops_when_its_time_is_over(how: str) -> None:
    """Its block is cancelled and ends with LeaseExpiredError, at its own end of the lease and not later."""

    async def test(store: Away) -> None:
        manager, began = LeaseManager(store, ttl_ms=TTL), _loop_ms()
        setattr(store, how, True)

        with pytest.raises(LeaseExpiredError, match="lost by"):
            async with manager.hold("w") as held:
                await asyncio.sleep(2.1)
                with pytest.raises(LeaseExpiredError, match="two thirds"):
                    held.issue(Kind.DELEGATE_TASK, Target.EFFECT)
                await asyncio.sleep(1e6)

        assert TTL <= _loop_ms() - began <= TTL * 1.1
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        with pytest.raises(LeaseExpiredError):
            _ = held.lease

    _virtually(test)


def test_a_holder_survives_what_is_shorter_than_its_lease() -> None:
    """It asks again soon, and goes on under the same token."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        async with manager.hold("w") as held:
            store.fails = True
            await asyncio.sleep(2.5)
            store.fails = False
            await asyncio.sleep(5)
            assert held.lease.token == 1

    _virtually(test)


def test_a_lease_that_was_freed_by_force_ends_the_block() -> None:
    """At the next renewal; what it had written until then stays."""

    async def test(store: Away) -> None:
        manager, began = LeaseManager(store, ttl_ms=TTL), _loop_ms()

        with pytest.raises(LeaseExpiredError):
            async with manager.hold("w"):
                await store.force_release("w", "root")
                await asyncio.sleep(1e6)

        assert _loop_ms() - began == TTL / 3

    _virtually(test)


def test_a_holder_may_come_back_with_a_new_lease() -> None:
    """With a greater token and the stored epoch; the block goes on."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        states = WorkflowStateManager(manager)
        async with manager.hold("w", on_lapse="reacquire") as held:
            first = held.lease
            await states.update_state_with_action(held.issue(Kind.UPDATE_STATE, Target.REDUCER), 1)
            stale = held.issue(Kind.UPDATE_STATE, Target.REDUCER)
            await store.force_release("w", "root")
            await asyncio.sleep(5)
            assert held.lease.lease_id != first.lease_id
            assert (held.lease.token, held.lease.epoch) == (2, 1)
            with pytest.raises(LeaseExpiredError):
                await states.update_state_with_action(stale, 2)
            await states.update_state_with_action(held.issue(Kind.UPDATE_STATE, Target.REDUCER), 2)
            await asyncio.sleep(10)
            assert held.lease.token == 2

    _virtually(test)


def test_a_holder_whose_lease_another_has_stops_even_then() -> None:
    """The error says who has it."""

    async def test(store: Away) -> None:
        manager, other = LeaseManager(store, ttl_ms=TTL), LeaseManager(store, holder="bob", ttl_ms=60_000)

        with pytest.raises(LeaseExpiredError, match="bob has it"):
            async with manager.hold("w", on_lapse="reacquire"):
                await store.force_release("w", "root")
                await other.acquire_lease("w")
                await asyncio.sleep(1e6)

    _virtually(test)


def test_a_block_that_goes_on_regardless_ends_with_the_error_all_the_same() -> None:
    """One that swallows its cancellation, and one that fails by itself, whose error passes."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        for fails in (False, True):
            with pytest.raises(ZeroDivisionError if fails else LeaseExpiredError):
                async with manager.hold("w"):
                    await store.force_release("w", "root")
                    try:
                        await asyncio.sleep(1e6)
                    except asyncio.CancelledError:
                        if fails:
                            raise ZeroDivisionError from None
            current = asyncio.current_task()
            assert current is not None
            assert current.cancelling() == 0

    _virtually(test)


def test_a_cancellation_from_outside_passes_and_frees_the_lease() -> None:
    """Whenever it comes."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)

        async def work() -> None:
            async with manager.hold("w"):
                await asyncio.sleep(1e6)

        for seconds in (0.0, 0.5, 1.0, 1.1, 2.0, 7.5):
            store.delay_s = 0.3
            task = asyncio.create_task(work())
            await asyncio.sleep(seconds)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            record = await store.lease("w")
            assert record is None or record.remaining_ms == 0

    _virtually(test)


def test_a_renewal_that_is_lost_is_asked_for_again() -> None:
    """One request without an answer does not cost the lease."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        async with manager.hold("w") as held:
            store.hangs = True
            await asyncio.sleep(1.5)
            store.hangs = False
            await asyncio.sleep(10)
            assert held.lease.token == 1

    _virtually(test)


def test_a_cancellation_while_the_block_is_left_waits_for_the_renewer_and_passes() -> None:
    """No task outlives the block, and the lease is free."""

    class SlowToStop(Away):
        async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.2)
            raise AssertionError

    async def test(_store: Away) -> None:
        store = SlowToStop()
        manager, began = LeaseManager(store, ttl_ms=TTL), _loop_ms()

        async def work() -> None:
            async with manager.hold("w"):
                await asyncio.sleep(1.1)

        task = asyncio.create_task(work())
        await asyncio.sleep(1.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert _loop_ms() - began == 1_300
        record = await store.lease("w")
        assert record is not None
        assert record.remaining_ms == 0

    _virtually(test)


def test_a_store_that_is_away_for_long_ends_the_block_also_of_one_that_would_come_back() -> None:
    """There is no new lease to be had; the error says why."""

    class Gone(Away):
        async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
            if self.fails:
                raise ModelOnexError("the database is away", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
            return await super().acquire(resource, lease_id, holder, ttl_ms)

    async def test(_store: Away) -> None:
        store = Gone()
        with pytest.raises(LeaseExpiredError, match="the database is away"):
            async with LeaseManager(store, ttl_ms=TTL).hold("w", on_lapse="reacquire"):
                store.fails = True
                await asyncio.sleep(1e6)

    _virtually(test)


def test_a_holder_comes_back_when_the_store_is_there_again() -> None:
    """A pause of the whole program, longer than the lease: it finds that its time is over, and takes a new one."""

    async def test(store: Away) -> None:
        seconds = [0.0]
        manager = LeaseManager(store, ttl_ms=TTL, clock=lambda: asyncio.get_running_loop().time() + seconds[0])
        async with manager.hold("w", on_lapse="reacquire") as held:
            await store.force_release("w", "the store, whose clock went on")
            seconds[0] = 60.0
            await asyncio.sleep(1.1)
            assert held.lease.token == 2
            assert held.issue(Kind.DELEGATE_TASK, Target.EFFECT).token == 2

    _virtually(test)


def test_a_defect_of_a_store_is_heard_of() -> None:
    """It comes out at the end of the block, not as a warning about a lost task."""

    class Broken(Away):
        async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
            raise KeyError(resource)

    async def test(_store: Away) -> None:
        with pytest.raises(KeyError):
            async with LeaseManager(Broken(), ttl_ms=TTL).hold("w"):
                await asyncio.sleep(1.5)

    _virtually(test)


def test_a_store_that_is_away_at_the_end_delays_nobody() -> None:
    """A lease that cannot be released runs out by itself."""

    class Mute(Away):
        async def release(self, resource: str, lease_id: str, token: int) -> bool:
            raise ModelOnexError("away", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)

    async def test(_store: Away) -> None:
        store = Mute()
        async with LeaseManager(store, ttl_ms=TTL).hold("w"):
            pass
        record = await store.lease("w")
        assert record is not None
        assert record.remaining_ms == TTL

    _virtually(test)


def test_leases_that_ran_out_are_forgotten() -> None:
    """A manager that takes very many grows no further than those that count."""

    async def test(store: Away) -> None:
        manager = LeaseManager(store, ttl_ms=TTL)
        for number in range(3_000):
            await manager.acquire_lease(f"w{number}")
            await asyncio.sleep(TTL / 1000 / 500)

        assert len(manager._mine) <= 1024 + 500

    _virtually(test)


def test_a_lease_is_nobodys_before_its_block() -> None:
    """It says so instead of being None."""

    async def test(store: Away) -> None:
        with pytest.raises(LeaseExpiredError, match="enter the block"):
            _ = LeaseManager(store).hold("w").lease

    _virtually(test)


class Lasting(Away):
    """A store as a database is one: it outlives its holders and is not asked without need."""

    ends_with_holder = False


def test_after_two_thirds_issuing_waits_for_the_renewal() -> None:
    """A renewal that comes late, but in time, delays what is sent and ends nothing."""

    async def test(_: Away) -> None:
        store = Lasting()
        manager, began = LeaseManager(store, ttl_ms=TTL), _loop_ms()
        async with manager.hold("w") as held:
            await held.may_issue()
            assert _loop_ms() == began
            store.fails = True
            await asyncio.sleep(2.1)
            store.fails = False

            await held.may_issue()

        assert began + 2100 < _loop_ms() < began + TTL

    _virtually(test)


def test_nothing_may_be_issued_under_a_lost_lease_or_outside_of_its_block() -> None:
    """Also by those who wait for the renewal at that moment."""

    async def test(_: Away) -> None:
        store = Lasting()
        held = LeaseManager(store, ttl_ms=TTL).hold("w")
        with pytest.raises(LeaseExpiredError, match="not entered, or left"):
            await held.may_issue()
        store.fails = True
        with pytest.raises(LeaseExpiredError, match="lost by"):
            async with held:
                await asyncio.sleep(2.1)
                waiting = asyncio.ensure_future(held.may_issue())
                await asyncio.sleep(1e6)
        with pytest.raises(LeaseExpiredError, match="lost by"):
            await waiting
        left = LeaseManager(store).hold("v")
        async with left:
            pass
        with pytest.raises(LeaseExpiredError, match="not entered, or left"):
            await left.may_issue()

    _virtually(test)


def test_a_store_in_memory_is_asked_before_each_issue() -> None:
    """Whoever was freed by force issues nothing more, however long its lease was, and its block ends."""

    async def test(store: Away) -> None:
        began = _loop_ms()
        with pytest.raises(LeaseExpiredError, match="lost by"):
            async with LeaseManager(store, ttl_ms=TTL).hold("w") as held:
                await store.force_release("w", "root")
                with pytest.raises(LeaseExpiredError, match="lost by"):
                    await held.may_issue()
                await asyncio.sleep(1e6)

        assert _loop_ms() == began

    _virtually(test)


def test_a_lease_of_another_manager_is_watched() -> None:
    """It is not renewed and not released, and when its holder gives it up, the block ends by itself."""

    async def test(_: Away) -> None:
        store = Lasting()
        mine, other = LeaseManager(store, ttl_ms=TTL), LeaseManager(store)
        async with mine.hold("w") as held:
            async with other.watch("w", held.lease.lease_id) as watched:
                await asyncio.sleep(10 * TTL / 1000)
                await watched.may_issue()
                assert watched.lease.token == held.lease.token
            assert other.token_of("w", held.lease.lease_id) is None
            await held.may_issue()
        lease = await mine.acquire_lease("w")
        began = _loop_ms()

        with pytest.raises(LeaseExpiredError, match="lost by"):
            async with other.watch("w", lease.lease_id):
                await mine.release_lease("w", lease.lease_id)
                await asyncio.sleep(1e6)

        assert _loop_ms() - began == TTL / 3

    _virtually(test)
