"""What an event bus says about itself: receipts, dead letters, numbers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field, SerializeAsAny

from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope, UtcTime
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import FrozenModel


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """What `publish` gives back.

    groups: how many groups the event was queued for; 0 when nobody subscribes or all have seen it. None where only the
        broker knows.
    """

    envelope_id: UUID
    topic: str
    groups: int | None


def _now() -> datetime:
    return datetime.now(UTC)


class ModelDeadLetter(FrozenModel):
    """An event that a group could not handle.

    attempts: how often its handler was called. reason: why it was given up, with known secrets taken out; error_type is
    the class of the last exception, empty when there was none.
    """

    letter_id: UUID = Field(default_factory=new_id)
    envelope: SerializeAsAny[ModelEventEnvelope[object]]
    topic: str
    key: str | None = None
    group: str
    subscription: str
    attempts: int
    reason: str
    error_type: str = ""
    failed_at: UtcTime = Field(default_factory=_now)


class ModelEventGroupStatistics(FrozenModel):
    """Numbers of one consumer group since it began.

    queued: events accepted for it. delivered: calls of its handlers. acknowledged: events handled. retried: calls after
    a failure. dead: events given up. dropped: events whose last subscriber left. duplicates: events refused because the
    group had seen their id. redelivered: dead letters queued again, not in `queued`. lag: events not yet acknowledged
    or given up. members: live subscriptions.

    Always: queued + redelivered = acknowledged + dead + dropped + lag.
    """

    queued: int = 0
    delivered: int = 0
    acknowledged: int = 0
    retried: int = 0
    dead: int = 0
    dropped: int = 0
    duplicates: int = 0
    redelivered: int = 0
    lag: int = 0
    members: int = 0


class ModelEventBusStatistics(FrozenModel):
    """Numbers of a bus since it was made.

    published: calls of `publish` that returned. dropped: those whose event nobody subscribed to, plus the groups' own.
    forgotten_dead_letters: those pushed out by newer ones. total: the sum over all groups, also those that are gone.
    """

    published: int = 0
    dropped: int = 0
    dead_letters: int = 0
    forgotten_dead_letters: int = 0
    total: ModelEventGroupStatistics = ModelEventGroupStatistics()
    groups: dict[str, ModelEventGroupStatistics] = Field(default_factory=dict)
