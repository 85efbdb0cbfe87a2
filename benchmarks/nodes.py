"""Nodes as users build them: a bare container, settings, a contract; retries, breaker and metrics on."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_output import ModelEffectOutput
from omnibase_core.nodes import ModelEffectInput, NodeEffect
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_spi.bootstrap import register_effect_handlers

_DONE: Final = EffectResponse({"id": 5}, 200)


class NoOp:
    """A handler that does nothing: what is left is the executor."""

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> EffectResponse:
        return _DONE


def container_of(settings: ModelSettings | None = None) -> ModelONEXContainer:
    container = ModelONEXContainer()
    register_effect_handlers(container, settings or ModelSettings())
    return container


def no_op_container() -> ModelONEXContainer:
    """A container whose HTTP operations reach nobody."""
    container = container_of()
    container.register_service("HttpRestAdapter", NoOp())
    return container


def node_of(
    container: ModelONEXContainer,
    io_config: dict[str, object],
    operations: int = 1,
    *,
    extract: dict[str, str] | None = None,
    **fields: object,
) -> NodeEffect:
    """A node of so many equal operations with the default retry policy and an enabled breaker."""
    handling = {"response_handling": {"extract_fields": extract}} if extract else {}
    node = NodeEffect(container)
    node.effect_subcontract = ModelEffectSubcontract.model_validate(
        {
            "subcontract_name": "measured",
            "default_circuit_breaker": {"enabled": True},
            "operations": [
                {"operation_name": f"operation_{number}", "io_config": io_config, **handling}
                for number in range(operations)
            ],
            **fields,
        }
    )
    return node


def calling(node: NodeEffect, **data: object) -> Callable[[], Awaitable[ModelEffectOutput]]:
    """A call of the node as users write it, input included. One that fails raises in the aborting modes."""

    async def call() -> ModelEffectOutput:
        return await node.process(ModelEffectInput(operation_data=data))

    return call
