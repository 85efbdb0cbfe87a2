"""The engine of workflows as the commands reach it, and how they let go of what they used."""

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from omnibase_runtime.commands import _inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from omnibase_core.models.configuration.model_settings import ModelSettings
    from omnibase_core.models.container.model_onex_container import ModelONEXContainer
    from omnibase_core.protocols.protocol_workflow_engine import EngineDriver

T = TypeVar("T")
_log = logging.getLogger("onex.run")
_CLOSE_SECONDS: Final = 5.0
"""A handler that ignores its cancellation may not keep the terminal."""

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        "-d",
        metavar="URL",
        help="Where runs are kept, sqlite:///file.db or postgresql://...; default: the setting database_url "
        "($ONEX_DATABASE_URL), else workflows.db in the setting data_dir.",
        show_default=False,
    ),
]


def settings_with(config: "Path | None", database: str | None) -> "ModelSettings":
    """The settings of this invocation; `--database` counts before them."""
    settings = _inputs.settings_of(config).settings
    if database is None:
        return settings
    from pydantic import SecretStr

    from omnibase_core.logging.redaction import register_secret

    for password in _inputs.passwords(database):
        register_secret(password)
    return settings.model_copy(update={"database_url": SecretStr(database), "engine": None})


def with_engine(
    config: "Path | None", database: str | None, ask: "Callable[[EngineDriver], Coroutine[object, object, T]]"
) -> T:
    """Ask the engine once, without carrying anything out."""
    settings = settings_with(config, database)

    async def asked() -> T:
        from omnibase_core.models.container.model_onex_container import ModelONEXContainer
        from omnibase_runtime.engines import open_engine

        engine = await open_engine(ModelONEXContainer(), settings)
        try:
            return await ask(engine)
        finally:
            await engine.aclose()

    return asyncio.run(asked())


async def close(container: "ModelONEXContainer") -> None:
    """Close the adapters; what happened has happened, so that trouble here changes neither result nor status."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await container.aclose()
    except (TimeoutError, ExceptionGroup) as error:
        _log.warning("adapters could not be closed in good order: %r", error)
