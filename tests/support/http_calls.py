"""How tests of the HTTP adapter ask it."""

from uuid import UUID

from omnibase_core.errors import EffectFault
from omnibase_core.models.configuration.model_settings import ModelPolicy, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedHttpContext
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_spi.http import HttpRestAdapter

CORRELATION_ID = UUID("12345678-1234-4123-8123-123456789abc")


def adapter_with(**policy: object) -> HttpRestAdapter:
    """An adapter under an operator's policy."""
    return HttpRestAdapter(ModelSettings(policy=ModelPolicy.model_validate(policy)))


def context(url: str, **fields: object) -> ModelResolvedHttpContext:
    return ModelResolvedHttpContext.model_validate({"url": url, "timeout_ms": 5000, **fields})


async def send(adapter: HttpRestAdapter, url: str, **fields: object) -> EffectResponse:
    return await adapter.execute(resolved_context=context(url, **fields), correlation_id=CORRELATION_ID)


async def fault_of(adapter: HttpRestAdapter, url: str, **fields: object) -> EffectFault:
    """The fault of a request that must fail; any answer is the test's failure."""
    try:
        response = await send(adapter, url, **fields)
    except EffectFault as fault:
        return fault
    raise AssertionError(f"no fault, but {response}")
