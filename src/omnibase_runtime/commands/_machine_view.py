"""State machines in words: what leads where and in which order it is tried, and where a log of actions would lead."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.fsm_executor import begin, step
from omnibase_runtime.commands import _console
from omnibase_runtime.commands._machine import actions_of, snapshot_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMIntent, ModelFSMTransition
    from omnibase_core.utils.fsm_plan import Candidate, FsmPlan

Row = dict[str, "JsonValue"]


def show_machine(plan: "FsmPlan", document: "Mapping[str, JsonValue]") -> None:
    """`onex plan`: the table, and what the actions of the input would do one after another."""
    machine = plan.machine
    head: Row = {
        "name": machine.state_machine_name,
        "version": machine.state_machine_version,
        "initial_state": machine.initial_state,
        "strict": machine.strict,
    }
    states = [_state(plan, state.state_name) for state in machine.states]
    steps = list(_steps(plan, document))
    if _console.mode.json:
        _console.say_json({"contract": head, "states": [*states], "actions": [*steps]})
        return
    strict = "strict" if machine.strict else "ignores what it cannot do"
    _console.say(f"{plan.title}: begins in {machine.initial_state}, {strict}")
    for state in states:
        end = " (terminal)" if state["is_terminal"] else ""
        _console.say(f"  {state['name']}{end}")
        for row in _rows(state["tried"]):
            guard = "" if row["guard"] is None else f" when {row['guard']}"
            _console.say(f"    {row['trigger']} -> {row['to']} by {row['transition']}{guard}")
            for line in _what(row):
                _console.say(f"      {line}")
    for number, done in enumerate(steps):
        _console.say(f"action {number}, {done['action']}: {_outcome(done)}")


def explain_machine(plan: "FsmPlan", name: str | None, file: str) -> None:
    """`onex explain`: of each transition when it is taken, what it does in which order, and what makes it fail."""
    known = [transition.transition_name for transition in plan.machine.transitions]
    if name is not None and name not in known:
        raise _console.usage(f"{file}: there is no transition {name!r}; there are {', '.join(known)}")
    found = [_explained(plan, one) for one in plan.machine.transitions if name in {None, one.transition_name}]
    if _console.mode.json:
        _console.say_json({"contract": plan.machine.state_machine_name, "transitions": [*found]})
        return
    from omnibase_runtime.commands._render import heading, pairs

    screen = _console.console()
    for index, one in enumerate(found):
        if index:
            screen.print()
        heading(screen, str(one["name"]), f"{one['trigger']} -> {one['to']}", plan.machine.state_machine_name)
        screen.print(pairs([(key, _listed(one[key])) for key in ("from", "taken", "sets", "emits", "fails")]))


def _explained(plan: "FsmPlan", transition: "ModelFSMTransition") -> Row:
    sources = sorted(
        source
        for (source, trigger), tried in plan.table.items()
        if trigger == transition.trigger and any(one.name == transition.transition_name for one in tried)
    )
    target = next(state for state in plan.machine.states if state.state_name == transition.to_state)
    exits = sorted({f"exit intents of {source}" for source in sources if _intents_of(plan, source, "exit_intents")})
    fails: list[JsonValue] = []
    if transition.guard is not None:
        fails.append("the guard has no value for the data: a missing key, or types that do not go together")
    if transition.assign or transition.intents or target.entry_intents:
        fails.append("a template or an expression has no value; the state stays as it was")
    fails += [f"invariant of {target.state_name} does not hold: {text}" for text in target.invariants]
    return {
        "name": transition.transition_name,
        "trigger": transition.trigger,
        "to": transition.to_state,
        "from": [*sources],
        "taken": [_when(plan, transition, source) for source in sources] or ["never: no state leads to it"],
        "sets": [*transition.assign],
        "emits": [
            *exits,
            *map(_intent, transition.intents),
            *(f"{_intent(one)} (entry)" for one in target.entry_intents),
        ],
        "fails": fails,
    }


def _when(plan: "FsmPlan", transition: "ModelFSMTransition", source: str) -> str:
    """Under which conditions it is the one that is taken, and why it stands where it does."""
    tried = plan.table[source, transition.trigger]
    place = next(index for index, one in enumerate(tried) if one.name == transition.transition_name)
    parts = [f"in {source}"]
    if transition.guard is not None:
        parts.append(f"when {transition.guard}")
    if place:
        before = ", ".join(one.name for one in tried[:place])
        reason = "a state by name goes before *, then the higher priority, then the earlier line"
        parts.append(f"after {before} ({reason})")
    if any(one.guard is None for one in tried[:place]):
        return f"never in {source}: {tried[place - 1].name} is tried before it and has no guard"
    return ", ".join(parts)


def _state(plan: "FsmPlan", name: str) -> Row:
    tried: list[JsonValue] = []
    for (source, trigger), candidates in plan.table.items():
        if source == name:
            tried += [_candidate(plan, source, trigger, one) for one in candidates]
    return {"name": name, "is_terminal": name in plan.terminal, "tried": tried}


def _candidate(plan: "FsmPlan", source: str, trigger: str, candidate: "Candidate") -> Row:
    transition = next(one for one in plan.machine.transitions if one.transition_name == candidate.name)
    intents = [
        *_intents_of(plan, source, "exit_intents"),
        *map(_intent, transition.intents),
        *_intents_of(plan, candidate.to_state, "entry_intents"),
    ]
    return {
        "trigger": trigger,
        "transition": candidate.name,
        "to": candidate.to_state,
        "guard": None if candidate.guard is None else candidate.guard.text,
        "sets": [name for name, _ in candidate.assigns],
        "emits": [*intents],
        "invariants": [program.text for program in candidate.invariants],
    }


def _intents_of(plan: "FsmPlan", state: str, field: str) -> list[str]:
    found = next(one for one in plan.machine.states if one.state_name == state)
    return [_intent(one) for one in getattr(found, field)]


def _intent(intent: "ModelFSMIntent") -> str:
    return f"{intent.intent_type} to {intent.target}"


def _steps(plan: "FsmPlan", document: "Mapping[str, JsonValue]") -> Iterator[Row]:
    """Where each action would lead; the first that fails is the last."""
    state = begin(plan, snapshot_of(document))
    for action in actions_of(plan, state, document):
        row: Row = {"action": action.trigger, "from": state.state}
        try:
            done = step(plan, state, action)
        except ModelOnexError as error:
            yield {**row, "error": _console.error_document(error)}
            return
        state = done.state
        emitted = [f"{intent.intent_type} to {intent.target}" for intent in done.intents]
        yield {**row, "transition": done.transition, "to": state.state, "emits": [*emitted]}


def _outcome(done: Row) -> str:
    error = done.get("error")
    if isinstance(error, dict):
        return f"fails: {error['message']}"
    if done["transition"] is None:
        return f"ignored in {done['from']}"
    emits = _listed(done["emits"])
    return f"{done['from']} -> {done['to']} by {done['transition']}" + (f", emits {emits}" if emits else "")


def _what(row: Row) -> Iterator[str]:
    for key in ("sets", "emits"):
        if row[key]:
            yield f"{key} {_listed(row[key])}"
    if row["invariants"]:
        yield f"then holds {_listed(row['invariants'])}"


def _listed(value: "JsonValue") -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(value: "JsonValue") -> Iterator[Row]:
    yield from (entry for entry in (value if isinstance(value, list) else []) if isinstance(entry, dict))
