"""Running a state machine: `apply(definition, state, action) -> (new_state, intents)`, a pure function.

Equal arguments give equal results, ids of intents included: they are the UUIDs of version 5 of `<transition>:<index>`
in the namespace of the action's id. Nothing here reads a clock or a random number, and whatever fails leaves the state
as it was, because it is never changed: a new one is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError, StateConsistencyError
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract
from omnibase_core.models.fsm_state import FsmState, restore
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.primitives.identifiers import named_ids
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.fsm_plan import Candidate, FsmPlan, MachineScope, plan_of

_INTENT_FIELDS: Final = set(ModelIntent.model_fields)
_LONGEST_TARGET: Final = 2_000
_LONGEST_KEY: Final = 500
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class FsmAction:
    """What happens to a machine.

    trigger: name of the action. action_id: two actions with one id make intents with the same ids. timestamp: when it
    happened, for `meta.timestamp`, which fails without one. correlation_id: that of the intents, by default the
    action's id.
    """

    trigger: str
    action_id: UUID
    payload: Mapping[str, JsonValue] = field(default_factory=dict)
    timestamp: datetime | None = None
    correlation_id: UUID | None = None


class FsmStep(NamedTuple):
    """What an action did. transition: its name, None when there was none. event: what is to be told then."""

    state: FsmState
    intents: list[ModelIntent]
    transition: str | None
    event: dict[str, JsonValue] | None = None


_step: Final = FsmStep._make  # half of the cost of a call with keywords


def apply(
    definition: FsmPlan | ModelFSMSubcontract, state: FsmState | Mapping[str, object] | None, action: FsmAction
) -> tuple[FsmState, list[ModelIntent]]:
    """The state behind the action, and what is to be done, in order: exit, transition and entry intents.

    state: None is the initial one; a map is a snapshot. Raises as `step`.
    """
    done = step(definition, state, action)
    return done.state, done.intents


def step(
    definition: FsmPlan | ModelFSMSubcontract, state: FsmState | Mapping[str, object] | None, action: FsmAction
) -> FsmStep:
    """`apply`, with what happened.

    Raises ModelOnexError: VALIDATION_ERROR for a trigger that the machine does not know, and for a guard, value or
    intent that cannot be made of this data; CONFLICT when nothing leads out of this state by this trigger or no guard
    holds, and as StateConsistencyError for an invariant. A machine that is not strict stays as it is where no
    transition is found.
    """
    plan = definition if isinstance(definition, FsmPlan) else plan_of(definition)
    if not isinstance(state, FsmState):
        state = begin(plan, state)
    candidates = plan.table.get((state.state, action.trigger))
    if candidates is None:
        return _stay(plan, state, action, guarded=())
    before = MachineScope(state._fields, action.payload, _meta(action) if plan.uses_meta else {})  # raw
    for candidate in candidates:
        guard = candidate.guard
        try:
            if guard is None or guard.holds(before.roots):
                return _take(state, action, candidate, before)
        except ModelOnexError as error:
            raise _placed(plan, state, candidate, error) from error
    return _stay(plan, state, action, guarded=candidates)


def begin(plan: FsmPlan, snapshot: Mapping[str, object] | None = None) -> FsmState:
    """The initial state, or that of a snapshot. Raises VALIDATION_ERROR when the machine does not know its state."""
    if snapshot is None:
        return plan.initial
    state = restore(snapshot)
    if state.state not in plan.states:
        raise ModelOnexError(
            f"{plan.title} has no state {state.state!r}; allowed: {', '.join(sorted(plan.states))}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"state": state.state},
        )
    return state


def _take(state: FsmState, action: FsmAction, candidate: Candidate, before: MachineScope) -> FsmStep:
    fields = state._fields  # raw: values are copied where they leave
    after = before
    if candidate.assigns:
        changes = {name: evaluate(before) for name, evaluate in candidate.assigns}
        fields = fields.updated(changes)
        after = MachineScope(fields, before.input, before.meta)  # type: ignore[arg-type]  # the payload of `before`
    for invariant in candidate.invariants:
        if not invariant.holds(after.roots):
            broken = f"invariant {invariant.text!r} of state {candidate.to_state!r} does not hold"
            raise StateConsistencyError(broken, EnumCoreErrorCode.CONFLICT)
    intents: list[ModelIntent] = []
    if candidate.intents:
        ids = named_ids(action.action_id, candidate.id_prefix, len(candidate.intents))
        correlation_id = action.correlation_id or action.action_id
        entering = candidate.after_exit
        scope = before
        for index, plan in enumerate(candidate.intents):
            if index == entering:
                scope = after
            values = plan.fixed.copy()
            values["intent_id"] = ids[index]
            values["payload"] = plan.payload(scope)
            values["correlation_id"] = correlation_id
            values["metadata"] = {} if plan.metadata is None else plan.metadata(scope)
            if plan.target is not None:
                values["target"] = _bounded(plan.target(scope), "target", plan.name, _LONGEST_TARGET)
            if plan.idempotency_key is not None:
                key = plan.idempotency_key(scope)
                values["idempotency_key"] = _bounded(key, "idempotency_key", plan.name, _LONGEST_KEY)
            intents.append(trusted(ModelIntent, values, _INTENT_FIELDS))
    return _step((state.moved(candidate.to_state, fields), intents, candidate.name, None))


def _bounded(text: str, what: str, intent: str, most: int) -> str:
    if 0 < len(text) <= most:
        return text
    raise ModelOnexError(
        f"{what} of intent {intent} has {len(text)} characters, allowed are 1 to {most}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def _meta(action: FsmAction) -> dict[str, JsonValue]:
    """Texts, in one form whatever the time zone of the timestamp is."""
    meta: dict[str, JsonValue] = {
        "action_id": str(action.action_id),
        "correlation_id": str(action.correlation_id or action.action_id),
        "trigger": action.trigger,
    }
    if action.timestamp is not None:
        meta["timestamp"] = action.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return meta


def _placed(plan: FsmPlan, state: FsmState, candidate: Candidate, error: ModelOnexError) -> ModelOnexError:
    """The error with the transition in which it happened; its class and code stay."""
    place = f"{plan.title}, transition {candidate.name!r} ({state.state} -> {candidate.to_state})"
    context = {**error.context, "state": state.state, "transition": candidate.name}
    return type(error)(f"{place}: {error.message}; the state is unchanged", error.error_code, context)


def _stay(plan: FsmPlan, state: FsmState, action: FsmAction, guarded: tuple[Candidate, ...]) -> FsmStep:
    if guarded:
        reason = f"no guard holds of {', '.join(repr(candidate.name) for candidate in guarded[:_SHOWN])}"
    elif state.state in plan.terminal:
        reason = "the state is terminal and never left"
    elif action.trigger not in plan.triggers:
        reason = f"no transition has this trigger; allowed: {', '.join(sorted(plan.triggers)[:_SHOWN]) or 'none'}"
    else:
        there = sorted(trigger for name, trigger in plan.table if name == state.state)
        reason = f"no transition leads out by it; possible there: {', '.join(there[:_SHOWN]) or 'none'}"
    if plan.strict:
        unknown = action.trigger not in plan.triggers and state.state not in plan.terminal
        raise ModelOnexError(
            f"{plan.title}: action {action.trigger!r} in state {state.state!r}: {reason}; the state is unchanged",
            EnumCoreErrorCode.VALIDATION_ERROR if unknown else EnumCoreErrorCode.CONFLICT,
            {"state": state.state, "trigger": action.trigger, "action_id": str(action.action_id)},
            action.correlation_id,
        )
    event: dict[str, JsonValue] = {
        "event_type": "fsm.action_ignored",
        "state_machine": plan.machine.state_machine_name,
        "state": state.state,
        "trigger": action.trigger,
        "action_id": str(action.action_id),
        "reason": reason,
    }
    return FsmStep(state, [], None, event)
