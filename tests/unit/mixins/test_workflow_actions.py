"""Actions judged and carried out, over the store in memory."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumActionStatus, EnumLeaseEvent
from omnibase_core.enums.enum_action import EnumActionTarget as Target
from omnibase_core.enums.enum_action import EnumActionType as Kind
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import (
    ActionExpiredError,
    EpochMismatchError,
    LeaseExpiredError,
    LeaseValidationError,
    ModelOnexError,
    StateUpdateConflictError,
)
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_actions import ActionValidator, WorkflowStateManager
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_action import ModelAction
from omnibase_core.protocols.protocol_lease import WorkflowLease
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_spi.lease_memory import MemoryLeaseStore
from tests.support.leases import Clock

TTL = 15_000


class Bench:
    """A manager with a lease, a validator that notes what it carried out, and the clock of both."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryLeaseStore(self.clock)
        self.manager = LeaseManager(self.store, clock=lambda: self.clock.ms / 1000)
        self.states = WorkflowStateManager(self.manager)
        self.validator = ActionValidator(self.manager, carry_out=self.carry_out)
        self.done: list[ModelAction] = []
        self.answer: JsonValue | BaseException = {"sent": True}

    async def carry_out(self, action: ModelAction) -> JsonValue:
        self.done.append(action)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def lease(self) -> WorkflowLease:
        return await self.manager.acquire_lease("w", uuid4())

    def issue(self, lease: WorkflowLease, kind: Kind, payload: dict[str, JsonValue] | None = None) -> ModelAction:
        return self.manager.issue(lease, kind, Target.EFFECT, payload)

    async def events(self) -> list[str]:
        return [entry.event.value for entry in await self.store.audit("w")]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_state_grows_by_actions(bench: Bench) -> None:
    """Each gives the next epoch; older states can be read."""
    lease = await bench.lease()
    assert await bench.states.get_current_epoch("w") == 0

    for number in (1, 2, 3):
        action = bench.issue(lease, Kind.UPDATE_STATE)
        assert await bench.states.update_state_with_action(action, {"n": number}) == number

    assert await bench.states.get_current_epoch("w") == 3
    assert (await bench.states.get_state("w")).state == {"n": 3}
    assert (await bench.states.get_state("w", 2)).state == {"n": 2}


async def test_branches_under_one_lease_change_the_state_one_after_another(bench: Bench) -> None:
    """None is lost, each is an epoch, and its action carries what it was told."""
    lease = await bench.lease()
    state = bench.store.state

    async def suspended(resource: str, epoch: int | None = None) -> StoredState:
        stored = await state(resource, epoch)
        await asyncio.sleep(0)  # all read before the first one writes
        return stored

    bench.store.state = suspended  # type: ignore[method-assign]  # a store over a network

    def with_one_more(found: JsonValue) -> JsonValue:
        return (found if isinstance(found, int) else 0) + 1

    changes = [bench.states.change_state(lease, with_one_more, {"branch": number}) for number in range(8)]
    results = await asyncio.gather(*changes)

    assert sorted(result.version for result in results) == list(range(1, 9))
    assert (await bench.states.get_state("w")).state == 8
    audit = await bench.store.audit("w")
    branches = [
        entry.action.command_payload["branch"] for entry in audit if entry.event == "committed" and entry.action
    ]
    assert sorted(map(str, branches)) == [str(number) for number in range(8)]
    assert any(entry.event == "refused" for entry in audit)


async def test_a_rollback_appends_the_older_state(bench: Bench) -> None:
    """As the next epoch: numbers never go down."""
    lease = await bench.lease()
    for number in (1, 2):
        await bench.validator.execute_validated_action(bench.issue(lease, Kind.UPDATE_STATE, {"state": number}))

    result = await bench.validator.execute_validated_action(bench.issue(lease, Kind.ROLLBACK_STATE, {"epoch": 1}))

    assert (result.status, result.epoch) == (EnumActionStatus.COMPLETED, 3)
    assert [(await bench.states.get_state("w", epoch)).state for epoch in (1, 2, 3)] == [1, 2, 1]
    with pytest.raises(ModelOnexError) as caught:
        await bench.validator.execute_validated_action(bench.issue(lease, Kind.ROLLBACK_STATE, {"epoch": 9}))
    assert caught.value.error_code is Code.NOT_FOUND


async def test_a_checkpoint_is_written_down(bench: Bench) -> None:
    """The epoch stays, and the audit names it; nobody has to carry it out."""
    lease = await bench.lease()
    await bench.states.update_state_with_action(bench.issue(lease, Kind.UPDATE_STATE), 1)
    validator = ActionValidator(bench.manager)

    result = await validator.execute_validated_action(bench.issue(lease, Kind.CHECKPOINT_STATE))

    assert (result.epoch, result.result) == (1, {"epoch": 1})
    assert await bench.events() == ["acquired", "committed", "started", "completed"]


async def test_an_action_for_a_node_is_carried_out_once(bench: Bench) -> None:
    """Repeated, it gives what was written down."""
    lease = await bench.lease()
    action = bench.issue(lease, Kind.DELEGATE_TASK, {"to": "ada"})

    first = await bench.validator.execute_validated_action(action)
    second = await bench.validator.execute_validated_action(action)

    assert (first.status, first.result, first.repeated) == (EnumActionStatus.COMPLETED, {"sent": True}, False)
    assert (second.status, second.result, second.repeated) == (EnumActionStatus.COMPLETED, {"sent": True}, True)
    assert bench.done == [action]
    assert await bench.events() == ["acquired", "started", "completed"]


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (ModelOnexError("no", Code.CONFLICT), {"error": "ModelOnexError", "code": "CONFLICT", "message": "no"}),
        (ZeroDivisionError("a secret"), {"error": "ZeroDivisionError"}),
    ],
)
async def test_a_failure_is_written_down_and_passes(bench: Bench, error: Exception, document: JsonValue) -> None:
    """Of a foreign error only its name: its text may hold anything."""
    action = bench.issue(await bench.lease(), Kind.DELEGATE_TASK)
    bench.answer = error

    with pytest.raises(type(error)):
        await bench.validator.execute_validated_action(action)

    assert (await bench.store.audit("w"))[-1].detail == document
    again = await bench.validator.execute_validated_action(action)
    assert (again.status, again.result, again.repeated) == (EnumActionStatus.FAILED, document, True)
    assert len(bench.done) == 1


async def test_a_result_that_is_no_json_is_told_and_the_action_is_done(bench: Bench) -> None:
    """It happened, so it is not carried out again."""
    action = bench.issue(await bench.lease(), Kind.DELEGATE_TASK)
    bench.answer = float("nan")

    with pytest.raises(ModelOnexError, match="no JSON") as caught:
        await bench.validator.execute_validated_action(action)

    assert caught.value.error_code is Code.VALIDATION_ERROR
    assert (await bench.validator.execute_validated_action(action)).repeated
    assert await bench.events() == ["acquired", "started", "completed"]


async def test_an_end_that_cannot_be_written_down_is_told(bench: Bench) -> None:
    """The action stays begun: whether it happened is for a person to see."""
    action = bench.issue(await bench.lease(), Kind.DELEGATE_TASK)

    async def away(action: ModelAction, event: EnumLeaseEvent, detail: JsonValue = None) -> None:
        raise ModelOnexError("away", Code.RESOURCE_UNAVAILABLE)

    bench.store.finish = away  # type: ignore[method-assign]  # a database that goes away at this moment
    with pytest.raises(ModelOnexError, match="away"):
        await bench.validator.execute_validated_action(action)

    with pytest.raises(ModelOnexError) as caught:
        await bench.validator.execute_validated_action(action)
    assert caught.value.error_code is Code.OUTCOME_UNKNOWN


async def test_an_action_whose_end_is_not_known_is_not_repeated(bench: Bench) -> None:
    """OUTCOME_UNKNOWN, which names who began it."""
    action = bench.issue(await bench.lease(), Kind.DELEGATE_TASK)
    bench.answer = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await bench.validator.execute_validated_action(action)

    with pytest.raises(ModelOnexError, match=r"begun at .* by ") as caught:
        await bench.validator.execute_validated_action(action)

    assert caught.value.error_code is Code.OUTCOME_UNKNOWN
    assert len(bench.done) == 1


async def test_what_does_not_hold_is_not_carried_out(bench: Bench) -> None:
    """Each refusal is an error of its own, from judging as from executing."""
    lease = await bench.lease()
    stale = bench.issue(lease, Kind.DELEGATE_TASK)
    await bench.states.update_state_with_action(bench.issue(lease, Kind.UPDATE_STATE), 1)
    good = bench.issue(lease, Kind.DELEGATE_TASK)
    past = datetime.fromtimestamp(bench.clock.ms / 1000, UTC) - timedelta(seconds=1)
    cases: dict[type[ModelOnexError], ModelAction] = {
        EpochMismatchError: stale,
        LeaseValidationError: good.model_copy(update={"lease_id": uuid4()}),
        ActionExpiredError: good.model_copy(update={"expires_at": past}),
    }

    for expected, action in cases.items():
        with pytest.raises(expected):
            await bench.validator.validate_action(action)
        with pytest.raises(expected):
            await bench.validator.execute_validated_action(action)
    bench.clock.ms += TTL
    for judge in (bench.validator.validate_action, bench.validator.execute_validated_action):
        with pytest.raises(LeaseExpiredError):
            await judge(good)

    assert bench.done == []


async def test_a_valid_action_gives_the_lease_under_which_it_may_go_on(bench: Bench) -> None:
    """Judging writes nothing."""
    lease = await bench.lease()

    standing = await bench.validator.validate_action(bench.issue(lease, Kind.DELEGATE_TASK))

    assert standing == lease
    assert await bench.events() == ["acquired"]


async def test_nothing_is_sent_out_after_two_thirds_without_a_renewal(bench: Bench) -> None:
    """The state may still be changed, because the store judges that in the statement that writes."""
    lease = await bench.lease()
    send, change = bench.issue(lease, Kind.DELEGATE_TASK), bench.issue(lease, Kind.UPDATE_STATE)
    bench.clock.ms += TTL * 2 // 3

    with pytest.raises(LeaseExpiredError, match="two thirds"):
        await bench.validator.execute_validated_action(send)
    assert await bench.states.update_state_with_action(change, 1) == 1


async def test_another_process_judges_by_what_the_action_carries(bench: Bench) -> None:
    """A manager that has no lease takes the action's token; without one the manager's own counts."""
    lease = await bench.lease()
    elsewhere = ActionValidator(LeaseManager(bench.store, clock=lambda: 0.0), carry_out=bench.carry_out)
    carrying = bench.issue(lease, Kind.DELEGATE_TASK)

    await elsewhere.execute_validated_action(carrying)
    await elsewhere.validate_action(carrying.model_copy(update={"metadata": {}}))
    with pytest.raises(LeaseExpiredError, match="token shown 5"):
        await elsewhere.validate_action(carrying.model_copy(update={"metadata": {"lease_token": 5}}))
    bench.clock.ms += TTL
    await bench.manager.acquire_lease("w", lease.lease_id)
    await bench.validator.validate_action(carrying.model_copy(update={"metadata": {}}))
    with pytest.raises(LeaseExpiredError, match="token shown 1, last token 2"):
        await elsewhere.validate_action(carrying)


async def test_the_same_action_cannot_change_the_state_twice(bench: Bench) -> None:
    """The same change is told its epoch again, another one is a conflict."""
    action = bench.issue(await bench.lease(), Kind.UPDATE_STATE, {"state": 1})

    first = await bench.validator.execute_validated_action(action)
    assert first.repeated is False
    assert await bench.validator.execute_validated_action(action) == replace(first, repeated=True)
    with pytest.raises(StateUpdateConflictError):
        await bench.states.update_state_with_action(action, 2)


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        (Kind.UPDATE_STATE, {}, "no `state`"),
        (Kind.ROLLBACK_STATE, {"state": 1}, r"no `epoch` in its command_payload, but \['state'\]"),
        (Kind.ROLLBACK_STATE, {"epoch": True}, "True; a number"),
        (Kind.ROLLBACK_STATE, {"epoch": "1"}, "'1'; a number"),
    ],
)
async def test_a_payload_that_does_not_fit_is_refused(
    bench: Bench, kind: Kind, payload: dict[str, JsonValue], message: str
) -> None:
    """VALIDATION_ERROR, which says what is missing."""
    action = bench.issue(await bench.lease(), kind, payload)

    with pytest.raises(ModelOnexError, match=message) as caught:
        await bench.validator.execute_validated_action(action)
    assert caught.value.error_code is Code.VALIDATION_ERROR


async def test_somebody_must_carry_out_what_is_for_a_node(bench: Bench) -> None:
    """CONFIGURATION_ERROR, before anything is written down."""
    action = bench.issue(await bench.lease(), Kind.START_WORKFLOW)

    with pytest.raises(ModelOnexError, match="carry_out") as caught:
        await ActionValidator(bench.manager).execute_validated_action(action)

    assert caught.value.error_code is Code.CONFIGURATION_ERROR
    assert await bench.events() == ["acquired"]


async def test_a_bare_container_has_leases() -> None:
    """One store and one manager over it."""
    async with ModelONEXContainer() as container:
        manager = container.get_service("ProtocolLeaseManager")
        assert isinstance(manager, LeaseManager)
        assert manager.store is container.get_service("ProtocolLeaseStore")
        lease = await manager.acquire_lease("w")
        action = manager.issue(lease, Kind.UPDATE_STATE, Target.REDUCER)

        assert await WorkflowStateManager(manager).update_state_with_action(action, 1) == 1
        assert [entry.event for entry in await manager.store.audit("w")] == [
            EnumLeaseEvent.ACQUIRED,
            EnumLeaseEvent.COMMITTED,
        ]
