"""Leases among processes: one writer at a time, whoever stalls, stops or dies."""

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from omnibase_core.enums.enum_action import EnumLeaseEvent
from omnibase_core.errors import LeaseConflictError
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_actions import WorkflowStateManager
from omnibase_core.protocols.protocol_lease import WorkflowLease
from tests.chaos.lease_worker import RESOURCE, update
from tests.support.leases import Stores, shared

__all__ = ["shared"]

PROCESSES, INCREMENTS = 4, 200
TTL_MS = 100


def _command(what: str, leases: Stores, *numbers: int) -> list[str]:
    database = leases.database
    assert database is not None
    return [sys.executable, "-m", "tests.chaos.lease_worker", what, database.url, database.table, *map(str, numbers)]


def _adding(leases: Stores, seed: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(_command("increments", leases, INCREMENTS, TTL_MS, seed), stdout=subprocess.PIPE, text=True)


@contextmanager
def _running(what: str, leases: Stores, *numbers: int) -> "Iterator[subprocess.Popen[str]]":
    """A worker that has its lease."""
    with subprocess.Popen(
        _command(what, leases, *numbers), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "held\n"
            yield worker
        finally:
            worker.kill()


async def _take_over(manager: LeaseManager, limit_s: float) -> tuple[WorkflowLease, float]:
    """The lease as soon as it can be had, and how long that took."""
    began = time.monotonic()
    while True:
        try:
            lease = await manager.acquire_lease(RESOURCE)
        except LeaseConflictError:
            assert time.monotonic() - began < limit_s, "nobody can take over"
            await asyncio.sleep(0.01)
        else:
            return lease, time.monotonic() - began


async def test_increments_of_many_processes_are_never_lost(shared: Stores) -> None:
    """Four processes, 200 each, with stalls longer than the lease: 800 epochs, and the value is 800."""
    seed = random.randrange(2**16)
    started = [_adding(shared, seed + number) for number in range(PROCESSES)]
    said = await asyncio.gather(*(asyncio.to_thread(worker.communicate, timeout=60) for worker in started))

    counts = [json.loads(out) for out, _ in said]
    stored = await shared.store.state(RESOURCE)
    assert (stored.version, stored.state) == (PROCESSES * INCREMENTS, PROCESSES * INCREMENTS), f"seed {seed}: {counts}"
    assert sum(count["stalls"] for count in counts) > 0, f"seed {seed}: nobody stalled"
    assert [count["written after a stall"] for count in counts] == [0] * PROCESSES, f"seed {seed}"
    audit = [entry for entry in await shared.store.audit(RESOURCE, 10_000) if entry.event is EnumLeaseEvent.COMMITTED]
    tokens = [entry.token for entry in audit]
    assert [entry.epoch for entry in audit] == list(range(1, PROCESSES * INCREMENTS + 1))
    assert tokens == sorted(tokens), f"seed {seed}: a write by an older token"
    assert len({entry.holder for entry in audit}) == PROCESSES


async def test_a_process_stopped_past_its_lease_writes_nothing_when_it_wakes(shared: Stores) -> None:
    """Another has taken over within the length of the lease and a second; the epoch is its own."""
    ttl_ms = 800
    manager = LeaseManager(shared.store, ttl_ms=60_000)
    states = WorkflowStateManager(manager)
    with _running("writer", shared, ttl_ms) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == "1\n"
        worker.send_signal(signal.SIGSTOP)
        worker.stdin.write("\n" * 5)
        worker.stdin.flush()
        lease, waited_s = await _take_over(manager, ttl_ms / 1000 + 1)
        assert await states.update_state_with_action(update(lease, lease.epoch), "heir") == 2
        worker.send_signal(signal.SIGCONT)
        said = [worker.stdout.readline() for _ in range(5)]

    assert waited_s <= ttl_ms / 1000 + 1
    assert said == ["LeaseExpiredError\n"] * 5
    assert (await states.get_state(RESOURCE)).state == "heir"
    audit = await shared.store.audit(RESOURCE)
    assert [entry.event.value for entry in audit].count("refused") == 5
    assert {entry.token for entry in audit if entry.event is EnumLeaseEvent.REFUSED} == {1}


async def test_a_killed_process_is_followed_within_its_lease(shared: Stores) -> None:
    """Killed in the middle of its writes, renewing its lease; the heir goes on from the epoch that is stored."""
    ttl_ms = 300
    manager = LeaseManager(shared.store, ttl_ms=60_000)
    with _running("loop", shared, ttl_ms) as worker:
        await asyncio.sleep(random.uniform(0, 0.3))  # a random moment, and longer than its lease
        worker.kill()
        worker.wait()
        lease, waited_s = await _take_over(manager, ttl_ms / 1000 + 1)

    states = WorkflowStateManager(manager)
    assert waited_s <= ttl_ms / 1000 + 1
    assert lease.epoch == await states.get_current_epoch(RESOURCE)
    assert await states.update_state_with_action(update(lease, lease.epoch), "heir") == lease.epoch + 1


@pytest.mark.parametrize("shared", ["postgresql"], indirect=True)
async def test_a_process_stopped_at_any_moment_holds_nothing_in_postgresql(shared: Stores) -> None:
    """Its statement is whole or not there, so nobody waits for its locks; woken, it is refused and stops."""
    ttl_ms = 200
    manager = LeaseManager(shared.store, ttl_ms=60_000)
    states = WorkflowStateManager(manager)
    for _ in range(3):
        with _running("loop", shared, ttl_ms) as worker:
            await asyncio.sleep(random.uniform(0.02, 0.2))  # a random moment
            worker.send_signal(signal.SIGSTOP)
            lease, waited_s = await _take_over(manager, ttl_ms / 1000 + 1)
            assert await states.update_state_with_action(update(lease, lease.epoch), "heir") == lease.epoch + 1
            worker.send_signal(signal.SIGCONT)
            assert worker.stdout is not None
            assert await asyncio.to_thread(worker.stdout.readline) == "LeaseExpiredError\n"

        assert waited_s <= ttl_ms / 1000 + 1
        assert (await states.get_state(RESOURCE)).state == "heir"
        await manager.release_lease(RESOURCE, lease.lease_id)
