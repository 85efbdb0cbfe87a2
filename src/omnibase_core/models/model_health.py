"""What a health check finds."""

from datetime import UTC, datetime

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.models.primitives.strict_types import FrozenModel


def _now() -> datetime:
    return datetime.now(UTC)


class NodeHealthStatus(FrozenModel):
    """The health of a node.

    details: `dependencies` {name: true or the reason why it is down}, `resource_usage` {name: 0..1}, `error_rate` 0..1
    over the last minute; of an unhealthy node `error` instead.
    """

    status: EnumHealthStatus
    details: dict[str, JsonValue] = {}
    timestamp: datetime = Field(default_factory=_now)

    @property
    def is_healthy(self) -> bool:
        return self.status is EnumHealthStatus.HEALTHY
