"""No value leaves the place it is put in: some seven hundred hostile strings, and generated ones, in every place."""

import base64
import json
import os
import traceback
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.contract_model import Breach
from omnibase_core.models.contracts.subcontracts.effect_io_configs import EffectIOConfig
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
    ModelResolvedHttpContext,
    ModelResolvedKafkaContext,
)
from omnibase_core.utils.effect_executor import resolve_template
from omnibase_core.utils.io_plan import compile_io
from omnibase_core.utils.templates import Scope
from tests.support.hostile import HOSTILE, MARK, SCALARS, TREES, WITH_MARK

Resolve = Callable[[object], object]
Check = Callable[[object, str], None]

_CONFIG: TypeAdapter[EffectIOConfig] = TypeAdapter(EffectIOConfig)
_CLEAN = {EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.SECURITY_VIOLATION}


def _plan(config: Mapping[str, object]) -> Resolve:
    found: list[Breach] = []
    plan = compile_io(_CONFIG.validate_python(config), found.append, "op")
    assert [breach for breach in found if breach.severity == "error"] == []
    return lambda value: plan.resolve(Scope({"v": value}))[0]


def _http(**fields: object) -> Resolve:
    return _plan(
        {"handler_type": "http", "url_template": "http://api.example.com/x", "method": "POST", "body_template": ""}
        | fields
    )


def _get(url: str, **fields: object) -> Resolve:
    return _plan({"handler_type": "http", "url_template": url, "method": "GET"} | fields)


def _kafka(**fields: object) -> Resolve:
    return _plan({"handler_type": "kafka", "topic": "t", "payload_template": "x"} | fields)


def _file(operation: str = "write", **fields: object) -> Resolve:
    content = {"content_template": "x"} if operation == "write" else {}
    return _plan({"handler_type": "filesystem", "file_path_template": "f", "operation": operation} | content | fields)


def _http_of(context: object) -> ModelResolvedHttpContext:
    assert isinstance(context, ModelResolvedHttpContext)
    return context


def _body(context: object) -> str:
    body = _http_of(context).body
    assert isinstance(body, str)
    return body


def _content(context: object) -> str:
    assert isinstance(context, ModelResolvedFilesystemContext)
    assert isinstance(context.content, str)
    return context.content


def _payload(context: object) -> str:
    assert isinstance(context, ModelResolvedKafkaContext)
    return context.payload


_QUOTED = '{"a": "${input.v}", "b": [1, "x${input.v}y"], "c": {"${x": 1}}'.replace("${x", "$${x")
_BARE = '{"a": ${input.v}, "b": [${input.v}]}'


def _is_quoted(text: str, value: str) -> None:
    assert json.loads(text) == {"a": value, "b": [1, f"x{value}y"], "c": {"${x": 1}}


def _is_bare(text: str, value: str) -> None:
    assert json.loads(text) == {"a": value, "b": [value]}


def _is_path(context: object, value: str) -> None:
    split = urlsplit(_http_of(context).url)
    assert (split.scheme, split.netloc, split.query, split.fragment) == ("http", "api.example.com", "", "")
    segments = [unquote(segment) for segment in split.path.split("/")]
    assert segments == ["", "a", value, f"x-{value}.json", "b"]
    assert split.path.isascii()
    assert split.path.isprintable()


def _is_query(context: object, value: str) -> None:
    split = urlsplit(_http_of(context).url)
    assert (split.netloc, split.path) == ("api.example.com", "/s")
    assert [(name, unquote(text)) for name, text in (pair.split("=") for pair in split.query.split("&"))] == [
        ("q", value),
        ("r", f"1{value}"),
    ]
    assert unquote(split.fragment) == f"f-{value}"


def _is_allowed_host(context: object, _value: str) -> None:
    http = _http_of(context)
    split = urlsplit(http.url)
    assert http.host_from_data
    assert (split.hostname or "").rstrip(".") == "api.example.com"
    assert (split.username, split.password) == (None, None)
    assert split.path.endswith("/x/y")


def _is_whole_url(context: object, _value: str) -> None:
    split = urlsplit(_http_of(context).url)
    assert (split.hostname or "").rstrip(".") == "api.example.com"
    assert split.username is None


def _is_header(context: object, value: str) -> None:
    headers = _http_of(context).headers
    assert headers == {"X-A": value, "X-B": f"b {value}", "Accept": "text/plain"}
    assert all(32 <= ord(letter) < 127 or letter == "\t" for text in headers.values() for letter in text)


def _is_basic(context: object, value: str) -> None:
    pair = base64.b64decode(_http_of(context).headers["Authorization"].removeprefix("Basic ")).decode()
    assert pair.partition(":") == (f"u{value}", ":", value)


def _is_sql(context: object, value: str) -> None:
    assert isinstance(context, ModelResolvedDbContext)
    assert context.query == "INSERT INTO t VALUES ($1, $2, $3)"
    assert context.params == [value, f"x{value}y", {"k": [value, 1]}]


def _is_below(path: str | None, value: str) -> None:
    assert path == f"data/{value}/n{value}.txt"
    assert os.path.normpath(path).startswith("data/")
    assert ".." not in path
    assert "\0" not in path


def _is_whole_path(context: object, value: str) -> None:
    assert isinstance(context, ModelResolvedFilesystemContext)
    assert context.file_path == value
    assert ".." not in value
    assert "\0" not in value


def _is_form(context: object, value: str) -> None:
    pairs = parse_qsl(_body(context), keep_blank_values=True, strict_parsing=True)
    assert pairs == [("f", value), ("g", f"x{value}"), ("l", "1"), ("l", value)]


def _is_kafka(context: object, value: str) -> None:
    assert isinstance(context, ModelResolvedKafkaContext)
    assert context.topic == "t"
    assert context.partition_key == f"k{value}"
    assert context.payload == value


def _is_oauth2(context: object, value: str) -> None:
    oauth2 = _http_of(context).oauth2
    assert oauth2 is not None
    assert (oauth2.token_url, oauth2.client_id, oauth2.client_secret) == ("http://auth.example.com/t", value, value)


def _exactly(read: Callable[[object], object]) -> Check:
    def check(context: object, value: str) -> None:
        assert read(context) == value

    return check


_PATH_FIELDS = "data/${input.v}/n${input.v}.txt"
_HOSTS = {"allowed_hosts": ["api.example.com"]}
_AUTH = {
    "type": "oauth2",
    "token_url": "http://auth.example.com/t",
    "client_id": "${input.v}",
    "client_secret": "${input.v}",
}

PLACES: dict[str, tuple[Resolve, Check]] = {
    "JSON in quotes": (_http(body_template=_QUOTED), lambda c, v: _is_quoted(_body(c), v)),
    "JSON by content type": (
        _http(body_template=' "${input.v}" ', headers={"content-type": "application/problem+json; charset=utf-8"}),
        lambda c, v: _exactly(lambda text: json.loads(str(text)))(_body(c), v),
    ),
    "JSON, content type from data": (
        _http(body_template=_QUOTED, headers={"Content-Type": "${env.CT:-application/json}"}),
        lambda c, v: _is_quoted(_body(c), v),
    ),
    "JSON bare": (_http(body_template=_BARE), lambda c, v: _is_bare(_body(c), v)),
    "nearly JSON": (
        _http(body_template='{"a": "${input.v}",}'),
        lambda c, v: _exactly(
            lambda text: json.loads(str(text).replace(",}", "}") if v == "" else str(text)[:-2] + "}")
        )(_body(c), {"a": v}),  # type: ignore[arg-type]  # compared with a map
    ),
    "body_json": (
        _http(body_template=None, body_json={"a": "${input.v}", "b": [1, "x${input.v}y"], "c": {"$${x": 1}}),
        lambda c, v: _is_quoted(_body(c), v),
    ),
    "whole body": (_http(body_template="${input.v}"), _exactly(_body)),
    "plain body": (
        _http(body_template="x${input.v}", headers={"Content-Type": "text/plain"}),
        lambda c, v: _exactly(_body)(c, f"x{v}"),
    ),
    "form": (
        _http(body_template=None, body_form={"f": "${input.v}", "g": "x${input.v}", "l": [1, "${input.v}"]}),
        _is_form,
    ),
    "query params": (
        _get("http://api.example.com/", query_params={"q": "${input.v}", "l": ["${input.v}", 1]}),
        lambda c, v: _exactly(lambda x: _http_of(x).query_params)(c, {"q": v, "l": [v, "1"]}),  # type: ignore[arg-type]  # compared with a map
    ),
    "url path": (_get("http://api.example.com/a/${input.v}/x-${input.v}.json/b"), _is_path),
    "url query and fragment": (_get("http://api.example.com/s?q=${input.v}&r=1${input.v}#f-${input.v}"), _is_query),
    "host": (_get("http://${input.v}/x/y", **_HOSTS), _is_allowed_host),
    "part of a host": (_get("http://api.${input.v}.com/x/y", **_HOSTS), _is_allowed_host),
    "port": (_get("http://api.example.com:${input.v}/x/y", **_HOSTS), _is_allowed_host),
    "base url": (_get("${input.v}/x/y", **_HOSTS), _is_allowed_host),
    "whole url": (_get("${input.v}", **_HOSTS), _is_whole_url),
    "headers": (
        _get("http://api.example.com/", headers={"X-A": "${input.v}", "X-B": "b ${input.v}", "Accept": "text/plain"}),
        _is_header,
    ),
    "idempotency key": (
        _http(idempotency_key={"value": "${input.v}"}),
        lambda c, v: _exactly(lambda x: _http_of(x).headers)(c, {"Idempotency-Key": v}),  # type: ignore[arg-type]  # compared with a map
    ),
    "basic auth": (_http(auth={"type": "basic", "username": "u${input.v}", "password": "${input.v}"}), _is_basic),
    "bearer": (
        _http(auth={"type": "bearer", "token": "${input.v}"}),
        lambda c, v: _exactly(lambda x: _http_of(x).headers)(c, {"Authorization": f"Bearer {v}"}),  # type: ignore[arg-type]  # compared with a map
    ),
    "api key in the query": (
        _http(auth={"type": "api_key", "name": "k", "location": "query", "value": "${input.v}"}),
        _exactly(lambda x: _http_of(x).query_params["k"]),
    ),
    "api key in a header": (
        _http(auth={"type": "api_key", "value": "${input.v}"}),
        _exactly(lambda x: _http_of(x).headers["X-Api-Key"]),
    ),
    "oauth2": (_http(auth=_AUTH), _is_oauth2),
    "kafka payload and key": (_kafka(payload_template="${input.v}", partition_key_template="k${input.v}"), _is_kafka),
    "kafka JSON payload": (_kafka(payload_template=_QUOTED), lambda c, v: _is_quoted(_payload(c), v)),
    "kafka text payload": (_kafka(payload_template="x${input.v}"), lambda c, v: _exactly(_payload)(c, f"x{v}")),
    "kafka header": (
        _kafka(headers={"h": "${input.v}"}),
        _exactly(lambda x: x.headers["h"] if isinstance(x, ModelResolvedKafkaContext) else None),
    ),
    "sql params": (
        _plan(
            {
                "handler_type": "db",
                "operation": "insert",
                "connection_name": "c",
                "query_template": "INSERT INTO t VALUES ($1, $2, $3)",
                "query_params": ["${input.v}", "x${input.v}y", {"k": ["${input.v}", 1]}],
            }
        ),
        _is_sql,
    ),
    "file path": (
        _file(file_path_template=_PATH_FIELDS),
        lambda c, v: _is_below(c.file_path if isinstance(c, ModelResolvedFilesystemContext) else None, v),
    ),
    "destination": (
        _file("move", destination_path_template=_PATH_FIELDS),
        lambda c, v: _is_below(c.destination_path if isinstance(c, ModelResolvedFilesystemContext) else None, v),
    ),
    "whole file path": (_file("read", file_path_template="${input.v}"), _is_whole_path),
    "body file": (
        _http(body_template=None, body_file=_PATH_FIELDS),
        lambda c, v: _is_below(_http_of(c).body_file, v),
    ),
    "content": (_file(content_template="x${input.v}"), lambda c, v: _exactly(_content)(c, f"x{v}")),
    "whole content": (_file(content_template="${input.v}"), _exactly(_content)),
    "JSON content": (
        _file(file_path_template="a.JSON", content_template=_QUOTED),
        lambda c, v: _is_quoted(_content(c), v),
    ),
    "text": (
        lambda value: resolve_template("a ${input.v} b", {"input": {"v": value}}),
        lambda c, v: _exactly(str)(c, f"a {v} b"),
    ),
}


def _judge(resolve: Resolve, check: Check, value: str) -> bool:
    """True when the value came through; an error is clean, and says nothing of the value."""
    try:
        context = resolve(value)
    except ModelOnexError as error:
        _is_clean(error)
        return False
    check(context, value)
    assert MARK not in repr(context) or isinstance(context, str)
    return True


def _is_clean(error: ModelOnexError) -> None:
    chained = [] if error.__suppress_context__ else [error.__context__]
    told = "".join(traceback.format_exception(error))
    told += repr([error.context, *(vars(e) for e in (error.__cause__, *chained) if e is not None)])
    assert error.error_code in _CLEAN
    assert MARK not in told


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_string_is_refused_cleanly_or_comes_back_exactly(place: str) -> None:
    """Every hostile string in every place: a clean refusal that does not show it, or exactly this value."""
    resolve, check = PLACES[place]

    came_through = sum(_judge(resolve, check, value) for value in (*HOSTILE, *WITH_MARK))

    assert len(HOSTILE) > 500
    assert came_through > 0, "a place that refuses everything proves nothing"


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=60, deadline=None)
@given(
    value=st.text(st.characters(exclude_categories=())) | st.text('"\\${}/.%\r\n\0:@#?&= \u202e\ud800a', max_size=12)
)
def test_a_generated_string_is_refused_cleanly_or_comes_back_exactly(place: str, value: str) -> None:
    """The same for strings that nobody thought of, lone surrogates included."""
    _judge(*PLACES[place], value)


_JSON_PLACES: dict[str, tuple[Resolve, Callable[[object], object]]] = {
    "bare in a body": (_http(body_template='{"a": ${input.v}}'), lambda c: json.loads(_body(c))["a"]),
    "leaf of body_json": (_http(body_template=None, body_json=["${input.v}"]), lambda c: json.loads(_body(c))[0]),
    "kafka payload": (_kafka(payload_template="[${input.v}]"), lambda c: json.loads(_payload(c))[0]),
    "content of a .json file": (
        _file(file_path_template="a.json", content_template="[${input.v}]"),
        lambda c: json.loads(_content(c))[0],
    ),
    "sql param": (
        _plan(
            {
                "handler_type": "db",
                "operation": "select",
                "connection_name": "c",
                "query_template": "SELECT $1",
                "query_params": ["${input.v}"],
            }
        ),
        lambda c: c.params[0] if isinstance(c, ModelResolvedDbContext) else None,
    ),
}


def _same(left: object, right: object) -> bool:
    return json.dumps(left) == json.dumps(right)  # 1, 1.0 and true are equal for Python


@pytest.mark.parametrize("place", _JSON_PLACES)
@pytest.mark.parametrize("value", [*SCALARS, *TREES], ids=lambda value: repr(value)[:20])
def test_a_bare_placeholder_keeps_the_type(place: str, value: object) -> None:
    """A number stays that number, to the last digit; lists and maps stay lists and maps."""
    resolve, read = _JSON_PLACES[place]

    assert _same(read(resolve(value)), value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("place", _JSON_PLACES)
@settings(max_examples=60, deadline=None)
@given(value=_json)
def test_any_json_value_comes_back(place: str, value: object) -> None:
    """What is JSON goes through a bare placeholder unchanged."""
    resolve, read = _JSON_PLACES[place]

    assert _same(read(resolve(value)), value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")], {"a": float("nan")}], ids=repr)
def test_what_json_cannot_hold_is_refused(place: str, value: object) -> None:
    """NaN and infinities are refused wherever they would become text; as a bare SQL parameter a number may be one."""
    resolve, _ = PLACES[place]

    with pytest.raises(ModelOnexError) as caught:
        resolve(value)

    assert caught.value.error_code in _CLEAN
