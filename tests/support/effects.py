"""Short ways to say a contract and to run it in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TypeVar

from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from omnibase_core.nodes.node_effect import NodeEffect
from omnibase_spi.testing import run_virtual

T = TypeVar("T")

GET: dict[str, object] = {"handler_type": "http", "method": "GET", "url_template": "http://host/x"}
PUT: dict[str, object] = {**GET, "method": "PUT", "body_template": "{}"}
POST: dict[str, object] = {**GET, "method": "POST", "body_template": "{}"}
DELETE: dict[str, object] = {**GET, "method": "DELETE"}
INSERT: dict[str, object] = {
    "handler_type": "db",
    "operation": "insert",
    "connection_name": "main",
    "query_template": "INSERT INTO t VALUES ($1)",
    "query_params": ["${input.x:-1}"],
}
SELECT: dict[str, object] = {
    "handler_type": "db",
    "operation": "select",
    "connection_name": "main",
    "query_template": "SELECT 1",
}


def operation(name: str, io_config: Mapping[str, object], **fields: object) -> dict[str, object]:
    return {"operation_name": name, "io_config": dict(io_config), **fields}


def contract(*operations: dict[str, object], **fields: object) -> ModelEffectSubcontract:
    return ModelEffectSubcontract.model_validate(
        {"subcontract_name": "tested", "operations": list(operations), **fields}
    )


def one(io_config: Mapping[str, object], **fields: object) -> ModelEffectSubcontract:
    """A contract of one operation named `only`."""
    return contract(operation("only", io_config, **fields))


def node_of(container: ModelONEXContainer, subcontract: ModelEffectSubcontract) -> NodeEffect:
    node = NodeEffect(container)
    node.effect_subcontract = subcontract
    return node


async def run(container: ModelONEXContainer, subcontract: ModelEffectSubcontract, **data: object) -> ModelEffectOutput:
    """The output of a call, also of one that failed."""
    try:
        return await node_of(container, subcontract).process(ModelEffectInput(operation_data=data))
    except EffectFailedError as error:
        assert error.partial_output is not None
        return error.partial_output


def virtually(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run in virtual time, and see that no task is left behind."""

    async def main() -> T:
        result = await make()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks outlived the call: {left}"
        return result

    return run_virtual(main())
