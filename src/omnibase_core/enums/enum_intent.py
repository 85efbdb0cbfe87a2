"""What a reducer may ask for, how urgent it is, and what became of it."""

from enum import StrEnum


class EnumIntentType(StrEnum):
    """The kinds of intents that have a default route; other strings are extensions."""

    DATABASE_WRITE = "database_write"
    API_CALL = "api_call"
    FILE_OPERATION = "file_operation"
    MESSAGE_PUBLISH = "message_publish"
    CACHE_UPDATE = "cache_update"
    NOTIFICATION = "notification"


class EnumIntentPriority(StrEnum):
    """How urgent an intent is; declared from the most urgent to the least."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    BACKGROUND = "background"

    @property
    def rank(self) -> int:
        """0 for what is carried out first."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(EnumIntentPriority)}


class EnumIntentStatus(StrEnum):
    """What became of an intent.

    `DUPLICATE`: its idempotency key had been used, nothing was done. `SKIPPED`: not tried, because an earlier one
    failed.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"


class EnumLedgerState(StrEnum):
    """What a ledger knows of a key.

    `RUNNING`: somebody who is alive carries it out. `UNKNOWN`: it was begun, and nobody knows how it ended.
    """

    RUNNING = "running"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
