"""Which engine carries workflows out, and where their runs are kept: `ONEX_DATABASE_URL` and `ONEX_ENGINE`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import masked_url, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omnibase_core.models.configuration.model_settings import ModelSettings
    from omnibase_core.models.container.model_onex_container import ModelONEXContainer
    from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
    from omnibase_core.protocols.protocol_workflow_engine import RunWorkflow
    from omnibase_spi.db.adapter import DbAdapter
    from omnibase_spi.engine_dbos import DbosDriver
    from omnibase_spi.engine_dbos_link import QueueLimits

ONE_SHOT: Final = "onex-run"
"""The queue of runs that `onex run` starts: workers serve it too, and `onex run` takes nothing else."""
RUNS_FILE: Final = "workflows.db"
"""In `data_dir`: where runs are kept when no setting says otherwise."""


def url_where_kept(settings: "ModelSettings") -> str:
    """The database in which runs are kept; the directory of the embedded one is made.

    Raises CONFIGURATION_ERROR when the engine is to be the one in memory.
    """
    if settings.engine == "memory":
        message = (
            "the setting engine is `memory`, whose runs end with their program and that nobody else can see; "
            "remove it (ONEX_ENGINE), or set database_url (ONEX_DATABASE_URL)"
        )
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    directory = settings.data_dir.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{directory / RUNS_FILE}"


async def open_engine(
    container: "ModelONEXContainer",
    settings: "ModelSettings",
    run: "RunWorkflow | None" = None,
    queues: "Sequence[QueueLimits]" = (),
    only: str | None = None,
) -> "DbosDriver":
    """The engine that keeps runs. run: the interpreter; without one it only starts, watches and steers.

    only: the one queue whose runs are carried out here.

    Raises what `DbosDriver.create` raises, and CONFIGURATION_ERROR for a database that is none or that lets us make no
    tables.
    """
    from omnibase_spi.engine_dbos import DbosDriver
    from omnibase_spi.engine_dbos_link import check_dbos

    check_dbos()
    from sqlalchemy.exc import DatabaseError

    url = url_where_kept(settings)
    try:
        if run is None:
            return await DbosDriver.create(url)
        return await DbosDriver.create(
            url,
            run,
            lease_ttl_ms=settings.worker_lease_ms,
            queues=queues,
            bus=cast("ProtocolEventBus", container.get_service("ProtocolEventBus")),  # its key
            db=cast("DbAdapter", container.get_service("DbAdapter")),  # its key
            only=only,
            retention=None if settings.workflow_retention_days is None else timedelta(settings.workflow_retention_days),
        )
    except DatabaseError as error:
        message = f"{masked_url(url)}: runs cannot be kept there: {error.orig}; name another database"
        raise ModelOnexError(redact(message), EnumCoreErrorCode.CONFIGURATION_ERROR) from None
