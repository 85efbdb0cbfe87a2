"""Programs that write under leases; started, stalled, stopped and killed by their tests.

    increments URL TABLE COUNT TTL_MS SEED   add one to the state COUNT times; stalls past the lease now and then
    writer URL TABLE TTL_MS                  hold the lease; for each line of standard input write once
    loop URL TABLE TTL_MS                    hold the lease and write without a pause

Each says what it did in lines of standard output.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

from omnibase_core.enums.enum_action import EnumActionTarget, EnumActionType
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import LeaseConflictError, LeaseExpiredError, ModelOnexError
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_actions import WorkflowStateManager
from omnibase_core.models.model_action import TOKEN_KEY, ModelAction
from omnibase_core.protocols.protocol_lease import WorkflowLease
from omnibase_spi.lease_sql import SqlLeaseStore
from tests.support.databases import NAME, adapter_on

RESOURCE = "counter"
STALLS = 0.03


def update(lease: WorkflowLease, epoch: int) -> ModelAction:
    """Made by hand, because a manager would not issue it after its lease."""
    return ModelAction(
        action_type=EnumActionType.UPDATE_STATE,
        target_node=EnumActionTarget.REDUCER,
        lease_id=lease.lease_id,
        workflow_id=lease.workflow_id,
        epoch=epoch,
        metadata={TOKEN_KEY: lease.token},
    )


async def increments(manager: LeaseManager, count: int, ttl_ms: int, seed: int) -> Counter[str]:
    """Read, add one, write; what is refused is tried again from what is stored then."""
    states = WorkflowStateManager(manager)
    moments = random.Random(seed)
    seen: Counter[str] = Counter()
    while seen["written"] < count:
        try:
            lease = await manager.acquire_lease(RESOURCE)
        except LeaseConflictError as conflict:
            left_s = int(str(conflict.context["remaining_ms"])) / 1000
            await asyncio.sleep(min(left_s, moments.uniform(0.001, 0.02)))
            continue
        except EffectFault as fault:
            if not fault.transient:
                raise
            continue
        for _ in range(min(moments.randint(1, 20), count - seen["written"])):
            try:
                await _one(states, lease, moments, ttl_ms, seen)
            except LeaseExpiredError:
                seen["lapsed"] += 1
                break
            except ModelOnexError as refused:
                if refused.error_code is not EnumCoreErrorCode.CONFLICT:
                    raise
                seen[type(refused).__name__] += 1
        else:
            await manager.release_lease(RESOURCE, lease.lease_id)
    return seen


async def _one(
    states: WorkflowStateManager, lease: WorkflowLease, moments: random.Random, ttl_ms: int, seen: Counter[str]
) -> None:
    stored = await states.get_state(RESOURCE)
    value = stored.state if isinstance(stored.state, int) else 0
    stalled = moments.random() < STALLS
    if stalled:
        time.sleep(ttl_ms * moments.uniform(1.1, 2) / 1000)  # noqa: ASYNC251  # the whole program stands still
        seen["stalls"] += 1
    await states.update_state_with_action(update(lease, stored.version), value + 1)
    seen["written"] += 1
    seen["written after a stall"] += stalled


async def writer(manager: LeaseManager) -> None:
    """One attempt for each line."""
    states = WorkflowStateManager(manager)
    lease = await manager.acquire_lease(RESOURCE)
    print("held", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        stored = await states.get_state(RESOURCE)
        try:
            print(await states.update_state_with_action(update(lease, stored.version), "writer"), flush=True)
        except ModelOnexError as refused:
            print(type(refused).__name__, flush=True)


async def loop(manager: LeaseManager) -> None:
    """Until the first refusal."""
    states = WorkflowStateManager(manager)
    try:
        async with manager.hold(RESOURCE) as held:
            epoch = held.lease.epoch
            print("held", flush=True)
            while True:
                epoch = await states.update_state_with_action(update(held.lease, epoch), "loop")
    except LeaseExpiredError as refused:
        print(type(refused).__name__, flush=True)


async def main(what: str, url: str, table: str, *numbers: str) -> None:
    adapter = adapter_on(url)
    store = SqlLeaseStore(adapter, NAME, table=table)
    if what == "increments":
        count, ttl_ms, seed = map(int, numbers)
        found = await increments(LeaseManager(store, ttl_ms=ttl_ms), count, ttl_ms, seed)
        print(json.dumps(found), flush=True)
    else:
        manager = LeaseManager(store, ttl_ms=int(numbers[0]))
        await (writer(manager) if what == "writer" else loop(manager))
    await adapter.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
