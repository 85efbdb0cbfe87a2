"""The steps of a workflow contract: work of a node, waits, approvals (section 5.1)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Final

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_workflow import (
    EnumApprovalTimeout,
    EnumOnFailure,
    EnumWaitTimeout,
    EnumWorkflowStepType,
)
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, Rule
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.workflow_parts import retry_fits
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

YEAR_MS: Final = 366 * 86_400_000
STEP_ID: Final = "^[A-Za-z_][A-Za-z0-9_-]*$"

StepId = Annotated[StrictText, Field(pattern=STEP_ID, max_length=100)]
Duration = Annotated[int, Field(strict=True, ge=1, le=YEAR_MS)]
Text = Annotated[StrictText, Field(min_length=1, max_length=10_000)]
Name = Annotated[StrictText, Field(min_length=1, max_length=200)]

WORK: Final = frozenset(
    {
        EnumWorkflowStepType.EFFECT,
        EnumWorkflowStepType.COMPUTE,
        EnumWorkflowStepType.REDUCER,
        EnumWorkflowStepType.ORCHESTRATOR,
    }
)
"""Kinds of steps that a node carries out; the others wait."""


class ModelWorkflowEventMatch(ContractModel):
    """Which event of the bus.

    type: its type. filter: a CEL condition over `event`, `input` and `steps`. key: a template over the run's own data;
    the event's key must be equal to it.
    """

    type: Name
    filter: Text | None = None
    key: Text | None = None


_CAUSES: Final = ("signal", "event", "duration_ms", "until")


def _one_cause(wait: "ModelWorkflowWait") -> Iterator[Breach]:
    given = [name for name in _CAUSES if getattr(wait, name) is not None]
    if len(given) != 1:
        yield Breach(
            "E-WAIT",
            f"a wait ends by exactly one of {', '.join(_CAUSES)}, found {' and '.join(given) or 'none'}",
            (given[1],) if given else (),
            ", ".join(given),
            f"one of {', '.join(_CAUSES)}",
            "keep one" if given else "add signal: <name>, or duration_ms: <milliseconds>",
        )
    elif given[0] in {"duration_ms", "until"}:
        for name in ("timeout_ms", "on_timeout", "value"):
            if name in wait.model_fields_set:
                yield Breach(
                    "E-WAIT",
                    f"{name} is for waits on a signal or an event; {given[0]} ends by itself",
                    (name,),
                    fix="remove it",
                )
    else:
        yield from _end_is_given(wait, "wait")
        yield from _value_is_used(wait)


def _end_is_given(model: "ModelWorkflowWait | ModelWorkflowApproval", what: str) -> Iterator[Breach]:
    if model.timeout_ms is None and "on_timeout" in model.model_fields_set:
        yield Breach(
            "E-WAIT",
            f"on_timeout without timeout_ms: this {what} has no end",
            ("on_timeout",),
            repr(model.on_timeout.value),
            fix="add timeout_ms",
        )


def _value_is_used(wait: "ModelWorkflowWait") -> Iterator[Breach]:
    if wait.value is not None and wait.on_timeout is not EnumWaitTimeout.CONTINUE:
        yield Breach(
            "E-WAIT",
            "value is the output when the time is over, but then the step fails",
            ("value",),
            fix="write on_timeout: continue, or remove value",
        )


class ModelWorkflowWait(ContractModel):
    """What a step waits for; its output is the payload of the signal or the event, null for a time.

    signal: a topic, of which each signal is given once. event: the first one that matches. duration_ms: that long.
    until: a template that gives a time in ISO 8601, with its zone; one that has passed ends the wait at once.
    timeout_ms: how long at most; null is for ever. on_timeout: fail, or continue. value: the output then.
    """

    signal: Name | None = None
    event: ModelWorkflowEventMatch | None = None
    duration_ms: Duration | None = None
    until: Text | None = None
    timeout_ms: Duration | None = None
    on_timeout: EnumWaitTimeout = EnumWaitTimeout.FAIL
    value: JsonValue = None

    rules: ClassVar = (Rule(("signal", "event", "duration_ms", "until", "timeout_ms", "on_timeout"), _one_cause),)


def _needs(step: "ModelWorkflowWork") -> Iterator[Breach]:
    if step.step_type in WORK and step.node is None:
        yield Breach(
            "E-STEP-FIELD",
            f"{_article(step.step_type)} step needs a node",
            ("node",),
            allowed="a contract file beside this one, or the name of a registered service",
            fix="add node: <file>.yaml",
        )


def _article(kind: EnumWorkflowStepType) -> str:
    return f"{'an' if kind.value[0] in 'aeiou' else 'a'} {kind.value}"


class ModelWorkflowWork(ContractModel):
    """Work of a node.

    step_name: for the reader. step_type: the kind of the node, or what else the step is. node: a contract file,
    relative to this one and ending in .yaml, .yml or .json, or the name of a registered service. input: what the node
    is given, a tree whose texts are templates; null is an empty map (in a pipeline what the step before made of the
    item). A reducer is given {action, payload, state}. timeout_ms: limit of each attempt. retry: when and how it is
    repeated; null is as `conflict_resolution` says. idempotency_key: a template; null is an id of run, step and item.
    """

    step_name: Annotated[StrictText, Field(min_length=1, max_length=200)] | None = None
    step_type: EnumWorkflowStepType
    node: Annotated[StrictText, Field(min_length=1, max_length=500)] | None = None
    input: JsonValue = None
    timeout_ms: Duration | None = None
    retry: ModelEffectRetryPolicy | None = None
    idempotency_key: Text | None = None


def _is_work(step: "ModelWorkflowAside") -> Iterator[Breach]:
    yield from _needs(step)
    if step.retry is not None:
        yield from retry_fits(step.retry, "retry")
    if step.step_type not in WORK:
        yield Breach(
            "E-STEP-FIELD",
            f"{_article(step.step_type)} step cannot stand here: nothing waits for it",
            ("step_type",),
            repr(step.step_type.value),
            ", ".join(kind.value for kind in EnumWorkflowStepType if kind in WORK),
            "let a node do it",
        )


class ModelWorkflowAside(ModelWorkflowWork):
    """A step beside the order of the others: it undoes one (`compensate`), or calls for help (`escalate`).

    step_id: of its results; null is the id of its step with `.compensate` or `.escalate`.
    """

    step_id: StepId | None = None

    rules: ClassVar = (Rule(("step_type", "node", "retry"), _is_work),)


def _escalation_is_whole(approval: "ModelWorkflowApproval") -> Iterator[Breach]:
    yield from _end_is_given(approval, "approval")
    pair = ("escalate", "escalate_after_ms")
    given = [name for name in pair if getattr(approval, name) is not None]
    if len(given) == 1:
        yield Breach(
            "E-WAIT",
            f"{' and '.join(pair)} go together, found {given[0]} alone",
            (given[0],),
            fix=f"add {next(name for name in pair if name not in given)}",
        )
    limit, after = approval.timeout_ms, approval.escalate_after_ms
    if limit is not None and after is not None and after >= limit:
        yield Breach(
            "E-WAIT",
            f"the approval ends after {limit} ms, before it is escalated",
            ("escalate_after_ms",),
            str(after),
            f"less than {limit}",
            "escalate earlier, or raise timeout_ms",
        )


class ModelWorkflowApproval(ContractModel):
    """A question to a person; the answer is a signal whose topic is the step's id: {approved, by, comment}.

    prompt: a template. approvers: who may answer; empty is anybody. timeout_ms: how long at most; null is for ever.
    on_timeout: what no answer means. escalate_after_ms, escalate: after that long this step is run, once, and the
    approval goes on waiting.
    """

    prompt: Text
    approvers: Annotated[list[Name], Field(max_length=100)] = []
    timeout_ms: Duration | None = None
    on_timeout: EnumApprovalTimeout = EnumApprovalTimeout.REJECT
    escalate_after_ms: Duration | None = None
    escalate: ModelWorkflowAside | None = None

    rules: ClassVar = (Rule(("timeout_ms", "on_timeout", "escalate_after_ms", "escalate"), _escalation_is_whole),)


_OF_EVENTS: Final = ("filter", "key", "debounce_ms", "event_timeout_ms")
_OF_KINDS: Final[Mapping[str, frozenset[EnumWorkflowStepType]]] = {
    "node": WORK,
    "input": WORK,
    "for_each": WORK,
    "timeout_ms": WORK,
    "retry": WORK,
    "compensate": WORK,
    "idempotency_key": WORK,
    "wait": frozenset({EnumWorkflowStepType.WAIT}),
    "approval": frozenset({EnumWorkflowStepType.APPROVAL}),
}
_INSTEAD: Final = {
    "timeout_ms": "put it below wait: or approval:",
    "for_each": "put the steps around it into a child workflow, and map over that",
    "compensate": "put it at a step that changes something",
}


def _fields_of_the_kind(step: "ModelWorkflowStep") -> Iterator[Breach]:
    kind = step.step_type
    for name, kinds in _OF_KINDS.items():
        if name in step.model_fields_set and kind not in kinds:
            yield Breach(
                "E-STEP-FIELD",
                f"step {step.step_id!r}: {_article(kind)} step has no {name}",
                (name,),
                fix=_INSTEAD.get(name, "remove it, or change step_type"),
            )
    if kind not in WORK and step.on_failure is EnumOnFailure.RETRY:
        yield Breach(
            "E-STEP-FIELD",
            f"step {step.step_id!r}: {_article(kind)} step is not repeated",
            ("on_failure",),
            "'retry'",
            "abort, skip, compensate",
            "choose another, or a longer timeout_ms",
        )


def _parts_of_the_kind(step: "ModelWorkflowStep") -> Iterator[Breach]:
    yield from _needs(step)
    name = step.step_type.value
    if name in {"wait", "approval"} and getattr(step, name) is None:
        yield Breach(
            "E-STEP-FIELD",
            f"step {step.step_id!r}: {_article(step.step_type)} step needs {name}",
            (name,),
            fix="add wait: {signal: <name>}" if name == "wait" else "add approval: {prompt: <question>}",
        )
    if step.on_event is None:
        for field in _OF_EVENTS:
            if field in step.model_fields_set:
                yield Breach(
                    "E-STEP-FIELD",
                    f"step {step.step_id!r}: {field} is about the events of on_event, which is missing",
                    (field,),
                    fix="add on_event",
                )
    if step.retry is not None:
        yield from retry_fits(step.retry, "retry")


class ModelWorkflowStep(ModelWorkflowWork):
    """A step.

    step_id: by which others name it. depends_on: steps that must have ended first. when: a CEL condition over `input`,
    `steps`, `event` (and `item`, `index`, then judged for each); where it is false the step is skipped and its output
    is null. for_each: a list, or a template or path that gives one; the step is done for each entry, its output is the
    list of theirs. on_failure: what follows when it has failed for good; null is as `conflict_resolution` says.
    compensate: undoes it, in reverse order, when the workflow fails; not when it is cancelled. priority: of steps that
    are ready the one with the smallest number starts first. enabled: false counts as done for those that depend on it.
    wait: of a step of this type. approval: likewise.

    on_event: of event-driven workflows, a type of events that starts it, or several that are joined. filter: a CEL
    condition over `event`, `input` and `steps`. key: a template over `event`; only events of one key belong together.
    debounce_ms: starts when none has come for that long, with the last one. event_timeout_ms: how long the step waits
    for its event, or the first event of a join for the others; then the step fails.
    """

    step_id: StepId
    depends_on: Annotated[list[StrictText], Field(max_length=1_000)] = []
    when: Text | None = None
    for_each: Text | Annotated[list[JsonValue], Field(max_length=100_000)] | None = None
    on_failure: EnumOnFailure | None = None
    compensate: ModelWorkflowAside | None = None
    priority: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 100
    enabled: StrictFlag = True
    wait: ModelWorkflowWait | None = None
    approval: ModelWorkflowApproval | None = None
    on_event: Name | Annotated[list[Name], Field(min_length=1, max_length=20)] | None = None
    filter: Text | None = None
    key: Text | None = None
    debounce_ms: Duration | None = None
    event_timeout_ms: Duration | None = None

    rules: ClassVar = (
        Rule(("step_id", "step_type", "on_failure"), _fields_of_the_kind),
        Rule(
            ("step_id", "step_type", "node", "retry", "wait", "approval", "on_event"),
            _parts_of_the_kind,
        ),
    )

    @property
    def event_types(self) -> tuple[str, ...]:
        """The types that start it; none in a workflow that is not event-driven."""
        return (
            () if self.on_event is None else tuple([self.on_event] if isinstance(self.on_event, str) else self.on_event)
        )
