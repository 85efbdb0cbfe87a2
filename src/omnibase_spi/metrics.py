"""Metrics of effects for Prometheus. Labels are names out of contracts and closed vocabularies, never ids or values.

The client library's own instruments take three locks and search their buckets in Python for what we count of an
operation, about a tenth of its whole cost. So an operation is counted here, under one lock, and told to the library
when it asks.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BOUNDS: Final = (*map(floatToGoString, _BUCKETS), "+Inf")
_LABELS: Final = ("contract", "operation", "handler")

_Labels = tuple[str, str, str]


class _Tally:
    """Operations of one meter that ended alike."""

    __slots__ = ("buckets", "retries", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * len(_BOUNDS)
        self.seconds = 0.0
        self.retries = 0

    def add(self, other: "_Tally") -> None:
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds
        self.retries += other.retries

    def cumulative(self) -> list[tuple[str, float]]:
        total = 0
        return [(bound, total := total + count) for bound, count in zip(_BOUNDS, self.buckets, strict=True)]


class OperationMeter:
    """Counts one operation; made by `PrometheusEffectMetrics`."""

    __slots__ = ("_lock", "_tallies")

    def __init__(self) -> None:
        self._lock = Lock()
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def finished(self, outcome: str, stop_reason: str, seconds: float, attempts: int) -> None:
        with self._lock:
            tally = self._tallies.get((outcome, stop_reason))
            if tally is None:
                tally = self._tallies[outcome, stop_reason] = _Tally()
            tally.buckets[bisect_left(_BUCKETS, seconds)] += 1
            tally.seconds += seconds
            if attempts > 1:
                tally.retries += attempts - 1

    def ends(self) -> Iterator[tuple[str, str, _Tally]]:
        """Outcome, reason to stop, and how many of them, as it is now."""
        with self._lock:
            for (outcome, stop_reason), tally in self._tallies.items():
                copy = _Tally()
                copy.add(tally)
                yield outcome, stop_reason, copy


class _Meters(Collector):
    """All meters of one Prometheus registry: one per contract, operation and handler."""

    def __init__(self) -> None:
        self._meters: dict[_Labels, OperationMeter] = {}

    def meter(self, labels: _Labels) -> OperationMeter:
        return self._meters.get(labels) or self._meters.setdefault(labels, OperationMeter())

    def collect(self) -> Iterator[Metric]:
        durations: defaultdict[tuple[str, ...], _Tally] = defaultdict(_Tally)
        stops: defaultdict[tuple[str, ...], int] = defaultdict(int)
        retries: dict[tuple[str, ...], int] = {}
        for labels, meter in list(self._meters.items()):
            retries[labels] = 0
            for outcome, stop_reason, tally in meter.ends():
                durations[*labels, outcome].add(tally)
                stops[*labels, stop_reason] += sum(tally.buckets)
                retries[labels] += tally.retries
        histogram = HistogramMetricFamily(
            "onex_operation_duration_seconds",
            "Duration of an operation, delays included",
            labels=(*_LABELS, "outcome"),
        )
        for key, tally in durations.items():
            histogram.add_metric(key, tally.cumulative(), tally.seconds)
        yield histogram
        yield _counter("onex_operation_retries", "Attempts after the first", _LABELS, retries)
        yield _counter("onex_operation_stops", "Why no further attempt was made", (*_LABELS, "reason"), stops)


def _counter(
    name: str, documentation: str, labels: tuple[str, ...], counts: dict[tuple[str, ...], int]
) -> CounterMetricFamily:
    counter = CounterMetricFamily(name, documentation, labels=labels)
    for key, count in counts.items():
        counter.add_metric(key, count)
    return counter


_per_registry: WeakKeyDictionary[CollectorRegistry, _Meters] = WeakKeyDictionary()


class PrometheusEffectMetrics:
    """Makes meters on a Prometheus registry (default: the process-wide one). Those of the same labels are one."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        meters = _per_registry.get(registry)
        if meters is None:
            meters = _per_registry[registry] = _Meters()
            registry.register(meters)
        self._meters = meters

    def operation_meter(self, contract: str, operation: str, handler_kind: str) -> OperationMeter:
        return self._meters.meter((contract, operation, handler_kind))
