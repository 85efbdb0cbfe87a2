"""Services that a container gives and that a program may register in place of the defaults.

The class is the key as well as its name: `container.get_service(ProtocolLogger)` is `get_service("ProtocolLogger")`.
"""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.models.model_health import NodeHealthStatus

if TYPE_CHECKING:
    from concurrent.futures import Executor


@runtime_checkable
class ProtocolLogger(Protocol):
    """Structured log events; `context` becomes keys of the event, secrets are taken out. Never raises."""

    def debug(self, msg: str, **context: object) -> None: ...

    def info(self, msg: str, **context: object) -> None: ...

    def warning(self, msg: str, **context: object) -> None: ...

    def error(self, msg: str, **context: object) -> None: ...


@runtime_checkable
class ProtocolClock(Protocol):
    """Time, so that tests can have their own."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...


@runtime_checkable
class ProtocolConnectionPool(Protocol):
    """A pool of the program's own; the container has no default for it."""

    def acquire(self) -> AbstractAsyncContextManager[object]:
        """A connection for the length of an `async with`."""
        ...


@runtime_checkable
class ProtocolDatabasePool(ProtocolConnectionPool, Protocol):
    """A pool of database connections of the program's own; the container has no default for it."""


@runtime_checkable
class ProtocolPerformanceMonitor(Protocol):
    """Hears of calls that failed."""

    def record_error(self, correlation_id: UUID | None, error: BaseException, seconds: float) -> None:
        """A call failed after `seconds`."""
        ...


@runtime_checkable
class ProtocolMetricsCollector(Protocol):
    """Takes single measurements."""

    async def record_metric(self, *, metric_name: str, value: float, tags: dict[str, str] | None = None) -> None:
        """Record one value. `tags` must come from a bounded set: no ids, paths or values."""
        ...


@runtime_checkable
class ProtocolHealthMonitor(Protocol):
    """Knows how the services of a container are."""

    def check_service_health(self, name: str) -> NodeHealthStatus:
        """What is known of a service; unhealthy when there is no such service."""
        ...


@runtime_checkable
class ProtocolServiceRegistry(Protocol):
    """Services that a workflow can name."""

    def get_service(self, name: str) -> object:
        """The service; ModelOnexError RESOURCE_UNAVAILABLE when there is none of that name."""
        ...

    def get_service_version(self, name: str) -> str | None:
        """The service's `version`, None when it has none; RESOURCE_UNAVAILABLE like `get_service`."""
        ...


@runtime_checkable
class ProtocolAlgorithmRegistry(Protocol):
    """Algorithms by name."""

    def get_algorithm(self, name: str) -> object:
        """The algorithm, an object with `process_chunk(chunk)`, `merge(first, second)`, and `finish(state)` where the
        last state is not the result; AlgorithmNotFoundError when there is none.
        """
        ...


@runtime_checkable
class ProtocolComputeCluster(Protocol):
    """The engine that computes for the backend `cluster`."""

    def executor(self) -> "Executor":
        """A new executor for one computation, which shuts it down; CONFIGURATION_ERROR when none is set up."""
        ...


@runtime_checkable
class NodeConfigProvider(Protocol):
    """Configuration values of nodes, by dotted name."""

    def get(self, name: str, default: JsonValue = None) -> JsonValue:
        """The value, or `default`."""
        ...
