"""Closed vocabularies of effect contracts."""

from enum import StrEnum


class EnumExecutionMode(StrEnum):
    """In which order operations run, and whether the first failure ends the call."""

    SEQUENTIAL_ABORT = "sequential_abort"
    SEQUENTIAL_CONTINUE = "sequential_continue"
    PARALLEL_ABORT = "parallel_abort"
    PARALLEL_CONTINUE = "parallel_continue"

    @property
    def is_parallel(self) -> bool:
        return self in _PARALLEL

    @property
    def aborts(self) -> bool:
        return self in _ABORTS


_PARALLEL = frozenset({EnumExecutionMode.PARALLEL_ABORT, EnumExecutionMode.PARALLEL_CONTINUE})
_ABORTS = frozenset({EnumExecutionMode.SEQUENTIAL_ABORT, EnumExecutionMode.PARALLEL_ABORT})


class EnumBackoffStrategy(StrEnum):
    """How the delay grows with the number of the retry."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"


class EnumJitter(StrEnum):
    """How a delay is spread, so that clients that failed together do not come back together."""

    PROPORTIONAL = "proportional"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


class EnumIsolationLevel(StrEnum):
    """SQL isolation levels, weakest first."""

    READ_UNCOMMITTED = "read_uncommitted"
    READ_COMMITTED = "read_committed"
    REPEATABLE_READ = "repeatable_read"
    SERIALIZABLE = "serializable"

    @property
    def strength(self) -> int:
        """0 (weakest) .. 3; a level satisfies every demand of the same or a lower strength."""
        return _STRENGTH[self]

    @property
    def sql(self) -> str:
        """The level as SQL spells it, such as `READ COMMITTED`."""
        return self.value.upper().replace("_", " ")


_STRENGTH = {level: strength for strength, level in enumerate(EnumIsolationLevel)}


class EnumExtractionEngine(StrEnum):
    """`jsonpath` is RFC 9535; `dotpath` is `$.a.b` and needs no library."""

    JSONPATH = "jsonpath"
    DOTPATH = "dotpath"
