"""A workflow contract compiled: order, units, retries, and each template and condition as a closure (section 5.1).

Problems are reported as `Breach`es with their key path; a plan with problems is never run. Of a contract with holes
only what is there is judged (`judge_workflow`), by the same functions.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import (
    EnumApprovalTimeout,
    EnumOnFailure,
    EnumWaitTimeout,
    EnumWorkflowCoordination,
    EnumWorkflowStepType,
)
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import TemplateError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import (
    ModelOrchestratorSubcontract,
    ModelWorkflowTrigger,
)
from omnibase_core.models.contracts.subcontracts.workflow_steps import (
    WORK,
    ModelWorkflowApproval,
    ModelWorkflowAside,
    ModelWorkflowStep,
    ModelWorkflowWait,
    ModelWorkflowWork,
)
from omnibase_core.utils.input_check import SchemaCheck
from omnibase_core.utils.workflow_graph import ancestors_of, cycles_of, dependents_of, depths_of, topological_order
from omnibase_core.utils.workflow_node_facts import NodeFacts, is_file, node_path
from omnibase_core.utils.workflow_plan import (
    Condition,
    DependencyPlan,
    MakeValue,
    PlannedStep,
    RetryPlan,
    RoundPlan,
    SchedulePlan,
    StartPlan,
    TriggerPlan,
    WaitPlan,
    WorkflowPlan,
)
from omnibase_core.utils.workflow_retry import retry_of
from omnibase_core.utils.workflow_schedule import cron_problems, zone_problem
from omnibase_core.utils.workflow_units import units_of
from omnibase_core.utils.workflow_values import RUN_KEYS, Place, ValueCompiler, holes_of, never, sample_of

Report = Callable[[Breach], None]

_PURE: Final = frozenset({EnumWorkflowStepType.COMPUTE, EnumWorkflowStepType.REDUCER})
_BY_ORDER: Final = frozenset({EnumWorkflowCoordination.SEQUENTIAL, EnumWorkflowCoordination.PIPELINE})
"""Coordinations in which a step comes before all that follow in topological order, also without `depends_on`."""


def compile_workflow(
    contract: ModelOrchestratorSubcontract,
    nodes: Mapping[str, NodeFacts] | None = None,
    check_input: SchemaCheck | None = None,
    report: Report | None = None,
) -> WorkflowPlan:
    """The plan of a contract whose rules have been judged.

    nodes: what is known of the contracts that steps name, by their path; a step whose contract is missing there is
    taken as it is. Without `report` the first problem is raised as ModelOnexError VALIDATION_ERROR.
    Raises CONFIGURATION_ERROR when there are conditions and the extra `cel` is not installed.
    """
    return _Compiler(contract, nodes or {}, check_input, report or _raise_first).plan()


def judge_workflow(
    contract: ModelOrchestratorSubcontract,
    nodes: Mapping[str, NodeFacts],
    check_input: SchemaCheck | None,
    report: Report,
) -> None:
    """Report what `compile_workflow` would, of a contract that may have holes."""
    _Compiler(contract, nodes, check_input, report).judge()


def _raise_first(breach: Breach) -> None:
    if breach.severity == "error":
        path = ".".join(str(key) for key in breach.path if not isinstance(key, Offset))
        fix = f" ({breach.fix})" if breach.fix else ""
        raise ModelOnexError(
            f"{path}: {breach.message}{fix}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"rule": breach.code, "path": path, "found": breach.found},
        )


class _Compiler:
    def __init__(
        self,
        contract: ModelOrchestratorSubcontract,
        nodes: Mapping[str, NodeFacts],
        check_input: SchemaCheck | None,
        report: Report,
    ) -> None:
        self.contract = contract
        self.nodes = nodes
        self.check_input = check_input
        self.report = report
        there = contract.__dict__
        self.steps: list[ModelWorkflowStep] = there.get("steps", [])
        self.coordination = there.get("coordination_type", EnumWorkflowCoordination.SEQUENTIAL)
        self.ids = [str(step.__dict__.get("step_id", f"steps[{index}]")) for index, step in enumerate(self.steps)]
        self.indexes: dict[str, int] = {}
        for index, name in enumerate(self.ids):
            self.indexes.setdefault(name, index)
        self.needed = [
            tuple(
                self.indexes[name]
                for name in dict.fromkeys(step.__dict__.get("depends_on", ()))
                if name in self.indexes
            )
            for step in self.steps
        ]
        self.order = topological_order(self.needed)
        self.ancestors = ancestors_of(self.needed, self.order)
        self.visible = self._visible()
        disabled = frozenset(i for i, step in enumerate(self.steps) if not step.__dict__.get("enabled", True))
        self.values = ValueCompiler(self.indexes, disabled, self._not_before, self._gives, report)
        self.asides = 0

    # order

    def _visible(self) -> list[int]:
        """By step, whose outputs are there when it starts. Nothing is said of steps on a cycle or behind one."""
        everything = (1 << len(self.steps)) - 1
        visible = [everything] * len(self.steps)
        before = 0
        for index in self.order:
            visible[index] = before if self.coordination in _BY_ORDER else self.ancestors[index]
            before |= 1 << index
        return visible

    def _not_before(self, other: int, step: int) -> tuple[str, str]:
        there, here = self.ids[other], self.ids[step]
        if self.ancestors[other] >> step & 1:
            return f"step {there!r} waits for {here!r}, so it comes later", f"turn depends_on of {there!r} round"
        if self.coordination in _BY_ORDER:
            return f"step {there!r} comes later", f"move {there!r} up, or add it to depends_on of {here!r}"
        return (
            f"step {here!r} does not wait for {there!r}, so it may come first",
            f"add {there} to depends_on of {here!r}",
        )

    def _gives(self, index: int) -> Mapping[str, Collection[str] | None] | None:
        step = self.steps[index].__dict__
        node = step.get("node")
        if node is None or not is_file(node) or step.get("for_each") is not None:
            return None
        facts = self.nodes.get(node_path(node))
        return None if facts is None or facts.kind != step.get("step_type") else facts.gives

    def _refuse_cycles(self) -> None:
        for circle in cycles_of(self.needed):
            names = [self.ids[index] for index in [*circle, circle[0]]]
            self.report(
                Breach(
                    "E-CYCLE",
                    f"steps wait for each other: {' -> '.join(names)}",
                    ("steps", circle[0], "depends_on"),
                    " -> ".join(names),
                    fix="remove one of these from a depends_on",
                )
            )

    def _refuse_unreachable(self) -> None:
        if self.coordination is not EnumWorkflowCoordination.EVENT_DRIVEN:
            return
        for index, step in enumerate(self.steps):
            if step.__dict__.get("on_event") is None and not step.__dict__.get("depends_on", True):
                self.report(
                    Breach(
                        "E-STEP-UNREACHABLE",
                        f"step {self.ids[index]!r} is never started: it waits for no event and behind no other step",
                        ("steps", index),
                        repr(self.ids[index]),
                        "on_event or depends_on",
                        "add on_event: <type>, or depends_on: [<step>]",
                    )
                )

    # the whole

    def judge(self) -> None:
        self._refuse_cycles()
        self._refuse_unreachable()
        for index, step in enumerate(self.steps):
            for part in (self._condition, self._input, self._for_each, self._key, self._trigger, self._aside_of):
                with suppress(AttributeError):  # what it needs is not well-formed
                    part(index, step)
            with suppress(AttributeError):
                self._wait(index, step)
        with suppress(AttributeError):
            self._around()

    def plan(self) -> WorkflowPlan:
        contract, check_input = self.contract, self.check_input
        self._refuse_cycles()
        self._refuse_unreachable()
        dependents = dependents_of(self.needed)
        depths = depths_of(self.needed, self.order)
        steps = tuple(
            self._step(index, step, dependents[index], depths[index]) for index, step in enumerate(self.steps)
        )
        make_output, items, schedules, starts, next_round = self._around()
        return WorkflowPlan(
            contract.workflow_name,
            contract.version,
            contract.coordination_type,
            contract.durability,
            contract.max_parallel_steps,
            contract.workflow_timeout_ms,
            contract.lease.ttl_ms,
            steps,
            tuple(self.order),
            units_of(steps, self.order, contract.coordination_type, contract.durability),
            tuple(
                DependencyPlan(d.service_name, d.dependency_type, d.version_constraint) for d in contract.dependencies
            ),
            contract.conflict_resolution.continue_on_error,
            make_output,
            items,
            None if check_input is None else check_input.problems,
            schedules,
            starts,
            next_round,
        )

    def _around(
        self,
    ) -> tuple[MakeValue | None, MakeValue | None, tuple[SchedulePlan, ...], tuple[StartPlan, ...], RoundPlan | None]:
        """What stands beside the steps: output, items, triggers, the next round."""
        contract = self.contract
        everything = Place("the output", ("input", "steps", "workflow"), (1 << len(self.steps)) - 1, None, RUN_KEYS)
        make_output = None if contract.output is None else self.values.value(contract.output, ("output",), everything)
        items = None
        if self.coordination is EnumWorkflowCoordination.PIPELINE:
            place = Place("items", ("input", "workflow"), 0, None, RUN_KEYS)
            given = "${input.items}" if contract.items is None else contract.items
            items = self.values.entries(given, ("items",), place)
        schedules: list[SchedulePlan] = []
        starts: list[StartPlan] = []
        for index, trigger in enumerate(contract.triggers):
            with suppress(AttributeError):
                self._start(trigger, ("triggers", index), schedules, starts)
        return make_output, items, tuple(schedules), tuple(starts), self._next_round(everything)

    def _next_round(self, everything: Place) -> RoundPlan | None:
        asked = self.contract.continue_as_new
        if asked is None:
            return None
        place = replace(everything, owner="continue_as_new")
        when, _ = self.values.condition(asked.when, ("continue_as_new", "when"), place)
        return RoundPlan(when, self.values.value(asked.input, ("continue_as_new", "input"), place))

    def _start(
        self, trigger: ModelWorkflowTrigger, path: KeyPath, schedules: list[SchedulePlan], starts: list[StartPlan]
    ) -> None:
        schedule, event = trigger.schedule, trigger.event
        if self.check_input is not None and (trigger.input is not None or event is None):
            sample, unknown = sample_of({} if trigger.input is None else trigger.input)
            for where, problem in self.check_input.misfits(sample, unknown):
                self.report(
                    Breach(
                        "E-STEP-INPUT",
                        f"the workflow does not take the input of this trigger: {problem}",
                        (*path, "input", *where),
                        fix="give what input_schema wants",
                    )
                )
        if schedule is not None:
            make = self.values.value(
                {} if trigger.input is None else trigger.input, (*path, "input"), Place("a schedule", ())
            )
            self._judge_schedule(schedule.cron, schedule.timezone, (*path, "schedule"))
            schedules.append(SchedulePlan(schedule.cron, schedule.timezone, make))
        if event is not None:
            place = Place("a trigger", ("event",))
            types = (event.on_event,) if isinstance(event.on_event, str) else tuple(event.on_event)
            condition = None
            if event.filter is not None:
                condition, _ = self.values.condition(event.filter, (*path, "event", "filter"), place)
            key = None if event.key is None else self.values.text(event.key, (*path, "event", "key"), place)
            given: JsonValue = "${event.payload}" if trigger.input is None else trigger.input
            starts.append(StartPlan(types, condition, key, self.values.value(given, (*path, "input"), place)))

    def _judge_schedule(self, cron: str, timezone: str, path: KeyPath) -> None:
        for problem in cron_problems(cron):
            self.report(
                Breach("E-TRIGGER", problem, (*path, "cron"), repr(cron), fix="write for example '0 2 * * *' for 2:00")
            )
        problem = zone_problem(timezone)
        if problem:
            self.report(
                Breach("E-TRIGGER", problem, (*path, "timezone"), repr(timezone), "IANA names", "write Europe/Berlin")
            )

    # a step

    def _place(self, index: int, *more: str) -> Place:
        sources = ["input", "steps", "workflow", *more]
        if self.coordination is EnumWorkflowCoordination.EVENT_DRIVEN:
            sources.append("event")
        step = self.steps[index].__dict__
        if self.coordination is EnumWorkflowCoordination.PIPELINE or step.get("for_each") is not None:
            sources += ["item", "index"]
        return Place(f"step {self.ids[index]!r}", tuple(sources), self.visible[index], index)

    def _step(self, index: int, step: ModelWorkflowStep, dependents: list[int], depth: int) -> PlannedStep:
        when, when_each = self._condition(index, step)
        facts = self._facts(step)
        retry = self._retry(index, step, facts)
        return PlannedStep(
            index=index,
            step_id=step.step_id,
            kind=step.step_type,
            enabled=step.enabled,
            node=_node_of(step),
            is_service=step.node is not None and not is_file(step.node),
            make_input=self._input(index, step),
            depends_on=self.needed[index],
            dependents=tuple(dependents),
            depth=depth,
            when=when,
            for_each=self._for_each(index, step),
            timeout_ms=step.timeout_ms,
            retry=retry,
            on_failure=step.on_failure,
            compensate=self._aside_of(index, step),
            priority=step.priority,
            idempotency_key=self._key(index, step),
            pure=_is_pure(step),
            wait=self._wait(index, step),
            trigger=self._trigger(index, step),
            when_each=when_each,
            connection=None if facts is None else facts.connection,
        )

    def _facts(self, step: ModelWorkflowWork) -> NodeFacts | None:
        node = step.node
        return None if node is None or not is_file(node) else self.nodes.get(node_path(node))

    def _condition(self, index: int, step: ModelWorkflowStep) -> tuple[Condition | None, bool]:
        if step.when is None:
            return None, False
        path: KeyPath = ("steps", index, "when")
        condition, roots = self.values.condition(step.when, path, self._place(index))
        if condition is never and not roots:
            self.report(
                Breach(
                    "E-STEP-UNREACHABLE",
                    f"step {self.ids[index]!r} never runs: its condition is false whatever happens",
                    path,
                    repr(step.when),
                    fix="mend the condition; enabled: false switches a step off",
                )
            )
        return condition, step.for_each is not None and not roots.isdisjoint({"item", "index"})

    def _input(self, index: int, step: ModelWorkflowStep) -> MakeValue:
        path: KeyPath = ("steps", index, "input")
        if step.input is None and step.step_type in WORK and self.coordination is EnumWorkflowCoordination.PIPELINE:
            return self._streamed(index)
        make = self.values.value({} if step.input is None else step.input, path, self._place(index))
        self._judge_node(step, ("steps", index))
        return make

    def _streamed(self, index: int) -> MakeValue:
        """What an item has become behind the step before."""
        place = self.order.index(index) if index in self.order else 0
        before = [other for other in self.order[:place] if self.steps[other].__dict__.get("enabled", True)]
        if not before:
            return lambda scope: scope.item
        name = self.ids[before[-1]]
        return lambda scope: scope.steps[name]

    def _judge_node(self, step: ModelWorkflowWork, path: KeyPath) -> None:
        """Whether the contract of the node is of the kind, and takes what it is given."""
        facts = self._facts(step)
        if facts is None or step.step_type not in WORK:
            return
        if facts.kind != step.step_type:
            self.report(
                Breach(
                    "E-NODE-KIND",
                    f"{step.node} is {'an' if facts.kind[0] in 'aeiou' else 'a'} {facts.kind} contract, "
                    f"the step is of type {step.step_type}",
                    (*path, "node"),
                    repr(facts.kind),
                    step.step_type.value,
                    f"write step_type: {facts.kind}, or name another contract",
                )
            )
            return
        sample, unknown = sample_of({} if step.input is None else step.input)
        for place, problem, fix in facts.misfits(sample, unknown):
            self.report(
                Breach(
                    "E-STEP-INPUT",
                    f"{step.node} does not take this input: {problem}",
                    (*path, "input", *place),
                    fix=fix,
                )
            )

    def _for_each(self, index: int, step: ModelWorkflowStep) -> MakeValue | None:
        if step.for_each is None:
            return None
        place = self._place(index)
        outside = Place(
            place.owner, tuple(s for s in place.sources if s not in {"item", "index"}), place.visible, index
        )
        return self.values.entries(step.for_each, ("steps", index, "for_each"), outside)

    def _key(self, index: int, step: ModelWorkflowStep) -> MakeValue | None:
        return self._idempotency_key(step, ("steps", index, "idempotency_key"), self._place(index))

    def _idempotency_key(self, step: ModelWorkflowWork, path: KeyPath, place: Place) -> MakeValue | None:
        key = step.idempotency_key
        if key is None:
            return None
        same = _key_is_shared(key, place, in_pipeline=self.coordination is EnumWorkflowCoordination.PIPELINE)
        if same:
            self.report(
                Breach(
                    "W-STEP-KEY",
                    f"idempotency_key is the same {same}, so only the first would have an effect",
                    path,
                    repr(key),
                    fix="write ${workflow.id}, ${index} or something of the input into it, or leave it out",
                    severity="warning",
                )
            )
        return self.values.text(key, path, place)

    def _retry(self, index: int, step: ModelWorkflowStep, facts: NodeFacts | None) -> RetryPlan:
        retry = retry_of(self.contract, step, step.on_failure)
        asked = step.retry is not None or step.on_failure is EnumOnFailure.RETRY
        if asked and retry.attempts > 1 and facts is not None and not (facts.repeatable or facts.connection):
            self.report(
                Breach(
                    "W-STEP-NOT-IDEMPOTENT",
                    f"step {self.ids[index]!r} is repeated, but {step.node} is not idempotent: "
                    "it is repeated only where surely nothing was done",
                    ("steps", index, "retry" if step.retry is not None else "on_failure"),
                    fix="make its operations idempotent, or leave the repetition out",
                    severity="warning",
                )
            )
        return retry

    def _trigger(self, index: int, step: ModelWorkflowStep) -> TriggerPlan | None:
        if step.on_event is None:
            return None
        path: KeyPath = ("steps", index)
        condition = None
        if step.filter is not None:
            condition, _ = self.values.condition(step.filter, (*path, "filter"), self._place(index))
        place = Place(f"key of step {self.ids[index]!r}", ("event",))
        key = None if step.key is None else self.values.text(step.key, (*path, "key"), place)
        return TriggerPlan(step.event_types, condition, key, step.debounce_ms, step.event_timeout_ms)

    # waits

    def _wait(self, index: int, step: ModelWorkflowStep) -> WaitPlan | None:
        wait, approval = step.__dict__.get("wait"), step.__dict__.get("approval")
        if isinstance(wait, ModelWorkflowWait):
            return self._wait_for(index, wait, ("steps", index, "wait"))
        if isinstance(approval, ModelWorkflowApproval):
            return self._approval(index, approval, ("steps", index, "approval"))
        return None

    def _wait_for(self, index: int, wait: ModelWorkflowWait, path: KeyPath) -> WaitPlan:
        place = self._place(index)
        if wait.duration_ms is not None:
            length = timedelta(milliseconds=wait.duration_ms)
            return WaitPlan(until=lambda _scope, now: now + length)
        if wait.until is not None:
            return WaitPlan(until=self.values.moment(wait.until, (*path, "until"), place))
        condition = key = None
        if wait.event is not None:
            if wait.event.filter is not None:
                at_event = Place(place.owner, (*place.sources, "event"), place.visible, index)
                condition, _ = self.values.condition(wait.event.filter, (*path, "event", "filter"), at_event)
            if wait.event.key is not None:
                key = self.values.text(wait.event.key, (*path, "event", "key"), place)
        return WaitPlan(
            signal=wait.signal,
            event_type=None if wait.event is None else wait.event.type,
            event_filter=condition,
            event_key=key,
            timeout_ms=wait.timeout_ms,
            fails_on_timeout=wait.on_timeout is EnumWaitTimeout.FAIL,
            timeout_value=wait.value,
        )

    def _approval(self, index: int, approval: ModelWorkflowApproval, path: KeyPath) -> WaitPlan:
        place = self._place(index)
        escalation = None
        if approval.escalate is not None:
            escalation = self._aside(index, approval.escalate, "escalate", (*path, "escalate"), place)
        return WaitPlan(
            signal=self.ids[index],
            timeout_ms=approval.timeout_ms,
            escalate_after_ms=approval.escalate_after_ms,
            escalation=escalation,
            fails_on_timeout=approval.on_timeout is EnumApprovalTimeout.FAIL,
            timeout_value={
                "approved": approval.on_timeout is EnumApprovalTimeout.APPROVE,
                "by": None,
                "comment": "nobody answered in time",
            },
            prompt=self.values.text(approval.prompt, (*path, "prompt"), place),
            approvers=tuple(approval.approvers),
        )

    # steps beside the order

    def _aside_of(self, index: int, step: ModelWorkflowStep) -> PlannedStep | None:
        if step.compensate is None:
            return None
        place = self._place(index)
        behind = Place(f"compensation of step {self.ids[index]!r}", place.sources, place.visible | 1 << index, index)
        return self._aside(index, step.compensate, "compensate", ("steps", index, "compensate"), behind)

    def _aside(self, index: int, step: ModelWorkflowAside, what: str, path: KeyPath, place: Place) -> PlannedStep:
        self.asides += 1
        make = self.values.value({} if step.input is None else step.input, (*path, "input"), place)
        self._judge_node(step, path)
        facts = self._facts(step)
        return PlannedStep(
            index=len(self.steps) + self.asides - 1,
            step_id=step.step_id or f"{self.ids[index]}.{what}",
            kind=step.step_type,
            enabled=True,
            node=_node_of(step),
            is_service=step.node is not None and not is_file(step.node),
            make_input=make,
            depends_on=(),
            dependents=(),
            depth=0,
            when=None,
            for_each=None,
            timeout_ms=step.timeout_ms,
            retry=retry_of(self.contract, step, None),
            on_failure=None,
            compensate=None,
            priority=100,
            idempotency_key=self._idempotency_key(step, (*path, "idempotency_key"), place),
            pure=_is_pure(step),
            connection=None if facts is None else facts.connection,
        )


def _key_is_shared(key: str, place: Place, *, in_pipeline: bool) -> str:
    """What an idempotency key does not tell apart, though it should; nothing when it does."""
    try:
        found = {(hole.source, hole.path[0] if hole.path else "") for hole in holes_of(key)}
    except TemplateError:
        return ""
    if found <= {("workflow", "name"), ("workflow", "version")}:
        return "in every run"
    apart = {"item", "index", "steps"} if in_pipeline else {"item", "index"}
    if "item" not in place.sources or ("workflow", "action_id") in found or apart & {source for source, _ in found}:
        return ""
    return "for every item" if in_pipeline else "for every entry"


def _node_of(step: ModelWorkflowWork) -> str | None:
    return step.node if step.node is None or not is_file(step.node) else node_path(step.node)


def _is_pure(step: ModelWorkflowWork) -> bool:
    return step.step_type in _PURE and step.node is not None and is_file(step.node)
