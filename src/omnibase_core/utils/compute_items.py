"""A pipeline over the items of a list (`parallel`): where they are, some of them in order, the results together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from omnibase_core.enums.enum_compute import EnumTransformationType
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_compute_output import ModelComputeStepResult
from omnibase_core.utils.compute_executor import StepPlan, StepStoppedError, run_steps
from omnibase_core.utils.compute_run import ComputeRun, ItemFailedError, StepWatch
from omnibase_core.utils.contract_findings import kind_of
from omnibase_core.utils.extraction import Missing

FindItems = Callable[[JsonValue], list[JsonValue]]


@dataclass(slots=True)
class ItemsDone:
    """Some items in their order. steps: of each step that ran how long in all (ms), and what it is."""

    outputs: list[JsonValue] = field(default_factory=list)
    begun: int = 0
    steps: dict[str, tuple[float, EnumTransformationType | None]] = field(default_factory=dict)


def compile_items(path: str | None, find: Callable[[JsonValue, float], JsonValue | Missing]) -> FindItems:
    """What finds the list in an input. Raises VALIDATION_ERROR where there is none."""
    what = "the input" if path is None else path

    def items(data: JsonValue) -> list[JsonValue]:
        found = data if path is None else find(data, 0.0)
        if isinstance(found, list):
            return found
        kind = "nothing" if isinstance(found, Missing) else kind_of(found)
        raise ModelOnexError(
            f"parallel: {what} must be a list of items, found {kind}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"expected": "a list", "found": kind},
        )

    return items


def run_items(
    steps: Sequence[StepPlan], items: Sequence[JsonValue], deadline: float, watch: StepWatch | None = None
) -> ItemsDone:
    """Run the steps for each item. Raises ItemFailedError at the first that fails, with the step in its context."""
    done = ItemsDone()
    for index, item in enumerate(items):
        run = ComputeRun(item, deadline, watch=watch)
        try:
            done.outputs.append(run_steps(steps, item, run))
        except StepStoppedError as stopped:
            error = stopped.error
            context = {**error.context, "item": index}
            raise ItemFailedError(error.message, error.error_code, context) from error
        done.begun += run.begun
        for name, result in run.results.items():
            spent, _ = done.steps.get(name, (0.0, None))
            done.steps[name] = (spent + result.duration_ms, result.transformation_type)
    return done


def gather(parts: Sequence[ItemsDone], run: ComputeRun) -> JsonValue:
    """The outputs of all parts in their order. The results of a step, which may be many, become one without output."""
    outputs: list[JsonValue] = []
    steps: dict[str, tuple[float, EnumTransformationType | None]] = {}
    for part in parts:
        outputs += part.outputs
        run.begun += part.begun
        for name, (spent, kind) in part.steps.items():
            steps[name] = (steps.get(name, (0.0, None))[0] + spent, kind)
    for name, (spent, kind) in steps.items():
        run.results[name] = ModelComputeStepResult(success=True, duration_ms=spent, transformation_type=kind)
    return outputs
