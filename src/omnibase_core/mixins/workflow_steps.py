"""What a step does: its node is called, attempt by attempt, and how it ended is data (a `StepOutcome`).

A node is bound once per run of a contract: what kind it is, whether it may be called twice, in which database its
writes could share a transaction with its record.
"""

import asyncio
import inspect
import json
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID, uuid5

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.enums.enum_workflow import EnumStepStatus, EnumWorkflowStepType
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact, redact_value
from omnibase_core.mixins.cut import Cut, CutOffError
from omnibase_core.mixins.effect_binding import Container, keep_in_loop
from omnibase_core.mixins.mixin_effect_execution import MixinEffectExecution
from omnibase_core.mixins.pipeline_limits import run_limited_async
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError
from omnibase_core.protocols.protocol_workflow_engine import Issued, StepError, StepOutcome, WorkflowBundle
from omnibase_core.utils.compute_executor import compute_or_raise
from omnibase_core.utils.compute_plan import ComputePlan
from omnibase_core.utils.effect_plan import EffectPlan
from omnibase_core.utils.fsm_executor import FsmAction
from omnibase_core.utils.fsm_executor import step as machine_step
from omnibase_core.utils.fsm_plan import FsmPlan
from omnibase_core.utils.workflow_plan import PlannedStep, WorkflowScope

if TYPE_CHECKING:
    from omnibase_core.utils.contract_loader import LoadedContract

WORKFLOW_TIMEOUT: Final = "WorkflowTimeoutError"
"""`kind` of the error of a step for which the workflow's time was up."""
_KEYS: Final = UUID("5e0f6c58-8f0a-5d0e-9d7b-4b1f3d0c2a77")
"""The name space of ids that are made of idempotency keys."""
_COMPLETED: Final = EnumStepStatus.COMPLETED
_FAILED: Final = EnumStepStatus.FAILED
_UNKNOWN: Final = EnumStepStatus.UNKNOWN
_NO_EFFECT: Final = frozenset({EnumWorkflowStepType.COMPUTE, EnumWorkflowStepType.REDUCER})
_STRICT_JSON: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False)
_HOPELESS: Final = frozenset(
    {
        EnumCoreErrorCode.VALIDATION_ERROR,
        EnumCoreErrorCode.CONFIGURATION_ERROR,
        EnumCoreErrorCode.SECURITY_VIOLATION,
        EnumCoreErrorCode.CANCELLED,
    }
)
"""What repeating cannot mend; a retry condition may name one all the same."""


@dataclass(frozen=True, slots=True)
class StepCall:
    """What a node is told beside its input. started_at: of the run, recorded, so that pure nodes see it again.

    issued: lease, token and epoch, which go into the outcome. key: node and `idempotency_key` of the step, None without
    one; then a target tells repetitions by `action_id`.
    """

    workflow_id: str
    step_id: str
    action_id: str
    started_at: datetime
    issued: Issued | None = None
    key: str | None = None


Compute = Callable[[JsonValue, StepCall], JsonValue]
Invoke = Callable[[JsonValue, StepCall], Coroutine[object, object, JsonValue]]


@dataclass(slots=True)
class BoundStep:
    """A step and what carries it out: `compute` at once, or `invoke`, which may wait.

    repeatable: asking twice does no harm.
    """

    step: PlannedStep
    compute: Compute | None = None
    invoke: Invoke | None = None
    repeatable: bool = True


class _Effect(MixinEffectExecution):
    """The contract of an effect step."""

    def __init__(
        self, container: Container, step: PlannedStep, contract: ModelEffectSubcontract, plan: EffectPlan
    ) -> None:
        self.container = container
        self.effect_subcontract = contract
        self._effect_plan = plan
        self._name = f"contract {step.node!r}"
        self._stays = step.connection is None  # else a failure rolls back what it did

    async def invoke(self, data: JsonValue, call: StepCall) -> JsonValue:
        if not isinstance(data, dict):
            raise _refused(call, data, "an object")
        output = await self.execute_effect(
            ModelEffectInput(
                operation_data=dict(data),
                operation_id=UUID(call.action_id) if call.key is None else uuid5(_KEYS, call.key),
                metadata={"workflow_id": call.workflow_id, "step_id": call.step_id},
            )
        )
        return _json_of(output.result, call, self._name, has_effect=self._stays)


class StepRunner:
    """Runs the steps of one workflow on the services of one container.

    nodes: loaded contracts by the path that steps name. rng: of the jitter between attempts.
    """

    def __init__(
        self,
        nodes: Mapping[str, "LoadedContract"],
        container: Container,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._nodes = nodes
        self.container = container
        self._rng = rng
        self._bound: dict[int, BoundStep] = {}
        self._keep = getattr(container, "keep_abandoned", keep_in_loop)

    def bound(self, step: PlannedStep) -> BoundStep:
        """The step, bound at its first use."""
        found = self._bound.get(step.index)
        if found is None or found.step is not step:
            found = self._bound[step.index] = self._bind(step)
        return found

    def child_bundle(self, step: PlannedStep) -> WorkflowBundle:
        """The texts of a child workflow. Raises CONFIGURATION_ERROR for a step that names none."""
        node = self._nodes.get(step.node or "")
        workflow = None if node is None else node.workflow
        if workflow is None:
            raise ModelOnexError(
                f"step {step.step_id!r} starts a workflow, but {step.node!r} is none",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        return workflow.bundle

    def _bind(self, step: PlannedStep) -> BoundStep:
        name = step.node or step.step_id
        if step.is_service:
            key = step.idempotency_key
            repeatable = step.kind is not EnumWorkflowStepType.EFFECT or key is not None
            service = _Service(self.container, name, has_effect=step.kind not in _NO_EFFECT)
            return BoundStep(step, invoke=service, repeatable=repeatable)
        node = self._nodes.get(name)
        kind = "nothing" if node is None else node.kind
        if node is None or kind != step.kind.value:
            raise ModelOnexError(
                f"step {step.step_id!r} is of type {step.kind.value}, but {name!r} is {kind}",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        if kind == "compute":
            return _computing(step, cast("ComputePlan", node.plan))  # of this kind
        if kind == "reducer":
            machine = cast("FsmPlan", node.plan)  # of this kind
            return BoundStep(step, compute=lambda data, call: _reduced(machine, data, call))
        if kind == "effect":
            plan = cast("EffectPlan", node.plan)  # of this kind
            subcontract = cast("ModelEffectSubcontract", node.subcontract)  # of this kind
            effect = _Effect(self.container, step, subcontract, plan)
            repeatable = all(op.idempotent for op in plan.operations) or step.idempotency_key is not None
            return BoundStep(step, invoke=effect.invoke, repeatable=repeatable)
        raise ModelOnexError(
            f"step {step.step_id!r}: a node of kind {kind} cannot be called as a step",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        )

    def again(self, step: PlannedStep, outcome: StepOutcome, attempt: int) -> float | None:
        """Seconds until the next attempt of a child workflow; None when this was the last (`Again`)."""
        retry, error = step.retry, outcome.error
        if attempt >= retry.attempts or error is None or not _may_help({error.kind}, error, retry.conditions):
            return None
        return retry.delay_s(attempt + 1, self._rng())

    def run_pure(
        self, bound: BoundStep, scope: WorkflowScope, call: StepCall, clock: Callable[[], float]
    ) -> StepOutcome:
        """Carry out a step that does not wait, once: a repetition would give the same."""
        began = clock()
        try:
            value = redact_value(cast("Compute", bound.compute)(bound.step.make_input(scope), call))  # a pure step's
        except Exception as error:  # noqa: BLE001  # the boundary of a step: whatever goes wrong is its failure
            return StepOutcome(_FAILED, None, described(error), 1, began, clock(), call.issued)
        return StepOutcome(_COMPLETED, value, None, 1, began, clock(), call.issued)

    async def run(
        self,
        bound: BoundStep,
        scope: WorkflowScope,
        call: StepCall,
        clock: Callable[[], float],
        deadline: float | None = None,
        may_issue: Callable[[], Awaitable[None]] | None = None,
    ) -> StepOutcome:
        """Carry out a step with its attempts.

        deadline: of the workflow, by `clock`. may_issue: asked before each attempt but the first. Raises cancellation,
        and what `may_issue` raises.
        """
        if bound.compute is not None and deadline is None:
            return self.run_pure(bound, scope, call, clock)
        step = bound.step
        began = clock()
        attempt = 1
        while True:
            remaining = None if deadline is None else deadline - clock()
            if remaining is not None and remaining <= 0:
                return StepOutcome(_FAILED, None, timed_out("the workflow"), attempt, began, clock(), call.issued)
            cast("dict[str, JsonValue]", scope.workflow)["attempt"] = attempt  # the interpreter's own dict
            problem: BaseException
            try:
                value = redact_value(await self._attempt(bound, scope, call, remaining))
                return StepOutcome(_COMPLETED, value, None, attempt, began, clock(), call.issued)
            except CutOffError as cut:
                problem = cut
                of_step = step.timeout_ms is not None and (remaining is None or step.timeout_ms / 1000 < remaining)
                error = timed_out(f"attempt {attempt} of step {step.step_id!r}" if of_step else "the workflow", of_step)
                unknown = not bound.repeatable
            except Exception as failure:  # noqa: BLE001  # the boundary of a step, as above
                problem = failure
                error = described(failure)
                unknown = _is_unknown(failure, bound)
            status = _UNKNOWN if unknown else _FAILED
            if (
                attempt >= step.retry.attempts
                or (unknown and not bound.repeatable)
                or error.kind == WORKFLOW_TIMEOUT
                or not _may_help({each.__name__ for each in type(problem).__mro__}, error, step.retry.conditions)
            ):
                return StepOutcome(status, None, error, attempt, began, clock(), call.issued)
            attempt += 1
            delay = step.retry.delay_s(attempt, self._rng())
            if deadline is not None and clock() + delay >= deadline:
                return StepOutcome(status, None, error, attempt - 1, began, clock(), call.issued)
            await asyncio.sleep(delay)
            if may_issue is not None:
                await may_issue()

    async def _attempt(
        self, bound: BoundStep, scope: WorkflowScope, call: StepCall, remaining: float | None
    ) -> JsonValue:
        data = bound.step.make_input(scope)
        if bound.compute is not None:
            return bound.compute(data, call)
        invoke = cast("Invoke", bound.invoke)  # one of the two is there
        limit = remaining
        if bound.step.timeout_ms is not None:
            own = bound.step.timeout_ms / 1000
            limit = own if limit is None else min(own, limit)
        if limit is None:
            return await invoke(data, call)
        loop = asyncio.get_running_loop()
        return await Cut(invoke(data, call), loop.time() + limit, loop, self._keep)


class _Service:
    """A registered service: `await service.execute(parameters)`; looked up at each call, so that it may be replaced."""

    def __init__(self, container: Container, name: str, *, has_effect: bool) -> None:
        self._container = container
        self._name = name
        self._has_effect = has_effect

    async def __call__(self, data: JsonValue, call: StepCall) -> JsonValue:
        service = self._container.get_service(self._name)
        execute = getattr(service, "execute", None)
        if not callable(execute):
            raise ModelOnexError(
                f"step {call.step_id!r}: service {self._name!r} is a {type(service).__name__} without a method "
                "`execute(parameters)`",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        made = execute(data)
        if inspect.isawaitable(made):
            made = await made
        return _json_of(made, call, f"service {self._name!r}", has_effect=self._has_effect)


def _json_of(made: object, call: StepCall, who: str, *, has_effect: bool) -> JsonValue:
    """What a node gave back, as JSON that can be recorded. Raises VALIDATION_ERROR; an effect is done all the same, and
    its outcome is then `unknown`.
    """
    try:
        value = to_jsonable_python(made, fallback=str)
        _STRICT_JSON.encode(value).encode()
    except Exception as error:
        kind = type(made).__name__
        said = f"what {who} did is done, but the {kind} that it" if has_effect else f"the {kind} that {who}"
        raise ModelOnexError(
            f"step {call.step_id!r}: {said} gave back is no JSON: {error}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"outcome": EnumOperationOutcome.UNKNOWN.value} if has_effect else {},
        ) from error
    return cast("JsonValue", value)  # typed as Any


def _computing(step: PlannedStep, plan: ComputePlan) -> BoundStep:
    """A pipeline: at once where it cannot be long, else where it can be stopped."""
    if plan.small_input is None and plan.subcontract.parallel is None:
        return BoundStep(step, compute=lambda data, _call: cast("JsonValue", compute_or_raise(plan, data).output))

    async def invoke(data: JsonValue, _call: StepCall) -> JsonValue:
        return cast("JsonValue", (await run_limited_async(plan, data)).output)  # a pipeline gives JSON

    return BoundStep(step, invoke=invoke)


def _reduced(machine: FsmPlan, data: JsonValue, call: StepCall) -> JsonValue:
    """One action on a machine: input `{action, state, payload}`, output `{state, intents, transition}`."""
    if not isinstance(data, dict) or not isinstance(data.get("action"), str):
        raise _refused(call, data, "an object with `action`, the name of a trigger, and maybe `state` and `payload`")
    payload, state = data.get("payload"), data.get("state")
    if not isinstance(payload, dict | None) or not isinstance(state, dict | None):
        raise _refused(call, data, "objects as `payload` and `state`")
    action = FsmAction(str(data["action"]), UUID(call.action_id), payload or {}, call.started_at)
    done = machine_step(machine, cast("Mapping[str, object] | None", state), action)  # a snapshot's JSON
    return {
        "state": done.state.snapshot(),
        "intents": [intent.model_dump(mode="json") for intent in done.intents],
        "transition": done.transition,
    }


def _refused(call: StepCall, data: JsonValue, allowed: str) -> ModelOnexError:
    return ModelOnexError(
        f"step {call.step_id!r}: its input is {type(data).__name__}, allowed: {allowed}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def timed_out(what: str, of_step: bool = False) -> StepError:
    """The error of a time that was up. of_step: of a step's own, which may be tried again."""
    kind = "TimeoutError" if of_step else WORKFLOW_TIMEOUT
    return StepError(EnumCoreErrorCode.TIMEOUT, kind, f"the time of {what} was up")


def described(error: BaseException) -> StepError:
    """An exception as data, without known secrets."""
    kind = type(error).__name__
    if isinstance(error, ModelOnexError):
        return StepError(error.error_code, kind, redact(error.message))
    code = EnumCoreErrorCode.TIMEOUT if isinstance(error, TimeoutError) else EnumCoreErrorCode.OPERATION_FAILED
    return StepError(code, kind, redact(f"{kind}: {error}"))


def _is_unknown(error: Exception, bound: BoundStep) -> bool:
    """Whether nobody knows what the attempt did. A service's own TimeoutError says no more than a time of ours."""
    if not isinstance(error, ModelOnexError):
        return isinstance(error, TimeoutError) and not bound.repeatable
    if _was_done(error, bound.step):
        return not bound.repeatable
    return (
        error.error_code is EnumCoreErrorCode.OUTCOME_UNKNOWN
        or error.context.get("outcome") == EnumOperationOutcome.UNKNOWN.value
    )


def _was_done(error: ModelOnexError, step: PlannedStep) -> bool:
    """Whether an effect was carried out and stays, and its answer has not what the contract extracts."""
    return (
        isinstance(error, EffectFailedError)
        and error.error_code is EnumCoreErrorCode.EXTRACTION_ERROR
        and error.context.get("transaction_state") != EnumTransactionState.ROLLED_BACK.value
        and step.connection is None
    )


def _may_help(kinds: set[str], error: StepError, conditions: frozenset[str] | None) -> bool:
    if conditions is None:
        return error.code not in _HOPELESS
    return not conditions.isdisjoint({error.code.value, error.kind, *kinds})
