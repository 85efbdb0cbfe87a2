"""One question to a database of the settings, for the commands that look into tables of ONEX's own."""

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from omnibase_core.models.configuration.model_settings import ModelSettings
    from omnibase_spi.db.adapter import DbAdapter

T = TypeVar("T")


def with_adapter(settings: "ModelSettings", ask: "Callable[[DbAdapter], Coroutine[object, object, T]]") -> T:
    """Ask once, in an event loop and a container of its own, which are closed afterwards."""
    from omnibase_runtime.app import compose
    from omnibase_spi.db.adapter import DbAdapter

    async def asked() -> T:
        async with compose(settings) as container:
            adapter = DbAdapter(settings)
            container.register_service("DbAdapter", adapter)  # closed with the container
            return await ask(adapter)

    return asyncio.run(asked())
