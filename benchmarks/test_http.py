"""HTTP operations beside aiohttp doing the same request and parsing the same answer, over kept connections.

`bare` is a session as the documentation of aiohttp shows it; `lean` is one with everything switched off that we do
without (cookies, decoding, total timeout), given for comparison only.
"""

import asyncio
import json
from collections.abc import Iterator
from itertools import count

import aiohttp
import pytest

from benchmarks.measure import Table, Times, in_flight, one_by_one, paired
from benchmarks.nodes import calling, container_of, node_of
from benchmarks.servers import http_server
from omnibase_core.models.model_effect_output import ModelEffectOutput

FLIGHT = 50


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with http_server() as url:
        yield url


def test_http(base_url: str, table: Table) -> None:
    """One at a time and 50 in flight; an operation per call, and ten per call."""
    one, many = asyncio.run(_measure(base_url))

    table.add_comparison(
        "http", "one at a time, 1 per call", one.compare("single", "bare"), ratio=1.35, goal=1.25, added_us=45
    )
    table.add_comparison(
        "http", "one at a time, 10 per call", one.compare("ten", "bare"), ratio=1.35, goal=1.25, added_us=35
    )
    table.add("http", "one at a time, 1 per call, beside a lean session", one.compare("single", "lean").ratio, "x")
    table.add_comparison("http", "50 in flight, 1 per call", many.compare("single", "bare"), ratio=1.5)
    table.add_comparison("http", "50 in flight, 10 per call at once", many.compare("ten", "bare"), ratio=1.5)
    table.add("http", "50 in flight, 1 per call, beside a lean session", many.compare("single", "lean").ratio, "x")


async def _measure(base_url: str) -> tuple[Times, Times]:
    container = container_of()
    io_config: dict[str, object] = {
        "handler_type": "http",
        "method": "GET",
        "url_template": f"{base_url}/items/${{input.id}}",
    }
    extract = {"ok": "$.ok"}
    node = node_of(container, io_config, extract=extract)
    ten = node_of(container, io_config, 10, extract=extract)
    ten_at_once = node_of(
        container, io_config, 10, extract=extract, execution_mode="parallel_continue", max_concurrency=10
    )
    item = count()

    async def parallel() -> ModelEffectOutput:
        output = await calling(ten_at_once, id=5)()
        assert output.failed_operation is None
        return output

    async with (
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=5),
            auto_decompress=False,
        ) as lean_session,
    ):

        async def bare() -> object:
            async with session.get(f"{base_url}/items/{next(item) % 10}") as response:
                return (await response.json())["ok"]

        async def lean() -> object:
            async with lean_session.get(f"{base_url}/items/{next(item) % 10}") as response:
                return json.loads(await response.read())["ok"]

        one = await paired(
            {
                "bare": one_by_one(bare),
                "lean": one_by_one(lean),
                "single": one_by_one(calling(node, id=5)),
                "ten": one_by_one(calling(ten, id=5), 10),
            },
            operations=150,
        )
        many = await paired(
            {
                "bare": in_flight(bare, FLIGHT),
                "lean": in_flight(lean, FLIGHT),
                "single": in_flight(calling(node, id=5), FLIGHT),
                "ten": in_flight(parallel, FLIGHT // 10, 10),
            },
            operations=500,
        )
    await container.aclose()
    return one, many
