"""A container on real systems: named connections, roots, environment and secrets given by the test."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from omnibase_core.models.configuration.model_settings import ModelConnection, ModelPolicy, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_spi.bootstrap import register_effect_handlers


def container_on(
    *,
    root: Path | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    policy: Mapping[str, object] | None = None,
    **connections: str,
) -> ModelONEXContainer:
    """A container with all adapters; `connections` are URLs by name."""
    settings = ModelSettings(
        connections={name: ModelConnection(url=SecretStr(url)) for name, url in connections.items()},
        policy=ModelPolicy.model_validate({"file_roots": None if root is None else (root,), **(policy or {})}),
        secrets={name: SecretStr(value) for name, value in (secrets or {}).items()},
        data_dir=root or Path(".onex"),
    )
    container = ModelONEXContainer()
    register_effect_handlers(container, settings)
    container.register_service("Environment", dict(env or {}))
    return container
