"""What an operation does: one model per handler kind, told apart by `handler_type` (section 2.3).

Texts may hold `${...}` placeholders, save where a field says that it is literal. In Python `handler_type` defaults to
its member. Millisecond bounds are 100..300000 everywhere.
"""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue

from omnibase_core.enums.enum_effect_handler_type import EnumEffectHandlerType
from omnibase_core.grammar.sql_placeholders import find_placeholders
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, Offset, Rule
from omnibase_core.models.primitives.strict_types import Scalar, StrictFlag, StrictText

_TimeoutMs = Annotated[int, Field(strict=True, ge=100, le=300_000)]
_Nonempty = Annotated[StrictText, Field(min_length=1)]
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2 (token)
_BODY_FIELDS = ("body_template", "body_json", "body_form", "body_file")


def _header_names_are_tokens(config: "ModelHttpIOConfig | ModelKafkaIOConfig") -> Iterator[Breach]:
    for name in config.headers:
        if not HEADER_NAME.fullmatch(name):
            yield Breach(
                "E-HEADER-NAME",
                f"header name {name!r} is not a token",
                ("headers", name),
                found=repr(name),
                allowed="letters, digits and !#$%&'*+-.^_`|~",
                fix="names are literal: put placeholders into the value",
            )


def _body_is_there(config: "ModelHttpIOConfig") -> Iterator[Breach]:
    given = [name for name in _BODY_FIELDS if getattr(config, name) is not None]
    if "body_json" in config.model_fields_set and config.body_json is None:
        given.append("body_json")  # an explicit null is a JSON body
    if not given and config.method in {"POST", "PUT", "PATCH"}:
        yield Breach(
            "E-BODY-REQUIRED",
            f"{config.method} requires body_template (or body_json, body_form or body_file)",
            ("method",),
            found=repr(config.method),
            fix='add body_template; body_template: "" says "no body on purpose"',
        )
    if len(given) > 1:
        yield Breach(
            "E-BODY-TWICE",
            f"one body, please: found {' and '.join(given)}",
            (given[1],),
            allowed=f"one of {', '.join(_BODY_FIELDS)}",
            fix=f"keep {given[0]} or {given[1]}",
        )


class ModelHttpBasicAuth(ContractModel):
    """HTTP Basic (RFC 7617).

    type: names the kind. username, password: texts, best with `${secret.X}`.
    """

    type: Literal["basic"]
    username: _Nonempty
    password: StrictText


class ModelHttpBearerAuth(ContractModel):
    """A bearer token (RFC 6750) in the `Authorization` header.

    type: names the kind. token: a text, best with `${secret.X}`.
    """

    type: Literal["bearer"]
    token: _Nonempty


class ModelHttpApiKeyAuth(ContractModel):
    """A key in a header or a query parameter.

    type: names the kind. value: a text, best with `${secret.X}`. name: of the header or parameter; literal.
    location: where it goes.
    """

    type: Literal["api_key"]
    value: _Nonempty
    name: _Nonempty = "X-Api-Key"
    location: Literal["header", "query"] = "header"


class ModelHttpOAuth2Auth(ContractModel):
    """OAuth 2 client credentials (RFC 6749, 4.4); tokens are cached until they expire.

    type: names the kind. token_url: where the token is fetched. client_id, client_secret: texts, best with
    `${secret.X}`. scope: asked for, when given.
    """

    type: Literal["oauth2"]
    token_url: _Nonempty
    client_id: _Nonempty
    client_secret: _Nonempty
    scope: _Nonempty | None = None


class ModelHttpIdempotencyKey(ContractModel):
    """A header that is the same on all attempts of an operation, by which the target recognises a repetition.

    header: its name. value: a text; `auto` derives it from operation id and operation name (UUIDv5), so that a call
    repeated by the program with the same `operation_id` is recognised as well.
    """

    header: _Nonempty = "Idempotency-Key"
    value: _Nonempty = "auto"


def _key_from_text(value: object) -> object:
    return {"value": value} if isinstance(value, str) else value


class ModelHttpIOConfig(ContractModel):
    """One HTTP request.

    A body is one of the four `body_` fields; POST, PUT and PATCH need one.

    handler_type: names the kind. url_template: absolute; each placeholder in the path is one encoded segment.
    method: in upper case. headers: names are literal. body_template: a text; an empty one says "no body on purpose".
    body_json: a tree, sent as JSON. body_form: pairs, percent-encoded. body_file: a path under the roots, streamed.
    query_params: appended to the query of the URL; a list repeats its name. timeout_ms: limit of one attempt.
    connect_timeout_ms: limit of making the connection, within `timeout_ms`. follow_redirects: false makes a redirect an
    answer like any other. verify_ssl: false is heeded only where the operator's policy lists the host.
    allowed_hosts: `host`, `*.suffix`, either with `:port`; needed as soon as the host comes from `input` or `output`,
    and applied to redirects. auth: how the request is authorised. response_format: what the document is; auto goes by
    the Content-Type. max_response_bytes: cap of the decoded body; the operator's policy may be lower.
    idempotency_key: a header that is the same on all attempts, and makes the call count as idempotent; a text is its
    value.
    """

    handler_type: Literal[EnumEffectHandlerType.HTTP] = EnumEffectHandlerType.HTTP
    url_template: _Nonempty
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    headers: dict[StrictText, StrictText] = Field(default_factory=dict)
    body_template: StrictText | None = None
    body_json: JsonValue | None = None
    body_form: dict[StrictText, Scalar | list[Scalar]] | None = None
    body_file: _Nonempty | None = None
    query_params: dict[StrictText, Scalar | list[Scalar]] = Field(default_factory=dict)
    timeout_ms: _TimeoutMs = 30_000
    connect_timeout_ms: _TimeoutMs = 5_000
    follow_redirects: StrictFlag = True
    verify_ssl: StrictFlag = True
    allowed_hosts: list[_Nonempty] = Field(default_factory=list)
    auth: (
        Annotated[
            ModelHttpBasicAuth | ModelHttpBearerAuth | ModelHttpApiKeyAuth | ModelHttpOAuth2Auth,
            Field(discriminator="type"),
        ]
        | None
    ) = None
    response_format: Literal["auto", "json", "text", "bytes"] = "auto"
    max_response_bytes: Annotated[int, Field(strict=True, ge=1, le=1 << 30)] = 10 * 1024 * 1024
    idempotency_key: Annotated[ModelHttpIdempotencyKey | None, BeforeValidator(_key_from_text)] = None

    rules: ClassVar = (
        Rule(("method", *_BODY_FIELDS), _body_is_there),
        Rule(("headers",), _header_names_are_tokens),
    )


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _sql_holds_no_placeholder(config: "ModelDbIOConfig") -> Iterator[Breach]:
    start = config.query_template.find("${")
    if start < 0:
        return
    end = config.query_template.find("}", start) + 1 or len(config.query_template)
    hole = config.query_template[start:end]
    used = [placeholder.number for placeholder in find_placeholders(config.query_template)]
    number = max(len(config.query_params), *used, 0) + 1
    yield Breach(
        "E-SQL-TEMPLATE",
        f"query_template must not embed {hole}: a value in SQL text is an injection waiting to happen",
        ("query_template", Offset(start)),
        found=repr(hole),
        allowed="$1..$n in the text, the values in query_params",
        fix=f'write ${number} in place of {hole} (without quotes) and add "{hole}" as entry {number} of query_params',
    )


def _params_match(config: "ModelDbIOConfig") -> Iterator[Breach]:
    used = {placeholder.number for placeholder in find_placeholders(config.query_template)}
    given = len(config.query_params)
    if used == set(range(1, given + 1)):
        return
    highest = max(used, default=0)
    missing = sorted(set(range(1, highest + 1)) - used)
    found = ", ".join(f"${number}" for number in sorted(used)) or "none"
    if highest == given and missing:
        detail = f"{', '.join(f'${number}' for number in missing)} is not used in query_template"
    else:
        detail = f"query_template asks for {highest}"
    yield Breach(
        "E-SQL-PARAMS",
        f"query_params count is {given}, but {detail}",
        ("query_params",),
        found=f"placeholders {found}; {given} query_params",
        allowed="exactly n entries for $1..$n, each number used",
        fix="give one entry per number, in order",
    )


class ModelDbIOConfig(ContractModel):
    """One SQL statement.

    handler_type: names the kind. operation: any case, stored in lower case. query_template: SQL with `$1..$n`; no
    `${...}` of any kind. query_params: exactly n values, bound by the driver; a list or a map is bound as JSON.
    connection_name: of the settings; literal. timeout_ms: limit of one attempt. fetch_size: rows per round trip, null
    leaves it to the driver. read_only: enforced by the database (a read-only transaction), not only promised.
    """

    handler_type: Literal[EnumEffectHandlerType.DB] = EnumEffectHandlerType.DB
    operation: Annotated[Literal["select", "insert", "update", "delete", "upsert", "raw"], BeforeValidator(_lower)]
    connection_name: _Nonempty
    query_template: _Nonempty
    query_params: list[JsonValue] = Field(default_factory=list)
    timeout_ms: _TimeoutMs = 30_000
    fetch_size: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None
    read_only: StrictFlag = False

    rules: ClassVar = (
        Rule(("query_template", "query_params"), _sql_holds_no_placeholder),
        Rule(("query_template", "query_params"), _params_match),
    )


def _acks_as_text(value: object) -> object:
    return str(value) if type(value) is int and value in {0, 1} else value


class ModelKafkaIOConfig(ContractModel):
    """One message.

    handler_type: names the kind. topic: literal. payload_template: the value; an empty text is an empty value.
    partition_key_template: the key; without one the client chooses the partition. headers: names are literal.
    timeout_ms: the delivery timeout. acks: who must have it; the producer is idempotent with `all`, and with "0" it
    never learns an offset and may lose the message unseen. compression: of the batch. connection_name: of the
    settings; literal.
    """

    handler_type: Literal[EnumEffectHandlerType.KAFKA] = EnumEffectHandlerType.KAFKA
    topic: Annotated[StrictText, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
    payload_template: StrictText
    partition_key_template: StrictText | None = None
    headers: dict[StrictText, StrictText] = Field(default_factory=dict)
    timeout_ms: _TimeoutMs = 30_000
    acks: Annotated[Literal["0", "1", "all"], BeforeValidator(_acks_as_text)] = "all"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    connection_name: _Nonempty = "default"

    rules: ClassVar = (Rule(("headers",), _header_names_are_tokens),)


def _paths_fit_operation(config: "ModelFilesystemIOConfig") -> Iterator[Breach]:
    needs_destination = config.operation in {"move", "copy"}
    if needs_destination and config.destination_path_template is None:
        yield Breach(
            "E-DESTINATION-REQUIRED",
            f"{config.operation} requires destination_path_template",
            ("operation",),
            found=repr(config.operation),
            fix="add destination_path_template",
        )
    if not needs_destination and config.destination_path_template is not None:
        yield Breach(
            "E-DESTINATION-FORBIDDEN",
            f"destination_path_template does not belong to {config.operation}",
            ("destination_path_template",),
            found=repr(config.destination_path_template),
            allowed="only with move and copy",
            fix="leave it out, or choose move or copy",
        )
    if config.operation != "write" and config.content_template is not None:
        yield Breach(
            "E-CONTENT-FORBIDDEN",
            f"content_template does not belong to {config.operation}",
            ("content_template",),
            allowed="only with write",
            fix="leave it out, or choose write",
        )


def _atomic_is_possible(config: "ModelFilesystemIOConfig") -> Iterator[Breach]:
    if config.atomic and config.operation not in {"write", "move"}:
        yield Breach(
            "E-ATOMIC",
            f"atomic=true not supported for {config.operation}",
            ("atomic",),
            found="True",
            allowed="true for write and move",
            fix="leave atomic out; a delete is one system call, a copy becomes visible only when complete"
            if config.operation != "read"
            else "leave atomic out",
        )


def _only_write_is_written(config: "ModelFilesystemIOConfig") -> Iterator[Breach]:
    if config.missing_ok and config.operation != "delete":
        yield Breach(
            "E-MISSING-OK",
            f"missing_ok does not belong to {config.operation}",
            ("missing_ok",),
            found="True",
            allowed="only with delete",
            fix="leave missing_ok out",
        )


class ModelFilesystemIOConfig(ContractModel):
    """One file operation. Paths must lie under the roots of the operator's policy when it runs.

    handler_type: names the kind. file_path_template: the file; relative to the first root. operation: what is done.
    destination_path_template: where a move or a copy goes. content_template: what a write writes; when absent it is
    `${input.content}`. timeout_ms: limit of one attempt. atomic: unset means true for write and move and false else.
    create_dirs: make missing directories of the target. encoding: of the text that is read or written.
    mode: permission bits as a quoted octal text such as '0644'. overwrite: false refuses a target that is there.
    missing_ok: a delete of what is not there succeeds.
    """

    handler_type: Literal[EnumEffectHandlerType.FILESYSTEM] = EnumEffectHandlerType.FILESYSTEM
    file_path_template: _Nonempty
    operation: Literal["read", "write", "delete", "move", "copy"]
    destination_path_template: _Nonempty | None = None
    content_template: StrictText | None = None
    timeout_ms: _TimeoutMs = 30_000
    atomic: StrictFlag = False
    create_dirs: StrictFlag = True
    encoding: _Nonempty = "utf-8"
    mode: Annotated[StrictText, Field(pattern=r"^0?[0-7]{3,4}$")] | None = None
    overwrite: StrictFlag = True
    missing_ok: StrictFlag = False

    rules: ClassVar = (
        Rule(("operation", "destination_path_template", "content_template"), _paths_fit_operation),
        Rule(("operation", "atomic"), _atomic_is_possible),
        Rule(("operation", "missing_ok"), _only_write_is_written),
    )

    def _complete(self, *, loading: bool) -> None:  # noqa: ARG002  # the same in both cases
        if "atomic" not in self.model_fields_set and self.operation in {"write", "move"}:
            self.__dict__["atomic"] = True  # a default that depends on another field; the model is not yet handed out


EffectIOConfig = Annotated[
    ModelHttpIOConfig | ModelDbIOConfig | ModelKafkaIOConfig | ModelFilesystemIOConfig,
    Field(discriminator="handler_type"),
]
