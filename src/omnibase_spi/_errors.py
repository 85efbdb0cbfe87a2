"""The one place where exceptions of drivers become faults.

A row is found by the qualified name of the exception's class or of the nearest class that it derives from, so that the
table needs no driver to be installed. A test walks the exception trees of the installed drivers and asks for a row of
their own subject for every class. Where one class stands for many faults (an error number, an SQLSTATE), the number
is looked up in the driver's second table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase


@dataclass(frozen=True, slots=True)
class FaultRow:
    """What a driver's exception means: the fault's kind, how far the attempt came, and whether it always may be repeated."""

    error_kind: str
    phase: EnumFaultPhase
    transient: bool = False
    error_code: EnumCoreErrorCode = EnumCoreErrorCode.OPERATION_FAILED


def find_row(rows: Mapping[str, FaultRow], error: BaseException) -> FaultRow | None:
    """The row of the error's class, else of the nearest base class that has one."""
    for cls in type(error).__mro__:
        row = rows.get(f"{cls.__module__}.{cls.__qualname__}")
        if row is not None:
            return row
    return None
