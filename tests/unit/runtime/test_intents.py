"""`onex intents`."""

import asyncio
import json
from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus, EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_intent_ledger import LedgerOutcome, ProtocolIntentLedger
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.ledger_sql import SqlIntentLedger
from omnibase_spi.outbox import SqlOutbox
from tests.support.cli import Onex
from tests.support.intents import ScriptedRoute, container_in, intent, statuses


@pytest.fixture
def ledger(onex: Onex, tmp_path: Path) -> None:
    """In the database that `onex` uses in the test's directory: one entry unknown, one completed, one failed."""
    del onex

    async def fill() -> None:
        async with container_in(tmp_path / ".onex") as container:
            adapter = container.get_service("DbAdapter")
            assert isinstance(adapter, DbAdapter)
            made = SqlIntentLedger(adapter)
            for state in (EnumLedgerState.UNKNOWN, EnumLedgerState.COMPLETED, EnumLedgerState.FAILED):
                await made.begin(state.value, intent("notification", "post"))
                await made.finish(state.value, LedgerOutcome(state, None, "lost"))

    asyncio.run(fill())


def _relay(directory: Path, *stored: ModelIntent, route: ScriptedRoute, table: str = "onex_intent_outbox") -> int:
    """One round of a program in the same directory; how many intents it carried out."""

    async def run() -> int:
        async with container_in(directory / ".onex") as container:
            outbox = SqlOutbox(container.get_service(DbAdapter), table=table)
            await outbox.add(stored)
            executor = IntentExecutor(container)
            executor.register("letter", "*", route)
            results = await outbox.relay(executor, container.get_service(ProtocolIntentLedger))
            return statuses(results).count(EnumIntentStatus.COMPLETED)

    return asyncio.run(run())


def _refusing() -> ScriptedRoute:
    return ScriptedRoute(ModelOnexError("no such template", EnumCoreErrorCode.VALIDATION_ERROR))


def _states(onex: Onex, *args: str) -> dict[str, str]:
    entries = json.loads(onex("intents", "list", "--json", *args).out)
    return {entry["idempotency_key"]: entry["state"] for entry in entries}


@pytest.mark.usefixtures("ledger")
def test_unknown_intents_are_listed_for_a_person(onex: Onex) -> None:
    """With what they were to do; without the option all are."""
    listed = onex("intents", "list", "--unknown")

    assert listed.status == 0
    assert [line.split()[:4] for line in listed.out.splitlines()] == [
        ["KEY", "STATE", "TYPE", "TARGET"],
        ["unknown", "unknown", "notification", "post"],
    ]
    assert _states(onex, "--unknown") == {"unknown": "unknown"}
    assert list(_states(onex)) == ["unknown", "completed", "failed"]
    assert list(_states(onex, "--limit", "1")) == ["unknown"]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(("word", "state"), [("--completed", "completed"), ("--failed", "failed"), ("--retry", None)])
def test_a_person_settles_what_is_unknown(onex: Onex, word: str, state: str | None) -> None:
    """It happened, it did not, or it shall run again."""
    ended = onex("intents", "settle", "unknown", word)

    assert ended.status == 0
    assert _states(onex).get("unknown") == state


@pytest.mark.usefixtures("ledger")
def test_what_cannot_be_settled_says_why(onex: Onex) -> None:
    """By exit status as well."""
    assert onex("intents", "settle", "completed", "--failed").status == 11
    assert onex("intents", "settle", "completed", "--retry").status == 11
    assert onex("intents", "settle", "nothing", "--retry").status == 14
    assert onex("intents", "settle", "unknown").status == 2
    assert onex("intents", "settle", "unknown", "--failed", "--retry").status == 2
    assert _states(onex) == {"unknown": "unknown", "completed": "completed", "failed": "failed"}


def test_what_the_outbox_has_given_up_is_listed_with_its_reason(onex: Onex, tmp_path: Path) -> None:
    """By itself, or with what else there is: once, though the ledger knows it as failed."""
    _relay(tmp_path, intent("letter", "ada", idempotency_key="letter-1"), route=_refusing())

    listed = onex("intents", "list", "--given-up")

    assert [line.split()[:4] for line in listed.out.splitlines()] == [
        ["KEY", "STATE", "TYPE", "TARGET"],
        ["letter-1", "given_up", "letter", "ada"],
    ]
    assert "no such template" in listed.out
    assert json.loads(onex("intents", "list", "--json").out) == json.loads(
        onex("intents", "list", "--unknown", "--given-up", "--json").out
    )
    assert _states(onex) == {"letter-1": "given_up"}
    assert _states(onex, "--unknown") == {}


@pytest.mark.parametrize(
    ("word", "said", "sent"),
    [("--retry", "runs again with the next relay", 1), ("--failed", "settled", 0), ("--completed", "settled", 0)],
)
def test_a_person_says_what_becomes_of_what_was_given_up(
    onex: Onex, tmp_path: Path, word: str, said: str, sent: int
) -> None:
    """It runs again now that its cause is gone, or never; the list is empty then."""
    _relay(tmp_path, intent("letter", idempotency_key="letter-1"), route=_refusing())

    ended = onex("intents", "settle", "letter-1", word)

    assert (ended.status, ended.out.strip()) == (0, f"letter-1: {said}")
    assert _relay(tmp_path, route=ScriptedRoute("sent")) == sent
    assert _states(onex, "--given-up") == {}


def test_an_outbox_of_another_name_is_named(onex: Onex, tmp_path: Path) -> None:
    """As a `ReducerStore` with a prefix has it; the ledger's word alone does not bring back what that has given up."""
    other = ("--outbox-connection", "default", "--outbox-table", "shop_intent_outbox")
    _relay(tmp_path, intent("letter", idempotency_key="k"), route=_refusing(), table="shop_intent_outbox")

    assert _states(onex, "--given-up") == {}
    assert _states(onex, "--given-up", *other) == {"k": "given_up"}
    assert onex("intents", "settle", "k", "--retry", *other).status == 0
    assert _relay(tmp_path, route=ScriptedRoute("sent"), table="shop_intent_outbox") == 1


@pytest.mark.usefixtures("ledger")
def test_what_no_outbox_holds_may_run_again(onex: Onex) -> None:
    """Nothing sends it by itself, and that is said."""
    ended = onex("intents", "settle", "failed", "--retry")

    assert ended.out == "failed: may run again; onex_intent_outbox does not hold it\n"
