"""What an effect is about, and what became of its transaction."""

from enum import StrEnum


class EnumEffectType(StrEnum):
    """The subject of a `ModelEffectInput`."""

    FILE_OPERATION = "file_operation"
    DATABASE_OPERATION = "database_operation"
    API_CALL = "api_call"
    EVENT_EMISSION = "event_emission"
    DIRECTORY_OPERATION = "directory_operation"
    TICKET_STORAGE = "ticket_storage"
    METRICS_COLLECTION = "metrics_collection"


class EnumTransactionState(StrEnum):
    """A fact, never a label: `ROLLED_BACK` only after a rollback was carried out, `UNKNOWN` when the answer to
    COMMIT was lost.

    Without a transaction: `COMMITTED` when all operations succeeded, `FAILED` when one did not, `NONE` when nothing
    ran.
    """

    NONE = "none"
    PENDING = "pending"
    ACTIVE = "active"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    UNKNOWN = "unknown"
