"""The seams to a metrics system and to somebody who looks on, decided once per plan."""

from typing import Protocol, runtime_checkable

from omnibase_core.models.model_effect_output import ModelEffectOperationResult


class ProtocolOperationMeter(Protocol):
    """Counts one operation of one contract; its labels are fixed when it is made."""

    def finished(self, outcome: str, stop_reason: str, seconds: float, attempts: int) -> None:
        """An operation ended; `seconds` is wall time with delays, `attempts` counts from 1 (0: nothing was sent)."""
        ...


@runtime_checkable
class ProtocolEffectMetrics(Protocol):
    """Makes the meters of a plan."""

    def operation_meter(self, contract: str, operation: str, handler_kind: str) -> ProtocolOperationMeter:
        """The meter of an operation; asked once per plan and operation."""
        ...


class ProtocolOperationWatch(Protocol):
    """Looks on while one operation of one contract runs. Called in the event loop's thread; must neither wait nor
    raise.
    """

    def started(self) -> None:
        """The operation begins; in a transaction that is repeated, once per repetition."""
        ...

    def attempt_failed(self, number: int, reason: str, delay_ms: float) -> None:
        """Attempt `number` (1-based) failed for `reason`, a fault kind or a status; the next one begins after
        `delay_ms`.
        """
        ...

    def finished(self, result: ModelEffectOperationResult) -> None:
        """The operation ended, whatever its outcome; not called when it is cancelled. A rollback may still undo it."""
        ...


@runtime_checkable
class ProtocolEffectWatch(Protocol):
    """Makes the watches of a plan; service key `ProtocolEffectWatch`, absent by default."""

    def operation_watch(self, contract: str, operation: str) -> ProtocolOperationWatch:
        """The watch of an operation; asked once per plan and operation."""
        ...
