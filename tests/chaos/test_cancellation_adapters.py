"""Cancelling at any await with the real adapters leaks no task, connection, descriptor, thread or temporary file."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from tests.support.effects import contract, node_of, operation
from tests.support.http_server import FaultServer, drip
from tests.support.kafka import KafkaCluster
from tests.support.suspensions import cancelled_at
from tests.support.systems import container_on

POINTS = 60


def _http(server: FaultServer) -> ModelEffectSubcontract:
    echo = {"handler_type": "http", "method": "POST", "url_template": f"{server.url}/echo", "body_template": '{"a": 1}'}
    server.route("/drip", drip(b"x" * 8, 0.002))
    dripping = {"handler_type": "http", "method": "GET", "url_template": f"{server.url}/drip"}
    redirected = {**dripping, "url_template": server.redirects(3)}
    return contract(operation("first", echo), operation("second", dripping), operation("third", redirected))


def _db(transaction: bool) -> ModelEffectSubcontract:
    insert = {
        "handler_type": "db",
        "operation": "insert",
        "connection_name": "main",
        "query_template": "INSERT INTO swept (n) VALUES ($1)",
        "query_params": [1],
    }
    select = {**insert, "operation": "select", "query_template": "SELECT count(*) AS c FROM swept WHERE n = $1"}
    return contract(
        operation("write", insert), operation("read", select), transaction={"enabled": transaction, "timeout_ms": 5000}
    )


def _files() -> ModelEffectSubcontract:
    def file(verb: str, **fields: object) -> dict[str, object]:
        return {"handler_type": "filesystem", "operation": verb, "file_path_template": "d/a.txt", **fields}

    return contract(
        operation("write", file("write", content_template="new\n" * 1000)),
        operation("read", file("read")),
        operation("copy", file("copy", destination_path_template="d/b.txt")),
        operation("move", file("move", destination_path_template="d/c.txt")),
    )


def _kafka() -> ModelEffectSubcontract:
    message = {"handler_type": "kafka", "topic": "swept", "payload_template": "x"}
    return contract(operation("first", message), operation("second", message))


async def _call(container: ModelONEXContainer, made: ModelEffectSubcontract) -> None:
    await node_of(container, made).process(ModelEffectInput(operation_data={}))


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


async def _sweep(container: ModelONEXContainer, made: ModelEffectSubcontract) -> int:
    """Cancel at suspension 0, 1, 2 ...; after each, no task is left and the next whole call succeeds."""
    await _call(container, made)
    before = asyncio.all_tasks()
    for n in range(POINTS):
        reached = await cancelled_at(_call(container, made), n)
        left = {task for task in asyncio.all_tasks() - before if "FaultServer" not in repr(task)}
        assert not left, f"cancelled at suspension {n}: {left}"
        await asyncio.wait_for(_call(container, made), 5)
        if not reached:
            return n
    return POINTS


@pytest.fixture
async def no_leak() -> AsyncIterator[None]:
    """After the test there are no more descriptors than before."""
    await asyncio.sleep(0)
    gc.collect()
    before = _descriptors()
    yield
    gc.collect()
    await asyncio.sleep(0.05)
    left = {fd: what for fd, what in _descriptors().items() if fd not in before}
    assert not left


async def test_http(fault_server: FaultServer, no_leak: None) -> None:
    """Connections that were in use are closed, not handed on."""
    async with container_on() as container:
        assert await _sweep(container, _http(fault_server)) >= 6


@pytest.mark.parametrize("transaction", [False, True])
async def test_sqlite(transaction: bool, tmp_path: Path, no_leak: None) -> None:
    """The worker thread is interrupted and free again; no transaction stays open."""
    async with container_on(main=f"sqlite:///{tmp_path / 'a.db'}") as container:
        setup = {
            "handler_type": "db",
            "operation": "raw",
            "connection_name": "main",
            "query_template": "CREATE TABLE swept (n INTEGER)",
        }
        await _call(container, contract(operation("setup", setup, idempotent=False)))
        assert await _sweep(container, _db(transaction)) >= 2


@pytest.mark.parametrize("transaction", [False, True])
async def test_postgresql(transaction: bool, postgres_url: str) -> None:
    """The running statement is cancelled at the server, and the pool stays whole."""
    async with container_on(main=postgres_url) as container:
        for statement in ("DROP TABLE IF EXISTS swept", "CREATE TABLE swept (n INTEGER)"):
            setup = {"handler_type": "db", "operation": "raw", "connection_name": "main", "query_template": statement}
            await _call(container, contract(operation("setup", setup, idempotent=False)))
        assert await _sweep(container, _db(transaction)) >= 2


async def test_files(tmp_path: Path, no_leak: None) -> None:
    """The target is old or new, and no temporary file stays."""
    async with container_on(root=tmp_path) as container:
        assert await _sweep(container, _files()) >= 4

    names = {path.name for path in (tmp_path / "d").iterdir()}
    assert names <= {"a.txt", "b.txt", "c.txt"}
    assert all(path.read_text() == "new\n" * 1000 for path in (tmp_path / "d").iterdir())


async def test_kafka(kafka_cluster: KafkaCluster) -> None:
    """A late delivery report finds nobody waiting, and says nothing."""
    async with container_on(default=kafka_cluster.url) as container:
        assert await _sweep(container, _kafka()) >= 2
