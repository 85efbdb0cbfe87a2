"""Runs that a worker deletes by itself, on SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import DurableContext, RunFilter
from omnibase_spi import engine_dbos_store
from omnibase_spi.engine_dbos import DbosDriver
from tests.support.engines import until
from tests.support.workflow_runs import done, interpreter, request

SOON = timedelta(seconds=15)


@pytest.fixture(params=("sqlite", "postgresql"))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    found: str = request.getfixturevalue("engine_database")
    return found


async def test_a_worker_deletes_runs_that_ended_long_ago(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at a time, until there are no more; what ended lately, or has not ended, stays."""
    monkeypatch.setattr(engine_dbos_store, "_DELETED_AT_ONCE", 2)

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        return await done(context, 0, data)

    run = interpreter({"case": body})
    first = await DbosDriver.create(url, run)
    try:
        for name in ("a", "b", "c", "d", "e"):
            await first.start(request("case", workflow_id=name))
            await first.wait(name, SOON)
        await first.start(request("case", workflow_id="waits", not_before=datetime.now(UTC) + timedelta(days=1)))
        first._store.tables.change(
            "UPDATE {s}workflow_status SET completed_at = completed_at - :long WHERE workflow_uuid <> 'e'",
            long=40 * 86_400_000,
        )
    finally:
        await first.aclose()

    second = await DbosDriver.create(url, run, retention=timedelta(days=30))
    try:
        left = await until(lambda: second.list(RunFilter()), lambda views: len(views) <= 2)
        with pytest.raises(ModelOnexError, match="'a' is unknown"):
            await second.query("a")
    finally:
        await second.aclose()

    assert {view.workflow_id for view in left} == {"e", "waits"}
