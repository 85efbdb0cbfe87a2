"""Hostile values through the node to a real server, database, cluster and directory, and what arrived there."""

import base64
import json
import os
import sqlite3
import traceback
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.nodes.node_effect import NodeEffect
from tests.support.effects import node_of, one
from tests.support.hostile import HOSTILE, MARK, SCALARS, TREES, WITH_MARK
from tests.support.http_server import FaultServer, Request
from tests.support.kafka import KafkaCluster
from tests.support.systems import container_on

_CLEAN = {EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.SECURITY_VIOLATION}
_VALUES = (*HOSTILE, *WITH_MARK)
_SHORT = tuple(value for value in _VALUES if len(value) < 2_000)
"""What a request line or a header may hold on any server."""


def _leaks_nothing(error: ModelOnexError) -> None:
    told = "".join(traceback.format_exception(error)) + repr(error.context)
    assert MARK not in told


def _is_clean(error: ModelOnexError, codes: tuple[EnumCoreErrorCode, ...]) -> None:
    assert error.error_code in {*_CLEAN, *codes}
    if "filesystem write of" not in error.message:  # the handler's own refusals name the file, as they must
        _leaks_nothing(error)


async def _try(node: NodeEffect, value: object, *codes: EnumCoreErrorCode) -> bool:
    """Whether the value came through; if not, the refusal was clean and did not show it."""
    try:
        await node.process(ModelEffectInput(operation_data={"v": value}))
    except ModelOnexError as error:
        _is_clean(error, codes)
        return False
    return True


@pytest.fixture
async def container() -> AsyncIterator[ModelONEXContainer]:
    async with container_on() as made:
        yield made


def _json_body(request: Request, value: str) -> None:
    assert request.json() == {"a": value, "b": [f"x{value}y"]}
    assert request.headers["content-type"] == "application/json"


def _form(request: Request, value: str) -> None:
    pairs = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
    assert pairs == [("a", value), ("admin", "false")]


def _url(request: Request, value: str) -> None:
    segments = request.path.split("/")
    pairs = [pair.split("=") for pair in request.query.split("&")]
    assert [unquote(segment) for segment in segments] == ["", "a", value, "b"]
    assert [(name, unquote(text.replace("+", " "))) for name, text in pairs] == [
        ("q", value),
        ("admin", "false"),
        ("p", value),
    ]


def _header(request: Request, value: str) -> None:
    assert request.headers["x-a"] == value.strip(
        " \t"
    )  # white space at the ends is not part of a value (RFC 9110, 5.5)
    assert request.headers["x-b"] == "b"


def _basic(request: Request, value: str) -> None:
    pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == f"user:{value}"


_HTTP: dict[str, tuple[dict[str, object], Callable[[Request, str], None], tuple[str, ...]]] = {
    "JSON body": ({"body_template": '{"a": "${input.v}", "b": ["x${input.v}y"]}'}, _json_body, _VALUES),
    "body_json": ({"body_json": {"a": "${input.v}", "b": ["x${input.v}y"]}}, _json_body, _VALUES),
    "form": ({"body_form": {"a": "${input.v}", "admin": "false"}}, _form, _VALUES),
    "url": (
        {"path": "/a/${input.v}/b?q=${input.v}&admin=false", "query_params": {"p": "${input.v}"}, "body_template": ""},
        _url,
        _SHORT,
    ),
    "header": ({"headers": {"X-A": "${input.v}", "X-B": "b"}, "body_template": ""}, _header, _SHORT),
    "basic auth": (
        {"auth": {"type": "basic", "username": "user", "password": "${input.v}"}, "body_template": ""},
        _basic,
        _SHORT,
    ),
}


@pytest.mark.parametrize("place", _HTTP)
async def test_http(place: str, fault_server: FaultServer, container: ModelONEXContainer) -> None:
    """A server gets one request of the contract's shape with exactly this value, or none at all."""
    fields, check, values = _HTTP[place]
    path = fields.get("path", "/x")
    config = {"handler_type": "http", "method": "POST", "url_template": f"{fault_server.url}{path}"}
    node = node_of(container, one(config | {name: field for name, field in fields.items() if name != "path"}))
    shapes = set()
    came_through = 0

    for value in values:
        fault_server.requests.clear()
        if await _try(node, value):
            (request,) = fault_server.requests
            check(request, value)
            shapes.add((request.method, tuple(sorted(request.headers))))
            came_through += 1
        else:
            assert fault_server.requests == []

    assert came_through > 100
    shapes = {(method, tuple(name for name in names if name != "content-type")) for method, names in shapes}
    assert len(shapes) == 1, "the value changed the set of headers"


@pytest.mark.parametrize("value", [*SCALARS, *TREES], ids=lambda value: repr(value)[:20])
async def test_types_arrive(value: object, fault_server: FaultServer, container: ModelONEXContainer) -> None:
    """A bare placeholder arrives with its type."""
    config = {
        "handler_type": "http",
        "method": "POST",
        "url_template": fault_server.url,
        "body_template": '{"a": ${input.v}}',
    }

    assert await _try(node_of(container, one(config)), value)

    assert json.dumps(fault_server.requests[0].json()) == json.dumps({"a": value})


async def test_data_never_reaches_another_host(fault_server: FaultServer) -> None:
    """A host from data goes to the hosts of the list, whatever else the value says; a redirect does not lead astray."""
    host = fault_server.url.removeprefix("http://")
    config = {
        "handler_type": "http",
        "method": "GET",
        "url_template": "http://${input.v}/x",
        "allowed_hosts": ["onex.invalid"],
    }
    hosts = (
        host,
        f"onex.invalid@{host}",
        f"{host}#onex.invalid",
        f"{host}/onex.invalid",
        f"onex.invalid\\@{host}",
        "127.1",
        "localhost",
    )

    async with container_on() as container:
        node = node_of(container, one(config))
        for value in (*hosts, *_SHORT):
            if value.rstrip(".").lower() != "onex.invalid":
                assert not await _try(node, value)

    assert fault_server.connections == 0


async def test_sqlite(tmp_path: Path) -> None:
    """A database stores exactly the value, and its tables stay what they were."""
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (a TEXT, b TEXT)")
    made.close()
    config = {
        "handler_type": "db",
        "operation": "insert",
        "connection_name": "main",
        "query_template": "INSERT INTO t VALUES ($1, $2)",
        "query_params": ["${input.v}", ["${input.v}"]],
    }

    async with container_on(main=f"sqlite:///{path}") as container:
        node = node_of(container, one(config))
        stored = [value for value in _VALUES if await _try(node, value)]

    with sqlite3.connect(path) as found:
        rows = found.execute("SELECT a, b FROM t ORDER BY rowid").fetchall()
        tables = found.execute("SELECT name FROM sqlite_master").fetchall()
    found.close()
    assert [(a, json.loads(b)) for a, b in rows] == [(value, [value]) for value in stored]
    assert set(_VALUES) - set(stored) == {value for value in _VALUES if not _is_unicode(value)}
    assert tables == [("t",)]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def test_kafka(kafka_cluster: KafkaCluster) -> None:
    """A message has exactly this value as payload, key and header."""
    topic = kafka_cluster.topic()
    config = {
        "handler_type": "kafka",
        "topic": topic,
        "connection_name": "main",
        "payload_template": '{"a": "${input.v}"}',
        "partition_key_template": "k${input.v}",
        "headers": {"fixed": "f"},
    }

    async with container_on(main=kafka_cluster.url) as container:
        node = node_of(container, one(config))
        sent = [value for value in _SHORT[::4] if await _try(node, value)]

    read = [
        (str(json.loads(message.value() or b"")["a"]), (message.key() or b"").decode(), message.headers())
        for message in kafka_cluster.read(topic, len(sent))
    ]
    assert len(sent) > 50
    assert kafka_cluster.count(topic) == len(sent)
    assert sorted(value for value, _, _ in read) == sorted(sent)
    assert all(key == f"k{value}" and headers == [("fixed", b"f")] for value, key, headers in read)


async def test_kafka_headers(kafka_cluster: KafkaCluster) -> None:
    """A message has the contract's headers with exactly this value, or is not sent."""
    topic = kafka_cluster.topic()
    config = {
        "handler_type": "kafka",
        "topic": topic,
        "connection_name": "main",
        "payload_template": "x",
        "headers": {"h": "${input.v}", "fixed": "f"},
    }

    async with container_on(main=kafka_cluster.url) as container:
        node = node_of(container, one(config))
        sent = [value for value in _SHORT[::4] if await _try(node, value)]

    read = [message.headers() for message in kafka_cluster.read(topic, len(sent))]
    wanted = [[("h", value.encode()), ("fixed", b"f")] for value in sent]
    assert sorted(map(repr, read)) == sorted(map(repr, wanted))
    assert len(sent) > 50


def _files(root: Path) -> Iterable[Path]:
    return (Path(folder, name) for folder, _, names in os.walk(root) for name in names)


async def _write(root: Path, path: str, content: str, outcome: Callable[[str, Path], None]) -> int:
    config = {
        "handler_type": "filesystem",
        "operation": "write",
        "file_path_template": path,
        "content_template": content,
    }
    written = 0
    async with container_on(root=root) as container:
        node = node_of(container, one(config))
        for value in _VALUES[::4]:
            # A name may be too long, or one that is a directory already: the system's own refusals.
            if await _try(node, value, EnumCoreErrorCode.OPERATION_FAILED, EnumCoreErrorCode.OUTCOME_UNKNOWN):
                (file,) = _files(root)
                outcome(value, file)
                file.unlink()
                written += 1
            assert list(_files(root)) == []
    return written


async def test_file_names(tmp_path: Path) -> None:
    """A file is written under the contract's directory under exactly this name, or nothing is."""
    root = tmp_path / "root"
    root.mkdir()

    def outcome(value: str, file: Path) -> None:
        assert str(file) == os.path.normpath(f"{root}/data/n{value}.txt")
        assert file.read_text() == "x"

    written = await _write(root, "data/n${input.v}.txt", "x", outcome)

    assert written > 80
    assert os.listdir(tmp_path) == ["root"]  # a test's own directory, read at once


async def test_file_contents(tmp_path: Path) -> None:
    """A JSON file has the structure of the contract and exactly this value."""

    def outcome(value: str, file: Path) -> None:
        assert json.loads(file.read_bytes()) == {"a": value, "admin": False}

    written = await _write(tmp_path, "a.json", '{"a": "${input.v}", "admin": false}', outcome)

    assert written == sum(map(_is_unicode, _VALUES[::4]))


async def test_a_secret_is_in_no_error(fault_server: FaultServer) -> None:
    """A secret that cannot go into a header, a path or a URL is refused without being shown."""
    secret = f"s3cr3t-{MARK}\r\nX-Evil: 1"
    places: list[dict[str, object]] = [
        {"headers": {"A": "${secret.S}"}},
        {"auth": {"type": "bearer", "token": "${secret.S}"}},
        {"auth": {"type": "basic", "username": "${secret.S}", "password": "x"}},
        {"url_template": f"{fault_server.url}/${{secret.S}}"},
        {"url_template": "http://${secret.S}/"},
        {"url_template": "${secret.S}/x"},
        {"url_template": f"{fault_server.url}/${{secret.S.deeper}}"},
    ]

    async with container_on(secrets={"S": secret}) as container:
        for place in places:
            base = {"handler_type": "http", "method": "GET", "url_template": fault_server.url}
            with pytest.raises(ModelOnexError) as caught:
                await node_of(container, one(base | place)).process(ModelEffectInput(operation_data={}))
            assert caught.value.error_code in _CLEAN
            _leaks_nothing(caught.value)

    assert fault_server.connections == 0
