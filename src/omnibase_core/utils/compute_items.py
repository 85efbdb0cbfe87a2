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
class StepTotal:
    """One step over some items. spent_ms: in all. passed_over: items that it found wrong and did not fail for; the
    first of them, counted from 0, with its error's type and message.
    """

    kind: EnumTransformationType | None
    spent_ms: float = 0.0
    passed_over: int = 0
    first: tuple[int, str, str] | None = None

    def add(self, index: int, result: ModelComputeStepResult) -> None:
        self.spent_ms += result.duration_ms
        if result.error_type is not None:
            self.passed_over += 1
            self.first = self.first or (index, result.error_type, result.error_message or "")

    def add_all(self, other: "StepTotal", offset: int) -> None:
        """Those of later items, which were counted from `offset`."""
        self.spent_ms += other.spent_ms
        self.passed_over += other.passed_over
        if self.first is None and other.first is not None:
            index, error_type, message = other.first
            self.first = (offset + index, error_type, message)

    def result(self) -> ModelComputeStepResult:
        """As one step, without output."""
        error_type, message = None, None
        if self.first is not None:
            index, error_type, text = self.first
            more = "" if self.passed_over == 1 else f" (the first of {self.passed_over} items)"
            message = f"item {index}{more}: {text}"
        return ModelComputeStepResult(
            success=True,
            duration_ms=self.spent_ms,
            transformation_type=self.kind,
            error_type=error_type,
            error_message=message,
        )


@dataclass(slots=True)
class ItemsDone:
    """Some items in their order. steps: what became of each step that ran."""

    outputs: list[JsonValue] = field(default_factory=list)
    begun: int = 0
    steps: dict[str, StepTotal] = field(default_factory=dict)


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
            total = done.steps.get(name)
            if total is None:
                total = done.steps[name] = StepTotal(result.transformation_type)
            total.add(index, result)
    return done


def gather(parts: Sequence[ItemsDone], run: ComputeRun) -> JsonValue:
    """The outputs of all parts in their order. The results of a step, which may be many, become one without output."""
    outputs: list[JsonValue] = []
    steps: dict[str, StepTotal] = {}
    for part in parts:
        for name, total in part.steps.items():
            if name not in steps:
                steps[name] = StepTotal(total.kind)
            steps[name].add_all(total, len(outputs))
        outputs += part.outputs
        run.begun += part.begun
    for name, total in steps.items():
        run.results[name] = total.result()
    return outputs
