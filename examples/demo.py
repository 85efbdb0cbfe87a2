"""`make demo`: one contract through four systems, a service that fails, a breaker that opens, a transaction that
rolls back.

Everything runs on this machine and for real: an HTTP service, SQLite, files, and librdkafka's mock brokers. What each
scene claims is then looked up behind ONEX's back, with sqlite3, a Kafka consumer and the file system.
"""

import asyncio
import json
import logging
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from examples.services import CustomerService, MockKafka, customer_service
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelPolicy, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from omnibase_core.nodes import NodeEffect
from omnibase_spi.bootstrap import register_effect_handlers

CONTRACTS = Path(__file__).parent / "contracts" / "effect"
_MARKS = {"succeeded": "[green]succeeded[/]", "failed": "[red]failed[/]", "unknown": "[yellow]unknown[/]"}


class Demo:
    """The scenes, and what they share."""

    def __init__(self, console: Console, work: Path, service: CustomerService, kafka: MockKafka) -> None:
        self.console = console
        self.work = work
        self.service = service
        self.kafka = kafka
        self.orders = work / "orders.db"
        self.profiles = work / "profiles.db"
        self.container = ModelONEXContainer()
        connections = {
            "orders": ModelConnection(url=SecretStr(f"sqlite:///{self.orders}")),
            "profiles": ModelConnection(url=SecretStr(f"sqlite:///{self.profiles}")),
            "default": ModelConnection(url=SecretStr(f"kafka://{kafka.bootstrap}")),
        }
        settings = ModelSettings(connections=connections, policy=ModelPolicy(file_roots=(work,)), data_dir=work)
        register_effect_handlers(self.container, settings)
        self.container.register_service("Environment", {"CUSTOMER_API_BASE": service.base})

    def node(self, name: str) -> NodeEffect:
        return NodeEffect.from_contract(self.container, CONTRACTS / f"{name}.yaml")

    async def run(self, node: NodeEffect, **data: object) -> ModelEffectOutput:
        """Carry the contract out, and show what happened, whether it succeeded or not."""
        try:
            output = await node.process(ModelEffectInput(operation_data=data))
        except EffectFailedError as error:
            if error.partial_output is None:
                raise
            output = error.partial_output
        self.show(output)
        return output

    def show(self, output: ModelEffectOutput) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("operation", "outcome", "attempts", "ms", "found"):
            table.add_column(
                column,
                justify="right" if column in {"attempts", "ms"} else "left",
                style="dim" if column == "ms" else "",
            )
        for result in output.operations:
            found = ", ".join(f"{name}={_short(value)}" for name, value in result.extracted_fields.items())
            table.add_row(
                result.operation_name,
                _MARKS.get(result.outcome.value, result.outcome.value),
                str(len(result.attempts)),
                f"{result.duration_ms:.1f}",
                found or result.error_message or "",
            )
        self.console.print(table)
        self.console.print(f"transaction_state: [bold]{output.transaction_state.value}[/]")

    def title(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{text}[/]", align="left")

    def fact(self, text: str) -> None:
        self.console.print(f"  [cyan]seen[/] {text}", highlight=False)

    def rows(self, database: Path, query: str) -> list[tuple[object, ...]]:
        """Read a database without ONEX."""
        with sqlite3.connect(database) as connection:
            found: list[tuple[object, ...]] = connection.execute(query).fetchall()
        connection.close()
        return found

    def prepare(self) -> None:
        for database, script in (
            (self.orders, "CREATE TABLE orders (order_id TEXT PRIMARY KEY, customer TEXT, total NUMERIC)"),
            (
                self.profiles,
                """
                CREATE TABLE profiles (user_id INTEGER PRIMARY KEY, email TEXT);
                CREATE TABLE profile_audit (
                    user_id INTEGER, changed_on TEXT, changed_by TEXT CHECK (changed_by <> ''), changes INTEGER,
                    PRIMARY KEY (user_id, changed_on)
                );
                INSERT INTO profiles VALUES (7, 'old@example.org')
                """,
            ),
        ):
            connection = sqlite3.connect(database)
            connection.executescript(script)
            connection.close()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 28 else text[:25] + "..."


async def an_order_through_four_systems(demo: Demo) -> None:
    demo.title("1. One contract, four systems: HTTP, SQL, Kafka, file")
    output = await demo.run(demo.node("order_intake"), order_id="o-1", customer_id="c-2", total=129.5)

    fields = output.operations[2].extracted_fields
    demo.fact(f"row in orders.db: {demo.rows(demo.orders, 'SELECT * FROM orders')}")
    event = demo.kafka.message("orders.placed", int(str(fields["partition"])), int(str(fields["offset"])))
    demo.fact(f"message in orders.placed: {json.dumps(event)}")
    receipt = json.loads((demo.work / "receipts" / "o-1.json").read_text())
    demo.fact(f"receipts/o-1.json: {json.dumps(receipt)}")
    expect(receipt["customer"] == 'Grace "Amazing" Hopper', "the quotes in the name stay inside the JSON string")
    expect(output.transaction_state.value == "committed", "all four operations succeeded")


async def a_service_that_fails(demo: Demo) -> None:
    demo.title("2. The same contract, while the customer service fails three times")
    demo.service.failures = 3
    before = demo.service.requests
    output = await demo.run(demo.node("order_intake"), order_id="o-2", customer_id="c-1", total=5)

    delays = [f"{attempt.delay_ms:.0f} ms" for attempt in output.operations[0].attempts[:-1]]
    demo.fact(f"{demo.service.requests - before} requests at the service, waits between them: {', '.join(delays)}")
    expect(output.operations[0].retries == 3, "three retries, then success")


async def a_breaker_that_opens(demo: Demo) -> None:
    demo.title("3. The same contract, while the customer service is down")
    await demo.service.stop()
    node = demo.node("order_intake")
    first = await demo.run(node, order_id="o-3", customer_id="c-1", total=5)
    second = await demo.run(node, order_id="o-3", customer_id="c-1", total=5)
    expect(not first.operations[0].success, "the service is down")
    expect(str(second.operations[0].error_code) == "CIRCUIT_BREAKER_OPEN", "an open breaker sends nothing")
    demo.fact(f"orders stored meanwhile: {demo.rows(demo.orders, 'SELECT count(*) FROM orders')[0][0]} (o-1 and o-2)")
    demo.console.print("the service comes back, and the breaker lets probes through after 2 s ...")
    await demo.service.start()
    await asyncio.sleep(2.1)
    third = await demo.run(node, order_id="o-3", customer_id="c-1", total=5)
    expect(third.transaction_state.value == "committed", "the order went through once the service was back")


async def a_transaction_that_rolls_back(demo: Demo) -> None:
    demo.title("4. Two statements, one transaction: the second fails, so the first is undone")
    node = demo.node("profile_update")
    state = "SELECT email, (SELECT count(*) FROM profile_audit) FROM profiles"
    good = {"user_id": 7, "email": "new@example.org", "changed_on": "2026-01-01"}
    failed = await demo.run(node, **good, changed_by="")
    demo.fact(f"(email, audit rows) in profiles.db: {demo.rows(demo.profiles, state)}")
    expect(failed.transaction_state.value == "rolled_back", "BEGIN, UPDATE, a refused INSERT, ROLLBACK")
    done = await demo.run(node, **good, changed_by="ada")
    demo.fact(f"(email, audit rows) in profiles.db: {demo.rows(demo.profiles, state)}")
    expect(done.transaction_state.value == "committed", "with a name for the audit it commits")


def expect(holds: bool, what: str) -> None:
    """End the demo when something is not as it says."""
    if not holds:
        raise SystemExit(f"the demo did not go as it should: {what}")


async def main() -> None:
    logging.getLogger("onex").setLevel(logging.ERROR)
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="onex-demo-"))
    try:
        async with customer_service() as service:
            demo = Demo(console, work, service, MockKafka())
            demo.prepare()
            async with demo.container:
                await an_order_through_four_systems(demo)
                await a_service_that_fails(demo)
                await a_breaker_that_opens(demo)
                await a_transaction_that_rolls_back(demo)
        console.print("\nAll four scenes went as the contracts say. The contracts are in examples/contracts/effect/.")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
