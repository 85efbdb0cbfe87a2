"""What a transition costs: three intents, without and with a guard in CEL, over states of two sizes."""

import time
from uuid import UUID

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measure import Table
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract
from omnibase_core.utils.cel_expressions import compile_cel
from omnibase_core.utils.fsm_executor import FsmAction, apply
from omnibase_core.utils.fsm_plan import plan_of
from omnibase_core.utils.fsm_state import FsmState, layered

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
@pytest.mark.parametrize(("guard", "bound"), [(None, 12), ("payload.total > 1.0", 18)])
def test_transition(benchmark: BenchmarkFixture, table: Table, guard: str | None, bound: float, keys: int) -> None:
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
    table.add("state machine", what, per_call, "us", bound)


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
