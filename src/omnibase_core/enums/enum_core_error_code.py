"""The error codes of ONEX and the process exit status that belongs to each."""

from enum import StrEnum


class EnumCoreErrorCode(StrEnum):
    """What went wrong, in one word. Append-only: values and exit statuses never change (overview, section 5)."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    CONFIGURATION_ERROR = "CONFIGURATION_ERROR"
    RESOURCE_UNAVAILABLE = "RESOURCE_UNAVAILABLE"
    OPERATION_FAILED = "OPERATION_FAILED"
    TIMEOUT = "TIMEOUT"
    CIRCUIT_BREAKER_OPEN = "CIRCUIT_BREAKER_OPEN"
    EXTRACTION_ERROR = "EXTRACTION_ERROR"
    RATE_LIMITED = "RATE_LIMITED"
    CANCELLED = "CANCELLED"
    CONFLICT = "CONFLICT"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    SECURITY_VIOLATION = "SECURITY_VIOLATION"
    NOT_FOUND = "NOT_FOUND"
    INTERNAL_ERROR = "INTERNAL_ERROR"

    @property
    def exit_status(self) -> int:
        """The status with which the command line ends for this code: 2..14, or 70 for INTERNAL_ERROR (EX_SOFTWARE)."""
        return _EXIT_STATUS[self]


_EXIT_STATUS = {
    EnumCoreErrorCode.VALIDATION_ERROR: 2,
    EnumCoreErrorCode.CONFIGURATION_ERROR: 3,
    EnumCoreErrorCode.RESOURCE_UNAVAILABLE: 4,
    EnumCoreErrorCode.OPERATION_FAILED: 5,
    EnumCoreErrorCode.TIMEOUT: 6,
    EnumCoreErrorCode.CIRCUIT_BREAKER_OPEN: 7,
    EnumCoreErrorCode.EXTRACTION_ERROR: 8,
    EnumCoreErrorCode.RATE_LIMITED: 9,
    EnumCoreErrorCode.CANCELLED: 10,
    EnumCoreErrorCode.CONFLICT: 11,
    EnumCoreErrorCode.OUTCOME_UNKNOWN: 12,
    EnumCoreErrorCode.SECURITY_VIOLATION: 13,
    EnumCoreErrorCode.NOT_FOUND: 14,
    EnumCoreErrorCode.INTERNAL_ERROR: 70,
}
