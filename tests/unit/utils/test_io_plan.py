"""IO configs compiled to resolvers."""

import base64
from collections.abc import Mapping
from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.contract_model import Breach
from omnibase_core.models.contracts.subcontracts.effect_io_configs import EffectIOConfig
from omnibase_core.utils.io_compiler import IoPlan
from omnibase_core.utils.io_plan import compile_io
from omnibase_core.utils.templates import Scope

_CONFIG: TypeAdapter[EffectIOConfig] = TypeAdapter(EffectIOConfig)

GET = {"handler_type": "http", "url_template": "http://h.example/x", "method": "GET"}
POST = GET | {"method": "POST"}
SQL = {"handler_type": "db", "operation": "select", "connection_name": "main", "query_template": "SELECT 1"}
MESSAGE = {"handler_type": "kafka", "topic": "t", "payload_template": "x"}
WRITE = {"handler_type": "filesystem", "file_path_template": "f.txt", "operation": "write", "content_template": "x"}


def _compile(config: Mapping[str, object], name: str = "op") -> tuple[IoPlan, list[Breach]]:
    found: list[Breach] = []
    return compile_io(_CONFIG.validate_python(config), found.append, name), found


def _plan(config: Mapping[str, object], name: str = "op") -> IoPlan:
    plan, found = _compile(config, name)
    assert found == []
    return plan


def _values(config: Mapping[str, object], **data: object) -> dict[str, object]:
    scope = Scope(data, secrets={"S": "s3"}, env={"E": "env"}, meta={"operation_id": UUID(int=1)})
    return dict(_plan(config).resolve(scope)[0].__dict__)


def _codes(config: Mapping[str, object]) -> list[tuple[str, tuple[str | int, ...]]]:
    _, found = _compile(config)
    return [(breach.code, tuple(part for part in breach.path if type(part) in {str, int})) for breach in found]


# what every plan says


@pytest.mark.parametrize(
    "config",
    [
        GET | {"headers": {"A": "${input.v}"}},
        SQL | {"query_template": "SELECT $1", "query_params": ["${input.v}"]},
        MESSAGE | {"payload_template": "${input.v}"},
        WRITE | {"content_template": "${input.v}"},
    ],
)
def test_a_resolver_is_built_once_and_by_whoever_asks_first(config: Mapping[str, object]) -> None:
    """The first call puts the resolver into the plan, also one that fails; who kept the first one loses nothing."""
    plan = _plan(config)
    first = plan.resolve
    with pytest.raises(ModelOnexError, match="'v' is missing"):
        plan.resolve(Scope({}))

    made = plan.resolve(Scope({"v": "1"}))
    built = plan.resolve

    assert plan.resolve(Scope({"v": "1"})) == made
    assert plan.resolve is built
    assert built is not first
    assert first(Scope({"v": "1"})) == made


def test_holes_and_secrets_are_known_ahead() -> None:
    """A plan names every placeholder with its place, and the secrets to fetch."""
    plan = _plan(
        POST
        | {
            "url_template": "http://h.example/${input.id}",
            "headers": {"A": "${secret.ONE}"},
            "body_json": {"a": ["${secret.TWO}", "x"]},
            "query_params": {"q": ["1", "${input.q}"]},
            "auth": {"type": "basic", "username": "u", "password": "${secret.THREE}"},
        }
    )

    assert plan.secret_names == {"ONE", "TWO", "THREE"}
    assert {(path, hole.text) for path, hole in plan.holes} == {
        (("url_template",), "${input.id}"),
        (("headers", "A"), "${secret.ONE}"),
        (("body_json", "a", 0), "${secret.TWO}"),
        (("query_params", "q", 1), "${input.q}"),
        (("auth", "password"), "${secret.THREE}"),
    }


@pytest.mark.parametrize(
    ("config", "target"),
    [
        (GET, "http://h.example:80"),
        (GET | {"url_template": "${env.E}/x"}, None),
        (SQL, "db:main"),
        (MESSAGE, "kafka:default"),
        (WRITE, "filesystem"),
    ],
)
def test_the_target_of_a_plan(config: dict[str, object], target: str | None) -> None:
    """The target whose budget retries share is known at load, unless the host is not."""
    assert _plan(config).target == target


def test_a_host_known_at_run_time_is_the_target_of_the_attempt() -> None:
    """What an attempt resolves to says on whom it draws."""
    plan = _plan(GET | {"url_template": "${env.E}/x"})

    assert plan.resolve(Scope({}, env={"E": "https://a.example"}))[1] == "https://a.example:443"


@pytest.mark.parametrize(
    "config",
    [
        GET | {"headers": {"A": "a"}, "query_params": {"q": ["1"]}},
        GET | {"headers": {"A": "${input.a}"}, "query_params": {"q": ["${input.a}"]}},
        SQL | {"query_template": "SELECT $1", "query_params": ["a"]},
        MESSAGE | {"headers": {"A": "a"}},
    ],
    ids=range(4),
)
def test_a_handler_that_changes_its_context_changes_no_other(config: dict[str, object]) -> None:
    """Lists and maps of a context belong to that context alone."""
    plan = _plan(config)
    scope = Scope({"a": "a"})
    first = plan.resolve(scope)[0]
    fresh = plan.resolve(scope)[0].model_dump()

    for value in first.__dict__.values():
        if isinstance(value, list | dict):
            value.clear()

    assert plan.resolve(scope)[0].model_dump() == fresh


# http


@pytest.mark.parametrize(
    ("fields", "values", "body", "content_type"),
    [
        ({"body_template": ""}, {}, None, None),
        ({"body_template": "plain ${input.a}"}, {"a": 5}, "plain 5", None),
        ({"body_template": '{"a": ${input.a}}'}, {"a": None}, '{"a": null}', "application/json"),
        ({"body_template": ' [ "${input.a}" ]'}, {"a": 1}, ' [ "1" ]', "application/json"),
        ({"body_template": "${input.a}"}, {"a": "as is"}, "as is", None),
        ({"body_template": "${input.a}"}, {"a": {"b": 1}}, '{"b": 1}', "application/json"),
        ({"body_template": "${input.a}"}, {"a": UUID(int=0)}, str(UUID(int=0)), None),
        ({"body_template": "$${a}"}, {}, "${a}", None),
        ({"body_json": None}, {}, "null", "application/json"),
        ({"body_json": {"a": "${input.a}"}}, {"a": 2**70}, f'{{"a": {2**70}}}', "application/json"),
        (
            {"body_form": {"a b": "${input.a}&", "c": [1, True, None]}},
            {"a": "x y&z"},
            "a+b=x+y%26z%26&c=1&c=true&c=null",
            "application/x-www-form-urlencoded",
        ),
    ],
)
def test_bodies_and_their_content_type(
    fields: dict[str, object], values: dict[str, object], body: object, content_type: str | None
) -> None:
    """Each kind of body is encoded its way and brings its Content-Type, unless it is plain text."""
    made = _values(POST | fields, **values)

    assert made["body"] == body
    assert made["headers"] == ({} if content_type is None else {"Content-Type": content_type})


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", '{"a": "5"}'),
        ("application/vnd.x+json; charset=utf-8", '{"a": "5"}'),
        ("text/plain", '{"a": 5}'),
        ("${env.E}", '{"a": "5"}'),
    ],
)
def test_the_given_content_type_decides(content_type: str, body: str) -> None:
    """A declared type is kept and decides; one known only at run time leaves the text to speak for itself."""
    made = _values(POST | {"body_template": '{"a": ${input.a}}', "headers": {"content-type": content_type}}, a="5")

    assert made["body"] == body
    assert made["headers"] == {"content-type": content_type.replace("${env.E}", "env")}


def test_a_whole_body_under_a_given_content_type() -> None:
    """A body that is one placeholder keeps the Content-Type that the contract gives."""
    made = _values(POST | {"body_template": "${input.a}", "headers": {"CONTENT-TYPE": "text/csv"}}, a=[1])

    assert (made["body"], made["headers"]) == ("[1]", {"CONTENT-TYPE": "text/csv"})


def test_a_secret_in_the_body_is_marked() -> None:
    """The adapter learns that a body holds a secret, and may not carry it to another origin."""
    assert _values(POST | {"body_template": "x${secret.S}"})["body_is_secret"] is True
    assert _values(POST | {"body_template": "x", "headers": {"A": "${secret.S}"}})["body_is_secret"] is False


def test_headers_keep_their_order() -> None:
    """Constants and placeholders stand as the contract wrote them."""
    made = _values(GET | {"headers": {"B": "${input.a}", "A": "1", "C": "${input.a}2"}}, a=1)

    assert list(made["headers"].items()) == [("B", "1"), ("A", "1"), ("C", "12")]  # type: ignore[attr-defined]  # a dict


@pytest.mark.parametrize(
    ("value", "data", "made"),
    [
        ("${input.a}", "x", "x"),
        ("${input.a}", [1, True, "x"], ["1", "true", "x"]),
        ("${input.a}", (), []),
        ("a${input.a}", 1, "a1"),
        (["${input.a}", 2, None], "x", ["x", "2", "null"]),
        ([1, 2.5], None, ["1", "2.5"]),
        (True, None, "true"),
    ],
)
def test_query_params(value: object, data: object, made: object) -> None:
    """A value that is one placeholder may be a list; all else is text."""
    assert _values(GET | {"query_params": {"q": value}}, a=data)["query_params"] == {"q": made}


def test_a_list_in_a_list_of_query_params_is_refused() -> None:
    """One name may have several values, but not lists of lists."""
    with pytest.raises(ModelOnexError, match="only a scalar can stand"):
        _values(GET | {"query_params": {"q": ["${input.a}", "b"]}}, a=["x"])


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [
        (
            {"type": "basic", "username": "ü", "password": "p:${secret.S}"},
            {"Authorization": "Basic " + base64.b64encode("ü:p:s3".encode()).decode()},
            {},
        ),
        ({"type": "basic", "username": "u", "password": "p"}, {"Authorization": "Basic dTpw"}, {}),
        ({"type": "bearer", "token": "${secret.S}"}, {"Authorization": "Bearer s3"}, {}),
        ({"type": "bearer", "token": "fix"}, {"Authorization": "Bearer fix"}, {}),
        ({"type": "api_key", "value": "${secret.S}"}, {"X-Api-Key": "s3"}, {}),
        ({"type": "api_key", "value": "${secret.S}", "name": "k", "location": "query"}, {}, {"k": "s3"}),
    ],
)
def test_auth(auth: dict[str, object], headers: dict[str, str], query: dict[str, str]) -> None:
    """Credentials go into their header or parameter."""
    made = _values(GET | {"auth": auth})

    assert (made["headers"], made["query_params"]) == (headers, query)


def test_oauth2_is_handed_on() -> None:
    """Client credentials are resolved, and the token URL is encoded as a URL."""
    auth = {
        "type": "oauth2",
        "token_url": "https://a/${env.E} x/t",
        "client_id": "id",
        "client_secret": "${secret.S}",
        "scope": "a ${env.E}",
    }

    oauth2 = _values(GET | {"auth": auth, "timeout_ms": 500})["oauth2"]

    assert oauth2.model_dump() == {  # type: ignore[attr-defined]  # a ModelResolvedOAuth2
        "timeout_ms": 500,
        "token_url": "https://a/env%20x/t",
        "client_id": "id",
        "client_secret": "s3",
        "scope": "a env",
    }


def test_an_automatic_idempotency_key_is_the_same_on_all_attempts() -> None:
    """It follows from operation id and operation name, and so differs between operations and between calls."""
    config = POST | {"body_template": "", "idempotency_key": "auto"}

    def key(name: str, meta: Mapping[str, object]) -> str:
        headers = _plan(config, name).resolve(Scope({}, meta=meta))[0].__dict__["headers"]
        assert list(headers) == ["Idempotency-Key"]
        return str(UUID(headers["Idempotency-Key"]))

    first, second = {"operation_id": uuid4()}, {"operation_id": uuid4()}
    assert key("a", first) == key("a", first)
    assert len({key("a", first), key("b", first), key("a", second), key("a", {}), key("a", {})}) == 5


def test_an_idempotency_key_of_ones_own() -> None:
    """Header and value may be given."""
    made = _values(POST | {"body_template": "", "idempotency_key": {"header": "X-Key", "value": "k-${input.a}"}}, a=1)

    assert made["headers"] == {"X-Key": "k-1"}


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"url_template": "http://h/${input.a"}, "E-TEMPLATE", ("url_template",)),
        ({"url_template": "/x"}, "E-URL", ("url_template",)),
        ({"headers": {"A": "${nope.x}"}}, "E-TEMPLATE", ("headers", "A")),
        ({"headers": {"A": "line\n"}}, "E-HEADER-VALUE", ("headers", "A")),
        ({"headers": {"A": "ü${input.a}"}}, "E-HEADER-VALUE", ("headers", "A")),
        ({"headers": {"A": "1", "a": "2"}}, "E-HEADER-TWICE", ("headers", "a")),
        ({"query_params": {"${input.a}": 1}}, "E-LITERAL", ("query_params", "${input.a}")),
        ({"query_params": {"q": ["${x}"]}}, "E-TEMPLATE", ("query_params", "q", 0)),
        ({"body_template": "${"}, "E-TEMPLATE", ("body_template",)),
        ({"body_template": '{"${input.a}": 1}'}, "E-JSON-KEY", ("body_template",)),
        ({"body_template": '{"a": "\\${input.a}"'}, "E-JSON-ESCAPE", ("body_template",)),
        ({"body_template": '{"a": ${input.a}'}, "W-JSON", ("body_template",)),
        ({"body_template": "{", "headers": {"Content-Type": "application/json"}}, "E-JSON", ("body_template",)),
        ({"body_template": "${", "headers": {"Content-Type": "application/json"}}, "E-TEMPLATE", ("body_template",)),
        ({"body_json": {"a": ["${"]}}, "E-TEMPLATE", ("body_json", "a", 0)),
        ({"body_json": {"${input.a}": 1}}, "E-JSON-KEY", ("body_json",)),
        ({"body_json": [float("nan")]}, "E-JSON", ("body_json",)),
        ({"body_form": {"${input.a}": 1}}, "E-LITERAL", ("body_form", "${input.a}")),
        ({"body_form": {"a": ["x", "${"]}}, "E-TEMPLATE", ("body_form", "a", 1)),
        ({"body_file": "${"}, "E-TEMPLATE", ("body_file",)),
        ({"auth": {"type": "bearer", "token": "a\n"}}, "E-HEADER-VALUE", ("auth", "token")),
        ({"auth": {"type": "basic", "username": "a:b", "password": "p"}}, "E-AUTH-CREDENTIAL", ("auth", "username")),
        ({"auth": {"type": "basic", "username": "a\x01", "password": "p"}}, "E-AUTH-CREDENTIAL", ("auth", "username")),
        (
            {"auth": {"type": "basic", "username": "a", "password": "p\n${secret.S}"}},
            "E-AUTH-CREDENTIAL",
            ("auth", "password"),
        ),
        ({"auth": {"type": "api_key", "value": "v", "name": "a b"}}, "E-HEADER-NAME", ("auth", "name")),
        (
            {"auth": {"type": "api_key", "value": "v", "name": "${input.a}", "location": "query"}},
            "E-LITERAL",
            ("auth", "${input.a}"),
        ),
        ({"auth": {"type": "bearer", "token": "a"}, "headers": {"authorization": "b"}}, "E-AUTH-TWICE", ("auth",)),
        (
            {"auth": {"type": "api_key", "value": "v", "name": "q", "location": "query"}, "query_params": {"q": 1}},
            "E-AUTH-TWICE",
            ("auth",),
        ),
        (
            {"auth": {"type": "oauth2", "token_url": "https://a/${input.x}", "client_id": "i", "client_secret": "s"}},
            "E-HOST-FROM-DATA",
            ("auth", "token_url"),
        ),
        (
            {"auth": {"type": "oauth2", "token_url": "a", "client_id": "i", "client_secret": "s"}},
            "E-URL",
            ("auth", "token_url"),
        ),
        ({"idempotency_key": {"header": "a b"}}, "E-HEADER-NAME", ("idempotency_key", "header")),
        ({"idempotency_key": {"header": "A"}, "headers": {"a": "1"}}, "E-HEADER-TWICE", ("idempotency_key",)),
        ({"idempotency_key": {"value": "\n"}}, "E-HEADER-VALUE", ("idempotency_key", "value")),
    ],
)
def test_http_problems(fields: dict[str, object], code: str, path: tuple[str | int, ...]) -> None:
    """Every problem is found at load, once, with its place."""
    assert _codes(
        POST | ({} if any(name.startswith("body") for name in fields) else {"body_template": ""}) | fields
    ) == [(code, path)]


def test_all_problems_of_a_config_are_found_in_one_go() -> None:
    """A broken field does not hide the next one."""
    assert len(_codes(POST | {"url_template": "x", "headers": {"A": "\n", "a": "${"}, "body_template": "${}"})) == 5


@pytest.mark.parametrize(
    "auth", [{"username": "${input.a}", "password": "p"}, {"username": "u", "password": "${input.a}"}]
)
@pytest.mark.parametrize("value", ["a\nb", "a\x7f", "\0"])
def test_basic_credentials_hold_no_control_characters(auth: dict[str, str], value: str) -> None:
    """RFC 7617 allows none."""
    with pytest.raises(ModelOnexError, match="no control characters"):
        _values(GET | {"auth": {"type": "basic"} | auth}, a=value)


def test_a_user_name_cannot_reach_into_the_password() -> None:
    """The pair is split at its first colon, so a user name holds none."""
    with pytest.raises(ModelOnexError, match="holds no ':'"):
        _values(GET | {"auth": {"type": "basic", "username": "${input.a}", "password": "p"}}, a="admin:x")


# db


@pytest.mark.parametrize(
    ("params", "made"),
    [
        ([], []),
        (["a", 1, None, True], ["a", 1, None, True]),
        (["$${x}", ["$${y}", {"$${z}": "$${w}"}]], ["${x}", ["${y}", {"$${z}": "${w}"}]]),
        (["${input.a}", "x"], [5, "x"]),
        (["${input.t}"], [{"k": [1, None]}]),
        ([["${input.a}", 1], {"k": "${input.a}"}, "n${input.a}"], [[5, 1], {"k": 5}, "n5"]),
        ([""], [""]),
    ],
)
def test_sql_params_keep_their_types(params: list[object], made: list[object]) -> None:
    """A parameter that is one placeholder keeps the value's type, at any depth."""
    query = "SELECT " + ", ".join(f"${number + 1}" for number in range(len(params))) if params else "SELECT 1"

    resolved = _values(SQL | {"query_template": query, "query_params": params}, a=5, t={"k": [1, None]})

    assert resolved["params"] == made
    assert resolved["query"] == query


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], [float("nan")], object(), b"\xff"], ids=range(5))
def test_a_param_without_a_json_form_is_refused(value: object) -> None:
    """What no driver could bind is refused before it gets there."""
    with pytest.raises(ModelOnexError):
        _values(SQL | {"query_template": "SELECT $1", "query_params": ["${input.a}"]}, a=value)


def test_db_problems() -> None:
    """Connection and keys are literal."""
    assert _codes(SQL | {"connection_name": "${env.C}"}) == [("E-LITERAL", ("connection_name",))]
    assert _codes(SQL | {"query_template": "SELECT $1", "query_params": [{"${input.k}": 1}]}) == [
        ("E-LITERAL", ("query_params", 0, "${input.k}"))
    ]


# kafka


@pytest.mark.parametrize(
    ("fields", "data", "payload"),
    [
        ({"payload_template": "${input.a}"}, "as is", "as is"),
        ({"payload_template": "${input.a}"}, {"k": 1}, '{"k": 1}'),
        ({"payload_template": '{"a": "${input.a}"}'}, 'say "x"', '{"a": "say \\"x\\""}'),
        ({"payload_template": "[${input.a}]"}, [1], "[[1]]"),
        ({"payload_template": "n=${input.a}"}, 5, "n=5"),
        ({"payload_template": '"${input.a}"', "headers": {"content-type": "application/json"}}, '"', '"\\""'),
        ({"payload_template": "{${input.a}}", "headers": {"Content-Type": "text/plain"}}, "x", "{x}"),
    ],
)
def test_payloads(fields: dict[str, object], data: object, payload: str) -> None:
    """A payload is JSON by its header or its looks, else text."""
    assert _values(MESSAGE | fields, a=data)["payload"] == payload


@pytest.mark.parametrize(
    ("template", "data", "key"),
    [("${input.a}", None, None), ("${input.a}", 5, "5"), ("k${input.a}", None, "knull"), ("k", 0, "k")],
)
def test_partition_keys(template: str, data: object, key: str | None) -> None:
    """A key that is one placeholder and null is no key, not the word null for all of them."""
    assert _values(MESSAGE | {"partition_key_template": template}, a=data)["partition_key"] == key


def test_kafka_problems() -> None:
    """A payload that says it is JSON must be; one that only looks so is a warning."""
    assert _codes(MESSAGE | {"payload_template": "{", "headers": {"content-type": "application/json"}}) == [
        ("E-JSON", ("payload_template",))
    ]
    assert _codes(MESSAGE | {"payload_template": "{"}) == [("W-JSON", ("payload_template",))]
    assert _codes(MESSAGE | {"payload_template": "{${"}) == [("E-TEMPLATE", ("payload_template",))]
    assert _codes(MESSAGE | {"connection_name": "${env.C}"}) == [("E-LITERAL", ("connection_name",))]


# filesystem


@pytest.mark.parametrize(
    ("path", "content", "data", "made"),
    [
        ("a.txt", "x ${input.a}", 5, "x 5"),
        ("a.txt", "", 5, ""),
        ("a.txt", '["${input.a}"]', '"', '["""]'),
        ("a.json", '["${input.a}"]', '"', '["\\""]'),
        ("${input.n}", '["${input.a}"]', '"', '["\\""]'),
        ("${input.n}", "[section]\nx=${input.a}", '"', '[section]\nx="'),
        ("${input.n}", "x=${input.a}", '"', 'x="'),
        ("a.json", "${input.a}", {"k": 1}, '{"k": 1}'),
        ("a.txt", "${input.a}", "as is", "as is"),
    ],
)
def test_contents(path: str, content: str, data: object, made: str) -> None:
    """A file that is named or looks like JSON stays JSON, all else is text."""
    assert (
        _values(WRITE | {"file_path_template": path, "content_template": content}, a=data, n="n.json")["content"]
        == made
    )


def test_a_write_without_a_template_needs_input_content() -> None:
    """The content is `input.content`, and its absence is an error that says so and names what is there."""
    config = {key: value for key, value in WRITE.items() if key != "content_template"}

    assert _values(config, content={"a": 1})["content"] == '{"a": 1}'
    assert [hole.text for _, hole in _plan(config).holes] == ["${input.content}"]
    with pytest.raises(ModelOnexError, match=r"writes 'content' of input, which is missing; keys there: other"):
        _values(config, other=1)


def test_moves_have_a_destination() -> None:
    """Both paths are filled in; a read has no content."""
    move = {
        "handler_type": "filesystem",
        "file_path_template": "a/${input.a}",
        "operation": "move",
        "destination_path_template": "b/${input.a}",
    }

    made = _values(move, a="x")

    assert (made["file_path"], made["destination_path"], made["content"], made["atomic"]) == ("a/x", "b/x", None, True)


def test_a_broken_json_file_is_a_warning() -> None:
    """A `.json` whose template does not parse is a warning, and still escaped inside quotes."""
    config = WRITE | {"file_path_template": "a.json", "content_template": '{"a": "${input.a}",}'}

    assert _codes(config) == [("W-JSON", ("content_template",))]
    plan, _ = _compile(config)
    assert plan.resolve(Scope({"a": '"'}))[0].__dict__["content"] == '{"a": "\\"",}'
