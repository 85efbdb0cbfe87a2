"""The workflow contract (section 5.1)."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_workflow import EnumDurability, EnumOnFailure, EnumWorkflowCoordination
from omnibase_core.models.contracts.contract_model import Breach, ContractFile, ContractModel, Rule
from omnibase_core.models.contracts.subcontracts.workflow_steps import (
    Duration,
    ModelWorkflowStep,
    Name,
    Text,
)
from omnibase_core.models.contracts.workflow_parts import ModelConflictResolutionConfig, ModelDependency
from omnibase_core.models.primitives.strict_types import StrictText

MAX_STEPS: Final = 1_000
_Version = Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]


class ModelWorkflowLease(ContractModel):
    """The hold of a process on a run.

    ttl_ms: how long a process that says nothing any more still has it.
    """

    ttl_ms: Annotated[int, Field(strict=True, ge=1_000, le=3_600_000)] = 15_000


class ModelScheduleTrigger(ContractModel):
    """Runs by the clock.

    cron: five fields (minute, hour, day of month, month, day of week), or six with seconds behind them. timezone: an
    IANA name.
    """

    cron: Annotated[StrictText, Field(min_length=1, max_length=200)]
    timezone: Annotated[StrictText, Field(min_length=1, max_length=100)] = "UTC"


class ModelEventTrigger(ContractModel):
    """A run for each event.

    on_event: its type, or several. filter: a CEL condition over `event`. key: a template over `event`; while a run of
    the same key has not ended, no other is started.
    """

    on_event: Name | Annotated[list[Name], Field(min_length=1, max_length=20)]
    filter: Text | None = None
    key: Text | None = None


def _one_trigger(trigger: "ModelWorkflowTrigger") -> Iterator[Breach]:
    given = [name for name in ("schedule", "event") if getattr(trigger, name) is not None]
    if len(given) != 1:
        yield Breach(
            "E-TRIGGER",
            f"a trigger is a schedule or an event, found {' and '.join(given) or 'none'}",
            (given[1],) if given else (),
            ", ".join(given),
            "schedule, event",
            "make two triggers of it" if given else "add schedule: {cron: '0 2 * * *'}",
        )


class ModelWorkflowTrigger(ContractModel):
    """What starts a run, one of the two.

    schedule: the clock. event: the bus. input: the input of the run, templates over `event`; null is the payload of the
    event, or an empty map.
    """

    schedule: ModelScheduleTrigger | None = None
    event: ModelEventTrigger | None = None
    input: JsonValue = None

    rules: ClassVar = (Rule(("schedule", "event"), _one_trigger),)


class ModelContinueAsNew(ContractModel):
    """A run that goes round: it ends and begins again under its id, with an empty history.

    when: a CEL condition over `input` and `steps`, asked when all steps have ended; false ends the run.
    input: of the next round, templates over `input` and `steps`.
    """

    when: Text
    input: JsonValue = None


def _ids_are_unique(contract: "ModelOrchestratorSubcontract") -> Iterator[Breach]:
    first: dict[str, int] = {}
    for index, step in enumerate(contract.steps):
        name = step.__dict__.get("step_id")
        if name is None:
            continue
        if name in first:
            yield Breach(
                "E-STEP-DUPLICATE",
                f"step {name!r} is there twice: steps[{first[name]}] and steps[{index}]",
                ("steps", index, "step_id"),
                repr(name),
                "ids that are unique in the workflow",
                "rename one of them",
            )
        else:
            first[name] = index


def _dependencies_exist(contract: "ModelOrchestratorSubcontract") -> Iterator[Breach]:
    names = dict.fromkeys(str(step.__dict__.get("step_id", "")) for step in contract.steps)
    for index, step in enumerate(contract.steps):
        depends_on = step.__dict__.get("depends_on", ())
        for place, name in enumerate(depends_on):
            path = ("steps", index, "depends_on", place)
            if name not in names:
                yield Breach(
                    "E-UNKNOWN-STEP",
                    f"step {step.__dict__.get('step_id')!r} depends on {name!r}, which is no step",
                    path,
                    repr(name),
                    ", ".join(names),
                )
        for name, count in Counter(depends_on).items():
            if count > 1:
                yield Breach(
                    "E-STEP-DUPLICATE",
                    f"step {step.__dict__.get('step_id')!r} depends on {name!r} twice",
                    ("steps", index, "depends_on"),
                    repr(name),
                    fix="remove one",
                )


def _fields_of_the_coordination(contract: "ModelOrchestratorSubcontract") -> Iterator[Breach]:
    coordination = contract.coordination_type
    if contract.items is not None and coordination is not EnumWorkflowCoordination.PIPELINE:
        yield Breach(
            "E-STEP-FIELD",
            f"items stream through a pipeline; this workflow is {coordination}",
            ("items",),
            fix="write coordination_type: pipeline, or for_each at the step",
        )
    for index, step in enumerate(contract.steps):
        there = step.__dict__
        if there.get("on_event") is not None and coordination is not EnumWorkflowCoordination.EVENT_DRIVEN:
            yield Breach(
                "E-STEP-FIELD",
                f"step {there.get('step_id')!r}: on_event is of event-driven workflows; this one is {coordination}",
                ("steps", index, "on_event"),
                fix="write coordination_type: event_driven, or a step of type wait",
            )
        if coordination is not EnumWorkflowCoordination.PIPELINE:
            continue
        for name, given in (
            ("for_each", there.get("for_each") is not None),
            ("wait", there.get("wait") is not None),
            ("approval", there.get("approval") is not None),
        ):
            if given:
                yield Breach(
                    "E-STEP-FIELD",
                    f"step {there.get('step_id')!r}: no {name} in a pipeline, where each item passes each step",
                    ("steps", index, name),
                    fix="put it into a workflow around this one",
                )


def _something_is_undone(contract: "ModelOrchestratorSubcontract") -> Iterator[Breach]:
    if any(step.__dict__.get("compensate") is not None for step in contract.steps):
        return
    for index, step in enumerate(contract.steps):
        if step.__dict__.get("on_failure") is EnumOnFailure.COMPENSATE:
            yield Breach(
                "W-STEP-NOTHING-UNDONE",
                f"step {step.__dict__.get('step_id')!r}: on_failure: compensate, but no step has a compensate",
                ("steps", index, "on_failure"),
                fix="add compensate to the steps that change something, or write on_failure: abort",
                severity="warning",
            )


def _priority_has_a_choice(contract: "ModelOrchestratorSubcontract") -> Iterator[Breach]:
    coordination = contract.coordination_type
    if coordination in {EnumWorkflowCoordination.PARALLEL, EnumWorkflowCoordination.EVENT_DRIVEN}:
        return
    for index, step in enumerate(contract.steps):
        if "priority" in step.model_fields_set:
            yield Breach(
                "W-STEP-PRIORITY",
                f"step {step.__dict__.get('step_id')!r}: priority has no effect in a workflow that is {coordination}, "
                "where the order of the steps is settled",
                ("steps", index, "priority"),
                fix="remove it, or write coordination_type: parallel",
                severity="warning",
            )


def _services_once(contract: "ModelOrchestratorSubcontract") -> Iterator[Breach]:
    seen: set[str] = set()
    for index, dependency in enumerate(contract.dependencies):
        name = dependency.__dict__.get("service_name", "")
        if name in seen:
            yield Breach(
                "E-STEP-DUPLICATE",
                f"service {name!r} is there twice",
                ("dependencies", index, "service_name"),
                repr(name),
                fix="remove one",
            )
        seen.add(name)


class ModelOrchestratorSubcontract(ContractModel):
    """A workflow: what `orchestrator_subcontract:` of a file holds.

    workflow_name: of runs, errors and metrics. version: of the workflow; a run keeps the texts it began with.
    description: for the reader. input_schema: JSON Schema 2020-12, or the name of a file beside the contract; held
    against the input before anything runs. coordination_type: how the steps follow each other. max_parallel_steps: how
    many at once, child workflows and the stages of a pipeline too. workflow_timeout_ms: limit of a whole run; null is
    none. durability: how often the outcomes of pure steps are recorded. lease: of the process that runs it.
    dependencies: services that must be there. conflict_resolution: what follows when a step fails. steps: the steps.
    triggers: what starts runs by itself. output: templates of the final result; null is the outputs of all steps by id,
    of a pipeline its last step: a list of what became of the items. items: of a pipeline, a list, or a template or path
    that gives one; null is `${input.items}`. continue_as_new: whether the run begins afresh at its end, with another
    input.
    """

    workflow_name: Annotated[StrictText, Field(min_length=1, max_length=100)]
    version: _Version = "1.0.0"
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    input_schema: dict[StrictText, JsonValue] | StrictText | None = None
    coordination_type: EnumWorkflowCoordination = EnumWorkflowCoordination.SEQUENTIAL
    max_parallel_steps: Annotated[int, Field(strict=True, ge=1, le=100)] = 5
    workflow_timeout_ms: Duration | None = None
    durability: EnumDurability = EnumDurability.STEP
    lease: ModelWorkflowLease = ModelWorkflowLease()
    dependencies: Annotated[list[ModelDependency], Field(max_length=100)] = []
    conflict_resolution: ModelConflictResolutionConfig = ModelConflictResolutionConfig(retry_enabled=False)
    steps: Annotated[list[ModelWorkflowStep], Field(min_length=1, max_length=MAX_STEPS)]
    triggers: Annotated[list[ModelWorkflowTrigger], Field(max_length=100)] = []
    output: JsonValue = None
    items: Text | Annotated[list[JsonValue], Field(max_length=100_000)] | None = None
    continue_as_new: ModelContinueAsNew | None = None

    rules: ClassVar = (
        Rule(("steps",), _ids_are_unique),
        Rule(("steps",), _dependencies_exist),
        Rule(("steps", "coordination_type", "items"), _fields_of_the_coordination),
        Rule(("steps",), _something_is_undone),
        Rule(("steps", "coordination_type"), _priority_has_a_choice),
        Rule(("dependencies",), _services_once),
    )


class ModelOrchestratorContractFile(ContractFile):
    """A file with a workflow.

    orchestrator_subcontract: the workflow.
    """

    orchestrator_subcontract: ModelOrchestratorSubcontract
