"""Metrics of effects for Prometheus. Labels are names out of contracts and closed vocabularies, never ids or values."""

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_per_registry: WeakKeyDictionary[CollectorRegistry, tuple[Histogram, Counter, Counter]] = WeakKeyDictionary()


def _instruments(registry: CollectorRegistry) -> tuple[Histogram, Counter, Counter]:
    """One set per Prometheus registry, which refuses a second instrument of the same name."""
    made = _per_registry.get(registry)
    if made is None:
        labels = ("contract", "operation", "handler")
        made = _per_registry[registry] = (
            Histogram(
                "onex_operation_duration_seconds",
                "Duration of an operation, delays included",
                (*labels, "outcome"),
                buckets=_BUCKETS,
                registry=registry,
            ),
            Counter("onex_operation_retries", "Attempts after the first", labels, registry=registry),
            Counter("onex_operation_stops", "Why no further attempt was made", (*labels, "reason"), registry=registry),
        )
    return made


class PrometheusEffectMetrics:
    """Makes meters on a Prometheus registry (default: the process-wide one)."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._durations, self._retries, self._stops = _instruments(registry)

    def operation_meter(self, contract: str, operation: str, handler_kind: str) -> "OperationMeter":
        labels = (contract, operation, handler_kind)
        return OperationMeter(labels, self._durations, self._stops, self._retries.labels(*labels).inc)


class OperationMeter:
    """The children of one operation, looked up once: `.labels()` costs more than counting."""

    __slots__ = ("_children", "_durations", "_labels", "_retries", "_stops")

    def __init__(
        self,
        labels: tuple[str, str, str],
        durations: Histogram,
        stops: Counter,
        retries: Callable[[float], None],
    ) -> None:
        self._labels = labels
        self._durations = durations
        self._stops = stops
        self._retries = retries
        self._children: dict[tuple[str, str], tuple[Callable[[float], None], Callable[[], None]]] = {}

    def finished(self, outcome: str, stop_reason: str, seconds: float, attempts: int) -> None:
        child = self._children.get((outcome, stop_reason))
        if child is None:
            child = self._children[(outcome, stop_reason)] = (
                self._durations.labels(*self._labels, outcome).observe,
                self._stops.labels(*self._labels, stop_reason).inc,
            )
        child[0](seconds)
        child[1]()
        if attempts > 1:
            self._retries(attempts - 1)
