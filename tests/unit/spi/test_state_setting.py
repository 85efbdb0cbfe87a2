"""The setting that says where states are kept."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_state import ProtocolStateManager, ProtocolTransactionManager
from omnibase_core.utils.settings_source import settings_from_environ
from omnibase_spi.bootstrap import register_effect_handlers


def _container(directory: Path, state_connection: str | None) -> ModelONEXContainer:
    container = ModelONEXContainer()
    connections = {
        "states": ModelConnection(url=SecretStr(f"sqlite:///{directory}/states.db")),
        "web": ModelConnection(url=SecretStr("http://127.0.0.1:1/")),
    }
    settings = ModelSettings(connections=connections, state_connection=state_connection, data_dir=directory)
    register_effect_handlers(container, settings)
    return container


@pytest.mark.parametrize("name", ["states", "default"])
async def test_states_outlive_the_container_in_a_connection(tmp_path: Path, name: str) -> None:
    """Both protocols are one service; a transaction that is left open ends with the container."""
    async with _container(tmp_path, name) as first:
        manager, transactions = first.get_service(ProtocolStateManager), first.get_service(ProtocolTransactionManager)
        await manager.update_state("o", "k", 1)
        await transactions.begin_transaction()
        await manager.update_state("o", "k", 2)

    async with _container(tmp_path, name) as second:
        assert (await second.get_service(ProtocolStateManager).get_state("o", "k")).state == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "state_connection: Unknown database connection 'nowhere'"), ("web", "'web' is no")],
)
def test_a_connection_that_is_no_database_is_a_wrong_setting(tmp_path: Path, name: str, message: str) -> None:
    """Told by whoever asks for the service, also optionally: silence would be a loss of state."""
    container = _container(tmp_path, name)

    for ask in (container.get_service, container.get_service_optional):
        with pytest.raises(ModelOnexError, match=message) as caught:
            ask("ProtocolStateManager")
        assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


def test_a_variable_sets_it() -> None:
    """As any other setting."""
    assert settings_from_environ({"ONEX_STATE_CONNECTION": "states"}).state_connection == "states"
    assert settings_from_environ({}).state_connection is None
