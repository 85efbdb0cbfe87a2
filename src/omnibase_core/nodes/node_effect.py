"""The EFFECT node."""

from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.mixin_effect_execution import MixinEffectExecution
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput
from omnibase_core.utils.contract_loader import load_contract


class NodeEffect(MixinEffectExecution):
    """Talks to the outside world, as a contract says.

    `NodeEffect.from_contract(container, contract)` needs only a container; a bare one runs contracts where
    `omnibase_spi` is installed. `container` and `effect_subcontract` may be reassigned; the next call heeds it.
    """

    def __init__(self, container: ModelONEXContainer | None = None) -> None:
        self.container = ModelONEXContainer() if container is None else container
        self.node_id: UUID = uuid4()

    @classmethod
    def from_contract(cls, container: ModelONEXContainer | None, contract: str | Path) -> Self:
        """A node that runs `contract`: YAML text as a `str`, or a file as a `Path`.

        Raises ContractError with every problem of the contract, and ModelOnexError VALIDATION_ERROR for a contract of
        another kind or a `str` that names a file.
        """
        loaded = load_contract(contract)
        if loaded.effect_subcontract is None:
            raise ModelOnexError(
                f"{loaded.source}: NodeEffect runs an effect_subcontract, found {loaded.kind}_subcontract",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        node = cls(container)
        node.effect_subcontract = loaded.effect_subcontract
        node._effect_plan = loaded.effect_plan  # noqa: SLF001  # its own attribute, set before anyone has the node
        return node

    async def process(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Carry the contract out once; see `execute_effect` for what is raised."""
        if getattr(self, "effect_subcontract", None) is None:
            raise ModelOnexError(
                f"{type(self).__name__} has no contract; use NodeEffect.from_contract(container, yaml_text_or_path), "
                "or set effect_subcontract",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        return await self.execute_effect(input_data)


