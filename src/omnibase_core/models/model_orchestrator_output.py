"""What became of a run of a workflow: step by step, in all."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, SerializeAsAny, field_serializer
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.errors.onex_error import WorkflowExecutionError
from omnibase_core.models.model_action import Identifier, ModelAction
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import FrozenModel


def _now() -> datetime:
    return datetime.now(UTC)


class ModelStepError(FrozenModel):
    """Why a step failed, or did not run. kind: the class name of the exception."""

    code: str
    kind: str
    message: str


class ModelItemResult(FrozenModel):
    """What became of one item of a step. item: its number in the list, from 0. action_id: of the action that was sent
    for it. started_at, ended_at: None of one that was under way when the run ended.
    """

    item: int
    action_id: UUID
    status: EnumStepStatus
    error: ModelStepError | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class ModelWorkflowStepResult(FrozenModel):
    """What became of a step.

    value: its output. attempts: 0 of a step that did not run. started_at, ended_at: None then as well. action_id: of
    the action that was sent to its node. items, failed_items: of a step that is done for each of a list; it has no
    action_id, item_results has those of the items for which something was sent (a `compute` or `reducer` contract is
    computed in place).
    """

    status: EnumStepStatus
    value: JsonValue = None
    error: ModelStepError | None = None
    attempts: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    items: int | None = None
    failed_items: int = 0
    action_id: UUID | None = None
    item_results: list[ModelItemResult] = []

    @property
    def duration_ms(self) -> float:
        """From start to end, waits between attempts included."""
        if self.started_at is None or self.ended_at is None:
            return 0.0
        return (self.ended_at - self.started_at).total_seconds() * 1000


class ModelOrchestrationMetadata(FrozenModel):
    """The run in numbers; its fields can be read like keys too.

    total_services: steps of the workflow. execution_time: seconds. success_rate: of the steps that ran, 1.0 of none.
    parallelism_achieved: the most steps that were under way at once.
    """

    total_services: int = 0
    execution_time: float = 0.0
    execution_time_ms: float = 0.0
    success_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    coordination_type: str = "sequential"
    parallelism_achieved: int = 0

    def __getitem__(self, name: str) -> object:
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)


class ModelOrchestratorOutput(BaseModel):
    """What became of a run.

    result: the workflow's output, or what a code-driven node returned; `orchestration_result` and `final_result` are
    other names of it, in reading and building. step_results: by step id, in order of declaration; `completed_steps`,
    `failed_steps` and `skipped_steps` name them by status (completed, also if undone afterwards; failed and unknown;
    skipped and cancelled). actions: what was sent to nodes, one action for each step that ran, or for each of its items
    (`item_results`), and for each compensation, with the lease, token and epoch under which it was issued. events: what
    was told of the steps. compensations: what was undone, in this order. lease_id, epoch: of the run at its end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    workflow_id: Identifier = Field(default_factory=new_id)
    correlation_id: UUID = Field(default_factory=uuid4)
    operation_id: UUID = Field(default_factory=uuid4)
    result: SerializeAsAny[object] = Field(
        None, validation_alias=AliasChoices("result", "orchestration_result", "final_result")
    )
    step_results: dict[str, ModelWorkflowStepResult] = {}
    completed_steps: list[str] = []
    failed_steps: list[str] = []
    skipped_steps: list[str] = []
    execution_metadata: ModelOrchestrationMetadata = ModelOrchestrationMetadata()
    actions: list[ModelAction] = []
    events: list[dict[str, JsonValue]] = []
    compensations: list[dict[str, JsonValue]] = []
    warnings: list[str] = []
    lease_id: Identifier | None = None
    epoch: int | None = None
    metadata: dict[str, str] = {}
    timestamp: datetime = Field(default_factory=_now)

    @field_serializer("result")
    def _result_as_json(self, value: object) -> object:
        return to_jsonable_python(value, fallback=str, serialize_unknown=True)

    @property
    def orchestration_result(self) -> object:
        return self.result

    @property
    def final_result(self) -> object:
        return self.result

    @property
    def processing_time_ms(self) -> float:
        return self.execution_metadata.execution_time_ms


class OrchestrationFailedError(WorkflowExecutionError):
    """A run that was aborted. `partial_output` is what had happened by then, compensations included."""

    partial_output: ModelOrchestratorOutput | None = None
