"""The composition root: settings -> container -> adapters. Nothing below it knows where its parts come from."""

from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_effect_metrics import ProtocolEffectMetrics, ProtocolEffectWatch
from omnibase_spi.bootstrap import register_effect_handlers


def compose(
    settings: ModelSettings,
    *,
    metrics: ProtocolEffectMetrics | None = None,
    watch: ProtocolEffectWatch | None = None,
) -> ModelONEXContainer:
    """A container for a program: adapters under these settings, counted by `metrics` and observed by `watch`.

    Without `metrics` nothing is counted, and Prometheus is not imported. Close it with `aclose`.
    """
    container = ModelONEXContainer()
    register_effect_handlers(container, settings)
    container.register_service("ProtocolEffectMetrics", metrics)
    if watch is not None:
        container.register_service("ProtocolEffectWatch", watch)
    return container
