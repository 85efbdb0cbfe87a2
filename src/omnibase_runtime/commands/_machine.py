"""State machines on the command line: a picture from the table, and a log of actions carried out."""

import html
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.fsm_executor import FsmAction, begin, step
from omnibase_runtime.commands import _console
from omnibase_runtime.commands._pictures import dot_text, mermaid_text

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract
    from omnibase_core.models.fsm_state import FsmState
    from omnibase_core.utils.fsm_plan import FsmPlan

_SPACE: Final = UUID("6f4d1f0e-5f0b-5d53-9f0a-0e1c5a7d2b12")
"""Namespace of the ids of actions that have none."""
_KEYS: Final = frozenset({"action", "payload", "action_id", "timestamp"})
_WIDTH, _HEIGHT, _GAP = 180, 44, 70

Edge = tuple[int, int, str]


def mermaid(machine: "ModelFSMSubcontract") -> Iterator[str]:
    """A state diagram; states have numbers for names, so that no text is read as syntax."""
    index = {state.state_name: number for number, state in enumerate(machine.states)}
    yield "stateDiagram-v2"
    for number, state in enumerate(machine.states):
        yield f'  state "{mermaid_text(state.state_name)}" as s{number}'
    yield f"  [*] --> s{index[machine.initial_state]}"
    for start, end, label in edges(machine):
        yield f"  s{start} --> s{end}: {mermaid_text(label)}"
    for number, state in enumerate(machine.states):
        if state.is_terminal:
            yield f"  s{number} --> [*]"


def edges(machine: "ModelFSMSubcontract") -> Iterator[Edge]:
    """(from, to, trigger with its guard); a wildcard leads out of every state that is not terminal."""
    index = {state.state_name: number for number, state in enumerate(machine.states)}
    everywhere = [state.state_name for state in machine.states if not state.is_terminal]
    for transition in machine.transitions:
        label = transition.trigger + (f" [{transition.guard}]" if transition.guard is not None else "")
        for source in everywhere if transition.is_wildcard else transition.sources:
            yield index[source], index[transition.to_state], label


def dot(machine: "ModelFSMSubcontract") -> Iterator[str]:
    """For Graphviz: terminal states have a double border."""
    yield "digraph machine {"
    yield f"  label={dot_text(_title(machine))}; labelloc=t; fontname=Helvetica"
    yield "  node [shape=box, style=rounded, fontname=Helvetica]; edge [fontname=Helvetica, fontsize=10]"
    for number, state in enumerate(machine.states):
        borders = 2 if state.is_terminal else 1
        yield f"  s{number} [label={dot_text(state.state_name)}, peripheries={borders}]"
    for start, end, label in edges(machine):
        yield f"  s{start} -> s{end} [label={dot_text(label)}]"
    yield "}"


def _title(machine: "ModelFSMSubcontract") -> str:
    return f"{machine.state_machine_name} {machine.state_machine_version}"


def svg(machine: "ModelFSMSubcontract") -> Iterator[str]:
    """A picture of its own: states in a column, in order of declaration; arrows down on the right, up on the left."""
    arrows: dict[tuple[int, int], list[str]] = {}
    for start, end, label in edges(machine):
        arrows.setdefault((start, end), []).append(label)
    reach = 60 + 26 * max((abs(end - start) for start, end in arrows), default=0)
    label_room = 7 * max((len(", ".join(labels)) for labels in arrows.values()), default=0)
    left = reach + label_room + 20
    width = 2 * left + _WIDTH
    height = 60 + len(machine.states) * (_HEIGHT + _GAP)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, sans-serif" font-size="13" role="img">'
    )
    yield f"  <title>{html.escape(_title(machine))}</title>"
    yield (
        '  <defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    for (start, end), labels in arrows.items():
        yield from _arrow(start, end, html.escape(", ".join(labels)), left, reach)
    for number, state in enumerate(machine.states):
        y = _top(number)
        style = 'fill="#fff" stroke="#000"' + (' stroke-width="2"' if state.state_name == machine.initial_state else "")
        yield f'  <rect x="{left}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" {style}/>'
        if state.is_terminal:
            yield (
                f'  <rect x="{left + 4}" y="{y + 4}" width="{_WIDTH - 8}" height="{_HEIGHT - 8}" rx="5" fill="none" '
                'stroke="#000"/>'
            )
        name = html.escape(state.state_name)
        yield f'  <text x="{left + _WIDTH // 2}" y="{y + 27}" text-anchor="middle">{name}</text>'
    yield "</svg>"


def _top(number: int) -> int:
    return 40 + number * (_HEIGHT + _GAP)


def _arrow(start: int, end: int, label: str, left: int, reach: int) -> Iterator[str]:
    """A curve beside the column: the further it leads, the further out."""
    down = end > start
    side = left + _WIDTH if down or start == end else left
    out = 40 + 26 * abs(end - start)
    out = min(out, reach) if side > left else -min(out, reach)
    y1, y2 = _top(start) + (14 if start == end else 30), _top(end) + (34 if start == end else 12)
    anchor = "start" if out > 0 else "end"
    yield (
        f'  <path d="M{side} {y1}C{side + out} {y1} {side + out} {y2} {side} {y2}" fill="none" stroke="#555" '
        'marker-end="url(#tip)"/>'
    )
    yield f'  <text x="{side + out * 0.8:.0f}" y="{(y1 + y2) // 2}" text-anchor="{anchor}" fill="#333">{label}</text>'


def run_log(plan: "FsmPlan", document: "Mapping[str, JsonValue]") -> int:
    """Carry a log of actions out, and say as one JSON document where it led; the exit status.

    document: `actions`, a list of {action, payload, action_id, timestamp}, and optionally `state`, a snapshot to begin
    with. An action without an id gets one that follows from the machine's name, the state at the beginning, and the
    actions up to this one. The document said has `state`, `intents`, `events` (ignored actions) and, when an action
    failed, `error` with its place: what came before it stands.
    """
    state = begin(plan, snapshot_of(document))
    intents: list[JsonValue] = []
    events: list[JsonValue] = []
    failed: ModelOnexError | None = None
    ids = _Ids(plan, state)
    for place, entry in enumerate(_entries(document)):
        try:
            done = step(plan, state, _action(entry, place, ids.next(entry)))
        except ModelOnexError as error:
            failed = error
            failed.context["action_index"] = place
            break
        state = done.state
        intents += [json.loads(intent.model_dump_json()) for intent in done.intents]
        events += [] if done.event is None else [done.event]
    said: dict[str, JsonValue] = {"state": state.snapshot(), "intents": intents, "events": events}
    if failed is not None:
        said["error"] = _console.error_document(failed)
    _console.say_json(said)
    if failed is None:
        return 0
    return failed.error_code.exit_status if _console.mode.json else _console.tell(failed)


def snapshot_of(document: "Mapping[str, JsonValue]") -> "Mapping[str, JsonValue] | None":
    """The state that a log begins with; None is the initial one. Raises VALIDATION_ERROR for what is no log."""
    unknown = set(document) - {"actions", "state"}
    if unknown:
        raise _wrong(f"the input has {', '.join(sorted(unknown))}; allowed: actions, state")
    state = document.get("state")
    if state is not None and not isinstance(state, dict):
        raise _wrong("state is a snapshot such as {state, context, version, history_length}")
    return state


def actions_of(plan: "FsmPlan", state: "FsmState", document: "Mapping[str, JsonValue]") -> Iterator[FsmAction]:
    """The actions of a log that begins with `state`, judged as they come."""
    ids = _Ids(plan, state)
    for place, entry in enumerate(_entries(document)):
        yield _action(entry, place, ids.next(entry))


class _Ids:
    """Ids of the actions of a log: each one is the UUIDv5 of its action in the namespace of the one before."""

    def __init__(self, plan: "FsmPlan", state: "FsmState") -> None:
        self._last = uuid5(_SPACE, _text([plan.machine.state_machine_name, state.snapshot()]))

    def next(self, entry: "JsonValue") -> UUID:
        self._last = uuid5(self._last, _text(entry))
        return self._last


def _text(value: "JsonValue") -> str:
    return json.dumps(value, sort_keys=True)


def _entries(document: "Mapping[str, JsonValue]") -> "list[JsonValue]":
    actions = document.get("actions", [])
    if not isinstance(actions, list):
        raise _wrong("actions is a list of actions, in order")
    return actions


def _action(entry: "JsonValue", place: int, otherwise: UUID) -> FsmAction:
    if not isinstance(entry, dict) or set(entry) - _KEYS:
        raise _wrong(f"actions[{place}] is a map of {', '.join(sorted(_KEYS))}")
    name, payload = entry.get("action"), entry.get("payload", {})
    if not isinstance(name, str) or not isinstance(payload, dict):
        raise _wrong(f"actions[{place}] needs action, a text, and payload, a map")
    given, when = entry.get("action_id"), entry.get("timestamp")
    try:
        action_id = otherwise if given is None else UUID(str(given))
        timestamp = None if when is None else datetime.fromisoformat(str(when))
    except ValueError as error:
        raise _wrong(f"actions[{place}]: {error}") from None
    if timestamp is not None and timestamp.tzinfo is None:
        raise _wrong(f"actions[{place}]: timestamp has no time zone, such as Z")
    return FsmAction(name, action_id, payload, timestamp)


def _wrong(message: str) -> ModelOnexError:
    return ModelOnexError(f"log of actions: {message}", EnumCoreErrorCode.VALIDATION_ERROR)
