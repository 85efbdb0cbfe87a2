"""A workflow over registered services that carries its own input: what a service base's `execute_orchestration` also
takes (overview, ruling 7).
"""

from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_action import EnumActionTarget
from omnibase_core.enums.enum_workflow import EnumDependencyType, EnumWorkflowCoordination, EnumWorkflowStepType
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract
from omnibase_core.models.contracts.subcontracts.workflow_steps import ModelWorkflowStep
from omnibase_core.models.contracts.workflow_parts import ModelConflictResolutionConfig, ModelDependency
from omnibase_core.models.model_action import Identifier
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictText

__all__ = [
    "EnumDependencyType",
    "EnumWorkflowCoordination",
    "ModelConflictResolutionConfig",
    "ModelContractOrchestrator",
    "ModelDependency",
    "ModelServiceStep",
    "ModelWorkflowConfig",
    "workflow_of",
]


class ModelServiceStep(FrozenModel):
    """A step: `await service.execute(parameters)` of a registered service.

    parameters: a tree in which texts may read `${input...}` (the initial state) and `${steps.<id>...}` (what steps
    before have given). target_node_type: what kind of node the service stands for. depends_on: steps that come before;
    sequential steps come in the order of their declaration without it.
    """

    step_id: Annotated[StrictText, Field(pattern="^[A-Za-z_][A-Za-z0-9_-]*$", max_length=100)]
    service_name: Annotated[StrictText, Field(min_length=1, max_length=200)]
    parameters: dict[StrictText, JsonValue] = {}
    target_node_type: EnumActionTarget = EnumActionTarget.EFFECT
    depends_on: list[StrictText] = []
    timeout_ms: Annotated[int, Field(strict=True, ge=1, le=366 * 86_400_000)] | None = None


class ModelWorkflowConfig(FrozenModel):
    """The steps and how they follow each other. max_parallel_steps: how many run at once, where they may."""

    coordination_type: EnumWorkflowCoordination = EnumWorkflowCoordination.SEQUENTIAL
    steps: Annotated[list[ModelServiceStep], Field(min_length=1, max_length=1_000)]
    max_parallel_steps: Annotated[int, Field(strict=True, ge=1, le=100)] = 5
    workflow_timeout_ms: Annotated[int, Field(strict=True, ge=1, le=366 * 86_400_000)] | None = None


class ModelContractOrchestrator(FrozenModel):
    """A workflow over services.

    workflow_id: of the run. dependency_resolution: services that must be there before the first step. initial_state:
    what `${input...}` reads.
    """

    correlation_id: UUID = Field(default_factory=uuid4)
    workflow_id: Identifier = Field(default_factory=new_id)
    workflow_config: ModelWorkflowConfig
    dependency_resolution: list[ModelDependency] = []
    conflict_resolution: ModelConflictResolutionConfig = ModelConflictResolutionConfig(retry_enabled=False)
    initial_state: dict[StrictText, JsonValue] = {}


def workflow_of(contract: ModelContractOrchestrator) -> ModelOrchestratorSubcontract:
    """The workflow that a contract over services says. Raises VALIDATION_ERROR for steps that do not fit together."""
    config = contract.workflow_config
    return ModelOrchestratorSubcontract(
        workflow_name="services",
        coordination_type=config.coordination_type,
        max_parallel_steps=config.max_parallel_steps,
        workflow_timeout_ms=config.workflow_timeout_ms,
        dependencies=contract.dependency_resolution,
        conflict_resolution=contract.conflict_resolution,
        steps=[
            ModelWorkflowStep(
                step_id=step.step_id,
                step_type=EnumWorkflowStepType(step.target_node_type.value),
                node=step.service_name,
                input=dict(step.parameters),
                depends_on=step.depends_on,
                timeout_ms=step.timeout_ms,
            )
            for step in config.steps
        ],
    )
