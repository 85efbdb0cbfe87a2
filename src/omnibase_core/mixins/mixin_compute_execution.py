"""Runs the contract of a compute node: the plan is compiled once, and again when the contract is replaced."""

from collections.abc import Callable
from concurrent.futures import Executor

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.compute_parallel import OnProgress
from omnibase_core.mixins.pipeline_limits import run_limited, run_limited_async
from omnibase_core.models.contracts.contract_model import Breach
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeSubcontract
from omnibase_core.models.model_compute_output import ModelComputePipelineResult
from omnibase_core.utils.compute_executor import raise_failure
from omnibase_core.utils.compute_plan import ComputePlan, compile_compute


class MixinComputeExecution:
    """The pipeline of `compute_subcontract`, which may be reassigned; the next call heeds it."""

    compute_subcontract: ModelComputeSubcontract
    _compute_plan: ComputePlan | None = None

    def execute_pipeline(self, data: JsonValue) -> ModelComputePipelineResult:
        """Run the pipeline once; a failure is a result that says so, with the results of the steps before it.

        Limits of time hold, whatever the step does (`pipeline_limits`); the calling thread waits.
        Raises ModelOnexError CONFIGURATION_ERROR without a contract, VALIDATION_ERROR for one that cannot be compiled.
        `data` is never changed, and outputs may share parts with it.
        """
        return run_limited(self._current_plan(), data)[0]

    def compute_or_raise(self, data: JsonValue) -> ModelComputePipelineResult:
        """As `execute_pipeline`, but a failure is a ComputeFailedError with the error code of the step that failed."""
        plan = self._current_plan()
        return raise_failure(plan, *run_limited(plan, data))

    async def compute_in_time(
        self,
        data: JsonValue,
        *,
        on_progress: OnProgress | None = None,
        cluster: Callable[[], Executor] | None = None,
    ) -> ModelComputePipelineResult:
        """As `compute_or_raise`; where workers have to be waited for, the event loop goes on. Cancelling ends them.

        on_progress, cluster: of contracts with `parallel`, as in `run_over_items`.
        """
        return await run_limited_async(self._current_plan(), data, on_progress=on_progress, cluster=cluster)

    def _current_plan(self) -> ComputePlan:
        contract = getattr(self, "compute_subcontract", None)
        if contract is None:
            raise ModelOnexError(
                f"{type(self).__name__} has no compute_subcontract; make it by from_contract, or assign one",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        plan = self._compute_plan
        if plan is None or plan.subcontract is not contract:
            plan = self._compute_plan = _compiled(contract)
        return plan


def _compiled(contract: ModelComputeSubcontract) -> ComputePlan:
    """The plan of a contract that was built in Python. Raises VALIDATION_ERROR with everything that is wrong."""
    breaches: list[Breach] = []
    plan = compile_compute(contract, None, breaches.append)
    if breaches:
        problems = [f"{'.'.join(map(str, breach.path))}: {breach.message}" for breach in breaches]
        raise ModelOnexError(
            f"compute contract {contract.operation_name!r}: {'; '.join(problems)}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"problems": problems},
        )
    return plan
