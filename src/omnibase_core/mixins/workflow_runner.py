"""What an engine is given to run: the interpreter, bound to the nodes of one container."""

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from pydantic import JsonValue

from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.workflow_interpreter import interpret
from omnibase_core.mixins.workflow_steps import StepRunner
from omnibase_core.protocols.protocol_workflow_engine import DurableContext, WorkflowBundle

if TYPE_CHECKING:
    from omnibase_core.utils.workflow_plan import WorkflowPlan

_KEPT: Final = 64


class WorkflowRunner:
    """Interprets bundles (`RunWorkflow`). What was loaded and bound for a bundle is kept for its next runs."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._bound: dict[str, tuple[WorkflowPlan, StepRunner]] = {}
        self._prepared: dict[str, tuple[WorkflowPlan, StepRunner]] = {}

    async def run(self, context: DurableContext, bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        """Run a workflow to its end. Raises what `interpret` and `load_bundle` raise."""
        plan, runner = self._prepared.get(bundle.digest) or self._of(bundle)
        return await interpret(plan, context, runner, input_data)

    def prepare(self, plan: "WorkflowPlan") -> WorkflowBundle:
        """A bundle without texts for a plan that was made in this process and that only it can run.

        It is kept until `forget`.
        """
        bundle = WorkflowBundle(plan.name, {}, uuid4().hex)
        self._prepared[bundle.digest] = (plan, StepRunner({}, self._container))
        return bundle

    def forget(self, bundle: WorkflowBundle) -> None:
        """Let go of a prepared plan."""
        self._prepared.pop(bundle.digest, None)

    def _of(self, bundle: WorkflowBundle) -> "tuple[WorkflowPlan, StepRunner]":
        found = self._bound.pop(bundle.digest, None)
        if found is None:
            from omnibase_core.utils.workflow_bundle import load_bundle  # YAML: plans made in Python never need it

            loaded = load_bundle(bundle)
            found = loaded.plan, StepRunner(loaded.nodes, self._container)
        while len(self._bound) >= _KEPT:
            self._bound.pop(next(iter(self._bound)))
        self._bound[bundle.digest] = found
        return found
