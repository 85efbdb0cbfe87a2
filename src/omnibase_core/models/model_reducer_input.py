"""What a reducer node is asked to do."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, cast
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
)

from omnibase_core.models.fsm_state import FsmState
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText


def _now() -> datetime:
    return datetime.now(UTC)


def _as_it_is(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """A frozen state is not copied into a dict, whose size each action would pay for."""
    return value if isinstance(value, FsmState) else cast("object", handler(value))  # typed as Any


class ModelReducerInput(BaseModel):
    """One call of a reducer node: an action on a state, or data to be reduced.

    action: trigger of a machine, exactly as its transitions spell it. payload: what the action brings. state: a state
    or snapshot of a machine, the name of a state, or None for the initial one; a code-driven node gets it as it is.
    operation_id: the action's id; the same id gives intents with the same ids. timestamp: when it happened.
    data: what is to be reduced, by `reduction_type`; streaming_mode, batch_size: how it comes. correlation_id: None
    means that of the current context, else `operation_id`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: object = None
    reduction_type: Annotated[StrictText, Field(min_length=1, max_length=100)] = "state_machine"
    state: Annotated[StrictText | Mapping[str, object] | None, WrapValidator(_as_it_is)] = None
    action: Annotated[StrictText, Field(min_length=1, max_length=100)] | None = None
    payload: dict[StrictText, JsonValue] = Field(default_factory=dict)
    streaming_mode: Literal["batch", "incremental", "windowed", "real_time"] = "batch"
    batch_size: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1_000
    operation_id: UUID = Field(default_factory=new_id)
    correlation_id: UUID | None = None
    transaction_enabled: StrictFlag = False
    metadata: dict[StrictText, StrictText] = Field(default_factory=dict)
    timestamp: datetime = Field(default_factory=_now)

    @field_serializer("state")
    def _snapshot(self, state: object) -> object:
        return state.snapshot() if isinstance(state, FsmState) else state
