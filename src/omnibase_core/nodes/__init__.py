"""The public door to the nodes and their input and output models."""

from omnibase_core.mixins.effect_rollback import ModelEffectTransaction
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from omnibase_core.nodes.node_effect import NodeEffect

__all__ = ["EffectFailedError", "ModelEffectInput", "ModelEffectOutput", "ModelEffectTransaction", "NodeEffect"]
