"""The states of a circuit breaker."""

from enum import StrEnum


class EnumCircuitBreakerState(StrEnum):
    """Three states that a breaker enters by itself, three that only a person sets."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"
