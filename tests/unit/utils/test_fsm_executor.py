"""State machines: which transition is taken, what it gives, and that failures change nothing."""

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import cast
from uuid import UUID, uuid5

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentPriority, EnumIntentType
from omnibase_core.errors.onex_error import ModelOnexError, StateConsistencyError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract
from omnibase_core.models.fsm_state import FsmState
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.utils.fsm_executor import FsmAction, apply, begin, step
from omnibase_core.utils.fsm_plan import compile_machine, judge_machine, plan_of

ID = UUID("6f4d1f0e-5f0b-4d53-9f0a-0e1c5a7d2b11")
Tree = dict[str, JsonValue]


def intent(target: str, **more: JsonValue) -> Tree:
    return {"intent_type": "message_publish", "target": target, **more}


def machine(*transitions: Tree, **more: JsonValue) -> ModelFSMSubcontract:
    """States A, B, C and the terminal END, all of which can be reached."""
    states: list[JsonValue] = [{"state_name": name} for name in "ABC"]
    return ModelFSMSubcontract.model_validate(
        {
            "state_machine_name": "m",
            "initial_state": "A",
            "states": [*states, {"state_name": "END", "is_terminal": True}],
            "transitions": [
                *transitions,
                *({"transition_name": f"to{s}", "from_state": "*", "to_state": s, "trigger": f"to{s}"} for s in "BC"),
                {"transition_name": "end", "from_state": "*", "to_state": "END", "trigger": "END"},
            ],
            **more,
        }
    )


def go(**more: JsonValue) -> Tree:
    return {"transition_name": "go", "from_state": "A", "to_state": "B", "trigger": "GO", **more}


def action(trigger: str = "GO", **payload: JsonValue) -> FsmAction:
    return FsmAction(trigger, ID, payload)


def test_intents_come_in_the_order_exit_transition_entry_with_ids_of_version_5() -> None:
    """The id is that of `<transition>:<index>` in the namespace of the action; correlation defaults to the action."""
    states: list[JsonValue] = [
        {"state_name": "A", "exit_intents": [intent("x1"), intent("x2")], "entry_intents": [intent("never")]},
        {"state_name": "B", "entry_intents": [intent("n1")], "exit_intents": [intent("never")]},
        {"state_name": "C"},
        {"state_name": "END", "is_terminal": True},
    ]

    state, intents = apply(machine(go(intents=[intent("t1")]), states=states), None, action())

    assert [made.target for made in intents] == ["x1", "x2", "t1", "n1"]
    assert [made.intent_id for made in intents] == [uuid5(ID, f"go:{index}") for index in range(4)]
    assert {made.correlation_id for made in intents} == {ID}
    assert state.snapshot() == {"state": "B", "context": {}, "version": 1, "history_length": 1}


def test_an_intent_is_what_validation_would_have_made() -> None:
    """Known types become members, templates keep types, and the JSON round trip is exact."""
    made = go(
        intents=[
            {
                "intent_type": "database_write",
                "target": "orders_${payload.kind}",
                "payload": {"data": {"id": "${payload.id}", "tags": ["${payload.kind}", "x", 1]}, "all": "${input.id}"},
                "priority": "critical",
                "idempotency_key": "order-${payload.id}",
                "metadata": {"by": "${meta.trigger}", "n": 1},
                "retry_policy": {"max_retries": 1},
            },
            {"intent_type": "my_own", "target": "${payload.kind}", "payload": "${state}"},
        ],
        assign={"seen": "${payload.list}"},
    )

    _, (first, second) = apply(machine(made), None, action(kind="k", id=7, list=[1.5, {"a": None}]))

    assert first.intent_type is EnumIntentType.DATABASE_WRITE
    assert first.priority is EnumIntentPriority.CRITICAL
    assert first.payload == {"data": {"id": 7, "tags": ["k", "x", 1]}, "all": 7}
    assert (first.target, first.idempotency_key, first.metadata) == ("orders_k", "order-7", {"by": "GO", "n": 1})
    assert (second.intent_type, second.target, second.payload) == ("my_own", "k", {"seen": [1.5, {"a": None}]})
    for one in (first, second):
        assert ModelIntent.model_validate_json(one.model_dump_json()) == one


def test_exit_intents_read_the_data_before_and_the_others_the_data_behind() -> None:
    """All values of `assign` read what was before, whatever their order."""
    states: list[JsonValue] = [
        {"state_name": "A", "exit_intents": [intent("x", payload="${state.n}")]},
        {"state_name": "B", "entry_intents": [intent("n", payload="${state.n}")]},
        {"state_name": "C"},
        {"state_name": "END", "is_terminal": True},
    ]
    swap = go(assign={"n": "state.m", "m": "state.n"}, intents=[intent("t", payload="${state.n}")])

    state, intents = apply(machine(swap, states=states, initial_context={"n": 1, "m": 2}), None, action())

    assert [made.payload for made in intents] == [1, 2, 2]
    assert state.context == {"n": 2, "m": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("state.n + payload.n", 3),
        ("${payload.n}", 2),
        ("n=${payload.n}", "n=2"),
        ("${payload.none:-4}", 4),
        ("${payload.deep.0.a}", True),
        ("${state.list}", [1, 2]),
        ("'text'", "text"),
        (5, 5),
        (None, None),
        ({"a": ["${payload.n}", {"b": "state.n"}], "c": 1.5}, {"a": [2, {"b": "state.n"}], "c": 1.5}),
        ("meta.trigger", "GO"),
        ("${meta.action_id}", str(ID)),
        ("$${literal}", "${literal}"),
        ("${payload.real}", 2.5),
    ],
)
def test_a_value_is_a_template_an_expression_or_a_tree(value: JsonValue, expected: JsonValue) -> None:
    """A text with `${` is a template, any other text is CEL; within lists and maps texts are templates."""
    built = machine(go(assign={"out": value}), initial_context={"n": 1, "list": [1, 2]})

    state, _ = apply(built, None, action(n=2, deep=[{"a": True}], real=2.5))

    assert state.context["out"] == expected


def test_the_exact_state_comes_before_the_wildcard_then_priority_then_declaration() -> None:
    """The first whose guard holds is taken."""
    built = machine(
        {"transition_name": "any", "from_state": "*", "to_state": "C", "trigger": "GO", "priority": 9},
        go(transition_name="low", guard="payload.n > 0"),
        go(transition_name="high", priority=5, guard="payload.n > 1", from_state=["A", "B"]),
        go(transition_name="high2", priority=5, guard="payload.n > 1"),
    )

    taken = [step(built, None, action(n=n)).transition for n in (2, 1, 0)]

    assert taken == ["high", "low", "any"]


def test_a_terminal_state_is_never_left_not_even_by_the_wildcard() -> None:
    """A strict machine says so."""
    built = machine(go())
    ended, _ = apply(built, None, action("END"))

    with pytest.raises(ModelOnexError, match="terminal and never left") as raised:
        apply(built, ended, action("toB"))

    assert raised.value.error_code is EnumCoreErrorCode.CONFLICT


@pytest.mark.parametrize(
    ("trigger", "code", "reason"),
    [
        ("go", EnumCoreErrorCode.VALIDATION_ERROR, "no transition has this trigger; allowed: .*GO"),
        ("BACK", EnumCoreErrorCode.CONFLICT, "no transition leads out by it; possible there: .*GO"),
        ("GO", EnumCoreErrorCode.CONFLICT, "no guard holds of 'go'"),
    ],
)
def test_a_strict_machine_refuses_an_action_without_a_transition(
    trigger: str, code: EnumCoreErrorCode, reason: str
) -> None:
    """Triggers are exact; one that is not strict stays as it is and tells so in an event."""
    parts: tuple[Tree, ...] = (
        go(guard="false"),
        {"transition_name": "back", "from_state": "B", "to_state": "A", "trigger": "BACK"},
    )
    start = plan_of(machine(*parts)).initial

    with pytest.raises(ModelOnexError, match=reason) as raised:
        apply(machine(*parts), start, action(trigger))
    done = step(machine(*parts, strict=False), start, action(trigger))

    assert (raised.value.error_code, raised.value.context["state"]) == (code, "A")
    assert done.state is start
    assert (done.intents, done.transition) == ([], None)
    assert done.event is not None
    assert (done.event["event_type"], done.event["trigger"]) == ("fsm.action_ignored", trigger)


@pytest.mark.parametrize(
    ("part", "error", "reason"),
    [
        (go(guard="payload.zz > 1"), ModelOnexError, "zz"),
        (go(guard="payload.n"), ModelOnexError, "true or false"),
        (go(assign={"a": "1", "b": "${payload.zz}"}), ModelOnexError, "zz"),
        (go(assign={"a": "${payload.nan}"}), ModelOnexError, "NaN"),
        (go(assign={"a": ["${payload.infinite}"]}), ModelOnexError, "NaN"),
        (go(assign={"a": "1 / (payload.n - 2)"}), ModelOnexError, "divide by zero"),
        (go(assign={"a": "${meta.timestamp}"}), ModelOnexError, "timestamp"),
        (go(intents=[intent("${payload.empty}")]), ModelOnexError, "target of intent message_publish"),
        (go(intents=[intent("x", idempotency_key="${payload.empty}")]), ModelOnexError, "idempotency_key"),
        (go(intents=[intent("x", payload={"a": "${payload.deep}"})]), ModelOnexError, "deep"),
        (go(assign={"total": "-1"}), StateConsistencyError, "invariant"),
    ],
)
def test_whatever_fails_leaves_the_state_as_it_was(part: Tree, error: type[ModelOnexError], reason: str) -> None:
    """The error names machine, transition and states; its class and code stay."""
    states: list[JsonValue] = [
        {"state_name": "A"},
        {"state_name": "B", "invariants": ["!has(state.total) || state.total >= 0"]},
        {"state_name": "C"},
        {"state_name": "END", "is_terminal": True},
    ]
    built = machine(part, states=states, initial_context={"keep": [1]})
    start = plan_of(built).initial
    before = start.snapshot()
    payload: Tree = {"n": 2, "empty": "", "nan": float("nan"), "infinite": float("inf")}

    with pytest.raises(error, match=reason) as raised:
        apply(built, start, FsmAction("GO", ID, payload))

    assert type(raised.value) is error
    broken = error is StateConsistencyError
    assert raised.value.error_code is (EnumCoreErrorCode.CONFLICT if broken else EnumCoreErrorCode.VALIDATION_ERROR)
    assert "state machine 'm' 1.0.0, transition 'go' (A -> B)" in raised.value.message
    assert start.snapshot() == before


def test_an_invariant_that_holds_lets_pass() -> None:
    """It reads the data behind the transition."""
    states: list[JsonValue] = [
        {"state_name": "A"},
        {"state_name": "B", "invariants": ["state.total >= 0", "size(state) == 1"]},
        {"state_name": "C"},
        {"state_name": "END", "is_terminal": True},
    ]

    state, _ = apply(machine(go(assign={"total": "payload.n"}), states=states), None, action(n=1))

    assert state.context == {"total": 1}


def test_neither_payload_nor_readers_can_change_a_state_afterwards() -> None:
    """Lists and maps are copied on their way in and out."""
    built = machine(go(assign={"list": "${payload.list}", "const": {"a": []}}))
    given: list[JsonValue] = [1, {"a": 2}]
    state, _ = apply(built, None, action(list=given))

    given.append(3)
    cast("list[JsonValue]", state.context["list"]).append(4)
    cast("dict[str, list[int]]", state.context["const"])["a"].append(5)
    cast("dict[str, list[int]]", state.snapshot()["context"])["list"].append(6)

    assert state.context == {"list": [1, {"a": 2}], "const": {"a": []}}
    assert apply(built, None, action(list=[]))[0].context["const"] == {"a": []}


def test_a_timestamp_reads_the_same_in_every_time_zone() -> None:
    """`meta` has it in UTC."""
    built = machine(go(assign={"at": "${meta.timestamp}", "by": "meta.correlation_id"}))
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)

    states = [
        apply(built, None, FsmAction("GO", ID, {}, when, ID))[0]
        for when in (noon, noon.astimezone(timezone(timedelta(hours=5))))
    ]

    assert states[0] == states[1]
    assert states[0].context == {"at": "2026-01-31T12:00:00Z", "by": str(ID)}


def test_a_snapshot_goes_on_where_it_was_taken() -> None:
    """Through JSON and through pickle."""
    built = machine(go(assign={"n": "${payload.n}"}))
    state, _ = apply(built, None, action(n=1))

    restored = begin(plan_of(built), json.loads(json.dumps(state.snapshot())))
    pickled: FsmState = pickle.loads(pickle.dumps(state))

    assert restored == state == pickled
    assert apply(built, state.snapshot(), action("toC")) == apply(built, pickled, action("toC"))


def test_a_placeholder_may_be_the_whole_payload() -> None:
    """And a default stands for what is missing below it."""
    built = machine(go(assign={"all": "${payload}", "none": "${state.a.b:-null}"}))

    assert apply(built, None, action(n=[1]))[0].context == {"all": {"n": [1]}, "none": None}


def test_a_snapshot_of_an_unknown_state_is_refused() -> None:
    """The states of the machine are named."""
    with pytest.raises(ModelOnexError, match="no state 'Z'; allowed: A, B, C, END"):
        begin(plan_of(machine(go())), {"state": "Z"})


@pytest.mark.parametrize(
    ("part", "path", "message"),
    [
        (go(guard="stat.n > 1"), ("transitions", 0, "guard", 0), "undeclared name 'stat'"),
        (go(guard="1 + 1"), ("transitions", 0, "guard", 0), "gives INT"),
        (go(assign={"a": "state.n +"}), ("transitions", 0, "assign", "a", 9), "Syntax error"),
        (go(assign={"a": "x ${secret.x}"}), ("transitions", 0, "assign", "a", 2), "unknown source 'secret'"),
        (go(assign={"a": ["${meta.now}"]}), ("transitions", 0, "assign", "a", 0, 0), "meta has no 'now'"),
        (go(intents=[intent("${}")]), ("transitions", 0, "intents", 0, "target", 0), "empty placeholder"),
        (go(assign={"a": float("inf")}), ("transitions", 0, "assign", "a"), "no JSON form"),
    ],
)
def test_what_cannot_be_compiled_is_reported_with_its_place(part: Tree, path: KeyPath, message: str) -> None:
    """In Python the first of them is a VALIDATION_ERROR."""
    built = machine(part)
    found: list[Breach] = []
    judged: list[Breach] = []

    compile_machine(built, found.append)
    judge_machine(built, judged.append)
    with pytest.raises(ModelOnexError, match=message):
        plan_of(built)

    assert [(breach.path, message in breach.message) for breach in found] == [(path, True)]
    assert judged == found


def test_parts_of_states_are_judged_as_well() -> None:
    """Invariants read `state` alone; entry and exit intents are templates."""
    states: list[JsonValue] = [
        {"state_name": "A", "invariants": ["payload.n > 1"], "entry_intents": [intent("${x}")]},
        {"state_name": "B", "exit_intents": [intent("a", metadata={"k": "${state.}"})]},
        {"state_name": "C"},
        {"state_name": "END", "is_terminal": True},
    ]
    found: list[Breach] = []
    judged: list[Breach] = []
    built = machine(go(), states=states, initial_context={"n": float("nan")})

    compile_machine(built, found.append)
    judge_machine(built, judged.append)

    assert sorted(str(breach.path[:3]) for breach in judged) == [
        "('states', 0, 'entry_intents')",
        "('states', 0, 'invariants')",
        "('states', 1, 'exit_intents')",
    ]
    assert [breach.path for breach in found if breach not in judged] == [("initial_context",)]


def test_the_plan_of_a_machine_is_compiled_once() -> None:
    """As long as it is among the last ones."""
    built = machine(go())
    plan = plan_of(built)

    assert plan_of(built) is plan
    for _ in range(70):
        plan_of(machine(go()))
    assert plan_of(built) is not plan
