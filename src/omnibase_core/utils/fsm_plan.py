"""A state machine compiled: the table of what can happen, with guards, values and intents as closures.

Whatever depends on the contract alone is decided here, once: for each state and trigger the transitions in the order
in which they are tried, with the intents of leaving, passing and entering in theirs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import NO_DEFAULT, Hole, Template, TemplateError, parse_template
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import (
    ModelFSMIntent,
    ModelFSMState,
    ModelFSMSubcontract,
    ModelFSMTransition,
    precedence,
)
from omnibase_core.models.fsm_state import FsmState, LayeredMap, copied, has_unfinite, layered
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.utils.cel_expressions import CelError, CelProgram, compile_cel
from omnibase_core.utils.templates import Renderer, Scope, compile_getter, json_like, refuse, scalar_text, text_of
from omnibase_core.utils.value_trees import list_of, map_of

Report = Callable[[Breach], None]
Roots = dict[str, Mapping[str, object] | JsonValue]

SOURCES: Final = ("state", "payload", "input", "meta")
"""What may stand behind `${`; `input` is another name of `payload`."""
_ROOTS: Final = ("state", "payload", "meta")
_PLAIN: Final = frozenset({str, int, bool, type(None)})
META_NAMES: Final = frozenset({"action_id", "timestamp", "correlation_id", "trigger"})


class MachineScope(Scope):
    """What templates and expressions read: the data before the transition, or behind it."""

    __slots__ = ("state",)

    def __init__(self, state: LayeredMap, payload: Mapping[str, JsonValue], meta: Mapping[str, JsonValue]) -> None:
        self.state = state
        self.input = payload
        self.meta = meta

    @property
    def roots(self) -> Roots:
        """The same by the names of CEL; made when an expression asks."""
        return cast("Roots", {"state": self.state, "payload": self.input, "meta": self.meta})  # as they were given


Evaluate = Callable[[MachineScope], JsonValue]


@dataclass(frozen=True, slots=True)
class IntentPlan:
    """An intent with its holes. `fixed` has all fields in their order, the constant ones with their values."""

    name: str
    fixed: dict[str, object]
    target: Renderer | None
    payload: Evaluate
    idempotency_key: Renderer | None
    metadata: Evaluate | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transition out of one state. after_exit: index of the first of `intents` that reads the data behind it."""

    name: str
    to_state: str
    guard: CelProgram | None
    assigns: tuple[tuple[str, Evaluate], ...]
    intents: tuple[IntentPlan, ...]
    after_exit: int
    invariants: tuple[CelProgram, ...]
    id_prefix: str


@dataclass(frozen=True, slots=True)
class FsmPlan:
    """table: (state, trigger) -> what to try, in this order. uses_meta: whether anything reads `meta`."""

    machine: ModelFSMSubcontract
    table: Mapping[tuple[str, str], tuple[Candidate, ...]]
    states: frozenset[str]
    terminal: frozenset[str]
    triggers: frozenset[str]
    initial: FsmState
    strict: bool
    uses_meta: bool

    @property
    def title(self) -> str:
        return f"state machine {self.machine.state_machine_name!r} {self.machine.state_machine_version}"


_KEPT: Final = 64
_plans: Final[dict[int, FsmPlan]] = {}
"""Plans of machines that were built in Python, by identity; a plan keeps its machine, so that the id stays its own."""


def plan_of(machine: ModelFSMSubcontract) -> FsmPlan:
    """The plan of a machine that was built in Python; compiled once, as long as it is among the last 64.

    Raises ModelOnexError VALIDATION_ERROR for the first template or expression that cannot be compiled.
    """
    plan = _plans.get(id(machine))
    if plan is None:
        plan = compile_machine(machine, _raise_first)
        while len(_plans) >= _KEPT:
            _plans.pop(next(iter(_plans)), None)
        _plans[id(machine)] = plan
    return plan


def _raise_first(breach: Breach) -> None:
    place = ".".join(str(key) for key in breach.path if not isinstance(key, Offset))
    raise ModelOnexError(
        f"{place}: {breach.message}" + (f" ({breach.fix})" if breach.fix else ""),
        EnumCoreErrorCode.VALIDATION_ERROR,
        {"rule": breach.code, "path": place, "found": breach.found},
    )


def compile_machine(machine: ModelFSMSubcontract, report: Report) -> FsmPlan:
    """Compile a machine that broke no rule; what is wrong with its templates and expressions is reported.

    Raises ModelOnexError CONFIGURATION_ERROR when there are expressions and the extra `cel` is not installed.
    """
    compiler = _Compiler(report)
    exits: dict[str, tuple[IntentPlan, ...]] = {}
    entries: dict[str, tuple[IntentPlan, ...]] = {}
    invariants: dict[str, tuple[CelProgram, ...]] = {}
    for index, state in enumerate(machine.states):
        name, path = state.state_name, ("states", index)
        exits[name] = compiler.intents(state.exit_intents, (*path, "exit_intents"))
        entries[name] = compiler.intents(state.entry_intents, (*path, "entry_intents"))
        invariants[name] = compiler.invariants(state, path)
    parts = [
        compiler.transition(transition, ("transitions", index)) for index, transition in enumerate(machine.transitions)
    ]
    table: dict[tuple[str, str], tuple[Candidate, ...]] = {}
    for source, trigger, order in _in_order(machine):
        table[source, trigger] = tuple(
            Candidate(
                transition.transition_name,
                transition.to_state,
                guard,
                assigns,
                (*exits[source], *own, *entries.get(transition.to_state, ())),
                len(exits[source]),
                invariants.get(transition.to_state, ()),
                f"{transition.transition_name}:",
            )
            for transition, (guard, assigns, own) in ((machine.transitions[index], parts[index]) for index in order)
        )
    if has_unfinite(machine.initial_context):
        report(Breach("E-JSON", "initial_context holds a number that is not finite", ("initial_context",)))
        context = LayeredMap()
    else:
        context = layered(machine.initial_context, "initial_context")
    return FsmPlan(
        machine,
        table,
        frozenset(exits),
        frozenset(state.state_name for state in machine.states if state.is_terminal),
        frozenset(transition.trigger for transition in machine.transitions),
        FsmState(machine.initial_state, context),
        machine.strict,
        compiler.uses_meta,
    )


def judge_machine(machine: ModelFSMSubcontract, report: Report) -> None:
    """Judge the templates and expressions of a machine that may have holes."""
    compiler = _Compiler(report)
    for index, state in enumerate(machine.__dict__.get("states", ())):
        there = state.__dict__
        for field in ("exit_intents", "entry_intents"):
            compiler.intents_with_holes(there.get(field, ()), ("states", index, field))
        if "invariants" in there:
            compiler.invariants(state, ("states", index))
    for index, transition in enumerate(machine.__dict__.get("transitions", ())):
        there = transition.__dict__
        path: KeyPath = ("transitions", index)
        if there.get("guard") is not None:
            compiler.condition(there["guard"], (*path, "guard"))
        for field, value in there.get("assign", {}).items():
            compiler.assigned(value, (*path, "assign", field))
        compiler.intents_with_holes(there.get("intents", ()), (*path, "intents"))


def _in_order(machine: ModelFSMSubcontract) -> Iterator[tuple[str, str, list[int]]]:
    """(state, trigger, transitions in the order in which they are tried) of every state that is not terminal."""
    ranked = sorted(range(len(machine.transitions)), key=lambda index: precedence(machine.transitions[index]))
    by_source: dict[str, dict[str, list[int]]] = {}
    wildcards: dict[str, list[int]] = {}
    for index in ranked:
        transition = machine.transitions[index]
        if transition.is_wildcard:
            wildcards.setdefault(transition.trigger, []).append(index)
            continue
        for source in transition.sources:
            by_source.setdefault(source, {}).setdefault(transition.trigger, []).append(index)
    for state in machine.states:
        if state.is_terminal:
            continue
        own = by_source.get(state.state_name, {})
        for trigger in dict.fromkeys((*own, *wildcards)):
            yield state.state_name, trigger, [*own.get(trigger, ()), *wildcards.get(trigger, ())]


_Part = tuple[CelProgram | None, tuple[tuple[str, Evaluate], ...], tuple[IntentPlan, ...]]


class _Compiler:
    """Compiles the parts of one machine; what cannot be compiled is reported and stands as a constant null."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.uses_meta = False

    def transition(self, transition: ModelFSMTransition, path: KeyPath) -> _Part:
        guard = None if transition.guard is None else self.condition(transition.guard, (*path, "guard"))
        assigns = tuple(
            (field, self.assigned(value, (*path, "assign", field))) for field, value in transition.assign.items()
        )
        return guard, assigns, self.intents(transition.intents, (*path, "intents"))

    def invariants(self, state: ModelFSMState, path: KeyPath) -> tuple[CelProgram, ...]:
        programs = (
            self.condition(text, (*path, "invariants", index), ("state",))
            for index, text in enumerate(state.invariants)
        )
        return tuple(program for program in programs if program is not None)

    def condition(self, text: str, path: KeyPath, names: tuple[str, ...] = _ROOTS) -> CelProgram | None:
        return self._cel(text, path, names, condition=True)

    def _cel(self, text: str, path: KeyPath, names: tuple[str, ...], *, condition: bool) -> CelProgram | None:
        try:
            program = compile_cel(text, names, condition=condition)
        except CelError as error:
            self._report(Breach("E-CEL", error.message, (*path, Offset(error.offset)), found=repr(text), fix=error.fix))
            return None
        self.uses_meta |= "meta" in program.roots
        return program

    def assigned(self, value: JsonValue, path: KeyPath) -> Evaluate:
        """The value of a field: a template, an expression, or a tree with templates."""
        if not isinstance(value, str) or "${" in value:
            return self.value(value, path)
        program = self._cel(value, path, _ROOTS, condition=False)
        return _null if program is None else lambda scope: program.evaluate(scope.roots)

    # templates

    def template(self, text: str, path: KeyPath) -> Template:
        try:
            template = parse_template(text, SOURCES)
        except TemplateError as error:
            for problem in error.problems:
                self._report(
                    Breach(
                        problem.code,
                        problem.message,
                        (*path, Offset(problem.offset)),
                        found=repr(text),
                        fix=problem.fix,
                    )
                )
            return ()
        for part in template:
            if isinstance(part, Hole) and part.source == "meta":
                self.uses_meta = True
                if part.path[0] not in META_NAMES:
                    self._report(
                        Breach(
                            "E-TEMPLATE",
                            f"meta has no {part.path[0]!r}",
                            (*path, Offset(part.offset)),
                            found=part.text,
                            allowed=", ".join(sorted(META_NAMES)),
                            fix="use one of these",
                        )
                    )
        return template

    def text(self, text: str, path: KeyPath) -> str | Renderer:
        part = text_of(self.template(text, path), scalar_text)
        return part if isinstance(part, str) else part.emit()

    def value(self, tree: JsonValue, path: KeyPath) -> Evaluate:
        """A tree whose string leaves are templates; one that is a single placeholder keeps the type of its value."""
        constant, evaluate = self._tree(tree, path)
        return (lambda _: constant) if evaluate is None else evaluate

    def _tree(self, tree: JsonValue, path: KeyPath) -> tuple[JsonValue, Evaluate | None]:
        """A constant scalar, or a closure that makes the value; lists and maps are made anew each time."""
        if isinstance(tree, str):
            return self._leaf(self.template(tree, path))
        if isinstance(tree, dict):
            return None, map_of({key: self._tree(entry, (*path, key)) for key, entry in tree.items()})
        if isinstance(tree, list):
            return None, list_of([self._tree(entry, (*path, index)) for index, entry in enumerate(tree)])
        if has_unfinite(tree):
            self._report(Breach("E-JSON", f"{tree!r} has no JSON form", path, found=repr(tree), fix="write a number"))
        return tree, None

    def _leaf(self, template: Template) -> tuple[JsonValue, Evaluate | None]:
        first = template[0] if template else ""
        if len(template) == 1 and isinstance(first, Hole):
            return None, _hole(first)
        part = text_of(template, scalar_text)
        return (part, None) if isinstance(part, str) else (None, part.emit())

    # intents

    def intents(self, intents: list[ModelFSMIntent], path: KeyPath) -> tuple[IntentPlan, ...]:
        return tuple(self._intent(intent, (*path, index)) for index, intent in enumerate(intents))

    def intents_with_holes(self, intents: list[ModelFSMIntent], path: KeyPath) -> None:
        """Judge the templates of intents that may lack fields."""
        for index, intent in enumerate(intents):
            for field in ("target", "payload", "idempotency_key", "metadata"):
                value: JsonValue = intent.__dict__.get(field)
                self.value(value, (*path, index, field))

    def _intent(self, intent: ModelFSMIntent, path: KeyPath) -> IntentPlan:
        target = self.text(intent.target, (*path, "target"))
        key = None if intent.idempotency_key is None else self.text(intent.idempotency_key, (*path, "idempotency_key"))
        known = ModelIntent(intent_type=intent.intent_type, target=intent.target).intent_type
        return IntentPlan(
            str(known),
            {
                **dict.fromkeys(ModelIntent.model_fields),
                "intent_type": known,
                "target": target,
                "priority": intent.priority,
                "idempotency_key": key,
                "retry_policy": intent.retry_policy,
                "schema_version": "1.0.0",
            },
            None if isinstance(target, str) else target,
            self.value(intent.payload, (*path, "payload")),
            None if key is None or isinstance(key, str) else key,
            self.value(cast("JsonValue", intent.metadata), (*path, "metadata")) if intent.metadata else None,  # a map
        )


def _null(_scope: MachineScope) -> JsonValue:
    return None


def _hole(hole: Hole) -> Evaluate:
    """The value of a placeholder that stands alone; the commonest, a key of the payload, in the fewest steps."""
    get = compile_getter(hole)
    if hole.source in {"payload", "input"} and len(hole.path) == 1 and hole.default is NO_DEFAULT:
        key = hole.path[0]

        def read(scope: MachineScope) -> JsonValue:
            try:
                value = scope.input[key]
            except (LookupError, TypeError):
                value = get(scope)
            if type(value) in _PLAIN or (type(value) is float and isfinite(value)):
                return value  # type: ignore[return-value]  # a scalar
            return _as_json(value, hole)

        return read

    def read_deep(scope: MachineScope) -> JsonValue:
        value = get(scope)
        if type(value) in _PLAIN or (type(value) is float and isfinite(value)):
            return value  # type: ignore[return-value]  # a scalar
        return _as_json(value, hole)

    return read_deep


def _as_json(value: object, hole: Hole) -> JsonValue:
    """The value of a placeholder, as JSON of its own: nobody who holds it can change a state by it."""
    if isinstance(value, LayeredMap):
        return copied(value.flat())
    form = json_like(value, hole)
    if has_unfinite(form):
        raise refuse(hole, "NaN and infinities have no JSON form")
    return form
