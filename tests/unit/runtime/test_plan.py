"""`onex plan` and `onex explain`: what would happen, and why."""

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from tests.support.cli import GREETING, ORDERS, Onex

Tree = dict[str, JsonValue]


@pytest.fixture
def orders(onex: Onex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ONEX_TEST_HOST", raising=False)
    (tmp_path / "orders.yaml").write_text(ORDERS)
    return "orders.yaml"


def _operations(onex: Onex, *args: str) -> dict[str, dict[str, object]]:
    ended = onex(*args, "--json")
    assert ended.status == 0, ended.err + ended.out
    return {operation["name"]: operation for operation in json.loads(ended.out)["operations"]}


def test_nothing_is_done(onex: Onex, tmp_path: Path) -> None:
    """No file, no directory, no database."""
    (tmp_path / "c.yaml").write_text(GREETING)

    ended = onex("plan", "c.yaml", "--set", "name=bob")

    assert ended.status == 0
    assert "write out/bob.txt" in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_input_is_filled_in_and_what_is_not_known_shows_as_its_placeholder(onex: Onex, orders: str) -> None:
    """Also where it decides the host; secrets show as stars."""
    found = _operations(onex, "plan", orders, "-i", '{"id": "7/8"}')

    create, fetch = found["create"]["sends"], found["fetch"]["sends"]
    assert isinstance(create, dict)
    assert isinstance(fetch, dict)
    assert create["url"] == "${secret.BASE}/v1/orders/7%2F8"
    assert create["headers"]["Authorization"] == "Basic ***"
    assert create["body"] == '{"id": "7/8"}'
    assert fetch["url"] == "https://${env.ONEX_TEST_HOST}/v1/${output.create.order}?key=***"
    assert found["store"]["sends"]["params"] == [1, "${output.create.order}"]  # type: ignore[index]  # JSON
    assert found["tell"]["sends"]["payload"] == '{"id": "${output.create.order}"}'  # type: ignore[index]  # JSON


def test_a_secret_is_never_fetched(onex: Onex, orders: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stars stand for it even when it is at hand."""
    monkeypatch.setenv("BASE", "https://hidden.test")
    monkeypatch.setenv("KEY", "hidden-key")

    ended = onex("plan", orders, "--set", "id=1")

    assert ended.status == 0
    assert "hidden" not in ended.out


def test_variables_are_filled_in_and_missing_ones_are_told(
    onex: Onex, orders: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without them would fail."""
    without = json.loads(onex("plan", orders, "--set", "id=1", "--json").out)
    monkeypatch.setenv("ONEX_TEST_HOST", "api.test")
    given = json.loads(onex("plan", orders, "--set", "id=1", "--json").out)

    assert without["env"] == [{"name": "ONEX_TEST_HOST", "set": False}]
    assert given["env"] == [{"name": "ONEX_TEST_HOST", "set": True}]
    assert given["hosts"] == ["${secret.BASE}", "api.test"]
    assert given["secrets"] == ["BASE", "KEY", "PASSWORD"]


def test_every_policy_value_names_its_place(onex: Onex, orders: str) -> None:
    """Operation before the contract's default before what is built in."""
    retry = _operations(onex, "plan", orders, "--set", "id=1")["fetch"]["retry"]

    assert isinstance(retry, list)
    found = {entry["name"]: (entry["value"], entry["source"]) for entry in retry}
    assert found["max_retries"] == (2, "operation")
    assert found["base_delay_ms"] == (200, "default_retry_policy")
    assert found["max_delay_ms"] == (30_000, "built-in default")


def test_attempts_are_cut_at_the_deadline(onex: Onex, tmp_path: Path) -> None:
    """An attempt that would begin after the operation's deadline is not planned."""
    (tmp_path / "c.yaml").write_text(
        "effect_subcontract:\n  subcontract_name: x\n  operations:\n    - operation_name: q\n"
        "      operation_timeout_ms: 7000\n      io_config: {handler_type: http, method: GET, url_template: 'http://h/'}\n"
    )

    found = _operations(onex, "plan", "c.yaml")["q"]["attempts"]

    assert found == [
        {"number": 1, "delay_ms": 0, "begins_ms": 0},
        {"number": 2, "delay_ms": 1_000, "begins_ms": 1_000},
        {"number": 3, "delay_ms": 2_000, "begins_ms": 3_000},
    ]


def test_connections_name_driver_and_place_without_password(onex: Onex, orders: str, tmp_path: Path) -> None:
    """One that is missing says how to set it up."""
    (tmp_path / "onex.toml").write_text('[connections.primary]\nurl = "postgresql://me:hunter2@db.test/x"\n')

    ended = onex("plan", orders, "--set", "id=1", "--json")

    primary, kafka = json.loads(ended.out)["connections"]
    assert primary["driver"] == "postgresql"
    assert primary["target"] == "postgresql://***@db.test/x"
    assert primary["source"] == "onex.toml:2"
    assert "ONEX_CONNECTIONS__DEFAULT__URL" in kafka["problem"]


def test_sqlite_is_said_to_be_serializable(onex: Onex, tmp_path: Path) -> None:
    """Whatever the contract asks for."""
    (tmp_path / "c.yaml").write_text(
        "effect_subcontract:\n  subcontract_name: x\n  transaction: {enabled: true}\n  operations:\n"
        "    - operation_name: q\n      io_config:\n"
        "        {handler_type: db, operation: insert, connection_name: embedded, query_template: SELECT 1}\n"
    )

    ended = onex("plan", "c.yaml")

    assert "serializable (asked for read_committed; SQLite is always serializable)" in ended.out


@pytest.mark.parametrize("given", ["{}", '{"id": ".."}'])
def test_input_that_a_run_would_refuse_is_refused(onex: Onex, orders: str, given: str) -> None:
    """The same error as a run's, before anything is done."""
    ended = onex("plan", orders, "-i", given)

    assert ended.status in {2, 13}
    assert "${input.id}" in ended.err


def test_explain_says_why_something_is_repeated_or_not(onex: Onex, orders: str) -> None:
    """By idempotency key, by the table, by what the statement does."""
    found = _operations(onex, "explain", orders)

    assert found["create"]["because"] == "the target recognises a repetition by the header Idempotency-Key"
    assert found["fetch"]["because"] == "http GET by the table of defaults"
    assert not found["store"]["idempotent"]
    assert "from the row itself" in str(found["store"]["because"])
    assert not found["tell"]["idempotent"]


def test_explain_follows_the_phase_table(onex: Onex, orders: str) -> None:
    """No answer: repeated only if idempotent; done: never."""
    found = _operations(onex, "explain", orders)

    phases = {
        name: {row["phase"]: row["action"] for row in operation["phases"]}  # type: ignore[attr-defined]  # JSON
        for name, operation in found.items()
    }
    assert phases["fetch"]["no answer"].startswith("repeat on ")
    assert phases["store"]["no answer"].startswith("stop; outcome unknown")
    assert phases["store"]["not sent"].startswith("repeat on ")
    assert {rows["done"] for rows in phases.values()} == {"never"}


def test_explain_of_one_operation(onex: Onex, orders: str) -> None:
    """The other ones stay out, and an unknown one is told with those there are."""
    one = onex("explain", orders, "fetch")
    none = onex("explain", orders, "fetsch")

    assert one.status == 0
    assert "store" not in one.out
    assert "breaker key" in one.out
    assert none.status == 2
    assert "create, fetch, store, tell" in none.err


def test_a_variable_that_the_policy_does_not_grant_counts_as_not_set(
    onex: Onex, orders: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a run."""
    monkeypatch.setenv("ONEX_TEST_HOST", "api.test")
    (tmp_path / "onex.toml").write_text('[policy]\nenv_names = ["PATH"]\n')

    ended = onex("plan", orders, "--set", "id=1", "--json")

    assert json.loads(ended.out)["env"] == [{"name": "ONEX_TEST_HOST", "set": False}]
    assert "api.test" not in ended.out
