"""What an orchestrator node is asked to do."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from omnibase_core.models.model_action import Identifier
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import StrictText


def _now() -> datetime:
    return datetime.now(UTC)


class ModelOrchestratorInput(BaseModel):
    """One run of a workflow; nothing is required.

    workflow_id: of the run. The same id with the same input is the same run, with another input it is refused.
    input_data: what `${input...}` reads and `input_schema` judges. lease_id, epoch: of a lease on the workflow, under
    which its actions are issued; a lease that does not hold is refused before the run. correlation_id: None means that
    of the current context, else a new one. timeout_ms: how long the caller waits; then the run is cancelled. None is
    as long as it takes. metadata: for the caller.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    workflow_id: Identifier = Field(default_factory=new_id)
    input_data: JsonValue = None
    operation_id: UUID = Field(default_factory=new_id)
    correlation_id: UUID | None = None
    lease_id: Identifier | None = None
    epoch: Annotated[int, Field(strict=True, ge=0, lt=1 << 62)] | None = None
    timeout_ms: Annotated[int, Field(strict=True, ge=1, le=366 * 86_400_000)] | None = None
    metadata: dict[StrictText, StrictText] = Field(default_factory=dict)
    timestamp: datetime = Field(default_factory=_now)
