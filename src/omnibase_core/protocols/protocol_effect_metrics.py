"""The seam to a metrics system, decided once per plan."""

from typing import Protocol, runtime_checkable


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
