"""The small services of a bare container."""

import logging
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.errors import ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols import protocol_lease, protocol_services, protocol_state
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_secret_provider import ProtocolSecretProvider
from omnibase_spi.defaults import MetricsCollector, SettingsConfigProvider

DEFAULTS = [
    protocol_services.ProtocolLogger,
    protocol_services.ProtocolClock,
    protocol_services.ProtocolPerformanceMonitor,
    protocol_services.ProtocolMetricsCollector,
    protocol_services.ProtocolHealthMonitor,
    protocol_services.ProtocolServiceRegistry,
    protocol_services.ProtocolAlgorithmRegistry,
    protocol_services.NodeConfigProvider,
    protocol_lease.ProtocolLeaseStore,
    protocol_lease.ProtocolLeaseManager,
    protocol_state.ProtocolStateManager,
    protocol_state.ProtocolTransactionManager,
    ProtocolEventBus,
    ProtocolSecretProvider,
]


@pytest.mark.parametrize("protocol", DEFAULTS, ids=lambda each: each.__name__)
def test_a_bare_container_has_a_default_for_the_protocol(protocol: type) -> None:
    """By type and by name, one and the same service, which keeps to the protocol."""
    container = ModelONEXContainer()

    service: object = container.get_service(protocol)

    assert isinstance(service, protocol)
    assert container.get_service(protocol.__name__) is service


@pytest.mark.parametrize("name", ["ProtocolDatabasePool", "ProtocolConnectionPool"])
def test_pools_have_no_default(name: str) -> None:
    """They are the program's own."""
    with pytest.raises(ModelOnexError, match=name):
        ModelONEXContainer().get_service(name)


async def test_a_scope_finds_its_own_first_and_closes_only_them() -> None:
    """Everything else comes from the container around it, and stays open."""
    closed: list[str] = []

    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        async def aclose(self) -> None:
            closed.append(self.name)

    outer = ModelONEXContainer()
    outer.register_service("shared", Service("outer"))
    async with outer.scope() as scope:
        scope.register_service("mine", Service("inner"))
        clock = scope.get_service("ProtocolClock")
        assert scope.get_service("shared") is outer.get_service("shared")

    assert closed == ["inner"]
    assert outer.get_service("ProtocolClock") is clock
    assert not outer.has_service("mine")


def test_the_logger_writes_structured_events(caplog: pytest.LogCaptureFixture) -> None:
    """Level and message arrive, and logging never raises."""
    logger = ModelONEXContainer().get_service(protocol_services.ProtocolLogger)
    with caplog.at_level(logging.DEBUG, "onex"):
        logger.debug("a", key=1)
        logger.info("b", key=object())
        logger.warning("c")
        logger.error("d", **{"weird key": {}})

    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "WARNING", "ERROR"]


async def test_metrics_are_gauges_by_name_and_tags() -> None:
    """The last value is exposed; a second collector on the same registry shares the gauge."""
    registry = CollectorRegistry()
    for value in (1.0, 2.0):
        await MetricsCollector(registry).record_metric(metric_name="queue depth", value=value, tags={"queue": "a"})

    assert registry.get_sample_value("onex_custom_queue_depth", {"queue": "a"}) == 2.0


def test_health_and_versions_of_services_by_name() -> None:
    """What is not there is unhealthy; a version is what the service says."""
    container = ModelONEXContainer()

    class Well:
        version = "1.2.0"

    class Ill:
        def is_healthy(self) -> bool:
            return False

    container.register_service("well", Well())
    container.register_service("ill", Ill())
    monitor = container.get_service(protocol_services.ProtocolHealthMonitor)
    registry = container.get_service(protocol_services.ProtocolServiceRegistry)

    assert monitor.check_service_health("well").is_healthy
    assert monitor.check_service_health("ill").status is EnumHealthStatus.DEGRADED
    assert monitor.check_service_health("missing").status is EnumHealthStatus.UNHEALTHY
    assert registry.get_service_version("well") == "1.2.0"
    assert registry.get_service_version("ill") is None
    with pytest.raises(ModelOnexError):
        registry.get_service("missing")


def test_errors_are_counted_by_class() -> None:
    """With the time that they took."""
    container = ModelONEXContainer()
    monitor = container.get_service(protocol_services.ProtocolPerformanceMonitor)
    monitor.record_error(uuid4(), ValueError("x"), 0.5)
    monitor.record_error(None, ValueError("y"), 0.25)

    assert monitor.errors == {"ValueError": 2}  # type: ignore[attr-defined]  # of the default
    assert monitor.seconds == 0.75  # type: ignore[attr-defined]  # of the default


def test_configuration_values_in_order() -> None:
    """Given, environment, default."""
    provider = SettingsConfigProvider({"a.b": 1}, {"ONEX_NODE__A__B": "env", "ONEX_NODE__C": "env"})

    assert (provider.get("a.b"), provider.get("c"), provider.get("d", 5)) == (1, "env", 5)
