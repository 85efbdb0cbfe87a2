"""The public door to errors."""

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.contract_error import ContractError, Diagnostic
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.error_handling import PipelineErrorContext, standard_error_handling
from omnibase_core.errors.onex_error import (
    ActionExpiredError,
    AlgorithmNotFoundError,
    ConcurrentModificationError,
    DatabaseConnectionError,
    DependencyResolutionError,
    EpochMismatchError,
    LeaseConflictError,
    LeaseExpiredError,
    LeaseValidationError,
    ModelOnexError,
    OnexError,
    StateConsistencyError,
    StateUpdateConflictError,
    TransactionError,
    WorkflowExecutionError,
)

__all__ = [
    "ActionExpiredError",
    "AlgorithmNotFoundError",
    "ConcurrentModificationError",
    "ContractError",
    "DatabaseConnectionError",
    "DependencyResolutionError",
    "Diagnostic",
    "EffectFault",
    "EnumCoreErrorCode",
    "EpochMismatchError",
    "LeaseConflictError",
    "LeaseExpiredError",
    "LeaseValidationError",
    "ModelOnexError",
    "OnexError",
    "PipelineErrorContext",
    "StateConsistencyError",
    "StateUpdateConflictError",
    "TransactionError",
    "WorkflowExecutionError",
    "standard_error_handling",
]
