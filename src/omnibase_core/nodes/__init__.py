"""The public door to the nodes and their input and output models. Those of pure nodes are imported when asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from omnibase_core.mixins.effect_rollback import ModelEffectTransaction
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from omnibase_core.nodes.node_effect import NodeEffect

if TYPE_CHECKING:
    from omnibase_core.mixins.lease_manager import LeaseManager
    from omnibase_core.mixins.workflow_actions import ActionValidator, WorkflowStateManager
    from omnibase_core.models.model_action import ModelAction
    from omnibase_core.models.model_compute_input import ModelComputeInput
    from omnibase_core.models.model_compute_output import ComputeFailedError, ModelComputeOutput
    from omnibase_core.models.model_intent import ModelIntent
    from omnibase_core.models.model_intent_result import IntentExecutionResult
    from omnibase_core.models.model_orchestrator_input import ModelOrchestratorInput
    from omnibase_core.models.model_orchestrator_output import ModelOrchestratorOutput, OrchestrationFailedError
    from omnibase_core.models.model_reducer_input import ModelReducerInput
    from omnibase_core.models.model_reducer_output import ModelReducerOutput
    from omnibase_core.nodes.intent_executor import IntentExecutor
    from omnibase_core.nodes.node_compute import NodeCompute
    from omnibase_core.nodes.node_orchestrator import NodeOrchestrator
    from omnibase_core.nodes.node_reducer import NodeReducer
    from omnibase_core.protocols.protocol_lease import WorkflowLease

__all__ = [
    "ActionValidator",
    "ComputeFailedError",
    "EffectFailedError",
    "IntentExecutionResult",
    "IntentExecutor",
    "LeaseManager",
    "ModelAction",
    "ModelComputeInput",
    "ModelComputeOutput",
    "ModelEffectInput",
    "ModelEffectOutput",
    "ModelEffectTransaction",
    "ModelIntent",
    "ModelOrchestratorInput",
    "ModelOrchestratorOutput",
    "ModelReducerInput",
    "ModelReducerOutput",
    "NodeCompute",
    "NodeEffect",
    "NodeOrchestrator",
    "NodeReducer",
    "OrchestrationFailedError",
    "WorkflowLease",
    "WorkflowStateManager",
]

_LATER: Final = {
    "ActionValidator": "omnibase_core.mixins.workflow_actions",
    "ComputeFailedError": "omnibase_core.models.model_compute_output",
    "IntentExecutionResult": "omnibase_core.models.model_intent_result",
    "IntentExecutor": "omnibase_core.nodes.intent_executor",
    "LeaseManager": "omnibase_core.mixins.lease_manager",
    "ModelAction": "omnibase_core.models.model_action",
    "ModelComputeInput": "omnibase_core.models.model_compute_input",
    "ModelComputeOutput": "omnibase_core.models.model_compute_output",
    "ModelIntent": "omnibase_core.models.model_intent",
    "ModelOrchestratorInput": "omnibase_core.models.model_orchestrator_input",
    "ModelOrchestratorOutput": "omnibase_core.models.model_orchestrator_output",
    "ModelReducerInput": "omnibase_core.models.model_reducer_input",
    "ModelReducerOutput": "omnibase_core.models.model_reducer_output",
    "NodeCompute": "omnibase_core.nodes.node_compute",
    "NodeOrchestrator": "omnibase_core.nodes.node_orchestrator",
    "NodeReducer": "omnibase_core.nodes.node_reducer",
    "OrchestrationFailedError": "omnibase_core.models.model_orchestrator_output",
    "WorkflowLease": "omnibase_core.protocols.protocol_lease",
    "WorkflowStateManager": "omnibase_core.mixins.workflow_actions",
}


if not TYPE_CHECKING:  # a type checker knows the names above, and should miss all others

    def __getattr__(name: str) -> object:
        """Import what most programs do not need (PEP 562)."""
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}", name=name, obj=import_module(__name__)
            )
        found: object = getattr(import_module(module), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
