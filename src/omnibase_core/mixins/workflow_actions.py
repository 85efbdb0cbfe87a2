"""Actions judged and carried out, and the state of a workflow changed by them; all on the fenced step of a store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumActionStatus, EnumActionTarget, EnumActionType, EnumLeaseEvent
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ConcurrentModificationError, EpochMismatchError, ModelOnexError
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.models.model_action import ModelAction, identifier
from omnibase_core.protocols.protocol_lease import AuditEntry, WorkflowLease
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_core.utils.lease_rules import lease_of, refusal_document

CarryOut = Callable[[ModelAction], Awaitable[JsonValue]]
"""Carries out one action and returns JSON. It should give its target `fence_headers(action)`."""

_STATUS: Final = {
    EnumLeaseEvent.COMPLETED: EnumActionStatus.COMPLETED,
    EnumLeaseEvent.FAILED: EnumActionStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What became of an action. epoch: of the state afterwards. repeated: it was known already, nothing was done."""

    action_id: UUID
    status: EnumActionStatus
    epoch: int
    result: JsonValue = None
    repeated: bool = False


class WorkflowStateManager:
    """The states of workflows, each change under a lease and with the next epoch."""

    def __init__(self, lease_manager: LeaseManager) -> None:
        self._leases = lease_manager

    async def update_state_with_action(self, action: ModelAction, new_state: JsonValue) -> int:
        """Store the state that follows from an action; returns the new epoch, which is the action's and one.

        One statement proves lease, token, epoch and `expires_at` and writes. Raises like `ProtocolLeaseStore.commit`:
        LeaseValidationError, LeaseExpiredError, ActionExpiredError, EpochMismatchError, ConcurrentModificationError,
        StateUpdateConflictError.
        """
        epoch = await self._leases.store.commit(action, new_state, self._token(action))
        self._leases.note_epoch(action, epoch)
        return epoch

    async def change_state(
        self,
        lease: WorkflowLease,
        change: Callable[[JsonValue], JsonValue],
        command_payload: dict[str, JsonValue] | None = None,
    ) -> StoredState:
        """Read the state, change it and store it under a lease of this manager; from the start when others were faster.

        For branches that work at the same time under one lease: each change is compared when it is stored, and is an
        action with an epoch of its own. `change` may be called several times and should only compute.
        """
        workflow = lease.workflow_id
        while True:
            stored = await self.get_state(workflow)
            changed = change(stored.state)
            action = self._leases.issue(
                lease, EnumActionType.UPDATE_STATE, EnumActionTarget.REDUCER, command_payload, epoch=stored.version
            )
            try:
                return StoredState(changed, await self.update_state_with_action(action, changed))
            except (ConcurrentModificationError, EpochMismatchError):
                continue

    async def roll_back_with_action(self, action: ModelAction, to_epoch: int) -> int:
        """Store the state of an older epoch again, as the next epoch: numbers never go down. Raises like
        `update_state_with_action`, and NOT_FOUND for an epoch whose state is not there.
        """
        older = await self._leases.store.state(action.resource, to_epoch)
        return await self.update_state_with_action(action, older.state)

    async def get_current_epoch(self, workflow_id: UUID | str) -> int:
        """How often the state of the workflow was changed; 0 for one that is not known."""
        return (await self.get_state(workflow_id)).version

    async def get_state(self, workflow_id: UUID | str, epoch: int | None = None) -> StoredState:
        """The state, with its epoch as version; that of an older epoch is found as long as it is kept."""
        return await self._leases.store.state(identifier(workflow_id), epoch)

    def _token(self, action: ModelAction) -> int | None:
        return action.token or self._leases.token_of(action.resource, action.lease_id)


class ActionValidator:
    """Judges actions and has them carried out.

    carry_out: does what an action for a node asks for. Without it only those about the state are carried out.
    """

    def __init__(
        self,
        lease_manager: LeaseManager,
        state_manager: WorkflowStateManager | None = None,
        *,
        carry_out: CarryOut | None = None,
    ) -> None:
        self._leases = lease_manager
        self._states = WorkflowStateManager(lease_manager) if state_manager is None else state_manager
        self._carry_out = carry_out

    async def validate_action(self, action: ModelAction) -> WorkflowLease:
        """Judge an action at this moment; returns the lease under which it may go on.

        Raises LeaseValidationError, LeaseExpiredError, ActionExpiredError, EpochMismatchError. What this says may be
        wrong in the next moment, so nothing that is written relies on it.
        """
        record = await self._leases.store.check(action, self._token(action))
        workflow_id = action.correlation_id if action.workflow_id is None else action.workflow_id
        return lease_of(record, workflow_id, action.lease_id)

    async def execute_validated_action(self, action: ModelAction) -> ActionResult:
        """Judge and carry out an action, each at most once.

        `update_state` stores `command_payload.state`, `rollback_state` the state of `command_payload.epoch`, each in
        the fenced statement. `checkpoint_state` writes down that the current epoch is one. Others go to `carry_out`,
        after a fenced statement wrote down that they begin; how they end is written down as well. One that was carried
        out before gives what was written down, with `repeated`.

        Raises like `update_state_with_action`; what `carry_out` raises; OUTCOME_UNKNOWN for an action that was begun
        and of whose end nothing is known; VALIDATION_ERROR and CONFIGURATION_ERROR.
        """
        if action.action_type in {EnumActionType.UPDATE_STATE, EnumActionType.ROLLBACK_STATE}:
            return await self._change_state(action)
        carry_out = _nothing if action.action_type is EnumActionType.CHECKPOINT_STATE else self._carry_out
        if carry_out is None:
            raise ModelOnexError(
                f"action {action.action_id}: nobody carries out {action.action_type.value!r}; "
                "make the ActionValidator with carry_out=",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
                correlation_id=action.correlation_id,
            )
        self._leases.require_time(action.resource, action.lease_id)
        known = await self._leases.store.begin(action, self._token(action))
        return await self._run(action, carry_out) if known is None else _repeated(action, known)

    async def _change_state(self, action: ModelAction) -> ActionResult:
        stood_at = await self._states.get_current_epoch(action.resource)
        if action.action_type is EnumActionType.UPDATE_STATE:
            epoch = await self._states.update_state_with_action(action, _payload(action, "state"))
        else:
            wanted = _payload(action, "epoch")
            if not isinstance(wanted, int) or isinstance(wanted, bool):
                raise _unfit(action, f"`epoch` is {wanted!r}; a number, please")
            epoch = await self._states.roll_back_with_action(action, wanted)
        known = stood_at >= epoch  # only an action that was written then is told its epoch again
        return ActionResult(action.action_id, EnumActionStatus.COMPLETED, epoch, repeated=known)

    async def _run(self, action: ModelAction, carry_out: CarryOut) -> ActionResult:
        store = self._leases.store
        try:
            result = await carry_out(action)
        except ModelOnexError as error:
            await store.finish(action, EnumLeaseEvent.FAILED, refusal_document(error))
            raise
        except Exception as error:
            document: JsonValue = {"error": type(error).__name__}  # its text may hold anything
            await store.finish(action, EnumLeaseEvent.FAILED, document)
            raise
        try:
            await store.finish(action, EnumLeaseEvent.COMPLETED, result)
        except ModelOnexError as error:
            if error.error_code is EnumCoreErrorCode.VALIDATION_ERROR:  # it happened, but what came back is no JSON
                await store.finish(action, EnumLeaseEvent.COMPLETED, refusal_document(error))
            raise
        return ActionResult(action.action_id, EnumActionStatus.COMPLETED, action.epoch, result)

    def _token(self, action: ModelAction) -> int | None:
        return action.token or self._leases.token_of(action.resource, action.lease_id)


async def _nothing(action: ModelAction) -> JsonValue:
    return {"epoch": action.epoch}


def _payload(action: ModelAction, key: str) -> JsonValue:
    if key not in action.command_payload:
        raise _unfit(action, f"no `{key}` in its command_payload, but {sorted(action.command_payload)}")
    return action.command_payload[key]


def _unfit(action: ModelAction, found: str) -> ModelOnexError:
    return ModelOnexError(
        f"action {action.action_id} ({action.action_type.value}): {found}",
        EnumCoreErrorCode.VALIDATION_ERROR,
        correlation_id=action.correlation_id,
    )


def _repeated(action: ModelAction, known: AuditEntry) -> ActionResult:
    status = _STATUS.get(known.event)
    if status is None:
        raise ModelOnexError(
            f"action {action.action_id} of {action.resource!r}: begun at {known.at.isoformat()} by {known.holder}, and "
            "how it ended is not known. Look at its target; where it may be repeated, issue a new action.",
            EnumCoreErrorCode.OUTCOME_UNKNOWN,
            {"resource": action.resource, "action_id": str(action.action_id)},
            action.correlation_id,
        )
    return ActionResult(action.action_id, status, known.epoch, known.detail, repeated=True)
