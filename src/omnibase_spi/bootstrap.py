"""The list of adapters, and the services that a container has without being told."""

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_core.registry.budget_registry import BudgetRegistry
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry
from omnibase_core.utils.settings_source import settings_from_environ
from omnibase_spi.defaults import (
    HealthMonitor,
    MetricsCollector,
    PerformanceMonitor,
    ServiceRegistry,
    SettingsConfigProvider,
    StructuredLogger,
    SystemClock,
)
from omnibase_spi.store_memory import MemoryStateManager

if TYPE_CHECKING:
    from omnibase_core.protocols.protocol_workflow_engine import StepOutcome, Work
    from omnibase_spi.db.adapter import DbAdapter
    from omnibase_spi.engine_memory import Transact
    from omnibase_spi.secrets import LayeredSecrets
    from omnibase_spi.workflow_tx import TransactionalSteps

_KEPT_RUNS: Final = 1_000
"""Runs of workflows that have ended and are kept in memory."""
HANDLERS: Final = {
    "http": "HttpRestAdapter",
    "db": "DbAdapter",
    "kafka": "KafkaAdapter",
    "filesystem": "FilesystemHandler",
}
"""Handler kind -> service name, as `EffectHandlerRegistry` starts with."""
_WRONGLY_SET: Final = EnumCoreErrorCode.CONFIGURATION_ERROR


def register_effect_handlers(container: ModelONEXContainer, settings: ModelSettings | None = None) -> None:
    """Put the four adapters and their registry into the container.

    May be called at any time, also twice: the registry and the adapters are replaced by fresh ones. Adapters are made,
    and their client libraries imported, when they are first used. Without `settings` those of the environment count
    (`ONEX_CONNECTIONS__<NAME>__URL` and so on). Adapters that were in use are not closed; `container.aclose()` closes
    those it has.
    """
    if settings is not None:
        container.register_service("ModelSettings", settings)
    elif not container.has_service("ModelSettings"):
        container.register_service("ModelSettings", settings_from_environ(os.environ))
    for name, factory in _adapters(container).items():
        container.register_service(name, factory)
    container.register_service("EffectHandlerRegistry", EffectHandlerRegistry(dict(HANDLERS)))


def default_services(container: ModelONEXContainer) -> dict[str, Callable[[], object]]:
    """Factories of everything that a bare container has; the container calls this at its first missing key."""
    return {
        "ModelSettings": lambda: settings_from_environ(os.environ),
        "EffectHandlerRegistry": lambda: EffectHandlerRegistry(dict(HANDLERS)),
        "BreakerRegistry": BreakerRegistry,
        "BudgetRegistry": lambda: BudgetRegistry(_settings(container).retry_budget),
        "ProtocolSecretProvider": lambda: _secrets(container),
        "ProtocolEffectMetrics": _metrics,
        "ProtocolEventBus": _event_bus,
        "Environment": lambda: _environment(_settings(container)),
        "WallClock": lambda: time.time,
        "ProtocolClock": SystemClock,
        "ProtocolLogger": StructuredLogger,
        "ProtocolPerformanceMonitor": PerformanceMonitor,
        "ProtocolMetricsCollector": MetricsCollector,
        "ProtocolHealthMonitor": lambda: HealthMonitor(container),
        "ProtocolServiceRegistry": lambda: ServiceRegistry(container),
        "ProtocolAlgorithmRegistry": _algorithms,
        "ProtocolComputeCluster": lambda: _cluster(container),
        "NodeConfigProvider": SettingsConfigProvider,
        "ProtocolStateManager": lambda: _states(container),
        "ProtocolTransactionManager": lambda: container.get_service("ProtocolStateManager"),
        "ProtocolLeaseStore": lambda: _leases(container),
        "ProtocolLeaseManager": lambda: _lease_manager(container),
        "WorkflowRunner": lambda: _workflow_runner(container),
        "EngineDriver": lambda: _workflow_engine(container),
        **_intents(container),
        **_adapters(container),
    }


def _settings(container: ModelONEXContainer) -> ModelSettings:
    return container.get_service(ModelSettings)


_CLIENTS: Final = {
    "postgresql": "psycopg",
    "postgres": "psycopg",
    "mysql": "asyncmy",
    "mariadb": "asyncmy",
    "http": "aiohttp",
    "kafka": "confluent_kafka",
}
"""What an adapter will import, by the scheme of a connection's URL."""


def _import_now(*schemes: str) -> None:
    """Import client libraries while an adapter is made: at its first call they would eat a tenth of a second of the
    attempt's time, on the event loop. One that is missing is named by the adapter, when a contract needs it.
    """
    for name in {_CLIENTS[scheme] for scheme in schemes if scheme in _CLIENTS}:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _adapters(container: ModelONEXContainer) -> dict[str, Callable[[], object]]:
    def http() -> object:
        from omnibase_spi.http import HttpRestAdapter

        _import_now("http")
        return HttpRestAdapter(_settings(container))

    def db() -> object:
        from omnibase_spi.db.adapter import DbAdapter

        settings = _settings(container)
        urls = (connection.url.get_secret_value() for connection in settings.connections.values())
        _import_now(*(url.partition(":")[0] for url in urls if not url.startswith("kafka:")))
        return DbAdapter(settings)

    def kafka() -> object:
        from omnibase_spi.kafka import KafkaAdapter

        _import_now("kafka")
        return KafkaAdapter(_settings(container))

    def filesystem() -> object:
        from omnibase_core.handlers.filesystem_handler import FilesystemHandler

        policy = _settings(container).policy
        return FilesystemHandler(policy.file_roots, max_file_bytes=policy.max_file_bytes)

    return {"HttpRestAdapter": http, "DbAdapter": db, "KafkaAdapter": kafka, "FilesystemHandler": filesystem}


def _states(container: ModelONEXContainer) -> object:
    name = _settings(container).state_connection
    if name is None:
        return MemoryStateManager()
    from omnibase_spi.store_sql import SqlStateManager

    return _in_database(container, SqlStateManager, name)


def _leases(container: ModelONEXContainer) -> object:
    name = _settings(container).state_connection
    if name is None:
        from omnibase_spi.lease_memory import MemoryLeaseStore

        return MemoryLeaseStore()
    from omnibase_spi.lease_sql import SqlLeaseStore

    return _in_database(container, SqlLeaseStore, name)


def _workflow_runner(container: ModelONEXContainer) -> object:
    from omnibase_core.mixins.workflow_runner import WorkflowRunner

    return WorkflowRunner(container)


def _workflow_engine(container: ModelONEXContainer) -> object:
    from omnibase_core.mixins.workflow_runner import WorkflowRunner
    from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
    from omnibase_spi.engine_memory import MemoryEngine
    from omnibase_spi.engine_memory_events import RunEvents

    def bus() -> ProtocolEventBus | None:
        found = container.get_service_optional("ProtocolEventBus")
        return found if isinstance(found, ProtocolEventBus) else None

    runner = cast("WorkflowRunner", container.get_service("WorkflowRunner"))  # its key
    return MemoryEngine(runner.run, events=RunEvents(bus), transact=_transact(container), keep_ended=_KEPT_RUNS)


def _transact(container: ModelONEXContainer) -> "Transact":
    def steps() -> "TransactionalSteps":
        from omnibase_spi.workflow_tx import TransactionalSteps

        adapter = cast("DbAdapter", container.get_service("DbAdapter"))  # workflows write through no other
        if not made or made[0][0] is not adapter:
            made[:] = [(adapter, TransactionalSteps(adapter))]
        return made[0][1]

    made: list[tuple[DbAdapter, TransactionalSteps]] = []

    async def transact(connection_name: str, workflow_id: str, position: int, work: "Work") -> "StepOutcome":
        return await steps().run(connection_name, workflow_id, position, work)

    return transact


def _lease_manager(container: ModelONEXContainer) -> object:
    from omnibase_core.mixins.lease_manager import LeaseManager
    from omnibase_core.protocols.protocol_lease import ProtocolLeaseStore

    return LeaseManager(container.get_service(ProtocolLeaseStore))


def _in_database(container: ModelONEXContainer, make: "Callable[[DbAdapter, str], object]", name: str) -> object:
    """What is kept in the connection of the setting."""
    from omnibase_spi.db.adapter import DbAdapter

    adapter = container.get_service(DbAdapter)
    try:
        return make(adapter, name)
    except EffectFault as fault:  # the name is unknown
        raise ModelOnexError(f"setting state_connection: {fault.message}", _WRONGLY_SET) from None


def _algorithms() -> object:
    from omnibase_core.utils.algorithm_registry import AlgorithmRegistry

    return AlgorithmRegistry()


def _cluster(container: ModelONEXContainer) -> object:
    from omnibase_spi.compute_cluster import ConfiguredCluster

    return ConfiguredCluster(_settings(container).compute_cluster)


def _intents(container: ModelONEXContainer) -> dict[str, Callable[[], object]]:
    def of(module: str, name: str) -> Callable[[], object]:
        return lambda: getattr(importlib.import_module(f"omnibase_spi.{module}"), name)(container)

    def db() -> "DbAdapter":
        return cast("DbAdapter", container.get_service("DbAdapter"))  # intents write through no other

    def database_write() -> object:
        from omnibase_spi.db.writes import DatabaseWriteRoute

        return DatabaseWriteRoute(db())

    def ledger() -> object:
        from omnibase_spi.ledger_sql import SqlIntentLedger

        return SqlIntentLedger(db())

    def caches() -> object:
        from omnibase_spi.cache import MemoryCaches

        return MemoryCaches()

    def routes() -> object:
        from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoutes

        return ModelIntentRoutes()

    return {
        "ProtocolIntentLedger": ledger,
        "ModelIntentRoutes": routes,
        "MemoryCaches": caches,
        "IntentHandler:database_write": database_write,
        "IntentHandler:api_call": of("intents", "ApiCallRoute"),
        "IntentHandler:file_operation": of("intents", "FileRoute"),
        "IntentHandler:message_publish": of("intents", "PublishRoute"),
        "IntentHandler:contract": of("intents", "ContractRoute"),
        "IntentHandler:cache_update": of("cache", "CacheRoute"),
        "IntentHandler:notification": of("notify", "NotificationRoute"),
    }


def _event_bus() -> object:
    from omnibase_spi.events_memory import MemoryEventBus

    return MemoryEventBus()


def _metrics() -> object:
    from omnibase_spi.metrics import PrometheusEffectMetrics

    return PrometheusEffectMetrics()


def _secrets(container: ModelONEXContainer) -> "LayeredSecrets":
    from omnibase_spi.secrets import LayeredSecrets

    settings = _settings(container)
    given = {name: value.get_secret_value() for name, value in settings.secrets.items()}
    return LayeredSecrets(given, settings.secrets_dir, os.environ, allowed=settings.policy.secret_names)


def _environment(settings: ModelSettings) -> "os._Environ[str] | dict[str, str]":
    names = settings.policy.env_names
    return os.environ if names is None else {name: os.environ[name] for name in names if name in os.environ}
