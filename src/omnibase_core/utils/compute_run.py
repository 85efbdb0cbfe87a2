"""What one call of a compute pipeline carries from step to step, and the limits of time that hold in it."""

import time
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from pydantic import JsonValue

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_compute_output import ModelComputeStepResult

if TYPE_CHECKING:
    from omnibase_core.utils.compute_executor import StepPlan

REGEX_SECONDS: Final = 1.0
"""How long the regular expressions of one step may search where no nearer deadline stands."""
now = time.perf_counter


class StepWatch(Protocol):
    """Is told where a pipeline is: steps that hold others end after them, failed ones too."""

    def began(self, step: "StepPlan", seconds_left: float) -> None: ...
    def ended(self, step: "StepPlan", result: ModelComputeStepResult) -> None: ...


class ItemFailedError(ModelOnexError):
    """The pipeline failed for an item. `context["item"]` counts from 0 among those that were given."""

    @property
    def index(self) -> int:
        index = self.context.get("item")
        return index if isinstance(index, int) else 0


@dataclass(slots=True)
class ComputeRun:
    """One call. `outputs` and `results` grow as steps end.

    deadline: of the step that runs, on the clock `now`; infinite where there is none. failed_step: the innermost that
    failed. begun: steps that began. passed_over: what the step that runs found wrong and did not fail for.
    watch: None where nobody looks.
    """

    input: JsonValue
    deadline: float = inf
    outputs: dict[str, JsonValue] = field(default_factory=dict)
    results: dict[str, ModelComputeStepResult] = field(default_factory=dict)
    failed_step: str | None = None
    begun: int = 0
    passed_over: ModelOnexError | None = None
    watch: StepWatch | None = None

    def search_seconds(self) -> float:
        """How long a regular expression may search from now on. Raises TimeoutError when that is no time at all."""
        left = self.deadline - now()
        if left <= 0:
            raise TimeoutError
        return min(left, REGEX_SECONDS)

    def check_time(self) -> None:
        """Raises TimeoutError behind the deadline."""
        if now() > self.deadline:
            raise TimeoutError
