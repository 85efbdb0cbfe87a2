"""HTTP configs compiled: URL, headers, query, body and credentials, each encoded for its place (section 2.4)."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, cast
from urllib.parse import quote_plus
from uuid import UUID, uuid4, uuid5

from pydantic import JsonValue

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import Hole, Template, TemplateError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    ModelHttpApiKeyAuth,
    ModelHttpBasicAuth,
    ModelHttpBearerAuth,
    ModelHttpIOConfig,
    ModelHttpOAuth2Auth,
)
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedHttpContext,
    ModelResolvedOAuth2,
)
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.io_compiler import (
    MAX_URL_LENGTH,
    Build,
    Compiler,
    Resolved,
    Resolver,
    builder,
    json_or_nearly,
    judge_text,
    list_value,
    mapping_value,
    prepare,
)
from omnibase_core.utils.json_templates import json_tree
from omnibase_core.utils.templates import (
    Encoder,
    Late,
    Made,
    Part,
    Piece,
    Renderer,
    Scope,
    Text,
    Value,
    body_and_kind,
    compile_getter,
    join,
    path_of,
    refuse,
    scalar_text,
    single_body,
    text_of,
)
from omnibase_core.utils.url_template import UrlPlan, compile_url


def compile_http(config: ModelHttpIOConfig, compiler: Compiler) -> tuple[Build, str | None]:
    """Judge an HTTP config; gives how its resolver is built, and the target unless only a run knows it."""
    headers: dict[str, str | Late] = {**compiler.headers(config.headers)}
    compiler.names(config.query_params, "query_params")
    query = {name: _query_value(value, compiler, "query_params", name) for name, value in config.query_params.items()}
    start = len(compiler.holes)
    body, content_type = _http_body(config, compiler)
    body_is_secret = any(hole.source == "secret" for _, hole in compiler.holes[start:])
    oauth2 = _http_auth(config, compiler, headers, query)
    _http_idempotency_key(config, compiler, headers)
    free = not any(name.lower() == "content-type" for name in config.headers)
    if isinstance(content_type, str) and free:
        headers["Content-Type"] = content_type
    url = _compile_url(config.url_template, config.allowed_hosts, compiler, "url_template")
    fields: dict[str, object] = {
        "url": "",
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
        "headers": mapping_value(headers),
        "query_params": mapping_value(query),
    }
    if config.body_file is None:
        fields["body"] = body
    else:
        fields["body_file"] = path_of(compiler.parse(config.body_file, "body_file"))
    if oauth2 is not None:
        fields["oauth2"] = oauth2
    json_when_no_text = content_type is _BY_VALUE and free
    return partial(_http_resolver, fields, url, json_when_no_text=json_when_no_text), url.origin


def _http_resolver(fields: Mapping[str, object], url: UrlPlan, *, json_when_no_text: bool) -> Resolver:
    ready, changing = prepare(ModelResolvedHttpContext, fields)
    fields_set = set(fields)
    render_url = url.emit()

    def resolve(scope: Scope) -> Resolved:
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


_NO_URL: Final = UrlPlan(lambda: lambda _scope: ("", ""), None, host_from_data=False)


def _compile_url(text: str, allowed_hosts: Sequence[str], compiler: Compiler, *path: str | int) -> UrlPlan:
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
        return _NO_URL
    template = compiler.parse(text, *path)
    try:
        return compile_url(template or ("http://problem.invalid",), allowed_hosts if template else ())
    except TemplateError as error:
        compiler.problem(error, *path)
        return _NO_URL


def _query_value(value: object, compiler: Compiler, *path: str | int) -> str | list[object] | Late:
    if isinstance(value, list):
        return list_value(
            [
                compiler.text(item, scalar_text, *path, index)
                if isinstance(item, str)
                else scalar_text(item, _CONSTANT)
                for index, item in enumerate(value)
            ]
        )
    if not isinstance(value, str):
        return scalar_text(value, _CONSTANT)
    template = compiler.parse(value, *path)
    if len(template) == 1 and isinstance(template[0], Hole):
        return Made(partial(_query_hole, template[0]))
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


class _ByValue:
    """Content type of a body that is one placeholder: JSON unless the value is a text."""


_BY_VALUE: Final = _ByValue()


def _http_body(config: ModelHttpIOConfig, compiler: Compiler) -> tuple[Part | Late | None, str | _ByValue | None]:
    if config.body_template is not None:
        return _template_body(config, config.body_template, compiler)
    if config.body_form is not None:
        return _form_body(config.body_form, compiler), "application/x-www-form-urlencoded"
    if "body_json" in config.model_fields_set:
        return _tree_body(config.body_json, compiler, "body_json"), "application/json"
    return None, None


def _template_body(
    config: ModelHttpIOConfig, text: str, compiler: Compiler
) -> tuple[Part | Late | None, str | _ByValue | None]:
    if text == "":
        return None, None
    template = compiler.parse(text, "body_template")
    if not template:
        return None, None  # a problem, which has been reported
    if len(template) == 1 and isinstance(template[0], Hole):
        if any(name.lower() == "content-type" for name in config.headers):
            return text_of(template, single_body), None
        return Made(partial(_single_body_pair, template[0])), _BY_VALUE
    is_json, declared = judge_text(text, config.headers)
    if not is_json:
        return text_of(template, scalar_text), None
    return json_or_nearly(template, compiler, "body_template", must_parse=declared), "application/json"


def _single_body_pair(hole: Hole) -> Value:
    get = compile_getter(hole)

    def render(scope: Scope) -> tuple[str, bool]:
        return body_and_kind(get(scope), hole)

    return render


def _tree_body(tree: JsonValue, compiler: Compiler, name: str) -> Part:
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


def _form_body(form: Mapping[str, object], compiler: Compiler) -> Part:
    compiler.names(form, "body_form")
    pieces: list[Part | Piece] = []
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
    return join([quote_plus(part) if isinstance(part, str) else (part, _form_component) for part in template])


def _form_component(value: object, hole: Hole) -> str:
    return quote_plus(scalar_text(value, hole))


def _http_auth(
    config: ModelHttpIOConfig,
    compiler: Compiler,
    headers: dict[str, str | Late],
    query: dict[str, str | list[object] | Late],
) -> Late | None:
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
            compiler.names([name], "auth")
            query[name] = compiler.text(auth.value, scalar_text, "auth", "value")
        else:
            compiler.header_name(name, "auth", "name")
            headers[name] = compiler.header(auth.value, "auth", "value")
    else:
        return _oauth2(auth, config.timeout_ms, compiler)
    return None


def _basic(auth: ModelHttpBasicAuth, compiler: Compiler) -> str | Late:
    username = _credential_text(auth.username, _user_name, compiler, "username")
    password = _credential_text(auth.password, _credential, compiler, "password")
    pair = join([username, ":", password])
    return _basic_value(pair) if isinstance(pair, str) else Made(partial(_basic_renderer, pair))


def _basic_renderer(pair: Text) -> Renderer:
    render = pair.emit()
    return lambda scope: _basic_value(render(scope))


def _basic_value(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()


def _credential_text(text: str, encode: Encoder, compiler: Compiler, name: str) -> Part:
    """What the contract itself writes is held to the same letters as what is put in."""
    template = compiler.parse(text, "auth", name)
    for part in template:
        if isinstance(part, str):
            try:
                encode(part, _CONSTANT)
            except ModelOnexError as error:
                problem = error.message.removeprefix(f"template {_CONSTANT.text}: ")
                compiler.report(Breach("E-AUTH-CREDENTIAL", problem, ("auth", name)))
    return text_of(template, encode)


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


def _oauth2(auth: ModelHttpOAuth2Auth, timeout_ms: int, compiler: Compiler) -> Late:
    url = _compile_url(auth.token_url, [], compiler, "auth", "token_url")
    fields = {
        "timeout_ms": timeout_ms,
        "token_url": Made(partial(_url_alone, url)),
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
    return Made(partial(_oauth2_resolver, fields))


def _oauth2_resolver(fields: Mapping[str, object]) -> Value:
    resolve = builder(ModelResolvedOAuth2, fields, "")
    return lambda scope: resolve(scope)[0]


def _url_alone(url: UrlPlan) -> Renderer:
    render = url.emit()
    return lambda scope: render(scope)[0]


def _http_idempotency_key(config: ModelHttpIOConfig, compiler: Compiler, headers: dict[str, str | Late]) -> None:
    key = config.idempotency_key
    if key is None:
        return
    if any(name.lower() == key.header.lower() for name in headers):
        compiler.report(
            Breach("E-HEADER-TWICE", f"{key.header} is given twice", ("idempotency_key",), fix="keep one of them")
        )
    compiler.header_name(key.header, "idempotency_key", "header")
    if key.value == "auto":
        headers[key.header] = Made(partial(_auto_key, compiler.operation_name))
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
