"""Where a container keeps leases."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import LeaseConflictError, ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_lease import ProtocolLeaseManager, ProtocolLeaseStore
from omnibase_spi.bootstrap import register_effect_handlers


def _container(directory: Path, state_connection: str) -> ModelONEXContainer:
    container = ModelONEXContainer()
    urls = {"kept": f"sqlite:///{directory}/kept.db", "away": "mysql://127.0.0.1:1/x", "web": "http://127.0.0.1:1/"}
    connections = {name: ModelConnection(url=SecretStr(url)) for name, url in urls.items()}
    settings = ModelSettings(connections=connections, state_connection=state_connection, data_dir=directory)
    register_effect_handlers(container, settings)
    return container


async def test_leases_are_shared_by_containers_on_one_connection(tmp_path: Path) -> None:
    """Each has a manager of its own, which is another holder."""
    async with _container(tmp_path, "kept") as first, _container(tmp_path, "kept") as second:
        lease = await first.get_service(ProtocolLeaseManager).acquire_lease("w")

        with pytest.raises(LeaseConflictError):
            await second.get_service(ProtocolLeaseManager).acquire_lease("w")
        seen = await second.get_service(ProtocolLeaseStore).lease("w")

    assert seen is not None
    assert (seen.lease_id, seen.token) == (str(lease.lease_id), 1)


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "state_connection"), ("away", "SQLite or PostgreSQL"), ("web", "'web' is no")]
)
def test_a_connection_that_cannot_hold_leases_is_a_wrong_setting(tmp_path: Path, name: str, message: str) -> None:
    """CONFIGURATION_ERROR, also for who asks optionally: silence would be two writers."""
    container = _container(tmp_path, name)

    for ask in (container.get_service, container.get_service_optional):
        with pytest.raises(ModelOnexError, match=message) as caught:
            ask("ProtocolLeaseManager")
        assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
