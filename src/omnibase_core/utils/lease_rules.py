"""Why a lease or an action is refused. Stores judge in the statement that writes; this tells the cases apart."""

import json
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import (
    ActionExpiredError,
    ConcurrentModificationError,
    EpochMismatchError,
    LeaseConflictError,
    LeaseExpiredError,
    LeaseValidationError,
    ModelOnexError,
    StateUpdateConflictError,
)
from omnibase_core.models.model_action import ModelAction, identifier
from omnibase_core.protocols.protocol_lease import LeaseRecord, WorkflowLease

MIN_TTL_MS: Final = 10
MAX_TTL_MS: Final = 7 * 24 * 3_600_000
NEVER_MS: Final = (1 << 63) - 1
"""The `expires_ms` of an action that does not expire."""
_encode: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def as_ms(moment: datetime | None) -> int:
    """Milliseconds since 1970, rounded down; None is never."""
    return NEVER_MS if moment is None else (moment - _EPOCH) // _MILLISECOND


def as_moment(milliseconds: int) -> datetime:
    """The UTC time of milliseconds since 1970."""
    return _EPOCH + milliseconds * _MILLISECOND


def state_text(state: JsonValue, what: str) -> str:
    """JSON as stores keep it. VALIDATION_ERROR for what is none, such as NaN."""
    try:
        return _encode(state)
    except (ValueError, TypeError) as error:
        raise ModelOnexError(
            f"{what}: the state is no JSON ({error}); use null, booleans, finite numbers, texts, lists and objects",
            EnumCoreErrorCode.VALIDATION_ERROR,
        ) from None


def require_ids(resource: str, lease_id: str, ttl_ms: int) -> None:
    """VALIDATION_ERROR for names and times that no store takes."""
    for what, text in (("resource", resource), ("lease id", lease_id)):
        if not 1 <= len(text) <= 200 or "\0" in text:
            raise ModelOnexError(
                f"lease: the {what} is {text[:210]!r}; 1..200 characters, no NUL, please",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
    if not MIN_TTL_MS <= ttl_ms <= MAX_TTL_MS:
        raise ModelOnexError(
            f"lease of {resource!r}: a time to live of {ttl_ms} ms; {MIN_TTL_MS} to {MAX_TTL_MS} (a week), please",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )


def lease_of(record: LeaseRecord, workflow_id: UUID | str, lease_id: UUID | str) -> WorkflowLease:
    """A record as its holder sees it, under the ids that the holder uses."""
    return WorkflowLease(lease_id, workflow_id, as_moment(record.expires_ms), record.epoch, record.token)


def conflict(resource: str, standing: LeaseRecord) -> LeaseConflictError:
    """Somebody else has the lease."""
    return LeaseConflictError(
        f"lease of {resource!r}: {standing.holder} has it for another {standing.remaining_ms} ms unless it renews it. "
        "Wait, or have it freed by `onex leases release`.",
        context={
            "resource": resource,
            "holder": standing.holder,
            "remaining_ms": standing.remaining_ms,
            "token": standing.token,
        },
    )


def not_held(
    resource: str, lease_id: str, token: int | None, standing: LeaseRecord | None, *, was_granted: bool
) -> ModelOnexError | None:
    """Why a lease does not hold, None when it does.

    standing: what the store knows of the resource. was_granted: whether this lease was ever given for it.
    """
    context: dict[str, object] = {"resource": resource, "lease_id": lease_id}
    if standing is not None:
        context |= {"token": standing.token, "holder": standing.holder}
    if standing is None or standing.lease_id != lease_id:
        if standing is None or not was_granted:
            return LeaseValidationError(
                f"lease {lease_id} of {resource!r}: it was never given for this resource. "
                "Acquire one with acquire_lease, and issue actions under its lease_id.",
                context=context,
            )
        return LeaseExpiredError(
            f"lease {lease_id} of {resource!r}: it ended, and {standing.holder} came after with token "
            f"{standing.token}. Stop, or acquire a new lease and go on from its epoch.",
            context=context,
        )
    if standing.remaining_ms == 0 or (token is not None and token != standing.token):
        now = "and was given anew" if standing.remaining_ms else "or was released"
        return LeaseExpiredError(
            f"lease {lease_id} of {resource!r}: it ran out {now}; token shown "
            f"{'none' if token is None else token}, last token {standing.token}. "
            "Stop, or acquire a new lease and go on from its epoch.",
            context=context,
        )
    return None


def refusal(
    action: ModelAction, token: int | None, standing: LeaseRecord | None, *, was_granted: bool
) -> ModelOnexError | None:
    """Why an action is refused, None when lease, token, time and epoch hold; judged in this order."""
    resource = action.resource
    refused = not_held(resource, identifier(action.lease_id), token, standing, was_granted=was_granted)
    if refused is not None or standing is None:
        if refused is not None:
            refused.correlation_id = action.correlation_id
            refused.context["action_id"] = str(action.action_id)
        return refused
    what = f"action {action.action_id} ({action.action_type.value}) of {resource!r}"
    context: dict[str, object] = {"resource": resource, "action_id": str(action.action_id)}
    if as_ms(action.expires_at) <= standing.now_ms:
        late = standing.now_ms - as_ms(action.expires_at)
        return ActionExpiredError(
            f"{what}: it expired {late} ms ago by the clock of the store. Issue it anew if it is still wanted.",
            context=context | {"late_ms": late},
            correlation_id=action.correlation_id,
        )
    if action.epoch != standing.epoch:
        return EpochMismatchError(
            f"{what}: issued at epoch {action.epoch}, the state is at {standing.epoch}. "
            "Read the state again and issue a new action from there.",
            context=context | {"expected_epoch": action.epoch, "found_epoch": standing.epoch},
            correlation_id=action.correlation_id,
        )
    return None


def overtaken(action: ModelAction, why: str) -> ConcurrentModificationError:
    """The statement changed nothing, or the database gave it up, though nothing speaks against the action now."""
    return ConcurrentModificationError(
        f"action {action.action_id} of {action.resource!r}: {why}; nothing was written. Try it again.",
        context={"resource": action.resource, "action_id": str(action.action_id)},
        correlation_id=action.correlation_id,
    )


def committed_otherwise(action: ModelAction, epoch: int) -> StateUpdateConflictError:
    """The action was committed before, and its state was another."""
    return StateUpdateConflictError(
        f"action {action.action_id} of {action.resource!r}: committed already as epoch {epoch}, with another state. "
        "An action changes the state once; issue a new one for another change.",
        context={"resource": action.resource, "action_id": str(action.action_id), "found_epoch": epoch},
        correlation_id=action.correlation_id,
    )


def no_state(resource: str, epoch: int, current: int) -> ModelOnexError:
    """There is no state of that epoch."""
    return ModelOnexError(
        f"state of {resource!r} at epoch {epoch}: there is none; epochs reach from 1 to {current}, "
        "and the states of old ones may have been forgotten",
        EnumCoreErrorCode.NOT_FOUND,
        {"resource": resource, "epoch": epoch, "current_epoch": current},
    )


def no_lease(resource: str) -> ModelOnexError:
    """Nobody ever had a lease of the resource."""
    return ModelOnexError(
        f"lease of {resource!r}: nobody ever had one; `onex leases list` shows what there is",
        EnumCoreErrorCode.NOT_FOUND,
        {"resource": resource},
    )


def not_begun(action: ModelAction) -> ModelOnexError:
    """An end without a beginning."""
    return ModelOnexError(
        f"action {action.action_id} of {action.resource!r}: it was not begun, so it cannot end; "
        "call `begin` before it is sent out",
        EnumCoreErrorCode.NOT_FOUND,
        {"resource": action.resource, "action_id": str(action.action_id)},
        action.correlation_id,
    )


def refusal_document(error: ModelOnexError) -> dict[str, JsonValue]:
    """What the audit keeps of an error."""
    return {"error": type(error).__name__, "code": error.error_code.value, "message": error.message}
