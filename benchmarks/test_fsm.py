"""What a transition costs: three intents, without and with a guard in CEL, over states of two sizes.

Beside it the same in two libraries for state machines, whose users write guard, field and intents as methods, and as an
`if` by hand.
"""

import asyncio
import time
from collections.abc import Callable
from importlib import import_module
from uuid import UUID

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Run, Table, paired, repeated
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import (
    ModelFSMSubcontract,
    ModelReducerSubcontract,
)
from omnibase_core.models.fsm_state import FsmState, layered
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.utils.cel_expressions import compile_cel
from omnibase_core.utils.fsm_executor import FsmAction, apply
from omnibase_core.utils.fsm_plan import plan_of

pytestmark = pytest.mark.benchmark(timer=time.process_time)  # the limits are of CPU time
CALLS = 1_000
ACTION = FsmAction("PLACE", UUID(int=7), {"order_id": "o-1", "mail": "a@example.org", "total": 12.5})


def _machine(guard: str | None) -> ModelFSMSubcontract:
    """Placing an order: row, mail and event."""
    event = {"intent_type": "message_publish", "target": "orders", "payload": {"order": "${payload.order_id}"}}
    mail = {"intent_type": "notification", "target": "mail", "priority": "high", "payload": {"to": "${payload.mail}"}}
    row = {
        "intent_type": "database_write",
        "target": "orders",
        "priority": "critical",
        "idempotency_key": "order-${payload.order_id}",
        "payload": {"operation": "insert", "data": {"id": "${payload.order_id}", "total": "${payload.total}"}},
    }
    place = {
        "transition_name": "place",
        "from_state": "IDLE",
        "to_state": "PLACED",
        "trigger": "PLACE",
        "guard": guard,
        "assign": {"order_id": "${payload.order_id}"},
        "intents": [row],
    }
    return ModelFSMSubcontract.model_validate(
        {
            "state_machine_name": "orders",
            "initial_state": "IDLE",
            "states": [
                {"state_name": "IDLE", "exit_intents": [event]},
                {"state_name": "PLACED", "is_terminal": True, "entry_intents": [mail]},
            ],
            "transitions": [place],
        }
    )


@pytest.mark.parametrize("keys", [3, 10_000])
@pytest.mark.parametrize(("guard", "bound"), [(None, (12, 8)), ("payload.total > 1.0", (18, 15))])
def test_transition(
    benchmark: BenchmarkFixture, table: Table, guard: str | None, bound: tuple[float, float], keys: int
) -> None:
    """`apply` with three intents and one field assigned."""
    plan = plan_of(_machine(guard))
    state = FsmState("IDLE", layered({f"k{index}": index for index in range(keys)}, "the state"))

    def thousand() -> None:
        for _ in range(CALLS):
            apply(plan, state, ACTION)

    benchmark(thousand)

    assert benchmark.stats is not None
    per_call = benchmark.stats.stats.min / CALLS * 1e6
    what = f"transition, 3 intents, {'no guard' if guard is None else 'CEL guard'}, {keys} keys"
    limit, goal = bound
    table.add("state machine", what, per_call, "us", limit, goal=goal)


@pytest.mark.parametrize("keys", [3, 10_000])
def test_reducer_node(benchmark: BenchmarkFixture, table: Table, keys: int) -> None:
    """The same through `NodeReducer.process`, input and output included."""
    node = NodeReducer()
    node.reducer_subcontract = ModelReducerSubcontract(state_machine=_machine(None))
    state = FsmState("IDLE", layered({f"k{index}": index for index in range(keys)}, "the state"))
    payload = dict(ACTION.payload)

    async def hundred() -> None:
        for _ in range(100):
            await node.process(ModelReducerInput(action="PLACE", payload=payload, state=state))

    benchmark(lambda: asyncio.run(hundred()))

    assert benchmark.stats is not None
    per_call = benchmark.stats.stats.min / 100 * 1e6
    table.add("state machine", f"reducer node, 3 intents, no guard, {keys} keys", per_call, "us", 40)


def test_guard(benchmark: BenchmarkFixture, table: Table) -> None:
    """A condition over one field of a state of 10,000."""
    program = compile_cel("state.k7 > 5", ("state", "payload"), condition=True)
    roots = {"state": {f"k{index}": index for index in range(10_000)}}

    def thousand() -> None:
        for _ in range(CALLS):
            program.holds(roots)

    benchmark(thousand)

    assert benchmark.stats is not None
    table.add("state machine", "guard in CEL", benchmark.stats.stats.min / CALLS * 1e6, "us", 4)


class ByHand:
    """An order with what the contract says in methods; the intents are built with their checks, as users build them."""

    state = "IDLE"
    order_id = ""

    def __init__(self) -> None:
        self.made: list[ModelIntent] = []

    def worth(self, order_id: str, mail: str, total: float) -> bool:
        return total > 1.0

    def on_place(self, order_id: str, mail: str, total: float) -> None:
        self.order_id = order_id
        self.made = [
            ModelIntent(intent_type="message_publish", target="orders", payload={"order": order_id}),
            ModelIntent(
                intent_type="database_write",
                target="orders",
                priority="critical",
                idempotency_key=f"order-{order_id}",
                payload={"operation": "insert", "data": {"id": order_id, "total": total}},
            ),
            ModelIntent(intent_type="notification", target="mail", priority="high", payload={"to": mail}),
        ]

    def place(self, order_id: str, mail: str, total: float) -> None:
        if self.state != "IDLE" or not self.worth(order_id, mail, total):
            raise ValueError(self.state)
        self.on_place(order_id, mail, total)
        self.state = "PLACED"


ARGUMENTS = {"order_id": "o-1", "mail": "a@example.org", "total": 12.5}


def _by_hand() -> Callable[[], object]:
    order = ByHand()

    def once() -> None:
        order.place(**ARGUMENTS)  # type: ignore[arg-type]  # texts and a number, by name
        order.state = "IDLE"

    return once


def _by_transitions() -> Callable[[], object]:
    library = import_module("transitions")
    order = ByHand()
    place = {"trigger": "PLACE", "source": "IDLE", "dest": "PLACED", "conditions": "worth", "after": "on_place"}
    library.Machine(order, states=["IDLE", "PLACED"], initial="IDLE", transitions=[place], auto_transitions=False)

    def once() -> None:
        order.PLACE(**ARGUMENTS)  # type: ignore[attr-defined]  # the library puts it there
        order.state = "IDLE"

    return once


def _by_statemachine() -> Callable[[], object]:
    library = import_module("statemachine")
    idle, placed = library.State("IDLE", initial=True), library.State("PLACED")
    parts = {"idle": idle, "placed": placed, "place": idle.to(placed, cond="worth"), "back": placed.to(idle)}
    kind = type(library.StateMachine)("Orders", (library.StateMachine,), parts)
    order = ByHand()
    machine = kind(order, state_field="machine_state")

    def once() -> None:
        machine.place(**ARGUMENTS)
        machine.current_state_value = "idle"

    return once


def test_transition_beside_libraries(table: Table) -> None:
    """The same guard, field and intents; going back to the first state is one assignment, and ours needs none."""
    plan, state = plan_of(_machine("payload.total > 1.0")), FsmState("IDLE", layered({}, "the state"))
    makers = {"transitions": _by_transitions, "python-statemachine": _by_statemachine}
    runs: dict[str, Run] = {"ours": repeated(lambda: apply(plan, state, ACTION)), "by hand": repeated(_by_hand())}
    for package, make in makers.items():
        try:
            runs[package] = repeated(make())
        except ImportError:
            table.add_absent("state machine", f"the same in {package}", package)

    times = asyncio.run(paired(runs, operations=300, rounds=30))

    ours = times.best("ours")
    for name in runs:
        if name != "ours":
            found = times.best(name)
            note = f"for comparison: {found / ours:.1f} times ours in the same run ({ours:.1f} us, CEL guard)"
            table.add("state machine", f"the same {'' if name == 'by hand' else 'in '}{name}", found, "us", note=note)
