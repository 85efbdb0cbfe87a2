"""Log levels."""

from enum import StrEnum


class EnumLogLevel(StrEnum):
    """Severity of a log event, lowest first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
