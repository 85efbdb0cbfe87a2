"""`onex intents`."""

import asyncio
import json
from pathlib import Path

import pytest

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_core.protocols.protocol_intent_ledger import LedgerOutcome
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.ledger_sql import SqlIntentLedger
from tests.support.cli import Onex
from tests.support.intents import container_in, intent


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
    assert onex("intents", "settle", "nothing", "--retry").status == 14
    assert onex("intents", "settle", "unknown").status == 2
    assert onex("intents", "settle", "unknown", "--failed", "--retry").status == 2
    assert _states(onex) == {"unknown": "unknown", "completed": "completed", "failed": "failed"}
