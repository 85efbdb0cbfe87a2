"""A run of an orchestrator node holds the lease of its workflow, and its actions are in the audit."""

import asyncio
from pathlib import Path

import pytest

from omnibase_core.enums.enum_action import EnumActionStatus, EnumLeaseEvent
from omnibase_core.errors import EpochMismatchError, LeaseConflictError, LeaseExpiredError
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.nodes import ModelOrchestratorInput, NodeOrchestrator, OrchestrationFailedError
from omnibase_spi.engine_dbos import DbosDriver
from omnibase_spi.lease_memory import MemoryLeaseStore
from omnibase_spi.testing import run_virtual
from tests.support.leases import Stores, shared
from tests.support.workflows import Service, failure

__all__ = ["shared"]

E = EnumLeaseEvent
WORKFLOW = """
orchestrator_subcontract:
  workflow_name: orders
  lease: {ttl_ms: 1000}
  steps:
    - step_id: place
      step_type: effect
      node: shop
      input: {name: place, fence: "${workflow.token}"}
      compensate: {step_id: undo, step_type: effect, node: shop, input: {name: undo}}
    - {step_id: pay, step_type: effect, node: shop, input: {name: pay}, depends_on: [place]}
"""
WAIT = """
orchestrator_subcontract:
  workflow_name: patient
  steps: [{step_id: pause, step_type: wait, wait: {duration_ms: 604800000}}]
"""


def node_on(store: object, shop: object, text: str = WORKFLOW) -> NodeOrchestrator:
    container = ModelONEXContainer()
    container.register_service("ProtocolLeaseStore", store)
    container.register_service("shop", shop)
    return NodeOrchestrator.from_contract(container, text)


def asked(**fields: object) -> ModelOrchestratorInput:
    return ModelOrchestratorInput.model_validate({"workflow_id": "w", "input_data": {}} | fields)


async def test_who_issued_what_under_which_token_and_epoch_is_in_the_audit() -> None:
    """The lease is held meanwhile and released at the end; its token goes out with the effect; epochs grow by step."""
    store, shop = MemoryLeaseStore(), Service()
    node = node_on(store, shop)

    output = await node.execute_orchestration(asked())

    audit = await store.audit("w")
    assert [(entry.event, entry.token, entry.epoch) for entry in audit] == [
        (E.ACQUIRED, 1, 0),
        (E.COMPLETED, 1, 1),
        (E.COMPLETED, 1, 2),
        (E.RELEASED, 1, 2),
    ]
    assert [entry.action for entry in audit[1:3]] == output.actions
    assert (str(output.lease_id), output.epoch) == (audit[0].lease_id, 2)
    assert isinstance(shop.calls[0], dict)
    assert shop.calls[0]["fence"] == 1
    assert {action.action_id for action in output.actions} == {
        result.action_id for result in output.step_results.values()
    }


async def test_a_run_that_failed_is_in_the_audit_with_its_compensations(shared: Stores) -> None:
    """In a database too: the error stands with the action, and undoing is an action as well."""
    node = node_on(shared.store, Service({"{'name': 'pay'}": failure("no money")}))

    with pytest.raises(OrchestrationFailedError) as error:
        await node.process(asked())

    entries = [entry for entry in await shared.again.audit("w") if entry.action is not None]
    assert [
        (entry.event, entry.epoch, entry.action and entry.action.command_payload["step_id"]) for entry in entries
    ] == [(E.COMPLETED, 1, "place"), (E.FAILED, 2, "pay"), (E.COMPLETED, 3, "undo")]
    assert isinstance(entries[1].detail, dict)
    assert entries[1].detail["message"] == "no money"
    partial = error.value.partial_output
    assert partial is not None
    assert partial.epoch == 3
    assert [action.epoch for action in partial.actions] == [0, 1, 2]


async def test_a_second_run_goes_on_from_the_epoch_of_the_first(shared: Stores) -> None:
    """Under the next token; asking again for a run that has ended writes nothing down."""
    first = await node_on(shared.store, Service()).process(asked())
    again = node_on(shared.again, Service())

    second = await again.process(asked(epoch=first.epoch))
    repeated = await again.process(asked())

    assert (first.epoch, second.epoch, repeated.epoch) == (2, 4, 4)
    assert [action.token for action in second.actions] == [2, 2]
    assert [action.epoch for action in second.actions] == [2, 3]
    assert len([entry for entry in await shared.store.audit("w") if entry.action is not None]) == 4
    with pytest.raises(EpochMismatchError, match="asked for at epoch 2"):
        await again.process(asked(epoch=2))


async def test_while_one_runs_another_is_told_who_has_the_lease(shared: Stores) -> None:
    """And nothing of its workflow happens."""
    busy, idle = Service(seconds=60), Service()
    running = asyncio.ensure_future(node_on(shared.store, busy).process(asked()))
    await busy.called.wait()

    with pytest.raises(LeaseConflictError, match="has it for another"):
        await node_on(shared.again, idle).process(asked())

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert idle.calls == []
    entries = await shared.store.audit("w")
    assert [entry.event for entry in entries] == [E.ACQUIRED, E.FAILED, E.RELEASED]
    assert entries[1].action is not None
    assert entries[1].action.status is EnumActionStatus.CANCELLED


async def test_a_lease_that_is_lost_ends_the_run(shared: Stores) -> None:
    """At its next renewal; the run is cancelled, and nothing is written under the old token."""
    shop = Service(seconds=60)
    running = asyncio.ensure_future(node_on(shared.store, shop).process(asked()))
    await shop.called.wait()

    await shared.again.force_release("w", "somebody")
    with pytest.raises(LeaseExpiredError, match="lost by"):
        await running

    assert shop.running == 0
    assert [entry.event for entry in await shared.store.audit("w")] == [E.ACQUIRED, E.FORCED]


async def test_the_lease_of_the_caller_is_renewed_meanwhile_and_stays(shared: Stores) -> None:
    """Its length is that with which it was acquired."""
    store = shared.store
    container = ModelONEXContainer()
    container.register_service("ProtocolLeaseManager", LeaseManager(store, ttl_ms=400))
    container.register_service("shop", Service(seconds=0.4))
    node = NodeOrchestrator.from_contract(container, WORKFLOW)
    lease = await node.acquire_lease("w")

    output = await node.process(asked(lease_id=lease.lease_id, epoch=0))

    standing = await store.lease("w")
    assert standing is not None
    assert (standing.token, output.epoch) == (1, 2)
    assert standing.renewals >= 3
    assert 0 < standing.remaining_ms <= 400


def test_a_week_in_virtual_time_is_not_a_week_of_renewals() -> None:
    """A lease in memory ends with who holds it, so it is a long one."""
    store = MemoryLeaseStore()

    async def main() -> int:
        await node_on(store, Service(), WAIT).process(asked())
        return len(await store.audit("w"))

    assert run_virtual(main()) == 2
    assert store._records["w"].renewals <= 4  # renewals are no entries of the audit


async def test_a_lease_that_another_manager_holds_is_proved_but_not_renewed() -> None:
    """Who gives it to the node goes on holding it; the actions are in the audit under it all the same."""
    store = MemoryLeaseStore()
    outer = LeaseManager(store)
    node = node_on(store, Service())

    async with outer.hold("w") as held:
        output = await node.process(asked(lease_id=held.lease.lease_id))

    entries = [entry for entry in await store.audit("w") if entry.action is not None]
    assert (output.lease_id, output.epoch) == (held.lease.lease_id, 2)
    assert [(entry.lease_id, entry.token) for entry in entries] == [(str(output.lease_id), 1)] * 2


async def test_on_an_engine_with_leases_the_journal_says_who_issued_what(tmp_path: Path) -> None:
    """The worker's lease and token are those of the actions; a lease of the caller is held besides."""
    store = MemoryLeaseStore()
    node = node_on(store, Service())
    assert isinstance(node.container, ModelONEXContainer)
    runner = WorkflowRunner(node.container)
    driver = await DbosDriver.create(f"sqlite:///{tmp_path}/runs.db", runner.run)
    try:
        node.container.register_service("EngineDriver", driver)
        alone = await node.process(asked())
        records = await driver.steps("w")
        lease = await node.acquire_lease("v")
        under = await node.process(asked(workflow_id="v", lease_id=lease.lease_id))
    finally:
        await driver.aclose()

    issued = [record.outcome.issued for record in records if record.outcome.issued is not None]
    assert [(each.lease, each.token, each.epoch) for each in issued] == [
        (str(alone.lease_id), action.token, epoch) for epoch, action in enumerate(alone.actions)
    ]
    assert (len(issued), alone.epoch) == (2, 2)
    assert await store.audit("w") == []
    assert (under.lease_id, under.epoch) == (lease.lease_id, 2)
    assert [entry.event for entry in await store.audit("v")] == [E.ACQUIRED, E.COMPLETED, E.COMPLETED]
