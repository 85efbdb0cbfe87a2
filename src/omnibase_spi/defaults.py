"""Small services that a bare container has: clock, logger, monitors, configuration."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from pydantic import JsonValue

from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.enums.enum_log_level import EnumLogLevel
from omnibase_core.logging.logging_structured import emit_log_event_sync
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_health import NodeHealthStatus

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

_MAX_ERROR_KINDS: Final = 1000


class SystemClock:
    """`ProtocolClock` of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class StructuredLogger:
    """`ProtocolLogger` over `emit_log_event_sync`."""

    def debug(self, msg: str, **context: object) -> None:
        emit_log_event_sync(EnumLogLevel.DEBUG, msg, context)

    def info(self, msg: str, **context: object) -> None:
        emit_log_event_sync(EnumLogLevel.INFO, msg, context)

    def warning(self, msg: str, **context: object) -> None:
        emit_log_event_sync(EnumLogLevel.WARNING, msg, context)

    def error(self, msg: str, **context: object) -> None:
        emit_log_event_sync(EnumLogLevel.ERROR, msg, context)


class PerformanceMonitor:
    """`ProtocolPerformanceMonitor`: counts errors by class, and logs each."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0

    def record_error(self, correlation_id: UUID | None, error: BaseException, seconds: float) -> None:
        name = type(error).__name__
        if name in self.errors or len(self.errors) < _MAX_ERROR_KINDS:
            self.errors[name] += 1
        self.seconds += seconds
        emit_log_event_sync(
            EnumLogLevel.WARNING,
            "call failed",
            {"correlation_id": correlation_id, "error": name, "seconds": round(seconds, 6)},
        )


_gauges: "WeakKeyDictionary[CollectorRegistry, dict[tuple[str, tuple[str, ...]], Gauge]]" = WeakKeyDictionary()


class MetricsCollector:
    """`ProtocolMetricsCollector` on a Prometheus registry: a gauge `onex_custom_<name>` per name and set of tag names.

    `values` has the last value of each name.
    """

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        from prometheus_client import REGISTRY

        self._registry = REGISTRY if registry is None else registry
        self.values: dict[str, float] = {}

    async def record_metric(self, *, metric_name: str, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[metric_name] = value
        made = _gauges.setdefault(self._registry, {})
        key = (metric_name, tuple(sorted(tags or {})))
        gauge = made.get(key)
        if gauge is None:
            gauge = made[key] = self._gauge(*key)
        (gauge.labels(**tags) if tags else gauge).set(value)

    def _gauge(self, name: str, labels: tuple[str, ...]) -> "Gauge":
        from prometheus_client import Gauge

        safe = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)
        return Gauge(f"onex_custom_{safe}", "Recorded by a node", labels, registry=self._registry)


class HealthMonitor:
    """`ProtocolHealthMonitor`: what is known without asking anybody."""

    def __init__(self, container: ModelONEXContainer) -> None:
        self._container = container

    def check_service_health(self, name: str) -> NodeHealthStatus:
        if not self._container.has_service(name):
            return NodeHealthStatus(status=EnumHealthStatus.UNHEALTHY, details={"error": f"no service {name!r}"})
        service = self._container.get_service(name)
        known = getattr(service, "is_healthy", True)
        well = known() if callable(known) else known
        return NodeHealthStatus(status=EnumHealthStatus.HEALTHY if well else EnumHealthStatus.DEGRADED)


class ServiceRegistry:
    """`ProtocolServiceRegistry`: the container's services by name."""

    def __init__(self, container: ModelONEXContainer) -> None:
        self._container = container

    def get_service(self, name: str) -> object:
        return self._container.get_service(name)

    def get_service_version(self, name: str) -> str | None:
        version = getattr(self._container.get_service(name), "version", None)
        return None if version is None else str(version)


class SettingsConfigProvider:
    """`NodeConfigProvider`: values given by the program, then `ONEX_NODE__<NAME>` of the environment (dots as `__`)."""

    def __init__(self, values: Mapping[str, JsonValue] | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._values = dict(values or {})
        self._environ = environ

    def get(self, name: str, default: JsonValue = None) -> JsonValue:
        if name in self._values:
            return self._values[name]
        return self._environ.get("ONEX_NODE__" + name.upper().replace(".", "__"), default)
