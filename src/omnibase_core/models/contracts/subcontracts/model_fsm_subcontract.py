"""The state machine of a reducer contract: states, transitions, and the rules that hold them together (section 4.1).

A transition is chosen by state and trigger: one that names the state before one from `*`, then by priority, highest
first, then by order of declaration; the first whose guard holds is taken. A terminal state is never left. From this the
rules read off what can never happen (errors) and what was hardly meant (warnings).
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_intent import EnumIntentPriority, EnumIntentType
from omnibase_core.models.contracts.contract_model import Breach, ContractFile, ContractModel, KeyPath, Rule
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.model_intent import DATABASE_WRITE_PARTS
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

ANY_STATE: Final = "*"
_Name = Annotated[StrictText, Field(min_length=1, max_length=100)]
_Version = Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
_Cel = Annotated[StrictText, Field(min_length=1, max_length=10_000)]
_SHOWN = 10


class ModelFSMIntent(ContractModel):
    """An intent that a machine emits. Texts of target, payload, idempotency_key and metadata are templates.

    intent_type: a known type, or a free one of an extension. target: what it is about: a table, a URL, a path, a topic.
    payload: what is to be done. priority: of its execution. idempotency_key: intents with one key are carried out once.
    retry_policy: of its attempts; null is the executor's. metadata: for whoever reads it.
    """

    intent_type: Annotated[StrictText, Field(min_length=1, max_length=200)]
    target: Annotated[StrictText, Field(min_length=1, max_length=2_000)]
    payload: JsonValue = {}
    priority: EnumIntentPriority = EnumIntentPriority.NORMAL
    idempotency_key: Annotated[StrictText, Field(min_length=1, max_length=500)] | None = None
    retry_policy: ModelEffectRetryPolicy | None = None
    metadata: dict[StrictText, JsonValue] = {}


class ModelFSMState(ContractModel):
    """A state.

    state_name: unique in the machine. description: for the reader. is_terminal: it is never left. entry_intents,
    exit_intents: emitted with every transition that enters or leaves it, one to itself included. invariants: conditions
    in CEL over `state`, the data after a transition into it.
    """

    state_name: _Name
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    is_terminal: StrictFlag = False
    entry_intents: Annotated[list[ModelFSMIntent], Field(max_length=100)] = []
    exit_intents: Annotated[list[ModelFSMIntent], Field(max_length=100)] = []
    invariants: Annotated[list[_Cel], Field(max_length=100)] = []


class ModelFSMTransition(ContractModel):
    """A transition.

    transition_name: unique in the machine. description: for the reader. to_state: where it leads. intents: emitted
    between those of leaving and of entering. from_state: a state, several, or `*` for every state that is not terminal.
    trigger: name of the action, exactly. guard: condition in CEL over `state`, `payload` and `meta`. assign: field of
    the data -> its new value. A text with `${` is a template, any other text a CEL expression, anything else a value
    whose texts are templates; all of them read the data as it was before. priority: the highest is tried first.
    """

    transition_name: _Name
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    from_state: _Name | Annotated[list[_Name], Field(min_length=1, max_length=1_000)]
    to_state: _Name
    trigger: _Name
    guard: _Cel | None = None
    assign: dict[_Name, JsonValue] = {}
    intents: Annotated[list[ModelFSMIntent], Field(max_length=100)] = []
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] = 0

    @property
    def sources(self) -> tuple[str, ...]:
        """The states that `from_state` names; `*` as it is."""
        return (self.from_state,) if isinstance(self.from_state, str) else tuple(self.from_state)

    @property
    def is_wildcard(self) -> bool:
        return ANY_STATE in self.sources


def precedence(transition: ModelFSMTransition) -> tuple[bool, int]:
    """Sort key of the transitions for one state and trigger; a stable sort keeps the order of declaration."""
    return transition.is_wildcard, -transition.priority


class ModelFSMSubcontract(ContractModel):
    """A state machine.

    state_machine_name, state_machine_version: of events and errors. description: for the reader. initial_state: where a
    machine begins. states: at least one. transitions: what leads from one to another, in order. strict: an action for
    which there is no transition is an error; otherwise the state stays and an event says so. initial_context: the data
    of a machine that begins.
    """

    state_machine_name: _Name
    state_machine_version: _Version = "1.0.0"
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    initial_state: _Name
    states: Annotated[list[ModelFSMState], Field(min_length=1, max_length=1_000)]
    transitions: Annotated[list[ModelFSMTransition], Field(max_length=5_000)] = []
    strict: StrictFlag = True
    initial_context: dict[_Name, JsonValue] = {}


class ModelReducerSubcontract(ContractModel):
    """The contract of a reducer node.

    subcontract_name, version: of the contract. description: for the reader. state_machine: what it does.
    """

    subcontract_name: _Name | None = None
    version: _Version = "1.0.0"
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    state_machine: ModelFSMSubcontract


class ModelReducerContractFile(ContractFile):
    """A file with a reducer contract.

    reducer_subcontract: the contract.
    """

    reducer_subcontract: ModelReducerSubcontract


# rules


def _duplicates(names: Sequence[str]) -> Iterator[tuple[int, str, int]]:
    """(index, name, index of the first of that name)"""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            yield index, name, first[name]
        else:
            first[name] = index


def _duplicate_states(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    names = [state.state_name for state in machine.states]
    for index, name, first in _duplicates(names):
        yield Breach(
            "E-STATE-DUPLICATE",
            f"state {name!r} is there twice: states[{first}] and states[{index}]",
            ("states", index, "state_name"),
            found=repr(name),
            fix="rename one, or put them together",
        )
    if ANY_STATE in names:
        yield Breach(
            "E-STATE-WILDCARD",
            "no state may be called '*', which stands for every state",
            ("states", names.index(ANY_STATE), "state_name"),
            found="'*'",
            fix="rename it",
        )


def _duplicate_transitions(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    for index, name, first in _duplicates([transition.transition_name for transition in machine.transitions]):
        yield Breach(
            "E-TRANSITION-DUPLICATE",
            f"transition {name!r} is there twice: transitions[{first}] and transitions[{index}]",
            ("transitions", index, "transition_name"),
            found=repr(name),
            fix="rename one: ids of intents come from the name",
        )


def _unknown_state(name: str, path: KeyPath, names: Sequence[str]) -> Breach:
    return Breach(
        "E-UNKNOWN-STATE", f"state {name!r} is not among the states", path, found=repr(name), allowed=", ".join(names)
    )


def _state_names(machine: ModelFSMSubcontract) -> list[str]:
    return list(dict.fromkeys(state.state_name for state in machine.states))


def _unknown_initial_state(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    names = _state_names(machine)
    if machine.initial_state not in names:
        yield _unknown_state(machine.initial_state, ("initial_state",), names)


def _unknown_states(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    names = _state_names(machine)
    known = {*names, ANY_STATE}
    for index, transition in enumerate(machine.transitions):
        for name, path in _named_sources(transition):
            if name not in known:
                yield _unknown_state(name, ("transitions", index, *path), names)
        if transition.is_wildcard and len(transition.sources) > 1:
            yield Breach(
                "E-STATE-WILDCARD",
                "'*' stands for every state already",
                ("transitions", index, "from_state"),
                found=", ".join(transition.sources),
                allowed="'*' alone, or states by name",
                fix="write '*' without the others, or only the others",
            )
        for place, name, _ in _duplicates(transition.sources):
            yield Breach(
                "E-STATE-DUPLICATE",
                f"from_state names {name!r} twice",
                ("transitions", index, "from_state", place),
                found=repr(name),
                fix="remove one",
            )
        if transition.to_state not in names:
            yield _unknown_state(transition.to_state, ("transitions", index, "to_state"), names)


def _named_sources(transition: ModelFSMTransition) -> Iterator[tuple[str, KeyPath]]:
    if isinstance(transition.from_state, str):
        yield transition.from_state, ("from_state",)
        return
    for place, name in enumerate(transition.from_state):
        yield name, ("from_state", place)


def _terminal_left(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    terminal = {state.state_name for state in machine.states if state.is_terminal}
    for index, transition in enumerate(machine.transitions):
        for name, path in _named_sources(transition):
            if name in terminal:
                yield Breach(
                    "E-TERMINAL-LEFT",
                    f"transition {transition.transition_name!r} leaves {name!r}, which is terminal",
                    ("transitions", index, *path),
                    found=repr(name),
                    allowed="states that are not terminal",
                    fix=f"remove it, or set is_terminal: false for {name!r}",
                )


def _leaving(machine: ModelFSMSubcontract) -> dict[str, list[ModelFSMTransition]]:
    """The transitions that can be taken from each state, those of the wildcard included."""
    leaving: dict[str, list[ModelFSMTransition]] = {state.state_name: [] for state in machine.states}
    open_states = dict.fromkeys(state.state_name for state in machine.states if not state.is_terminal)
    for transition in machine.transitions:
        sources = set(open_states if transition.is_wildcard else transition.sources)
        for name in open_states:
            if name in sources:
                leaving[name].append(transition)
    return leaving


def _unreachable_states(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    leaving = _leaving(machine)
    if machine.initial_state not in leaving:
        return  # then nothing is reachable, and that has been said
    reached = {machine.initial_state}
    pending = [machine.initial_state]
    while pending:
        for transition in leaving[pending.pop()]:
            if transition.to_state in leaving and transition.to_state not in reached:
                reached.add(transition.to_state)
                pending.append(transition.to_state)
    for index, state in enumerate(machine.states):
        if state.state_name not in reached:
            yield Breach(
                "E-STATE-UNREACHABLE",
                f"no transition leads from {machine.initial_state!r} to state {state.state_name!r}",
                ("states", index, "state_name"),
                found=repr(state.state_name),
                fix="add a transition to it, or remove it",
            )


def _dead_ends(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    leaving = _leaving(machine)
    for index, state in enumerate(machine.states):
        name = state.state_name
        if not state.is_terminal and all(transition.to_state == name for transition in leaving[name]):
            yield Breach(
                "W-DEAD-END",
                f"state {name!r} is not terminal, and no transition leads out of it",
                ("states", index, "state_name"),
                found=repr(name),
                fix="add a transition, or set is_terminal: true",
                severity="warning",
            )


def _never_taken(machine: ModelFSMSubcontract) -> Iterator[Breach]:
    """Transitions behind one without a guard, which is always taken first; one finding for all states concerned."""
    index_of = {id(transition): index for index, transition in enumerate(machine.transitions)}
    ambiguous: dict[tuple[int, int], list[str]] = {}
    shadowed: dict[tuple[int, int], list[str]] = {}
    behind: dict[tuple[int, int], list[str]] = {}
    for state, transitions in _leaving(machine).items():
        winners: dict[str, ModelFSMTransition] = {}
        for transition in sorted(transitions, key=precedence):
            winner = winners.get(transition.trigger)
            if winner is None:
                if transition.guard is None:
                    winners[transition.trigger] = transition
                continue
            pair = index_of[id(transition)], index_of[id(winner)]
            if transition.is_wildcard and not winner.is_wildcard:
                shadowed.setdefault(pair, []).append(state)
            elif transition.priority == winner.priority and transition.guard is None:
                ambiguous.setdefault(pair, []).append(state)
            else:
                behind.setdefault(pair, []).append(state)
    for code, found, why in (
        ("W-AMBIGUOUS", ambiguous, "both have priority {priority} and no guard, and {winner!r} is declared first"),
        ("W-SHADOWED", shadowed, "{winner!r} names the state and has no guard"),
        ("W-NEVER-TAKEN", behind, "{winner!r} comes first and has no guard"),
    ):
        for (loser, first), states in sorted(found.items()):
            transition, winner = machine.transitions[loser], machine.transitions[first]
            reason = why.format(priority=winner.priority, winner=winner.transition_name)
            yield Breach(
                code,
                f"transition {transition.transition_name!r} is never taken on {transition.trigger!r} in "
                f"{_listed(states)}: {reason}",
                ("transitions", loser, "transition_name"),
                found=repr(transition.transition_name),
                fix=f"give one a guard or {winner.transition_name!r} another trigger, or remove one",
                severity="warning",
            )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _stray_parts(intent: ModelFSMIntent) -> Iterator[Breach]:
    """Of a write whose operation is known; a warning, because a route of the user's own may take them."""
    payload = intent.payload
    if intent.intent_type != EnumIntentType.DATABASE_WRITE or not isinstance(payload, dict):
        return
    allowed = DATABASE_WRITE_PARTS.get(str(payload.get("operation")))
    if allowed is None:
        return
    for part, value in payload.items():
        if part != "operation" and part not in allowed and value is not None:
            yield Breach(
                "W-INTENT-PAYLOAD",
                f"{payload['operation']} has no {part!r}: the default route of database_write refuses it",
                ("payload", part),
                found=repr(part),
                allowed=", ".join(sorted(allowed)),
                fix="remove it, or choose another operation",
                severity="warning",
            )


ModelFSMIntent.rules = (Rule(("intent_type", "payload"), _stray_parts),)
ModelFSMSubcontract.rules = (
    Rule(("states",), _duplicate_states),
    Rule(("transitions",), _duplicate_transitions),
    Rule(("states", "initial_state"), _unknown_initial_state),
    Rule(("states", "transitions"), _unknown_states),
    Rule(("states", "transitions"), _terminal_left),
    Rule(("states", "transitions", "initial_state"), _unreachable_states),
    Rule(("states", "transitions"), _dead_ends),
    Rule(("states", "transitions"), _never_taken),
)
