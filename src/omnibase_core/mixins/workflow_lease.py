"""A run under the lease of its workflow: held meanwhile, and its actions written down at the end.

What happened stands in the journal of the engine as it happens; the audit of the lease store is told once, so that a
step costs no statement of its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumActionStatus, EnumLeaseEvent
from omnibase_core.errors.onex_error import EpochMismatchError
from omnibase_core.mixins.lease_manager import HeldLease, LeaseManager
from omnibase_core.models.model_action import identifier
from omnibase_core.models.model_orchestrator_input import ModelOrchestratorInput
from omnibase_core.models.model_orchestrator_output import ModelOrchestratorOutput
from omnibase_core.protocols.protocol_lease import EndedAction, WorkflowLease
from omnibase_core.utils.lease_rules import MAX_TTL_MS

_COMPLETED: Final = EnumLeaseEvent.COMPLETED


@asynccontextmanager
async def leased(
    manager: LeaseManager, input_data: ModelOrchestratorInput, ttl_ms: int | None, *, asks: bool
) -> AsyncIterator[HeldLease]:
    """Hold the lease of a workflow: that which the input names and which stays with the caller, or a new one.

    One that this manager was not given is only watched: its holder renews it. asks: whether the lease is asked before
    each step (`HeldLease.may_issue`).
    """
    workflow_id, lease_id = input_data.workflow_id, input_data.lease_id
    if lease_id is not None and manager.token_of(workflow_id, lease_id) is None:
        held = manager.watch(workflow_id, lease_id)
    elif lease_id is not None:
        held = manager.hold(workflow_id, lease_id=lease_id, release=False)
    else:
        if asks and getattr(manager.store, "ends_with_holder", False):
            ttl_ms = MAX_TTL_MS  # it cannot outlive its holder, and a test that skips a week need not renew it so often
        held = manager.hold(workflow_id, ttl_ms=ttl_ms)
    async with held:
        _require_epoch(input_data, held.lease)
        yield held


def _require_epoch(input_data: ModelOrchestratorInput, lease: WorkflowLease) -> None:
    if input_data.epoch is not None and input_data.epoch != lease.epoch:
        workflow = identifier(input_data.workflow_id)
        raise EpochMismatchError(
            f"workflow {workflow!r}: asked for at epoch {input_data.epoch}, and it is at {lease.epoch}. Look at what "
            "happened since, and ask again from there, or without an epoch.",
            context={"resource": workflow, "expected_epoch": input_data.epoch, "found_epoch": lease.epoch},
        )


def ended_actions(output: ModelOrchestratorOutput) -> list[EndedAction]:
    """The actions of a run in the order of their ends, compensations last, with what became of them."""
    errors: dict[str, JsonValue] = {str(each["action_id"]): each["error"] for each in output.compensations}
    order: dict[str, datetime] = {}
    for result in output.step_results.values():
        errors[str(result.action_id)] = None if result.error is None else result.error.model_dump()
        if result.ended_at is not None:
            order[str(result.action_id)] = result.ended_at
        for item in result.item_results:
            errors[str(item.action_id)] = None if item.error is None else item.error.model_dump()
            if item.ended_at is not None:
                order[str(item.action_id)] = item.ended_at
    return [
        EndedAction(action, _COMPLETED, None)
        if action.status is EnumActionStatus.COMPLETED
        else EndedAction(action, EnumLeaseEvent.FAILED, errors.get(str(action.action_id)))
        for action in sorted(output.actions, key=lambda each: order.get(str(each.action_id), output.timestamp))
    ]
