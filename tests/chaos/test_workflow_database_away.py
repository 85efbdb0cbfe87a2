"""The database of the workflow engine goes away and comes back: callers are told, and no run is lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import DurableContext, position_of
from omnibase_spi.engine_dbos import DbosDriver
from tests.support.tcp_proxy import TcpProxy
from tests.support.workflow_runs import Gate, done, interpreter, request

PASSWORD = "not-to-be-shown"


@pytest.fixture
async def proxy(engine_database: str) -> AsyncIterator[TcpProxy]:
    query = parse_qs(urlsplit(engine_database).query)
    async with TcpProxy(query["host"][0], 5432) as made:
        yield made


@pytest.mark.parametrize("lease_ttl_ms", [60_000, 400])
async def test_runs_outlive_the_absence_of_their_database(
    engine_database: str, proxy: TcpProxy, lease_ttl_ms: int
) -> None:
    """Within the lease or beyond it: a query is RESOURCE_UNAVAILABLE meanwhile, and then the run ends as it should."""
    name = urlsplit(engine_database).path
    gate = Gate()

    async def body(context: DurableContext, data: JsonValue) -> JsonValue:
        first = await done(context, 0, "first")
        second = (await context.step(position_of(1), "gate", gate)).value
        return [first, second, await done(context, 2, "third")]

    url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{proxy.port}{name}"
    driver = await DbosDriver.create(url, interpreter({"run": body}), lease_ttl_ms=lease_ttl_ms)
    asked = request("run")
    await driver.start(asked)
    await asyncio.wait_for(gate.reached.wait(), 5)

    await proxy.refuse()
    with pytest.raises(ModelOnexError) as away:
        await driver.query(asked.workflow_id)
    with pytest.raises(ModelOnexError) as not_begun:
        await DbosDriver.create(url)
    gate.opened.set()
    await asyncio.sleep(0.6)
    await proxy.listen()
    view = await driver.wait(asked.workflow_id, timedelta(seconds=20))
    await driver.aclose()

    assert (view.status, view.output) == (EnumRunStatus.COMPLETED, ["first", "through", "third"])
    for refused in (away, not_begun):
        assert refused.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
        assert PASSWORD not in f"{refused.value}{refused.value.context}{refused.value.__cause__}"
