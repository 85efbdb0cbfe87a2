"""Runs a compiled pipeline: one value goes from step to step, and every step leaves its result (section 3.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from omnibase_core.enums.enum_compute import EnumComputeStepType, EnumTransformationType
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_compute_output import (
    ComputeFailedError,
    ModelComputePipelineResult,
    ModelComputeStepResult,
)
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.compute_growth import is_small
from omnibase_core.utils.compute_run import ComputeRun, StepWatch, now

if TYPE_CHECKING:
    from omnibase_core.utils.compute_plan import ComputePlan

_STEP_FIELDS = frozenset(ModelComputeStepResult.model_fields)
_CLOCK_ERROR = 1e-6
_SHOWN: Final = 10_000
"""How large an output may be that an error shows, in characters and 16 for each value."""
_LARGE: Final = "(too large to be shown here; see `pipeline_result` of the error)"
_PIPELINE_FIELDS = frozenset(ModelComputePipelineResult.model_fields)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step, compiled. limit_seconds: its own limit; None is that of what it is part of."""

    name: str
    step_type: EnumComputeStepType
    transformation_type: EnumTransformationType | None
    limit_seconds: float | None
    run: Callable[[JsonValue, ComputeRun], JsonValue]


class StepStoppedError(Exception):
    """A step failed, its result is recorded, and so nothing behind it runs. `error` says why."""

    def __init__(self, error: ModelOnexError) -> None:
        super().__init__(error)
        self.error = error


def run_steps(steps: Sequence[StepPlan], value: JsonValue, run: ComputeRun) -> JsonValue:
    """Run steps in order, each on the output of the one before. Raises StepStoppedError at the first that fails."""
    results, outputs, watch = run.results, run.outputs, run.watch
    outer = run.deadline
    began = now()
    for step in steps:
        limit = step.limit_seconds
        if limit is not None:
            run.deadline = min(outer, began + limit)
        run.begun += 1
        if watch is not None:
            watch.began(step, run.deadline - began)
        try:
            value = step.run(value, run)
            ended = now()
            if ended > run.deadline:
                raise TimeoutError  # the same as from inside the step
        except StepStoppedError as stopped:
            _record_failure(step, stopped.error, began, run)
            raise
        except Exception as error:  # the boundary of a step: whatever goes wrong is its failure
            failure = step_error(step, error, began, run)
            run.failed_step = step.name
            _record_failure(step, failure, began, run)
            raise StepStoppedError(failure) from error
        values: dict[str, object] = {
            "output": value,
            "success": True,
            "duration_ms": (ended - began) * 1e3,
            "transformation_type": step.transformation_type,
            "error_type": None,
            "error_message": None,
        }
        if run.passed_over is not None:
            values["error_type"], values["error_message"] = run.passed_over.error_code.value, run.passed_over.message
            run.passed_over = None
        result = results[step.name] = trusted(ModelComputeStepResult, values, set(_STEP_FIELDS))
        outputs[step.name] = value
        run.deadline = outer
        began = ended
        if watch is not None:
            watch.ended(step, result)
            began = now()
    return value


def _record_failure(step: StepPlan, error: ModelOnexError, began: float, run: ComputeRun) -> None:
    run.results[step.name] = failed_step(step, error, began)
    if run.watch is not None:
        run.watch.ended(step, run.results[step.name])


def failed_step(step: StepPlan, error: ModelOnexError, began: float) -> ModelComputeStepResult:
    """The result of a step that failed now; `began` on the clock `now`."""
    return ModelComputeStepResult(
        success=False,
        duration_ms=(now() - began) * 1e3,
        transformation_type=step.transformation_type,
        error_type=error.error_code.value,
        error_message=error.message,
    )


def step_error(step: StepPlan, error: Exception, began: float, run: ComputeRun) -> ModelOnexError:
    """The failure of a step, with its name. began: on the clock `now`."""
    where = f"step {step.name!r} ({step.transformation_type or step.step_type})"
    context: dict[str, object] = {"step": step.name}
    if isinstance(error, ModelOnexError):
        return ModelOnexError(f"{where}: {error.message}", error.error_code, {**error.context, **context})
    if isinstance(error, TimeoutError):
        why = _limit_reached(step, began, run.deadline) if run.deadline < inf else str(error)
        return ModelOnexError(f"{where}: stopped, {why or 'out of time'}", EnumCoreErrorCode.TIMEOUT, context)
    if isinstance(error, RecursionError):
        return ModelOnexError(f"{where}: the value is nested too deeply", EnumCoreErrorCode.VALIDATION_ERROR, context)
    if isinstance(error, MemoryError):
        return ModelOnexError(f"{where}: out of memory", EnumCoreErrorCode.RESOURCE_UNAVAILABLE, context)
    kind = type(error).__name__
    return ModelOnexError(f"{where}: unexpected {kind}; please report it", EnumCoreErrorCode.INTERNAL_ERROR, context)


def _limit_reached(step: StepPlan, began: float, deadline: float) -> str:
    if step.limit_seconds is not None and began + step.limit_seconds <= deadline + _CLOCK_ERROR:
        return f"its limit is {step.limit_seconds * 1e3:.0f} ms"
    return f"the limit of what it is part of was reached {max(0.0, deadline - began) * 1e3:.0f} ms after it began"


def execute_pipeline(plan: "ComputePlan", data: JsonValue) -> ModelComputePipelineResult:
    """Run a pipeline once. A failure is a result that says so; `data` is never changed, and outputs may be parts of it.

    Limits of time hold where a step looks at the clock: between steps, between items of a list, and inside of regular
    expressions and paths.
    """
    return judged_run(plan, data)[0]


def compute_or_raise(plan: "ComputePlan", data: JsonValue) -> ModelComputePipelineResult:
    """As `execute_pipeline`, but a failure is a ComputeFailedError that holds the result."""
    return raise_failure(plan, *judged_run(plan, data))


def raise_failure(
    plan: "ComputePlan", result: ModelComputePipelineResult, error: ModelOnexError | None
) -> ModelComputePipelineResult:
    """The result of a run; its failure as a ComputeFailedError that holds it."""
    if error is None:
        return result
    name = plan.subcontract.operation_name
    failed = ComputeFailedError(
        f"compute {name!r}: {error.message}",
        error.error_code,
        {**error.context, "operation": name, "pipeline_result": _told(result)},
    )
    failed.pipeline_result = result
    raise failed from error


def _told(result: ModelComputePipelineResult) -> dict[str, JsonValue]:
    """The result for an error, which costs no more when the outputs are large."""
    results = {
        name: one if one.output is None or is_small(one.output, _SHOWN) else one.model_copy(update={"output": _LARGE})
        for name, one in result.step_results.items()
    }
    told: dict[str, JsonValue] = result.model_copy(update={"step_results": results}).model_dump(mode="json")
    return told


def judged_run(
    plan: "ComputePlan", data: JsonValue, watch: StepWatch | None = None, began: float | None = None
) -> tuple[ModelComputePipelineResult, ModelOnexError | None]:
    """Run a pipeline once: the result, and its failure if it is one.

    began: from when its time counts, on the clock `now`; None is from now on.
    """
    began = now() if began is None else began
    run = ComputeRun(data, inf if plan.limit_seconds is None else began + plan.limit_seconds, watch=watch)
    output: JsonValue = None
    error: ModelOnexError | None = None
    try:
        if plan.check_input is not None:
            plan.check_input(data)
            run.check_time()
        output = run_steps(plan.steps, data, run) if plan.over_items is None else plan.over_items(data, run)
        if plan.check_output is not None:
            plan.check_output(output)
            run.check_time()
    except StepStoppedError as stopped:
        error = stopped.error
    except TimeoutError:
        error = pipeline_stopped(plan)
    except ModelOnexError as refused:
        error = refused
        note_failure(refused, run)
    return pipeline_result(output, error, run, began), error


def note_failure(error: ModelOnexError, run: ComputeRun) -> None:
    """Put the step that failed for an item of a list into the results."""
    step = error.context.get("step")
    if isinstance(step, str):
        run.failed_step = step
        run.results[step] = ModelComputeStepResult(
            success=False, duration_ms=0.0, error_type=error.error_code.value, error_message=error.message
        )


def pipeline_stopped(plan: "ComputePlan") -> ModelOnexError:
    """The error of a pipeline that is over its limit between steps."""
    return ModelOnexError(
        f"the pipeline: stopped, its limit is {(plan.limit_seconds or 0.0) * 1e3:.0f} ms", EnumCoreErrorCode.TIMEOUT
    )


def pipeline_result(
    output: JsonValue, error: ModelOnexError | None, run: ComputeRun, began: float
) -> ModelComputePipelineResult:
    """What became of a run that ends now; `began` on the clock `now`."""
    values: dict[str, object] = {
        "output": output if error is None else None,
        "success": error is None,
        "processing_time_ms": (now() - began) * 1e3,
        "steps_executed": run.begun,
        "step_results": run.results,
        "error_type": None if error is None else error.error_code.value,
        "error_message": None if error is None else error.message,
        "error_step": run.failed_step,
    }
    return trusted(ModelComputePipelineResult, values, set(_PIPELINE_FIELDS))
