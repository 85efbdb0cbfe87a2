"""A program that stores orders with their intents and relays them; killed at random moments by its test.

Arguments: a directory; how many orders there shall be; the URL of a database, or nothing for the embedded one. It says
`ready` once it begins to work, and ends when nothing waits but what a person must settle.
"""

import asyncio
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import UUID, uuid5

from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.protocols.protocol_intent_ledger import ProtocolIntentLedger
from omnibase_core.utils.fsm_executor import FsmAction
from omnibase_core.utils.intent_routes import load_intent_routes
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.reducer_store import ReducerStore
from tests.support.databases import context
from tests.support.intents import container_in

TABLE = """
routes:
  - {intent_type: file_operation, target: "*", idempotent: true}
templates:
  placed: {subject: "Order ${input.order}", body: "Thank you"}
"""
NAMESPACE = UUID("6a4d1b52-3d0a-4c39-8a1e-1f6a2a7e0b11")


def intents_of(order: int, directory: Path) -> list[ModelIntent]:
    """A row, a mail, an event kept as a file, and a line that nobody could write twice unseen."""

    def made(kind: str, target: str, payload: dict[str, object]) -> ModelIntent:
        key = f"{kind} of order {order}"
        fields = {"intent_type": kind, "target": target, "payload": payload, "idempotency_key": key}
        return ModelIntent.model_validate({"intent_id": uuid5(NAMESPACE, key), **fields})

    return [
        made("database_write", "orders", {"operation": "insert", "data": {"number": order}}),
        made("notification", "post", {"template": "placed", "to": "ada@example.com", "data": {"order": order}}),
        made("file_operation", str(directory / "events" / str(order)), {"operation": "write", "content": str(order)}),
        made("line", "lines", {"order": order}),
    ]


class Orders(NodeReducer):
    """Says what it saw, so that an action that is applied twice shows."""

    def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
        seen = list(state["seen"]) if isinstance(state, Mapping) else []
        placed = action.trigger == "PLACE"
        intents = (
            intents_of(int(str(action.payload["order"])), Path(str(action.payload["directory"]))) if placed else []
        )
        return {"seen": [*seen, action.trigger]}, intents


async def work(container: ModelONEXContainer, directory: Path, orders: Iterable[int], *, by_actions: bool) -> None:
    """Store each order, by a `ReducerStore` or by statements; then relay, and in the end relay until nothing is due."""
    adapter = container.get_service(DbAdapter)
    container.register_service("ModelIntentRoutes", load_intent_routes(TABLE))
    ledger = container.get_service("ProtocolIntentLedger")
    assert isinstance(ledger, ProtocolIntentLedger)
    store = ReducerStore(Orders(container), adapter)
    outbox = store.outbox
    executor = IntentExecutor(container)

    async def line(intent: ModelIntent) -> None:
        with (directory / "lines").open("a", encoding="utf-8") as file:
            file.write(f"{intent.idempotency_key}\n")

    executor.register("line", "*", line)

    async def run(query: str, *params: int) -> int:
        resolved = context(query, *params, connection_name="default")
        return int(str((await adapter.execute(resolved, NAMESPACE))["rowCount"]))

    async def store_by_statements(order: int) -> None:
        async with outbox.transaction():
            if await run("INSERT INTO states VALUES ($1) ON CONFLICT DO NOTHING", order):
                await outbox.add(intents_of(order, directory))

    async def store_by_actions(order: int) -> None:
        for action in ("PLACE", "PAY"):
            asked = ModelReducerInput(
                action=action,
                operation_id=uuid5(NAMESPACE, f"{action} {order}"),
                payload={"order": order, "directory": str(directory)},
            )
            await store.apply(str(order), asked)

    await run("CREATE TABLE IF NOT EXISTS orders (number integer)")
    await run("CREATE TABLE IF NOT EXISTS states (number integer PRIMARY KEY)")
    print("ready", flush=True)
    for order in orders:
        await (store_by_actions(order) if by_actions else store_by_statements(order))
        await outbox.relay(executor, ledger, limit=8)
    while await outbox.relay(executor, ledger):
        pass


async def main(directory: Path, count: int, url: str | None) -> None:
    urls = {"post": f"maildir://{directory}/mail"} | ({} if url is None else {"default": url})
    async with container_in(directory, None, **urls) as container:
        await work(container, directory, range(count), by_actions=False)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
