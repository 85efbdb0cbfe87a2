"""Actions: what an orchestrator wants done, as data that proves who may ask for it."""

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field

from omnibase_core.enums.enum_action import EnumActionStatus, EnumActionTarget, EnumActionType
from omnibase_core.models.primitives.finite_json import FiniteJson
from omnibase_core.models.primitives.frozen_json import FrozenDict, frozen_object
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictText

__all__ = ["EnumActionStatus", "EnumActionTarget", "EnumActionType", "ModelAction", "fence_headers", "identifier"]

TOKEN_KEY: Final = "lease_token"  # noqa: S105  # a number that is no secret
"""The key of `metadata` under which an action carries its fencing token."""

Identifier = Annotated[
    UUID | Annotated[StrictText, Field(min_length=1, max_length=200)], Field(union_mode="left_to_right")
]
"""A UUID, or a name; text that is a UUID becomes one."""
_FrozenObject = Annotated[dict[StrictText, FiniteJson], AfterValidator(frozen_object)]


def _now() -> datetime:
    return datetime.now(UTC)


def identifier(value: UUID | str) -> str:
    """A workflow, resource or lease id as stores write it: every spelling of a UUID is the same one."""
    if isinstance(value, UUID):
        return str(value)
    try:
        return str(UUID(value))
    except ValueError:
        return value


class ModelAction(FrozenModel):
    """One decision of an orchestrator; nothing happens by making one.

    lease_id, epoch: the lease under which it is issued, and the epoch of the state that its issuer had seen. Whether
        they still hold is judged by the store in the statement that writes, not here.
    workflow_id: None means `correlation_id`. A UUID or any name of 1..200 characters.
    command_payload: JSON of the shape that the target asks for. It is kept in the audit: no secrets.
    expires_at: with time zone; judged by the clock of the store. issued_at: by the issuer's clock, for people.
    status: as it was when it was issued. What happened later is in the action log.
    metadata: for people and tools, and the fencing token under `lease_token` (see `LeaseManager.issue`).
    Nothing of it can be changed, what stands in `command_payload` and `metadata` neither: both are copies. Reading the
    JSON of an action gives an equal one.
    """

    action_id: UUID = Field(default_factory=new_id)
    action_type: EnumActionType
    lease_id: Identifier
    epoch: Annotated[int, Field(strict=True, ge=0, lt=1 << 62)]
    target_node: EnumActionTarget
    command_payload: _FrozenObject = Field(default_factory=FrozenDict)
    correlation_id: UUID = Field(default_factory=new_id)
    workflow_id: Identifier | None = None
    issued_at: AwareDatetime = Field(default_factory=_now)
    expires_at: AwareDatetime | None = None
    status: EnumActionStatus = EnumActionStatus.PENDING
    parent_action_id: UUID | None = None
    metadata: _FrozenObject = Field(default_factory=FrozenDict)

    @property
    def resource(self) -> str:
        """What the lease must be of: the workflow's id as text."""
        return str(self.correlation_id if self.workflow_id is None else self.workflow_id)

    @property
    def token(self) -> int | None:
        """The fencing token that the action carries, None for one that carries none."""
        carried = self.metadata.get(TOKEN_KEY)
        return carried if isinstance(carried, int) and not isinstance(carried, bool) and carried > 0 else None


def fence_headers(action: ModelAction) -> dict[str, str]:
    """What a target outside needs to refuse a repetition and a holder of yesterday, as HTTP headers or fields.

    No store of ours can fence an effect outside: the target must compare the token with the greatest it has seen.
    """
    headers = {"Idempotency-Key": str(action.action_id)}
    if action.token is not None:
        headers["X-Onex-Fencing-Token"] = str(action.token)
    return headers
