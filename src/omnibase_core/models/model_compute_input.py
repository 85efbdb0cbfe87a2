"""What a compute node is asked to do."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText


class ModelComputeInput(BaseModel):
    """One call of a compute node; only `data` is required.

    data: any object, which is neither validated nor copied; a contract's pipeline wants JSON values. computation_type:
    names a computation that was registered at the node. cache_enabled: an equal earlier result may be given back.
    parallel_enabled: a registered function runs in a thread, so that the event loop goes on; contracts say themselves
    on which workers they run. metadata: for the caller.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: object
    operation_id: UUID = Field(default_factory=new_id)
    correlation_id: UUID | None = None
    computation_type: StrictText = "default"
    cache_enabled: StrictFlag = False
    parallel_enabled: StrictFlag = False
    metadata: dict[StrictText, JsonValue] = Field(default_factory=dict)
