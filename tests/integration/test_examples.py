"""The example contracts, each against the real thing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from omnibase_core.enums.enum_effect_types import EnumTransactionState as State
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError
from omnibase_core.nodes import NodeEffect
from tests.support.databases import adapter_on, context
from tests.support.http_server import FaultServer, json_reply, reset
from tests.support.kafka import KafkaCluster
from tests.support.systems import container_on

CONTRACTS = Path("examples/contracts/effect").resolve()


def _input(**data: object) -> ModelEffectInput:
    return ModelEffectInput(operation_data=data)


async def _statements(url: str, *statements: str) -> list[object]:
    adapter = adapter_on(url)
    try:
        rows: list[object] = []
        for statement in statements:
            document = await adapter.execute(resolved_context=context(statement), correlation_id=_input().operation_id)
            found = document["rows"]
            assert isinstance(found, list)
            rows = [*found]
        return rows
    finally:
        await adapter.aclose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'example.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


async def test_a_notification_is_posted_with_its_token_and_exact_text(fault_server: FaultServer) -> None:
    """The text arrives character by character, the token in the header, the answer's id in the output."""
    fault_server.script(json_reply({"ok": True, "message": {"ts": "17.5"}}))
    text = 'She said "no"\n\\ ${input.channel} \u2028 🦊'
    env = {"CHAT_API_BASE": fault_server.url}
    async with container_on(env=env, secrets={"chat_token": "xoxb-1234567890"}) as container:
        node = NodeEffect.from_contract(container, CONTRACTS / "slack_notification.yaml")
        output = await node.process(_input(channel="#ops", text=text))

    request = fault_server.requests[0]
    assert request.json() == {"channel": "#ops", "text": text, "thread": None}
    assert request.headers["authorization"] == "Bearer xoxb-1234567890"
    assert request.headers["content-type"] == "application/json"
    assert output.operations[0].extracted_fields == {"message_id": "17.5", "accepted": True}
    assert "xoxb" not in output.model_dump_json()


async def test_a_notification_is_never_posted_twice(fault_server: FaultServer) -> None:
    """A reset after the request arrived is an unknown outcome, and the end."""
    fault_server.script(reset)
    env = {"CHAT_API_BASE": fault_server.url}
    async with container_on(env=env, secrets={"chat_token": "xoxb-1234567890"}) as container:
        node = NodeEffect.from_contract(container, CONTRACTS / "slack_notification.yaml")
        with pytest.raises(EffectFailedError) as caught:
            await node.process(_input(channel="#ops", text="hello"))

    assert caught.value.error_code == "OUTCOME_UNKNOWN"
    assert len(fault_server.requests) == 1


async def test_profile_and_audit_change_together_or_not_at_all(database_url: str) -> None:
    """Twice good, once bad: two changes in the audit row, and the bad one left no trace."""
    await _statements(
        database_url,
        "DROP TABLE IF EXISTS profiles",
        "DROP TABLE IF EXISTS profile_audit",
        "CREATE TABLE profiles (user_id INTEGER PRIMARY KEY, email TEXT)",
        "CREATE TABLE profile_audit (user_id INTEGER, changed_on TEXT, changed_by TEXT CHECK (changed_by <> ''),"
        " changes INTEGER, PRIMARY KEY (user_id, changed_on))",
        "INSERT INTO profiles VALUES (7, 'old@example.org')",
    )
    async with container_on(profiles=database_url) as container:
        node = NodeEffect.from_contract(container, CONTRACTS / "profile_update.yaml")
        for email in ("a@example.org", "b@example.org"):
            good = await node.process(_input(user_id=7, email=email, changed_on="2026-01-01", changed_by="ada"))
            assert good.transaction_state is State.COMMITTED
        with pytest.raises(EffectFailedError) as caught:
            await node.process(_input(user_id=7, email="bad@example.org", changed_on="2026-01-01", changed_by=""))

    assert caught.value.context["transaction_state"] == "rolled_back"
    rows = await _statements(database_url, "SELECT email, changes FROM profiles JOIN profile_audit USING (user_id)")
    assert rows == [{"email": "b@example.org", "changes": 2}]


async def test_a_customer_is_copied_from_one_database_to_the_other(postgres_url: str, tmp_path: Path) -> None:
    """From SQLite to PostgreSQL: what the first operation found is what the second one writes, JSON included."""
    crm = f"sqlite:///{tmp_path / 'crm.db'}"
    columns = "(customer_id INTEGER PRIMARY KEY, name TEXT, credit_limit NUMERIC, settings {json})"
    settings = json.dumps({"theme": "dark", "tags": ["a", 'b"c']})
    await _statements(
        crm,
        f"CREATE TABLE customers {columns.format(json='TEXT')}",
        f"INSERT INTO customers VALUES (1, 'O''Brien; DROP TABLE customers', 12.5, '{settings}')",
    )
    create = f"CREATE TABLE customers {columns.format(json='JSONB')}"
    await _statements(postgres_url, "DROP TABLE IF EXISTS customers", create)
    async with container_on(crm=crm, warehouse=postgres_url) as container:
        node = NodeEffect.from_contract(container, CONTRACTS / "cross_database_sync.yaml")
        await node.process(_input(customer_id=1))
        await node.process(_input(customer_id=1))

    rows = await _statements(postgres_url, "SELECT * FROM customers")
    assert rows == [
        {
            "customer_id": 1,
            "name": "O'Brien; DROP TABLE customers",
            "credit_limit": "12.5",
            "settings": {"theme": "dark", "tags": ["a", 'b"c']},
        }
    ]


async def test_an_order_event_arrives_with_key_headers_and_structure(kafka_cluster: KafkaCluster) -> None:
    """What a consumer reads is what the contract's payload says."""
    items = [{"sku": 'x"y', "n": 2}]
    async with container_on(default=kafka_cluster.url) as container:
        node = NodeEffect.from_contract(container, CONTRACTS / "order_event.yaml")
        output = await node.process(_input(order_id="o-1", items=items))

    message = kafka_cluster.read("orders.placed", 1)[0]
    payload = json.loads(message.value() or b"")
    assert message.key() == b"o-1"
    assert {key: payload[key] for key in ("order_id", "items", "note")} == {
        "order_id": "o-1",
        "items": items,
        "note": "none",
    }
    assert output.operations[0].extracted_fields["partition"] == message.partition()


async def test_the_file_pipeline_reads_writes_and_files_away(tmp_path: Path) -> None:
    """The page is there, the report has moved, and a second report of the same name does not overwrite the first."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "june.txt").write_text("sales: 12 ${env.HOME}\n")
    async with container_on(root=tmp_path) as container:
        node = NodeEffect.from_contract(container, CONTRACTS / "file_pipeline.yaml")
        await node.process(_input(name="june"))
        page = (tmp_path / "pages" / "june.md").read_text()
        (tmp_path / "inbox" / "june.txt").write_text("another")
        with pytest.raises(EffectFailedError) as caught:
            await node.process(_input(name="june"))

    assert page.startswith("# june\n\nsales: 12 ${env.HOME}\n")
    assert (tmp_path / "done" / "june.txt").read_text() == "sales: 12 ${env.HOME}\n"
    assert (tmp_path / "inbox" / "june.txt").read_text() == "another"
    assert caught.value.error_code == "CONFLICT"


def test_the_demo_runs_and_looks_its_claims_up() -> None:
    """`make demo`: it ends with an error when something is not as it says."""
    demo = [sys.executable, "-m", "examples.demo"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "All four scenes went as the contracts say" in done.stdout
