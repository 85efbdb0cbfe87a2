"""IO configs compiled to resolvers: constants in a ready dict, one closure per field that has placeholders.

`compile_io` is called once, at load. What it returns is called on every attempt and builds a resolved context.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Final, cast
from urllib.parse import quote_plus
from uuid import UUID, uuid4, uuid5

from pydantic import JsonValue

from omnibase_core.grammar.template_text import NO_DEFAULT, Hole, Template, TemplateError, parse_template
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    HEADER_NAME,
    EffectIOConfig,
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpApiKeyAuth,
    ModelHttpBasicAuth,
    ModelHttpBearerAuth,
    ModelHttpIOConfig,
    ModelHttpOAuth2Auth,
    ModelKafkaIOConfig,
)
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedContext,
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
    ModelResolvedHttpContext,
    ModelResolvedKafkaContext,
    ModelResolvedOAuth2,
)
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.json_templates import json_text, json_tree, nearly_json_text
from omnibase_core.utils.templates import (
    Part,
    Renderer,
    Scope,
    body_and_kind,
    check_unicode,
    compile_getter,
    header_value,
    is_header_text,
    join,
    json_like,
    json_value,
    key_names,
    path_of,
    refuse,
    render_hole,
    scalar_text,
    single_body,
    text_of,
)
from omnibase_core.utils.url_template import UrlPlan, compile_url

MAX_PLACEHOLDERS: Final = 1_000
"""Placeholders of one text."""
MAX_URL_LENGTH: Final = 8_192
"""Characters of a URL template (RFC 9110, 4.1, asks everybody to support 8000 octets)."""

Value = Callable[[Scope], object]
Resolver = Callable[[Scope], tuple[ModelResolvedContext, str]]
"""Scope -> (resolved context, target whose retry budget an attempt draws on)."""


@dataclass(slots=True)
class IoPlan:
    """A compiled IO config.

    holes: every placeholder with the key path of the text that holds it. target: None when known only at run time.
    secret_names: what must be fetched before resolving.
    """

    resolve: Resolver
    target: str | None
    holes: list[tuple[KeyPath, Hole]]
    secret_names: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Compiler:
    """Collects the placeholders and the problems of one IO config while its fields are compiled."""

    report: Callable[[Breach], None]
    operation_name: str
    holes: list[tuple[KeyPath, Hole]] = field(default_factory=list)

    def parse(self, text: str, *path: str | int) -> Template:
        """The parsed template; after a problem an empty one, so that the other fields are judged as well."""
        if len(text) > 2 * MAX_PLACEHOLDERS and text.count("${") > MAX_PLACEHOLDERS:
            self.report(
                Breach(
                    "E-LIMIT",
                    f"{path[-1]} has more than {MAX_PLACEHOLDERS} placeholders",
                    path,
                    found=str(text.count("${")),
                    allowed=f"at most {MAX_PLACEHOLDERS}",
                    fix="pass the data as one value: ${input.<name>}",
                )
            )
            return ()
        try:
            template = parse_template(text)
        except TemplateError as error:
            self.problem(error, *path)
            return ()
        for part in template:
            if type(part) is Hole:
                self.holes.append((path, part))
        return template

    def problem(self, error: TemplateError, *path: str | int) -> None:
        for problem in error.problems:
            self.report(Breach(problem.code, problem.message, (*path, Offset(problem.offset)), fix=problem.fix))

    def literal(self, text: str, *path: str | int) -> str:
        """A text that takes no placeholder."""
        if "${" in text.replace("$${", ""):
            name = path[-1]
            self.report(
                Breach(
                    "E-LITERAL",
                    f"{name} is literal: found a placeholder",
                    path,
                    found=repr(text),
                    fix="write the value",
                )
            )
        return text

    def text(self, text: str, encode: Callable[[object, Hole], str], *path: str | int) -> Part:
        return text_of(self.parse(text, *path), encode)

    def header(self, text: str, *path: str | int) -> Part:
        """A header value; what the contract itself writes is held to the same letters as what is put in."""
        template = self.parse(text, *path)
        for part in template:
            if isinstance(part, str) and not is_header_text(part):
                self.report(
                    Breach(
                        "E-HEADER-VALUE",
                        "a header value holds visible ASCII, space and tab only",
                        path,
                        found=repr(part),
                        fix="write it on one line (a YAML block '|' ends with a line break)",
                    )
                )
        return text_of(template, header_value)

    def headers(self, texts: Mapping[str, str]) -> dict[str, Part]:
        """Header values by name; names differ in more than case."""
        seen: set[str] = set()
        for name in texts:
            if name.lower() in seen:
                self.report(
                    Breach("E-HEADER-TWICE", f"{name} is given twice", ("headers", name), fix="keep one of them")
                )
            seen.add(name.lower())
        return {name: self.header(text, "headers", name) for name, text in texts.items()}

    def names(self, texts: Mapping[str, object], field_name: str) -> None:
        """Names are the contract's own; only values take placeholders."""
        for name in texts:
            self.literal(name, field_name, name)


def compile_io(
    config: EffectIOConfig,
    report: Callable[[Breach], None],
    operation_name: str = "",
    holes: list[tuple[KeyPath, Hole]] | None = None,
) -> IoPlan:
    """Compile an IO config; every problem is reported, and the plan is usable only when there was none.

    holes: where the placeholders are collected; it keeps those found until an exception.
    """
    compiler = _Compiler(report, operation_name, [] if holes is None else holes)
    if isinstance(config, ModelHttpIOConfig):
        resolve, target = _http(config, compiler)
    elif isinstance(config, ModelDbIOConfig):
        resolve, target = _db(config, compiler)
    elif isinstance(config, ModelKafkaIOConfig):
        resolve, target = _kafka(config, compiler)
    else:
        resolve, target = _filesystem(config, compiler)
    secrets = frozenset(hole.path[0] for _, hole in compiler.holes if hole.source == "secret")
    return IoPlan(resolve, target, compiler.holes, secrets)


def _dynamic(parts: Mapping[str, Part]) -> tuple[dict[str, str], tuple[tuple[str, Renderer], ...]]:
    """Constants and closures of a map of texts, apart."""
    constants = {name: part for name, part in parts.items() if isinstance(part, str)}
    return constants, tuple((name, part) for name, part in parts.items() if not isinstance(part, str))


def _mapping_value(parts: Mapping[str, Part]) -> tuple[dict[str, str], Value | None]:
    constants, dynamic = _dynamic(parts)
    if not dynamic:
        return constants, None
    in_order = {name: constants.get(name, "") for name in parts}

    def render(scope: Scope) -> dict[str, str]:
        values = in_order.copy()
        for name, part in dynamic:
            values[name] = part(scope)
        return values

    return constants, render


def _builder(
    cls: type[ModelResolvedContext], constants: dict[str, object], dynamic: dict[str, Value], target: str
) -> Resolver:
    """The resolver of a context whose fields are independent of each other."""
    ready = _ready(cls, constants)
    fields_set = set(constants) | set(dynamic)
    changing = tuple((_own_copies(ready, dynamic) | dynamic).items())

    def resolve(scope: Scope) -> tuple[ModelResolvedContext, str]:
        values = ready.copy()
        for name, value in changing:
            values[name] = value(scope)
        return trusted(cls, values, fields_set), target

    return resolve


def _ready(cls: type[ModelResolvedContext], constants: Mapping[str, object]) -> dict[str, object]:
    """All fields of a context in the order of their declaration, defaults where nothing is given."""
    ready = {**_defaults(cls), **constants}
    for name, value in ready.items():
        if name not in constants and type(value) in {list, dict}:
            ready[name] = copy(value)
    return ready


@cache
def _defaults(cls: type[ModelResolvedContext]) -> dict[str, object]:
    """All fields of a context in the order of their declaration; None where a value is required."""
    fields = cls.model_fields.items()
    return {
        name: None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
        for name, info in fields
    }


def _own_copies(ready: Mapping[str, object], dynamic: Mapping[str, Value]) -> dict[str, Value]:
    """Constant lists and maps are copied for each context: a handler that changes its own changes no other."""
    return {
        name: _copier(value) for name, value in ready.items() if name not in dynamic and isinstance(value, list | dict)
    }


def _copier(value: list[object] | dict[object, object]) -> Value:
    return lambda _scope: value.copy()


def _split(parts: Mapping[str, Part | Value | None]) -> tuple[dict[str, object], dict[str, Value]]:
    constants: dict[str, object] = {}
    dynamic: dict[str, Value] = {}
    for name, part in parts.items():
        if part is None or isinstance(part, str):
            constants[name] = part
        else:
            dynamic[name] = part
    return constants, dynamic


# --- http ----------------------------------------------------------------------------------------------------------


def _http(config: ModelHttpIOConfig, compiler: _Compiler) -> tuple[Resolver, str | None]:
    headers = compiler.headers(config.headers)
    compiler.names(config.query_params, "query_params")
    query = {name: _query_value(value, compiler, "query_params", name) for name, value in config.query_params.items()}
    start = len(compiler.holes)
    body, content_type = _http_body(config, compiler)
    body_is_secret = any(hole.source == "secret" for _, hole in compiler.holes[start:])
    oauth2 = _http_auth(config, compiler, headers, query)
    _http_idempotency_key(config, compiler, headers)
    given = {name.lower() for name in config.headers}
    if isinstance(content_type, str) and "content-type" not in given:
        headers["Content-Type"] = content_type
    url = _compile_url(config.url_template, config.allowed_hosts, compiler, "url_template")
    constants: dict[str, object] = {
        "timeout_ms": config.timeout_ms,
        "method": config.method,
        "connect_timeout_ms": config.connect_timeout_ms,
        "follow_redirects": config.follow_redirects,
        "verify_ssl": config.verify_ssl,
        "allowed_hosts": tuple(config.allowed_hosts),
        "host_from_data": url.host_from_data,
        "body_is_secret": body_is_secret,
        "response_format": config.response_format,
        "max_response_bytes": config.max_response_bytes,
    }
    dynamic: dict[str, Value] = {}
    constants["headers"], render_headers = _mapping_value(headers)
    if render_headers is not None:
        dynamic["headers"] = render_headers
    if any(callable(value) for value in query.values()):
        dynamic["query_params"] = _query_renderer(query)
    else:
        constants["query_params"] = query
    if config.body_file is not None:
        path = path_of(compiler.parse(config.body_file, "body_file"))
        if isinstance(path, str):
            constants["body_file"] = path
        else:
            dynamic["body_file"] = path
    elif isinstance(body, str) or body is None:
        constants["body"] = body
    else:
        dynamic["body"] = body
    if oauth2 is not None:
        dynamic["oauth2"] = oauth2
    json_when_no_text = content_type is _BY_VALUE and "content-type" not in given
    return _http_resolver(constants, dynamic, url, json_when_no_text=json_when_no_text), url.origin


def _http_resolver(
    constants: dict[str, object], dynamic: dict[str, Value], url: UrlPlan, *, json_when_no_text: bool
) -> Resolver:
    ready = _ready(ModelResolvedHttpContext, {"url": "", **constants})
    fields_set = {"url", *constants, *dynamic}
    changing = tuple((_own_copies(ready, dynamic) | dynamic).items())
    render_url = url.render

    def resolve(scope: Scope) -> tuple[ModelResolvedContext, str]:
        values = ready.copy()
        for name, value in changing:
            values[name] = value(scope)
        values["url"], target = render_url(scope)
        if json_when_no_text:
            body, is_text = cast("tuple[str, bool]", values["body"])  # a single placeholder renders a pair
            values["body"] = body
            if not is_text:
                headers = cast("dict[str, str]", values["headers"])  # headers are a dict
                values["headers"] = {**headers, "Content-Type": "application/json"}
        return trusted(ModelResolvedHttpContext, values, fields_set), target

    return resolve


def _compile_url(text: str, allowed_hosts: Sequence[str], compiler: _Compiler, *path: str | int) -> UrlPlan:
    if len(text) > MAX_URL_LENGTH:
        compiler.report(
            Breach(
                "E-URL",
                f"the URL is longer than {MAX_URL_LENGTH} characters",
                path,
                found=f"{len(text)} characters",
                allowed=f"at most {MAX_URL_LENGTH} characters",
                fix="send the data in the body",
            )
        )
        return UrlPlan(lambda _scope: ("", ""), None, host_from_data=False)
    template = compiler.parse(text, *path)
    try:
        return compile_url(template or ("http://problem.invalid",), allowed_hosts if template else ())
    except TemplateError as error:
        compiler.problem(error, *path)
        return UrlPlan(lambda _scope: ("", ""), None, host_from_data=False)


def _query_value(value: object, compiler: _Compiler, *path: str | int) -> str | list[str] | Value:
    if isinstance(value, list):
        parts = [
            compiler.text(item, scalar_text, *path, index) if isinstance(item, str) else scalar_text(item, _CONSTANT)
            for index, item in enumerate(value)
        ]
        constants = [part for part in parts if isinstance(part, str)]
        if len(constants) == len(parts):
            return constants
        return lambda scope: [part if isinstance(part, str) else part(scope) for part in parts]
    if not isinstance(value, str):
        return scalar_text(value, _CONSTANT)
    template = compiler.parse(value, *path)
    if len(template) == 1 and isinstance(template[0], Hole):
        return _query_hole(template[0])
    return text_of(template, scalar_text)


def _query_hole(hole: Hole) -> Value:
    get = compile_getter(hole)

    def render(scope: Scope) -> str | list[str]:
        value = get(scope)
        if isinstance(value, list | tuple):
            return [scalar_text(item, hole) for item in value]
        return scalar_text(value, hole)

    return render


_CONSTANT: Final = Hole("input", (), None, "constant", 0)


def _query_renderer(query: Mapping[str, str | list[str] | Value]) -> Value:
    items = tuple(query.items())

    def render(scope: Scope) -> dict[str, object]:
        return {name: value(scope) if callable(value) else value for name, value in items}

    return render


class _ByValue:
    """Content type of a body that is one placeholder: JSON unless the value is a text."""


_BY_VALUE: Final = _ByValue()


def _http_body(config: ModelHttpIOConfig, compiler: _Compiler) -> tuple[Part | Value | None, str | _ByValue | None]:
    if config.body_template is not None:
        return _template_body(config, config.body_template, compiler)
    if config.body_form is not None:
        return _form_body(config.body_form, compiler), "application/x-www-form-urlencoded"
    if "body_json" in config.model_fields_set:
        return _tree_body(config.body_json, compiler, "body_json"), "application/json"
    return None, None


def _template_body(
    config: ModelHttpIOConfig, text: str, compiler: _Compiler
) -> tuple[Part | Value | None, str | _ByValue | None]:
    if text == "":
        return None, None
    template = compiler.parse(text, "body_template")
    if not template:
        return None, None  # a problem, which has been reported
    if len(template) == 1 and isinstance(template[0], Hole):
        if any(name.lower() == "content-type" for name in config.headers):
            return render_hole(template[0], single_body), None
        return _single_body_pair(template[0]), _BY_VALUE
    is_json, declared = _judge_text(text, config.headers)
    if not is_json:
        return text_of(template, scalar_text), None
    return _json_or_nearly(template, compiler, "body_template", must_parse=declared), "application/json"


def _judge_text(text: str, headers: Mapping[str, str]) -> tuple[bool, bool]:
    """(whether a text is JSON, whether its Content-Type says so). One that is known only at run time says nothing."""
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    if content_type is None or "${" in content_type:
        return text.lstrip()[:1] in {"{", "["}, False
    declared = _is_json(content_type)
    return declared, declared


def _json_or_nearly(template: Template, compiler: _Compiler, name: str, *, must_parse: bool) -> Part:
    try:
        return json_text(template)
    except TemplateError as error:
        if must_parse or any(problem.code != "E-JSON" for problem in error.problems):
            compiler.problem(error, name)
            return ""
        for problem in error.problems:
            compiler.report(Breach("W-JSON", problem.message, (name,), fix=problem.fix, severity="warning"))
    return nearly_json_text(template)


def _is_json(content_type: str) -> bool:
    kind = content_type.split(";", 1)[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _single_body_pair(hole: Hole) -> Value:
    get = compile_getter(hole)

    def render(scope: Scope) -> tuple[str, bool]:
        return body_and_kind(get(scope), hole)

    return render


def _tree_body(tree: JsonValue, compiler: _Compiler, name: str) -> Part:
    for path, leaf in _leaves(tree, (name,)):
        compiler.parse(leaf, *path)
    part, problems = json_tree(tree)
    for problem in problems:
        if problem.code != "E-TEMPLATE":  # those of the leaves have been reported with their own place
            compiler.report(Breach(problem.code, problem.message, (name,), fix=problem.fix))
    return part


def _leaves(tree: JsonValue, path: KeyPath) -> list[tuple[KeyPath, str]]:
    if isinstance(tree, str):
        return [(path, tree)]
    if isinstance(tree, list):
        return [leaf for index, child in enumerate(tree) for leaf in _leaves(child, (*path, index))]
    if isinstance(tree, dict):
        return [leaf for key, child in tree.items() for leaf in _leaves(child, (*path, key))]
    return []


def _form_body(form: Mapping[str, object], compiler: _Compiler) -> Part:
    compiler.names(form, "body_form")
    pieces: list[Part] = []
    for name, value in form.items():
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            path = ("body_form", name, index) if isinstance(value, list) else ("body_form", name)
            if isinstance(item, str):
                text = _form_value(compiler.parse(item, *path))
            else:
                text = quote_plus(scalar_text(item, _CONSTANT))
            pieces += ["&" if pieces else "", quote_plus(name) + "=", text]
    return join(pieces)


def _form_value(template: Template) -> Part:
    return join(
        [quote_plus(part) if isinstance(part, str) else render_hole(part, _form_component) for part in template]
    )


def _form_component(value: object, hole: Hole) -> str:
    return quote_plus(scalar_text(value, hole))


def _http_auth(
    config: ModelHttpIOConfig, compiler: _Compiler, headers: dict[str, Part], query: dict[str, str | list[str] | Value]
) -> Value | None:
    auth = config.auth
    if auth is None:
        return None
    name = auth.name if isinstance(auth, ModelHttpApiKeyAuth) else "Authorization"
    taken = query if isinstance(auth, ModelHttpApiKeyAuth) and auth.location == "query" else headers
    if any(name.lower() == other.lower() for other in taken):
        compiler.report(
            Breach("E-AUTH-TWICE", f"{name} is given by auth and by hand", ("auth",), fix="keep one of them")
        )
    if isinstance(auth, ModelHttpBasicAuth):
        headers[name] = _basic(auth, compiler)
    elif isinstance(auth, ModelHttpBearerAuth):
        headers[name] = join(["Bearer ", compiler.header(auth.token, "auth", "token")])
    elif isinstance(auth, ModelHttpApiKeyAuth):
        if auth.location == "query":
            compiler.names({name: None}, "auth")
            query[name] = compiler.text(auth.value, scalar_text, "auth", "value")
        else:
            _check_header_name(name, compiler, "auth", "name")
            headers[name] = compiler.header(auth.value, "auth", "value")
    else:
        return _oauth2(auth, config.timeout_ms, compiler)
    return None


def _basic(auth: ModelHttpBasicAuth, compiler: _Compiler) -> Part:
    from base64 import b64encode

    username = compiler.text(auth.username, _user_name, "auth", "username")
    password = compiler.text(auth.password, _credential, "auth", "password")
    if ":" in "".join(part for part in compiler.parse(auth.username) if isinstance(part, str)):
        compiler.report(Breach("E-AUTH-USERNAME", "a user name of HTTP Basic holds no ':'", ("auth", "username")))
    pair = join([username, ":", password])

    def encode(text: str) -> str:
        return "Basic " + b64encode(text.encode()).decode()

    if isinstance(pair, str):
        return encode(pair)
    render = pair
    return lambda scope: encode(render(scope))


def _credential(value: object, hole: Hole) -> str:
    """Part of an HTTP Basic pair: no control characters (RFC 7617, 2)."""
    text = scalar_text(value, hole)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise refuse(hole, "HTTP Basic takes no control characters")
    return text


def _user_name(value: object, hole: Hole) -> str:
    """The user name, which ends at the first ':' of the pair."""
    text = _credential(value, hole)
    if ":" in text:
        raise refuse(hole, "a user name of HTTP Basic holds no ':'")
    return text


def _check_header_name(name: str, compiler: _Compiler, *path: str | int) -> None:
    if not HEADER_NAME.fullmatch(name):
        compiler.report(Breach("E-HEADER-NAME", f"header name {name!r} is not a token", path, found=repr(name)))


def _oauth2(auth: ModelHttpOAuth2Auth, timeout_ms: int, compiler: _Compiler) -> Value:
    parts: dict[str, Part | None] = {
        "token_url": _token_url(auth.token_url, compiler),
        "client_id": compiler.text(auth.client_id, scalar_text, "auth", "client_id"),
        "client_secret": compiler.text(auth.client_secret, scalar_text, "auth", "client_secret"),
        "scope": None if auth.scope is None else compiler.text(auth.scope, scalar_text, "auth", "scope"),
    }
    for path, hole in compiler.holes:
        if path == ("auth", "token_url") and hole.source not in {"env", "secret"}:
            compiler.report(
                Breach(
                    "E-HOST-FROM-DATA", f"token_url takes env and secret only, found {hole.text}", ("auth", "token_url")
                )
            )
    constants, dynamic = _split(parts)
    resolve = _builder(ModelResolvedOAuth2, {**constants, "timeout_ms": timeout_ms}, dynamic, "")
    return lambda scope: resolve(scope)[0]


def _token_url(text: str, compiler: _Compiler) -> Part:
    url = _compile_url(text, [], compiler, "auth", "token_url")
    return lambda scope: url.render(scope)[0]


def _http_idempotency_key(config: ModelHttpIOConfig, compiler: _Compiler, headers: dict[str, Part]) -> None:
    key = config.idempotency_key
    if key is None:
        return
    if any(name.lower() == key.header.lower() for name in headers):
        compiler.report(
            Breach("E-HEADER-TWICE", f"{key.header} is given twice", ("idempotency_key",), fix="keep one of them")
        )
    _check_header_name(key.header, compiler, "idempotency_key", "header")
    if key.value == "auto":
        headers[key.header] = _auto_key(compiler.operation_name)
    else:
        headers[key.header] = compiler.header(key.value, "idempotency_key", "value")


def _auto_key(operation_name: str) -> Renderer:
    """The same on all attempts of an operation: UUIDv5 of the operation id and the operation's name.

    Without an operation id (a config resolved by itself) each resolution is a call of its own.
    """

    def render(scope: Scope) -> str:
        operation_id = scope.meta.get("operation_id")
        return str(uuid5(operation_id, operation_name) if isinstance(operation_id, UUID) else uuid4())

    return render


# --- db, kafka, filesystem -----------------------------------------------------------------------------------------


def _db(config: ModelDbIOConfig, compiler: _Compiler) -> tuple[Resolver, str]:
    compiler.literal(config.connection_name, "connection_name")
    target = f"db:{config.connection_name}"
    constants: dict[str, object] = {
        "timeout_ms": config.timeout_ms,
        "connection_name": config.connection_name,
        "operation": config.operation,
        "query": config.query_template,
        "fetch_size": config.fetch_size,
        "read_only": config.read_only,
        "params": [],
    }
    if not config.query_params:
        return _builder(ModelResolvedDbContext, constants, {}, target), target
    getters = [_tree_value(value, compiler, ("query_params", index)) for index, value in enumerate(config.query_params)]
    if not any(callable(getter) for getter in getters):
        return _builder(ModelResolvedDbContext, {**constants, "params": getters}, {}, target), target
    fixed = tuple(getter if callable(getter) else _constant(getter) for getter in getters)
    return _builder(
        ModelResolvedDbContext, constants, {"params": lambda scope: [get(scope) for get in fixed]}, target
    ), target


def _constant(value: object) -> Value:
    return lambda _scope: value


def _tree_value(tree: JsonValue, compiler: _Compiler, path: KeyPath) -> JsonValue | Value:
    """A typed value: a constant, or a closure that keeps the types of what is put in."""
    if isinstance(tree, str):
        template = compiler.parse(tree, *path)
        if len(template) == 1 and isinstance(template[0], Hole):
            return _typed_hole(template[0])
        return text_of(template, scalar_text)
    if isinstance(tree, list):
        parts = [_tree_value(child, compiler, (*path, index)) for index, child in enumerate(tree)]
        if any(callable(part) for part in parts):
            return lambda scope: [part(scope) if callable(part) else part for part in parts]
        return cast("JsonValue", parts)  # none is a closure
    if isinstance(tree, dict):
        compiler.names(tree, str(path[0]))
        pairs = {key: _tree_value(child, compiler, (*path, key)) for key, child in tree.items()}
        if any(callable(part) for part in pairs.values()):
            return lambda scope: {key: part(scope) if callable(part) else part for key, part in pairs.items()}
        return cast("JsonValue", pairs)  # none is a closure
    return tree


_JSON_SCALARS = (str, int, float, bool, type(None))


def _typed_hole(hole: Hole) -> Value:
    get = compile_getter(hole)

    def typed(scope: Scope) -> object:
        value = get(scope)
        if type(value) is str:
            if not value.isascii():
                check_unicode(value, hole)
            return value
        if type(value) in _JSON_SCALARS:
            return value
        value = json_like(value, hole)
        if isinstance(value, str | list | dict):
            json_value(value, hole)  # what has no JSON text is refused here, not by the driver
        return value

    return typed


def _kafka(config: ModelKafkaIOConfig, compiler: _Compiler) -> tuple[Resolver, str]:
    compiler.literal(config.connection_name, "connection_name")
    target = f"kafka:{config.connection_name}"
    parts: dict[str, Part | Value | None] = {"payload": _payload(config, compiler), "partition_key": None}
    if config.partition_key_template is not None:
        parts["partition_key"] = _partition_key(compiler.parse(config.partition_key_template, "partition_key_template"))
    constants, dynamic = _split(parts)
    constants |= {
        "timeout_ms": config.timeout_ms,
        "topic": config.topic,
        "connection_name": config.connection_name,
        "acks": config.acks,
        "compression": config.compression,
    }
    constants["headers"], render_headers = _mapping_value(compiler.headers(config.headers))
    if render_headers is not None:
        dynamic["headers"] = render_headers
    return _builder(ModelResolvedKafkaContext, constants, dynamic, target), target


def _partition_key(template: Template) -> Part | Value:
    """A placeholder that stands alone and is null gives no key, rather than one key for all."""
    if len(template) != 1 or isinstance(template[0], str):
        return text_of(template, scalar_text)
    hole = template[0]
    get = compile_getter(hole)

    def render(scope: Scope) -> str | None:
        value = get(scope)
        return None if value is None else scalar_text(value, hole)

    return render


def _payload(config: ModelKafkaIOConfig, compiler: _Compiler) -> Part:
    template = compiler.parse(config.payload_template, "payload_template")
    if len(template) == 1 and isinstance(template[0], Hole):
        return render_hole(template[0], single_body)
    is_json, declared = _judge_text(config.payload_template, config.headers)
    if is_json and template:
        return _json_or_nearly(template, compiler, "payload_template", must_parse=declared)
    return text_of(template, scalar_text)


def _filesystem(config: ModelFilesystemIOConfig, compiler: _Compiler) -> tuple[Resolver, str]:
    parts: dict[str, Part | None] = {
        "file_path": path_of(compiler.parse(config.file_path_template, "file_path_template")),
        "destination_path": None,
        "content": None,
    }
    if config.destination_path_template is not None:
        parts["destination_path"] = path_of(
            compiler.parse(config.destination_path_template, "destination_path_template")
        )
    if config.operation == "write":
        if config.content_template is None:
            compiler.parse("${input.content}", "content_template")
            parts["content"] = _content
        else:
            parts["content"] = _content_text(config, config.content_template, compiler)
    constants, dynamic = _split(parts)
    constants |= {
        name: getattr(config, name)
        for name in ("timeout_ms", "operation", "atomic", "create_dirs", "encoding", "mode", "overwrite", "missing_ok")
    }
    return _builder(ModelResolvedFilesystemContext, constants, dynamic, "filesystem"), "filesystem"


def _content_text(config: ModelFilesystemIOConfig, text: str, compiler: _Compiler) -> Part:
    """A file's content; one named `.json` is JSON, so that no value can rewrite it."""
    template = compiler.parse(text, "content_template")
    if len(template) == 1 and isinstance(template[0], Hole):
        return render_hole(template[0], single_body)
    if template and config.file_path_template.lower().endswith(".json"):
        return _json_or_nearly(template, compiler, "content_template", must_parse=False)
    if config.file_path_template.endswith("}") and text.lstrip()[:1] in {"{", "["}:
        try:
            return json_text(template)  # the name is known only at run time, but the text is JSON
        except TemplateError:
            pass
    return text_of(template, scalar_text)


_INPUT_CONTENT: Final = Hole("input", ("content",), NO_DEFAULT, "${input.content}", 0)


def _content(scope: Scope) -> str:
    if "content" not in scope.input:
        raise refuse(
            _INPUT_CONTENT,
            "a write without content_template writes 'content' of input, which is missing; "
            f"keys there: {key_names(scope.input)}",
        )
    return single_body(scope.input["content"], _INPUT_CONTENT)
