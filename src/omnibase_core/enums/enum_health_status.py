"""How well a node is."""

from enum import StrEnum


class EnumHealthStatus(StrEnum):
    """`DEGRADED`: a dependency is down, a resource nearly used up, or too many calls fail. `UNHEALTHY`: cannot be
    told.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
