"""Actions applied to stored states, over the databases that can keep them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.errors import ConcurrentModificationError, ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.models.model_reducer_output import ModelReducerOutput
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.utils.fsm_executor import FsmAction
from omnibase_spi.db.own_table import SqlTable
from omnibase_spi.intents import event_id
from omnibase_spi.ledger_memory import MemoryIntentLedger
from omnibase_spi.reducer_store import ReducerStore
from tests.support.databases import NAME, Database, opened
from tests.support.intents import statuses

ID = UUID("7f4d1f0e-5f0b-4d53-9f0a-0e1c5a7d2b11")
TABLES = ("state", "state_epoch", "state_backup", "intent_outbox", "action")
MACHINE = """\
reducer_subcontract:
  state_machine:
    state_machine_name: orders
    initial_state: IDLE
    initial_context: {paid: 0}
    strict: false
    states:
      - state_name: IDLE
      - {state_name: PLACED, entry_intents: [{intent_type: notification, target: mail, payload: "${state.total}"}]}
    transitions:
      - transition_name: place
        from_state: IDLE
        to_state: PLACED
        trigger: PLACE
        assign: {total: "${payload.total}"}
"""


class Counter(NodeReducer):
    """Counts what it is given, with an intent for each."""

    def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
        if action.trigger == "FAIL":
            raise ModelOnexError("the reducer refuses", EnumCoreErrorCode.VALIDATION_ERROR)
        if action.trigger == "ODD":
            return 5, []
        if action.trigger == "NAME":
            return "named", []
        count = int(str(state["count"])) if isinstance(state, Mapping) else 0
        return {"count": count + 1}, [ModelIntent(intent_type="x", target=str(count + 1))]


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    kind: str = request.param
    async for made in opened(kind, request, tmp_path):
        yield made
        for table in TABLES:
            await made.run(f"DROP TABLE IF EXISTS {{t}}_{table}")


@pytest.fixture
def store(database: Database) -> ReducerStore:
    return ReducerStore(Counter(), database.adapter, NAME, prefix=database.table)


def _action(name: str = "ADD", **fields: object) -> ModelReducerInput:
    return ModelReducerInput.model_validate({"action": name, **fields})


async def _targets(database: Database) -> list[int]:
    rows = await SqlTable(database.adapter, NAME, f"{database.table}_intent_outbox", "n integer").run(
        "SELECT intent FROM {t}"
    )
    return sorted(int(ModelIntent.model_validate_json(str(row["intent"])).target) for row in rows)


async def test_an_action_is_reduced_and_kept_with_its_intents(database: Database) -> None:
    """Of a machine the snapshot is kept, under its name, and is where the next action begins."""
    store = ReducerStore(NodeReducer.from_contract(None, MACHINE), database.adapter, NAME, prefix=database.table)

    placed = await store.apply("o-1", _action("PLACE", payload={"total": 5}))
    ignored = await store.apply("o-1", _action("PLACE", payload={"total": 6}))

    stored = await store.states.get_state("orders", "o-1")
    assert placed.state_metadata.transition == "place"
    assert stored.state == {"state": "PLACED", "context": {"paid": 0, "total": 5}, "version": 1, "history_length": 1}
    assert stored.version == 1
    assert (len(ignored.events), ignored.new_state) == (1, stored.state)
    assert await store.outbox.waiting() == 1
    assert (await store.state("o-2")).version == 0


async def test_an_action_that_was_applied_changes_nothing(database: Database, store: ReducerStore) -> None:
    """Whoever does not know whether it was, sends it again with its id."""
    first = await store.apply("k", _action(operation_id=ID))
    again = await store.apply("k", _action(operation_id=ID))
    elsewhere = await store.apply("other", _action(operation_id=ID))

    assert (first.new_state, first.metadata) == ({"count": 1}, {})
    assert (again.new_state, again.intents, again.metadata) == ({"count": 1}, [], {"duplicate": "true"})
    assert elsewhere.metadata == {}
    assert await _targets(database) == [1, 1]


async def test_an_action_that_two_states_take_is_carried_out_for_both(database: Database) -> None:
    """Of one machine or of two with the same transitions; also for consumers that know an event by its id."""
    sent: list[ModelIntent] = []

    async def send(intent: ModelIntent) -> None:
        sent.append(intent)

    container = ModelONEXContainer()
    container.register_service("ProtocolIntentLedger", ledger := MemoryIntentLedger())
    executor = IntentExecutor(container)
    executor.register("notification", "*", send)
    for owner in ("orders", "returns"):
        machine = NodeReducer.from_contract(None, MACHINE)
        store = ReducerStore(machine, database.adapter, NAME, prefix=database.table, owner=owner)
        for key in ("o-1", "o-2"):
            await store.apply(key, _action("PLACE", payload={"total": 5}, operation_id=ID))
            await store.apply(key, _action("PLACE", payload={"total": 5}, operation_id=ID))

    results = await store.outbox.relay(executor, ledger)

    assert statuses(results) == [EnumIntentStatus.COMPLETED] * 4
    assert len({event_id(intent) for intent in sent}) == 4
    assert await store.outbox.waiting() == 0


async def test_an_action_whose_id_was_forgotten_is_applied_again(store: ReducerStore) -> None:
    """Only what is older than a moment is forgotten."""
    await store.apply("k", _action(operation_id=ID))

    assert await store.forget_actions(datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert await store.forget_actions(datetime(2200, 1, 1, tzinfo=UTC)) == 1
    assert (await store.apply("k", _action(operation_id=ID))).new_state == {"count": 2}


async def test_no_action_of_several_tasks_is_lost(database: Database, store: ReducerStore) -> None:
    """Each is reduced anew when another one was faster; every state has its intent."""
    other = ReducerStore(Counter(), database.other(), NAME, prefix=database.table)

    async with asyncio.TaskGroup() as tasks:
        for number in range(12):
            tasks.create_task((store, other)[number % 2].apply("k", _action()))

    stored = await store.state("k")
    assert (stored.state, stored.version) == ({"count": 12}, 12)
    assert await _targets(database) == list(range(1, 13))


async def test_the_same_action_sent_by_several_at_once_is_applied_once(database: Database, store: ReducerStore) -> None:
    """One applies it, the others are told that it was."""
    other = ReducerStore(Counter(), database.other(), NAME, prefix=database.table)

    outputs = await asyncio.gather(*(each.apply("k", _action(operation_id=ID)) for each in [store, other] * 4))

    assert sum(not output.metadata for output in outputs) == 1
    assert all(output.new_state == {"count": 1} for output in outputs)
    assert await _targets(database) == [1]


async def test_the_last_try_says_that_others_were_faster(database: Database) -> None:
    """ConcurrentModificationError, and nothing of the action is kept."""

    class Overtaken(Counter):
        """Somebody else writes whenever this one reduces."""

        async def process(self, input_data: ModelReducerInput) -> ModelReducerOutput:
            await overtaken.states.update_state("Overtaken", "k", {"count": 100})
            return await super().process(input_data)

    overtaken = ReducerStore(Overtaken(), database.adapter, NAME, prefix=database.table, max_tries=3)

    with pytest.raises(ConcurrentModificationError):
        await overtaken.apply("k", _action(operation_id=ID))

    stored = await overtaken.state("k")
    assert (stored.state, stored.version) == ({"count": 100}, 3)
    assert await _targets(database) == []


@pytest.mark.parametrize("action", ["FAIL", "ODD"])
async def test_an_action_that_cannot_be_reduced_keeps_nothing(
    database: Database, store: ReducerStore, action: str
) -> None:
    """What the reducer raises comes out; so does a state that no store could give back to it."""
    with pytest.raises(ModelOnexError) as caught:
        await store.apply("k", _action(action))

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert (await store.state("k")).version == 0
    assert await _targets(database) == []


async def test_a_state_may_be_a_name(store: ReducerStore) -> None:
    """As the input of a reducer may."""
    await store.apply("k", _action("NAME"))
    again = await store.apply("k", _action("NAME", operation_id=ID))

    assert (await store.state("k")).version == 1
    assert again.new_state == "named"


async def test_an_input_that_brings_a_state_is_refused(store: ReducerStore) -> None:
    """It would be ignored."""
    with pytest.raises(ModelOnexError, match="comes from the store"):
        await store.apply("k", _action(state={"count": 5}))


async def test_applying_joins_a_transaction_that_is_open(database: Database, store: ReducerStore) -> None:
    """What rolls that back takes state, intents and the action's id with it."""
    with pytest.raises(KeyError):
        async with database.adapter.transaction(NAME):
            await store.apply("k", _action(operation_id=ID))
            raise KeyError
    kept = await store.apply("k", _action(operation_id=ID))

    assert (kept.new_state, kept.metadata) == ({"count": 1}, {})
    assert await _targets(database) == [1]
