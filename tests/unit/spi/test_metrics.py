"""What Prometheus reads about operations."""

from prometheus_client import CollectorRegistry, generate_latest

from omnibase_core.nodes import ModelEffectInput
from omnibase_spi.metrics import PrometheusEffectMetrics
from omnibase_spi.testing import ScriptedHandler, container_with, fault, repeat, run_virtual
from tests.support.effects import GET, node_of, one

LABELS = {"contract": "orders", "operation": "send", "handler": "http"}


def test_an_operation_counts_its_duration_retries_and_reason_to_stop() -> None:
    """One sample for each, under the names of contract, operation and handler."""
    registry = CollectorRegistry()
    meter = PrometheusEffectMetrics(registry).operation_meter("orders", "send", "http")
    meter.finished("succeeded", "success", 0.004, 1)
    meter.finished("succeeded", "success", 0.02, 3)
    meter.finished("failed", "attempts", 99.0, 4)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"onex_operation_{name}", {**LABELS, **labels})

    assert value("duration_seconds_bucket", outcome="succeeded", le="0.001") == 0
    assert value("duration_seconds_bucket", outcome="succeeded", le="0.005") == 1
    assert value("duration_seconds_bucket", outcome="succeeded", le="0.025") == 2
    assert value("duration_seconds_bucket", outcome="failed", le="60.0") == 0
    assert value("duration_seconds_bucket", outcome="failed", le="+Inf") == 1
    assert value("duration_seconds_count", outcome="succeeded") == 2
    assert value("duration_seconds_sum", outcome="succeeded") == 0.024
    assert value("retries_total") == 5
    assert value("stops_total", reason="success") == 2
    assert value("stops_total", reason="attempts") == 1


def test_a_bound_of_a_bucket_belongs_to_it() -> None:
    """`le` means less than or equal."""
    registry = CollectorRegistry()
    meter = PrometheusEffectMetrics(registry).operation_meter("orders", "send", "http")
    meter.finished("succeeded", "success", 0.25, 1)

    bucket = "onex_operation_duration_seconds_bucket"
    assert registry.get_sample_value(bucket, {**LABELS, "outcome": "succeeded", "le": "0.1"}) == 0
    assert registry.get_sample_value(bucket, {**LABELS, "outcome": "succeeded", "le": "0.25"}) == 1


def test_meters_of_the_same_labels_count_together() -> None:
    """Two containers on one registry, as after a contract was loaded again, share their counts."""
    registry = CollectorRegistry()
    for _ in range(2):
        meter = PrometheusEffectMetrics(registry).operation_meter("orders", "send", "http")
        meter.finished("succeeded", "success", 0.1, 2)

    assert registry.get_sample_value("onex_operation_retries_total", LABELS) == 2


def test_operations_of_a_contract_are_counted() -> None:
    """A call that needed a second attempt shows in the text that Prometheus reads."""
    registry = CollectorRegistry()
    container = container_with(http=ScriptedHandler(*repeat(fault(), 1, 200)))
    container.register_service("ProtocolEffectMetrics", PrometheusEffectMetrics(registry))

    run_virtual(node_of(container, one(GET)).process(ModelEffectInput(operation_data={})))

    text = generate_latest(registry).decode()
    assert 'onex_operation_retries_total{contract="tested",handler="http",operation="only"} 1.0' in text.replace(
        'contract="tested",operation="only",handler="http"', 'contract="tested",handler="http",operation="only"'
    )
