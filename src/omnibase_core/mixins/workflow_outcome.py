"""The final document of a run as the output of a node."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumActionStatus, EnumActionTarget, EnumActionType
from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.mixins.workflow_run import STEP_COMPLETED_EVENT
from omnibase_core.models.model_action import TOKEN_KEY, ModelAction
from omnibase_core.models.model_orchestrator_input import ModelOrchestratorInput
from omnibase_core.models.model_orchestrator_output import (
    ModelOrchestrationMetadata,
    ModelOrchestratorOutput,
    ModelStepError,
    ModelWorkflowStepResult,
)
from omnibase_core.protocols.protocol_lease import WorkflowLease

_GOOD: Final = frozenset({EnumStepStatus.COMPLETED, EnumStepStatus.COMPENSATED})
_BAD: Final = frozenset({EnumStepStatus.FAILED, EnumStepStatus.UNKNOWN})
_ACTION_STATUS: Final = {
    EnumStepStatus.COMPLETED: EnumActionStatus.COMPLETED,
    EnumStepStatus.COMPENSATED: EnumActionStatus.COMPLETED,
    EnumStepStatus.CANCELLED: EnumActionStatus.CANCELLED,
}


def output_of(
    document: Mapping[str, JsonValue],
    input_data: ModelOrchestratorInput,
    correlation_id: UUID,
    lease: WorkflowLease | None = None,
) -> ModelOrchestratorOutput:
    """The output that a final document says. lease: of the caller; None is that of the engine."""
    first = 0 if lease is None else lease.epoch
    found = document["steps"]
    steps = found if isinstance(found, dict) else {}
    entries = {name: entry for name, entry in steps.items() if isinstance(entry, dict)}
    results = {name: _result(entry) for name, entry in entries.items()}
    seconds = max(0.0, _number(document["ended_at"]) - _number(document["started_at"]))
    undone, warnings = document["compensations"], document["warnings"]
    compensations = [each for each in undone if isinstance(each, dict)] if isinstance(undone, list) else []
    return ModelOrchestratorOutput(
        workflow_id=input_data.workflow_id,
        correlation_id=correlation_id,
        operation_id=input_data.operation_id,
        result=document["output"],
        step_results=results,
        completed_steps=[name for name, result in results.items() if result.status in _GOOD],
        failed_steps=[name for name, result in results.items() if result.status in _BAD],
        skipped_steps=[name for name, result in results.items() if result.status not in _GOOD | _BAD],
        execution_metadata=ModelOrchestrationMetadata(
            total_services=len(results),
            execution_time=seconds,
            execution_time_ms=seconds * 1000,
            success_rate=_number(document["success_rate"]),
            coordination_type=str(document["coordination_type"]),
            parallelism_achieved=int(_number(document["parallelism_achieved"])),
        ),
        actions=[
            _action(str(name), entry, document, input_data, correlation_id, first)
            for name, entry in (*entries.items(), *((each["by"], each) for each in compensations))
            if entry.get("action_id") is not None
        ],
        events=[_event(name, result, document) for name, result in results.items()],
        compensations=compensations,
        warnings=[str(each) for each in warnings] if isinstance(warnings, list) else [],
        lease_id=str(document["lease"]) if lease is None else lease.lease_id,
        epoch=first + int(_number(document["epoch"])),
        metadata=input_data.metadata,
    )


def _result(entry: Mapping[str, JsonValue]) -> ModelWorkflowStepResult:
    error, items, action_id = entry["error"], entry.get("items"), entry.get("action_id")
    return ModelWorkflowStepResult(
        status=EnumStepStatus(str(entry["status"])),
        value=entry["value"],
        error=ModelStepError.model_validate(error) if isinstance(error, dict) else None,
        attempts=int(_number(entry["attempts"])),
        started_at=_moment(entry["started_at"]),
        ended_at=_moment(entry["ended_at"]),
        items=int(_number(items["total"])) if isinstance(items, dict) else None,
        failed_items=int(_number(items["failed"])) if isinstance(items, dict) else 0,
        action_id=UUID(action_id) if isinstance(action_id, str) else None,
    )


def _action(
    step_id: str,
    entry: Mapping[str, JsonValue],
    document: Mapping[str, JsonValue],
    input_data: ModelOrchestratorInput,
    correlation_id: UUID,
    first: int,
) -> ModelAction:
    """The action that was sent to a step's node, as it ended. first: the epoch at which the run began."""
    kind = EnumActionTarget(str(entry["step_type"]))
    issued = entry.get("issued")
    lease_id, token, epoch = issued if isinstance(issued, list) else (document["lease"], document["token"], 0)
    child = kind is EnumActionTarget.ORCHESTRATOR
    return ModelAction.model_validate(
        {
            "action_id": entry["action_id"],
            "action_type": EnumActionType.START_WORKFLOW if child else EnumActionType.DELEGATE_TASK,
            "lease_id": lease_id,
            "epoch": first + int(_number(epoch)),
            "target_node": kind,
            "command_payload": {"workflow": document["name"], "step_id": step_id, "node": entry["node"]},
            "correlation_id": correlation_id,
            "workflow_id": input_data.workflow_id,
            "issued_at": _moment(entry["started_at"]) or _moment(document["started_at"]),
            "status": _ACTION_STATUS.get(EnumStepStatus(str(entry["status"])), EnumActionStatus.FAILED),
            "metadata": {TOKEN_KEY: token},
        }
    )


def _event(step_id: str, result: ModelWorkflowStepResult, document: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {
        "event_type": STEP_COMPLETED_EVENT,
        "workflow_id": document["workflow_id"],
        "step_id": step_id,
        "status": result.status.value,
        "attempts": result.attempts,
    }


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _moment(value: JsonValue) -> datetime | None:
    seconds = _number(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
