"""What exactly a workflow will do: steps with their closures, and the units in which they are scheduled.

Made once per contract by `workflow_compiler.compile_workflow`; a run only fills values in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import (
    EnumDependencyType,
    EnumDurability,
    EnumOnFailure,
    EnumWorkflowCoordination,
    EnumWorkflowStepType,
)


@dataclass(slots=True)
class WorkflowScope:
    """What the closures of a run read.

    input: of the run. steps: output of each step that has ended well or was skipped (then None), by step id. item,
    index: in a `for_each` or a pipeline. workflow: `id`, `name`, `version`, and of the step at hand `step_id`,
    `action_id`, `token`, `attempt`. event: what triggered a step of an event-driven workflow.
    """

    input: JsonValue
    steps: dict[str, JsonValue]
    workflow: Mapping[str, JsonValue]
    item: JsonValue = None
    index: int = 0
    event: JsonValue = None


MakeValue = Callable[[WorkflowScope], JsonValue]
Condition = Callable[[WorkflowScope], bool]


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Attempts in all, and the wait before attempt n (2 is the first repetition) in seconds, given a random number
    between 0 and 1. conditions: error codes and exception class names that are repeated; None is all that may help.
    """

    attempts: int
    delay_s: Callable[[int, float], float]
    conditions: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class WaitPlan:
    """What a wait or an approval waits for: one of signal topic, event, moment.

    timeout_ms: None is for ever. escalate_after_ms: after that long `escalation`'s step is run and the wait goes on.
    on_timeout: what the end of the time means: an error, or this value as outcome. event_key: what the event's key must
    be equal to. prompt, approvers: of an approval, whose signal is the step's id; no approvers is anybody.
    """

    signal: str | None = None
    event_type: str | None = None
    event_filter: Condition | None = None
    event_key: MakeValue | None = None
    until: Callable[[WorkflowScope, datetime], datetime] | None = None
    timeout_ms: int | None = None
    escalate_after_ms: int | None = None
    escalation: "PlannedStep | None" = None
    fails_on_timeout: bool = True
    timeout_value: JsonValue = None
    prompt: MakeValue | None = None
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TriggerPlan:
    """Events that start a step of an event-driven workflow: all of them, of one key, are joined.

    debounce_ms: wait until none has come for that long, the last one counts. timeout_ms: for the others of a join.
    """

    event_types: tuple[str, ...]
    event_filter: Condition | None = None
    event_key: MakeValue | None = None
    debounce_ms: int | None = None
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step. index: its place in the contract; compensations and escalations follow behind all steps.

    node: path of a contract below the workflow's folder, or name of a registered service. pure: a computation or a
    reduction by contract, which may be computed again. timeout_ms: of each attempt; a wait has its own. priority: among
    steps that are ready the smaller number is first. on_failure: None goes by the workflow: on with what does not
    depend on it (`continue_on_error`), without the failed item (pipeline), else abort. for_each: gives a list or
    raises. when_each: `when` reads the item and is judged for each. connection: of an effect whose operations can
    all run in one transaction of this database connection, so that the step has its effect exactly once.
    """

    index: int
    step_id: str
    kind: EnumWorkflowStepType
    enabled: bool
    node: str | None
    is_service: bool
    make_input: MakeValue
    depends_on: tuple[int, ...]
    dependents: tuple[int, ...]
    depth: int
    when: Condition | None
    for_each: MakeValue | None
    timeout_ms: int | None
    retry: RetryPlan
    on_failure: EnumOnFailure | None
    compensate: "PlannedStep | None"
    priority: int
    idempotency_key: MakeValue | None
    pure: bool
    wait: WaitPlan | None = None
    trigger: TriggerPlan | None = None
    when_each: bool = False
    connection: str | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """Steps that are scheduled and recorded together, in this order. depends_on: indexes of units. The units of a
    plan are in topological order themselves.

    recorded: false for pure steps whose outcomes are computed again after a crash.
    """

    index: int
    steps: tuple[int, ...]
    depends_on: tuple[int, ...]
    dependents: tuple[int, ...]
    recorded: bool


@dataclass(frozen=True, slots=True)
class DependencyPlan:
    """A service that must be there. version: a PEP 440 specifier, None is any."""

    service: str
    kind: EnumDependencyType
    version: str | None = None


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """Runs by the clock."""

    cron: str
    timezone: str
    make_input: MakeValue


@dataclass(frozen=True, slots=True)
class StartPlan:
    """A run for each event that passes the filter; of one key not two at the same time. The scope has the event."""

    event_types: tuple[str, ...]
    event_filter: Condition | None
    event_key: MakeValue | None
    make_input: MakeValue


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """Whether a run whose steps have ended begins afresh, and with what input."""

    when: Condition
    make_input: MakeValue


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """A workflow, ready to be interpreted. `steps` in order of declaration, `order` topologically.

    items: of a pipeline, what streams through the steps; gives a list, or raises. make_output: None gives the outputs
    of all steps by id. check_input: what is wrong with an input. next_round: of a run that continues as new.
    """

    name: str
    version: str
    coordination: EnumWorkflowCoordination
    durability: EnumDurability
    max_parallel_steps: int
    timeout_ms: int | None
    lease_ttl_ms: int
    steps: tuple[PlannedStep, ...]
    order: tuple[int, ...]
    units: tuple[Unit, ...]
    dependencies: tuple[DependencyPlan, ...]
    continue_on_error: bool
    make_output: MakeValue | None
    items: MakeValue | None
    check_input: Callable[[JsonValue], Sequence[str]] | None
    schedules: tuple[SchedulePlan, ...] = ()
    starts: tuple[StartPlan, ...] = ()
    next_round: RoundPlan | None = None
