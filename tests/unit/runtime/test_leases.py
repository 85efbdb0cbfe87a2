"""`onex leases`."""

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from omnibase_core.errors import EpochMismatchError
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.lease_sql import SqlLeaseStore
from tests.support.cli import Onex
from tests.support.intents import container_in
from tests.support.leases import LEASE, TTL, action_of


def _in_store(directory: Path, do: Callable[[SqlLeaseStore], Awaitable[None]]) -> None:
    """In the database that `onex` uses in the test's directory."""

    async def main() -> None:
        async with container_in(directory / ".onex") as container:
            adapter = container.get_service("DbAdapter")
            assert isinstance(adapter, DbAdapter)
            await do(SqlLeaseStore(adapter))

    asyncio.run(main())


@pytest.fixture
def held(onex: Onex, tmp_path: Path) -> None:
    """`nightly` is ada's, at epoch 1 and after a refusal; `weekly` is free."""
    del onex

    async def fill(store: SqlLeaseStore) -> None:
        lease = await store.acquire("nightly", str(LEASE), "ada", 60 * TTL)
        await store.commit(action_of(lease), {"n": 1})
        with pytest.raises(EpochMismatchError):
            await store.commit(action_of(lease), {"n": 2})
        other = await store.acquire("weekly", str(LEASE), "bob", TTL)
        await store.release("weekly", other.lease_id, other.token)

    _in_store(tmp_path, fill)


class Terminal(io.StringIO):
    """A person who types."""

    def isatty(self) -> bool:
        return True


def _events(onex: Onex) -> list[str]:
    return [entry["event"] for entry in json.loads(onex("leases", "show", "nightly", "--json").out)]


@pytest.mark.usefixtures("held")
def test_leases_are_listed(onex: Onex) -> None:
    """By resource, free ones too unless they are not asked for."""
    listed = onex("leases", "list")

    assert listed.status == 0
    assert [line.split()[:2] for line in listed.out.splitlines()] == [
        ["RESOURCE", "HOLDER"],
        ["nightly", "ada"],
        ["weekly", "bob"],
    ]
    assert listed.out.splitlines()[2].split() == ["weekly", "bob", "free", "1", "0", "0"]
    documents = json.loads(onex("leases", "list", "--held", "--json").out)
    assert [(each["resource"], each["token"], each["epoch"]) for each in documents] == [("nightly", 1, 1)]
    assert 0 < documents[0]["remaining_ms"] <= 60 * TTL
    assert len(json.loads(onex("leases", "list", "--limit", "1", "--json").out)) == 1


@pytest.mark.usefixtures("held")
def test_the_audit_is_shown(onex: Onex) -> None:
    """What happened, under which token and epoch, and why something was refused."""
    shown = onex("leases", "show", "nightly")

    lines = [line.split() for line in shown.out.splitlines()]
    assert [line[1:5] for line in lines[1:]] == [
        ["acquired", "1", "0", "ada"],
        ["committed", "1", "1", "ada"],
        ["refused", "1", "0", "ada"],
    ]
    assert lines[2][5] == "update_state"
    assert lines[3][-1] == "EpochMismatchError"
    (newest,) = json.loads(onex("leases", "show", "nightly", "--limit", "1", "--json").out)
    assert newest["action"]["lease_id"] == str(LEASE)
    assert newest["detail"]["code"] == "CONFLICT"
    assert onex("leases", "show", "never").status == 14


@pytest.mark.usefixtures("held")
def test_a_lease_is_freed_by_force_when_that_is_confirmed(onex: Onex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or with --yes; without either nothing happens, and the status says so."""
    assert onex("leases", "release", "nightly").status == 2
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    refused = onex("leases", "release", "nightly")
    assert (refused.status, _events(onex)[-1]) == (10, "refused")
    assert "ada has it and may be writing" in refused.err

    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    freed = onex("leases", "release", "nightly")

    assert (freed.status, freed.out.strip()) == (0, "nightly: freed; ada had it under token 1")
    assert _events(onex)[-1] == "forced"
    assert onex("leases", "release", "nightly", "--yes").out == "nightly: was free already\n"
    assert onex("leases", "release", "never", "-y").status == 14
    entry = json.loads(onex("leases", "show", "nightly", "--json").out)[-1]
    assert entry["holder"].endswith("by hand")


def test_the_connection_is_that_of_the_setting(onex: Onex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another is named; one that does not exist is told."""
    monkeypatch.setenv("ONEX_CONNECTIONS__KEPT__URL", f"sqlite:///{tmp_path}/kept.db")
    monkeypatch.setenv("ONEX_STATE_CONNECTION", "kept")

    assert onex("leases", "list", "--json").out == "[]\n"
    assert (tmp_path / "kept.db").exists()
    assert not (tmp_path / ".onex").exists()
    assert onex("leases", "list", "--connection", "nowhere").status == 4
