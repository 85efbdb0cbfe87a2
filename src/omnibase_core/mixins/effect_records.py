"""The records of an effect, built without validation: both ways of running one write the same."""

from typing import Final

from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome, EnumStopReason
from omnibase_core.models.model_effect_output import ExtractedValue, ModelEffectAttempt, ModelEffectOperationResult
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.faults import Fault

_RESULT_FIELDS: Final = set(ModelEffectOperationResult.model_fields)
_ATTEMPT_FIELDS: Final = set(ModelEffectAttempt.model_fields)


def attempt_record(
    number: int, began_s: float, took_s: float, fault: Fault | None, delay_ms: float = 0.0, source: str | None = None
) -> ModelEffectAttempt:
    """One attempt. `began_s` counts from the beginning of the operation; `fault` is None after a success."""
    return trusted(
        ModelEffectAttempt,
        {
            "number": number,
            "started_ms": began_s * 1000,
            "duration_ms": took_s * 1000,
            "phase": None if fault is None else fault.phase,
            "status_code": None if fault is None else fault.status_code,
            "error_kind": None if fault is None else fault.kind,
            "delay_ms": delay_ms,
            "delay_source": source,
        },
        _ATTEMPT_FIELDS,
    )


def success_record(
    name: str,
    duration_ms: float,
    attempts: list[ModelEffectAttempt],
    fields: dict[str, ExtractedValue],
    status_code: int | None,
) -> ModelEffectOperationResult:
    """The result of an operation that succeeded at its last attempt."""
    return trusted(
        ModelEffectOperationResult,
        {
            "operation_name": name,
            "success": True,
            "duration_ms": duration_ms,
            "outcome": EnumOperationOutcome.SUCCEEDED,
            "retries": len(attempts) - 1,
            "extracted_fields": fields,
            "error_message": None,
            "error_code": None,
            "stop_reason": EnumStopReason.SUCCESS,
            "status_code": status_code,
            "attempts": attempts,
        },
        _RESULT_FIELDS,
    )
