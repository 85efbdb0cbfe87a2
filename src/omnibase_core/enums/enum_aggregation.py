"""Closed vocabularies of aggregation contracts."""

from enum import StrEnum


class EnumAggregationMethod(StrEnum):
    """What is made of the values of a group."""

    SUM = "sum"
    AVERAGE = "average"
    COUNT = "count"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    COLLECT = "collect"
    DISTINCT = "distinct"
    PERCENTILE = "percentile"
    MERGE = "merge"
    CUSTOM = "custom"


class EnumWindowType(StrEnum):
    """How event time is cut."""

    TUMBLING = "tumbling"
    SLIDING = "sliding"
    SESSION = "session"


class EnumLateData(StrEnum):
    """What happens to an item whose windows are closed."""

    DROP = "drop"
    SIDE_OUTPUT = "side_output"
    UPDATE = "update"
    ERROR = "error"


class EnumConflictResolution(StrEnum):
    """Which of two values for one place is kept."""

    LAST_WRITE_WINS = "last_write_wins"
    FIRST_WRITE_WINS = "first_write_wins"
    MERGE = "merge"
    ERROR = "error"
