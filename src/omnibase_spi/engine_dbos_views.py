"""Rows of runs and texts as the seam shows them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.protocols.protocol_workflow_engine import RunView, StepError, WorkflowBundle

SqlValue = str | int | float | None
Row = Mapping[str, SqlValue]

_CANCELLED: Final = StepError(EnumCoreErrorCode.CANCELLED, "CancelledError", "the run was cancelled")
_STATUS: Final = {
    "ENQUEUED": EnumRunStatus.QUEUED,
    "DELAYED": EnumRunStatus.SCHEDULED,
    "PENDING": EnumRunStatus.RUNNING,
    "SUCCESS": EnumRunStatus.COMPLETED,
    "ERROR": EnumRunStatus.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": EnumRunStatus.FAILED,
    "CANCELLED": EnumRunStatus.CANCELLED,
}


def text_of(value: SqlValue) -> str:
    return str(value)


def bundle_of(row: Row) -> WorkflowBundle:
    return WorkflowBundle(text_of(row["root"]), json.loads(text_of(row["files"])), text_of(row["digest"]))


def _time(seconds: SqlValue) -> datetime:
    return datetime.fromtimestamp(float(seconds or 0), UTC)


def view_of(row: Row) -> RunView:
    status = _STATUS[text_of(row["status"])]
    if status is EnumRunStatus.CANCELLED and row["wanted"] is not None:
        status = EnumRunStatus.PAUSED
    error, output = _ending(row)
    progress: JsonValue = None if row["progress"] is None else json.loads(text_of(row["progress"]))
    if status is EnumRunStatus.CANCELLED:
        error, output = _CANCELLED, progress if isinstance(progress, dict) and "steps" in progress else None
    created = float(row["created"] or 0)
    return RunView(
        workflow_id=text_of(row["workflow_id"]),
        name=text_of(row["name"]),
        version=text_of(row["version"]),
        status=status,
        created_at=_time(created),
        updated_at=_time(max(created, float(row["updated_at"] or 0) / 1000)),
        input_data=json.loads(text_of(row["input"])),
        output=output,
        error=error,
        progress=progress,
        queue=text_of(row["queue"]),
        priority=int(text_of(row["priority"])),
        holder=text_of(row["executor_id"]) if status is EnumRunStatus.RUNNING else None,
        parent_id=None if row["parent_id"] is None else text_of(row["parent_id"]),
        contract_digest=text_of(row["digest"]),
        attributes=json.loads(text_of(row["attributes"])),
    )


def _ending(row: Row) -> tuple[StepError | None, JsonValue]:
    """Error and final document of a run that ended, as `onex_run` left them."""
    if row["status"] == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        message = "The processes that carried this run out died again and again; resume it once the reason is found."
        return StepError(EnumCoreErrorCode.OPERATION_FAILED, "ModelOnexError", message), None
    if row["error"] is not None:
        found = json.loads(text_of(row["error"]))
        data = found.get("data") or {}
        code = EnumCoreErrorCode(found["code"]) if found.get("code") else EnumCoreErrorCode.INTERNAL_ERROR
        return StepError(code, str(data.get("kind", found["name"])), found["message"]), data.get("document")
    return None, None if row["output"] is None else json.loads(text_of(row["output"]))


def undone_in(document: JsonValue) -> frozenset[str]:
    """The steps that a final document tells as compensated, and those that compensated them."""
    told = document.get("compensations") if isinstance(document, dict) else None
    return frozenset(
        str(each.get(key))
        for each in (told if isinstance(told, list) else [])
        if isinstance(each, dict)
        for key in ("by", "step_id")
    )
