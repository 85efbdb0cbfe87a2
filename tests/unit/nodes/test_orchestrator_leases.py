"""A run of an orchestrator node holds the lease of its workflow, and its actions are in the audit."""

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest

from omnibase_core.enums.enum_action import EnumActionStatus, EnumLeaseEvent
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors import EpochMismatchError, LeaseConflictError, LeaseExpiredError
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.nodes import (
    ModelOrchestratorInput,
    ModelOrchestratorOutput,
    NodeOrchestrator,
    OrchestrationFailedError,
)
from omnibase_spi.engine_dbos import DbosDriver
from omnibase_spi.engine_memory import MemoryEngine
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
WORKFLOW_OVER = """
orchestrator_subcontract: {{
  workflow_name: orders, {more}
  steps: [{{step_id: each, step_type: effect, node: shop, {step} input: {{id: "${{workflow.action_id}}"}}}}]
}}
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


@pytest.mark.parametrize(
    "text",
    [
        WORKFLOW_OVER.format(more="", step="for_each: [x, y], "),
        WORKFLOW_OVER.format(more="coordination_type: pipeline, items: [x, y], ", step=""),
    ],
)
async def test_each_item_of_a_step_is_an_action(text: str) -> None:
    """With the id that went out; the step as a whole sent nothing."""
    store, shop = MemoryLeaseStore(), Service()

    output = await node_on(store, shop, text).process(asked())

    sent = [call["id"] for call in shop.calls if isinstance(call, dict)]
    result = output.step_results["each"]
    audit = [entry for entry in await store.audit("w") if entry.action is not None]
    assert [str(action.action_id) for action in output.actions] == sent
    assert [action.command_payload["item"] for action in output.actions] == [0, 1]
    assert [(item.item, str(item.action_id)) for item in result.item_results] == list(enumerate(sent))
    assert result.action_id is None
    assert [(entry.event, entry.epoch, entry.action) for entry in audit] == [
        (E.COMPLETED, 1, output.actions[0]),
        (E.COMPLETED, 2, output.actions[1]),
    ]


async def test_a_step_of_which_an_item_failed_has_failed_though_the_others_were_undone() -> None:
    """What was undone is in the compensations; the error of an item stands with its action."""
    text = WORKFLOW_OVER.format(more="", step="for_each: [x, y, z], compensate: {step_type: effect, node: undo}, ")
    text = text.replace('{id: "${workflow.action_id}"}', '"${item}"')
    store = MemoryLeaseStore()
    node = node_on(store, Service({"y": failure("sold out")}), text)
    node.container.register_service("undo", Service())  # type: ignore[attr-defined]  # the container of `node_on`

    with pytest.raises(OrchestrationFailedError) as error:
        await node.process(asked())

    partial = error.value.partial_output
    assert partial is not None
    assert (partial.completed_steps, partial.failed_steps) == ([], ["each"])
    assert [action.status.value for action in partial.actions] == ["completed", "failed", "completed"]
    assert [entry["item"] for entry in partial.compensations] == [0]
    entries = [entry for entry in await store.audit("w") if entry.action is not None]
    assert [entry.event for entry in entries] == [E.COMPLETED, E.FAILED, E.COMPLETED]
    assert isinstance(entries[1].detail, dict)
    assert entries[1].detail["message"] == "sold out"


async def test_an_item_that_was_under_way_when_its_run_was_cancelled_is_an_action_too() -> None:
    """It was sent."""
    text = WORKFLOW_OVER.format(more="", step="for_each: [x, y], ")
    shop = Service(seconds=3600)
    store = MemoryLeaseStore()
    task = asyncio.ensure_future(node_on(store, shop, text).process(asked()))
    await shop.called.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    entries = [entry for entry in await store.audit("w") if entry.action is not None]
    sent = [call["id"] for call in shop.calls if isinstance(call, dict)]
    assert [str(entry.action.action_id) for entry in entries if entry.action is not None] == sent
    assert [entry.event for entry in entries] == [E.FAILED]


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
    """At its next renewal; the run is cancelled, and what it had sent is in the audit without an epoch of its own."""
    shop = Service(seconds=60)
    running = asyncio.ensure_future(node_on(shared.store, shop).process(asked()))
    await shop.called.wait()

    await shared.again.force_release("w", "somebody")
    with pytest.raises(LeaseExpiredError, match="lost by"):
        await running

    assert shop.running == 0
    entries = await shared.store.audit("w")
    assert [(entry.event, entry.token, entry.epoch) for entry in entries] == [
        (E.ACQUIRED, 1, 0),
        (E.FORCED, 1, 0),
        (E.FAILED, 1, 0),
    ]
    assert entries[2].action is not None
    assert entries[2].action.status is EnumActionStatus.CANCELLED


async def test_who_stood_still_for_longer_than_its_lease_sends_nothing_more(shared: Stores) -> None:
    """Another has run the workflow meanwhile; what the first had sent before is in the audit under its own token."""
    now = [0.0]

    async def stand_still(_: object) -> str:
        now[0] += 1
        await shared.pass_ms(1000)
        await node_on(shared.again, Service()).process(asked())
        return "placed"

    shop = Service({"{'name': 'place', 'fence': 1}": stand_still})
    container = ModelONEXContainer()
    manager = LeaseManager(shared.store, clock=lambda: now[0])
    container.register_service("ProtocolLeaseManager", manager)
    container.register_service("shop", shop)
    with pytest.raises(LeaseExpiredError, match="lost by"):
        await NodeOrchestrator.from_contract(container, WORKFLOW).process(asked())

    assert len(shop.calls) == 1
    entries = await shared.store.audit("w")
    assert [
        (entry.event, entry.token, entry.epoch, entry.action.command_payload["step_id"])
        for entry in entries
        if entry.action is not None
    ] == [(E.COMPLETED, 2, 1, "place"), (E.COMPLETED, 2, 2, "pay"), (E.COMPLETED, 1, 0, "place")]
    assert entries[-1].holder == manager.holder


STEPS = ", ".join(f"{{step_id: s{n}, step_type: effect, node: shop, input: {{n: {n}}}}}" for n in range(3))
FORMS = {
    "sequential": f"coordination_type: sequential, steps: [{STEPS}]",
    "parallel": f"coordination_type: parallel, max_parallel_steps: 1, steps: [{STEPS}]",
    "for each": "steps: [{step_id: s, step_type: effect, node: shop, for_each: '${input.items}', "
    "input: {n: '${item}'}}]",
    "pipeline": "coordination_type: pipeline, items: '${input.items}', "
    "steps: [{step_id: s, step_type: effect, node: shop, input: {n: '${item}'}}]",
    "child": "steps: [{step_id: s, step_type: orchestrator, node: child.yaml}]",
    "attempts": "steps: [{step_id: s, step_type: effect, node: shop, input: {n: 0}, "
    "on_failure: retry, retry: {max_retries: 3, base_delay_ms: 60000}}]",
}


@pytest.mark.parametrize("form", FORMS)
def test_after_the_lease_is_lost_no_form_of_work_goes_on(form: str, tmp_path: Path) -> None:
    """Neither the next step nor item, in a child or not, nor another attempt; nothing is undone either."""
    (tmp_path / "child.yaml").write_text(f"orchestrator_subcontract: {{workflow_name: child, steps: [{STEPS}]}}")
    path = tmp_path / "whole.yaml"
    path.write_text(f"orchestrator_subcontract: {{workflow_name: whole, {FORMS[form]}}}")
    store = MemoryLeaseStore()

    async def lose(_: object) -> None:
        await store.force_release("w", "root")
        if form == "attempts":
            raise failure("try again")

    shop = Service({"{'n': 0}": lose})

    async def main() -> None:
        container = ModelONEXContainer()
        container.register_service("ProtocolLeaseStore", store)
        container.register_service("shop", shop)
        node = NodeOrchestrator.from_contract(container, path)
        with pytest.raises(LeaseExpiredError, match="lost by"):
            await node.process(asked(input_data={"items": [0, 1, 2]}))

    run_virtual(main())

    assert shop.calls == [{"n": 0}]
    assert store._records["w"].epoch == 0
    sent = [entry for entry in store._audit["w"] if entry.action is not None]
    assert [(entry.token, entry.epoch) for entry in sent] == [(1, 0)]


async def test_a_run_that_people_resume_goes_on_without_the_lease_of_the_call_that_began_it() -> None:
    """That lease is released: what is done now carries the name of the engine."""
    store, shop = MemoryLeaseStore(), Service({"{'name': 'pay'}": [failure("no money"), "paid"]})
    node = node_on(store, shop)
    with pytest.raises(OrchestrationFailedError):
        await node.process(asked())
    assert isinstance(node.container, ModelONEXContainer)
    engine = node.container.get_service("EngineDriver")
    assert isinstance(engine, MemoryEngine)

    await engine.resume("w")
    view = await engine.wait("w")

    assert view.status is EnumRunStatus.COMPLETED
    assert isinstance(view.output, dict)
    assert view.output["lease"] == "memory"


class Coded(NodeOrchestrator):
    """A workflow in code, which waits and says what it was given."""

    begun: ClassVar[list[ModelOrchestratorInput]] = []

    async def orchestrate(self, input_data: ModelOrchestratorInput) -> object:
        self.begun.append(input_data)
        await asyncio.sleep(60)
        return ModelOrchestratorOutput(result=1) if input_data.input_data == "whole" else 1


def coded_on(store: object) -> Coded:
    container = ModelONEXContainer()
    container.register_service("ProtocolLeaseStore", store)
    Coded.begun.clear()
    return Coded(container)


def test_a_workflow_in_code_holds_the_lease_too() -> None:
    """One at a time; its code is told lease and epoch, and its output has them, made by itself or not."""
    store = MemoryLeaseStore()

    async def main() -> None:
        first, second = coded_on(store), coded_on(store)
        running = asyncio.ensure_future(first.process(asked(input_data="whole")))
        await asyncio.sleep(1)
        with pytest.raises(LeaseConflictError):
            await second.process(asked())
        whole = await running
        plain = await second.process(asked())

        audit = await store.audit("w")
        assert [entry.event for entry in audit] == [E.ACQUIRED, E.RELEASED] * 2
        assert [str(each.lease_id) for each in (whole, plain)] == [audit[0].lease_id, audit[2].lease_id]
        assert [(each.lease_id, each.epoch) for each in Coded.begun] == [(whole.lease_id, 0), (plain.lease_id, 0)]
        assert (whole.epoch, plain.epoch) == (0, 0)

    run_virtual(main())


async def test_a_workflow_in_code_begins_at_the_epoch_that_is_asked_for() -> None:
    """Another one is refused before it begins."""
    node = coded_on(MemoryLeaseStore())
    lease = await node.acquire_lease("w")

    with pytest.raises(EpochMismatchError, match="asked for at epoch 5, and it is at 0"):
        await node.process(asked(lease_id=lease.lease_id, epoch=5))

    assert Coded.begun == []


@pytest.mark.parametrize("whose", ["its own", "of the caller", "of another"])
def test_a_workflow_in_code_ends_when_its_lease_is_lost(whose: str) -> None:
    """One that it took, one that it renews for its caller, and one that another renews and that is only watched."""
    store = MemoryLeaseStore()

    async def main() -> None:
        node = coded_on(store)
        manager = node._leases() if whose == "of the caller" else LeaseManager(store)
        lease_id = None if whose == "its own" else (await manager.acquire_lease("w")).lease_id
        running = asyncio.ensure_future(node.process(asked(lease_id=lease_id)))
        await asyncio.sleep(1)
        assert len(Coded.begun) == 1
        await store.force_release("w", "root")
        with pytest.raises(LeaseExpiredError, match="lost by"):
            await running

    run_virtual(main())


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
