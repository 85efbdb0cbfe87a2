"""Workflow plans built by hand, services that remember their calls, and engines in memory around them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import (
    EnumDurability,
    EnumOnFailure,
    EnumWorkflowCoordination,
    EnumWorkflowStepType,
)
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.workflow_interpreter import interpret
from omnibase_core.mixins.workflow_steps import StepRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    RunView,
    RunWorkflow,
    StartRequest,
    StepRecord,
    WorkflowBundle,
)
from omnibase_core.utils.contract_loader import LoadedContract
from omnibase_core.utils.workflow_plan import (
    DependencyPlan,
    MakeValue,
    PlannedStep,
    RetryPlan,
    TriggerPlan,
    Unit,
    WaitPlan,
    WorkflowPlan,
    WorkflowScope,
)
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.testing import run_virtual

ONCE = RetryPlan(1, lambda _attempt, _random: 0.0)
BUNDLE = WorkflowBundle("workflow.yaml", {"workflow.yaml": "by hand"}, "0" * 64)


def retried(attempts: int, seconds: float = 1.0, conditions: frozenset[str] | None = None) -> RetryPlan:
    """So many attempts, with the same wait before each repetition."""
    return RetryPlan(attempts, lambda _attempt, _random: seconds, conditions)


@dataclass
class StepSpec:
    """A step of a plan to be made."""

    step_id: str
    needs: tuple[str, ...] = ()
    kind: EnumWorkflowStepType = EnumWorkflowStepType.EFFECT
    node: str | None = None
    is_service: bool = True
    make_input: MakeValue | None = None
    when: Callable[[WorkflowScope], bool] | None = None
    when_each: bool = False
    for_each: MakeValue | None = None
    timeout_ms: int | None = None
    retry: RetryPlan = ONCE
    on_failure: EnumOnFailure | None = None
    compensate: "StepSpec | None" = None
    enabled: bool = True
    priority: int = 100
    wait: WaitPlan | None = None
    trigger: TriggerPlan | None = None
    idempotency_key: MakeValue | None = None
    pure: bool = False
    connection: str | None = None


def step(step_id: str, *needs: str, **fields: object) -> StepSpec:
    """A step; its node is the service `work` unless said otherwise, its input its own id."""
    spec = StepSpec(step_id, needs)
    for name, value in fields.items():
        assert hasattr(spec, name), name
        setattr(spec, name, value)
    return spec


def wait(step_id: str, *needs: str, **fields: object) -> StepSpec:
    """A wait; the fields are those of `WaitPlan`."""
    return step(step_id, *needs, kind=EnumWorkflowStepType.WAIT, node=None, wait=WaitPlan(**fields))  # type: ignore[arg-type]  # fields of the plan


def _planned(
    spec: StepSpec, index: int, place: Mapping[str, int], dependents: Sequence[int], depth: int
) -> PlannedStep:
    return PlannedStep(
        index=index,
        step_id=spec.step_id,
        kind=spec.kind,
        enabled=spec.enabled,
        node=spec.node or "work",
        is_service=spec.is_service,
        make_input=spec.make_input or (lambda _scope, name=spec.step_id: name),  # type: ignore[misc]  # bound now
        depends_on=tuple(place[name] for name in spec.needs),
        dependents=tuple(dependents),
        depth=depth,
        when=spec.when,
        for_each=spec.for_each,
        timeout_ms=spec.timeout_ms,
        retry=spec.retry,
        on_failure=spec.on_failure,
        compensate=None,
        priority=spec.priority,
        idempotency_key=spec.idempotency_key,
        pure=spec.pure,
        wait=spec.wait,
        trigger=spec.trigger,
        when_each=spec.when_each,
        connection=spec.connection,
    )


def plan_of(*specs: StepSpec, durability: EnumDurability = EnumDurability.STEP, **fields: object) -> WorkflowPlan:
    """A plan. Steps are given in an order in which each stands behind those that it needs."""
    place = {spec.step_id: index for index, spec in enumerate(specs)}
    dependents = [[place[other.step_id] for other in specs if spec.step_id in other.needs] for spec in specs]
    depth: list[int] = []
    for spec in specs:
        depth.append(1 + max((depth[place[name]] for name in spec.needs), default=-1))
    steps = []
    for index, spec in enumerate(specs):
        planned = _planned(spec, index, place, dependents[index], depth[index])
        if spec.compensate is not None:
            undo = _planned(spec.compensate, len(specs) + index, place, (), 0)
            planned = replace(planned, compensate=undo)
        steps.append(planned)
    made = WorkflowPlan(
        name="by hand",
        version="1.0.0",
        coordination=EnumWorkflowCoordination.SEQUENTIAL,
        durability=durability,
        max_parallel_steps=5,
        timeout_ms=None,
        lease_ttl_ms=15_000,
        steps=tuple(steps),
        order=tuple(range(len(steps))),
        units=_units(steps, durability),
        dependencies=(),
        continue_on_error=False,
        make_output=None,
        items=None,
        check_input=None,
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # fields of the plan


def _units(steps: Sequence[PlannedStep], durability: EnumDurability) -> tuple[Unit, ...]:
    groups: list[list[int]] = []
    levels: dict[int, list[int]] = {}
    for each in steps:
        if durability is EnumDurability.LEVEL and each.pure:
            if each.depth not in levels:
                levels[each.depth] = []
                groups.append(levels[each.depth])
            levels[each.depth].append(each.index)
        else:
            groups.append([each.index])
    of = {index: number for number, group in enumerate(groups) for index in group}
    units = []
    for number, group in enumerate(groups):
        needs = {of[before] for index in group for before in steps[index].depends_on}
        leads = {of[after] for index in group for after in steps[index].dependents}
        recorded = durability is not EnumDurability.RUN or not all(steps[index].pure for index in group)
        units.append(Unit(number, tuple(group), tuple(sorted(needs)), tuple(sorted(leads)), recorded))
    return tuple(units)


Act = Callable[[JsonValue], object]


class Service:
    """A registered service that remembers its calls.

    acts: by parameters, what it does instead of giving them back: a value, an exception, a list of these (one per
    call, the last one stays), or a function, which may be a coroutine function.
    """

    version = "1.2.0"
    is_healthy = True

    def __init__(self, acts: Mapping[str, object] | None = None, seconds: float = 0.0) -> None:
        self.acts = dict(acts or {})
        self.seconds = seconds
        self.calls: list[JsonValue] = []
        self.ended: list[JsonValue] = []
        self.running = self.most_running = 0
        self.called = asyncio.Event()

    async def execute(self, parameters: JsonValue) -> object:
        self.calls.append(parameters)
        self.called.set()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            act = self.acts.get(str(parameters), parameters)
            if isinstance(act, list) and str(parameters) in self.acts:
                act = act.pop(0) if len(act) > 1 else act[0]
            if isinstance(act, BaseException):
                raise act
            if callable(act):
                act = act(parameters)
                if asyncio.iscoroutine(act):
                    act = await act
            self.ended.append(parameters)
            return act
        finally:
            self.running -= 1


def failure(message: str = "no", code: EnumCoreErrorCode = EnumCoreErrorCode.OPERATION_FAILED) -> ModelOnexError:
    """An error with a code."""
    return ModelOnexError(message, code)


@dataclass
class Bench:
    """A plan, its container with the service `work`, and what an engine is given to run it."""

    plan: WorkflowPlan
    service: Service = field(default_factory=Service)
    nodes: Mapping[str, LoadedContract] = field(default_factory=dict)
    container: ModelONEXContainer = field(default_factory=ModelONEXContainer)

    def __post_init__(self) -> None:
        self.container.register_service("work", self.service)

    @property
    def run(self) -> RunWorkflow:
        runner = StepRunner(self.nodes, self.container, lambda: 0.5)

        async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
            return await interpret(self.plan, context, runner, input_data)

        return run


def needs(service: str, version: str | None = None, *, optional: bool = False) -> DependencyPlan:
    """A dependency."""
    from omnibase_core.enums.enum_workflow import EnumDependencyType

    kind = EnumDependencyType.OPTIONAL if optional else EnumDependencyType.REQUIRED
    return DependencyPlan(service, kind, version)


Drive = Callable[[MemoryEngine], Coroutine[object, object, object]]
"""What a test does to an engine while its run goes on."""


@dataclass(frozen=True)
class Ran:
    """A run that has ended."""

    view: RunView
    service: Service
    steps: Sequence[StepRecord]

    @property
    def document(self) -> dict[str, JsonValue]:
        assert isinstance(self.view.output, dict), self.view.error
        return self.view.output

    @property
    def output(self) -> JsonValue:
        return self.document["output"]

    @property
    def statuses(self) -> dict[str, str]:
        found = self.document["steps"]
        assert isinstance(found, dict)
        return {name: str(entry["status"]) for name, entry in found.items() if isinstance(entry, dict)}

    def result(self, step_id: str) -> dict[str, JsonValue]:
        found = self.document["steps"]
        assert isinstance(found, dict)
        entry = found[step_id]
        assert isinstance(entry, dict)
        return entry

    def error(self, step_id: str) -> str:
        found = self.result(step_id)["error"]
        return str(found["message"]) if isinstance(found, dict) else ""

    @property
    def seconds(self) -> float:
        began, ended = self.document["started_at"], self.document["ended_at"]
        assert isinstance(began, float)
        assert isinstance(ended, float)
        return round(ended - began, 3)


def ran(
    plan: WorkflowPlan,
    service: Service | None = None,
    input_data: JsonValue = None,
    drive: Drive | None = None,
    bus: ProtocolEventBus | None = None,
    nodes: Mapping[str, LoadedContract] | None = None,
) -> Ran:
    """Run a plan in virtual time on an engine in memory, as the run `w`."""
    bench = Bench(plan, service or Service(), nodes or {})

    async def main() -> Ran:
        engine = MemoryEngine(bench.run, events=None if bus is None else RunEvents(lambda: bus))
        try:
            await engine.start(StartRequest("w", BUNDLE, input_data))
            if drive is not None:
                await drive(engine)
            view = await engine.wait("w")
            return Ran(view, bench.service, await engine.steps("w"))
        finally:
            await engine.aclose()
            if bus is not None:
                await bus.aclose()

    return run_virtual(main())
