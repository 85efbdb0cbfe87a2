"""What a handler gets: concrete values, no template left. Only `timeout_ms` and what names the target are required.

The `repr` of a resolved context shows no values, because any of them may have come from a secret.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_effect_handler_type import EnumEffectHandlerType
from omnibase_core.models.primitives.strict_types import FrozenModel

_TimeoutMs = Annotated[int, Field(strict=True, ge=1)]


class ModelResolvedContext(FrozenModel):
    """What all resolved contexts share. `timeout_ms` is the attempt's limit, already enforced by the executor."""

    timeout_ms: _TimeoutMs

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        yield None, "values hidden"

    __str__ = FrozenModel.__repr__


class ModelResolvedOAuth2(ModelResolvedContext):
    """OAuth 2 client credentials (RFC 6749, 4.4); the adapter fetches the token and caches it until it expires."""

    timeout_ms: _TimeoutMs = 30_000
    token_url: str
    client_id: str
    client_secret: str
    scope: str | None = None


class ModelResolvedHttpContext(ModelResolvedContext):
    """One HTTP request.

    url: absolute, already percent-encoded; must not be encoded again.
    query_params: raw names and values, to be percent-encoded and appended to the query of `url`.
    body: text (sent as UTF-8) or bytes; None sends no body. `body_file`: a file under the roots, streamed instead.
    host_from_data: the host came from `input` or `output`: private, link-local and metadata addresses are refused
        unless the operator's policy names them.
    allowed_hosts: the contract's list (`host`, `*.suffix`, either with `:port`), also applied to redirects when not
    empty. body_is_secret: a secret was put into the body, which therefore never follows a redirect to another origin.
    max_response_bytes: cap of the *decoded* body.
    """

    handler_type: Literal[EnumEffectHandlerType.HTTP] = EnumEffectHandlerType.HTTP
    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | bytes | None = None
    body_file: str | None = None
    query_params: dict[str, str | list[str]] = {}
    connect_timeout_ms: int = 5_000
    follow_redirects: bool = True
    verify_ssl: bool = True
    allowed_hosts: tuple[str, ...] = ()
    host_from_data: bool = False
    body_is_secret: bool = False
    oauth2: ModelResolvedOAuth2 | None = None
    response_format: Literal["auto", "json", "text", "bytes"] = "auto"
    max_response_bytes: int = 10 * 1024 * 1024


class ModelResolvedDbContext(ModelResolvedContext):
    """One SQL statement with `$1..$n` placeholders and the values to bind, in order."""

    handler_type: Literal[EnumEffectHandlerType.DB] = EnumEffectHandlerType.DB
    connection_name: str
    operation: Literal["select", "insert", "update", "delete", "upsert", "raw"] = "select"
    query: str = ""
    params: list[JsonValue] = []
    fetch_size: int | None = None
    read_only: bool = False


class ModelResolvedKafkaContext(ModelResolvedContext):
    """One Kafka message; `timeout_ms` is the delivery timeout."""

    handler_type: Literal[EnumEffectHandlerType.KAFKA] = EnumEffectHandlerType.KAFKA
    topic: str
    connection_name: str = "default"
    partition_key: str | None = None
    headers: dict[str, str] = {}
    payload: str = ""
    acks: Literal["0", "1", "all"] = "all"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"


class ModelResolvedFilesystemContext(ModelResolvedContext):
    """One file operation. `file_path` and `destination_path` are confined to the roots by the handler, not here.

    content: text, written in `encoding`, or bytes, written as they are (program code only; contracts hold text).
    mode: permission bits of a written file, such as `0o644`; None leaves them to the process's umask.
    """

    handler_type: Literal[EnumEffectHandlerType.FILESYSTEM] = EnumEffectHandlerType.FILESYSTEM
    file_path: str
    operation: Literal["read", "write", "delete", "move", "copy"] = "read"
    destination_path: str | None = None
    content: str | bytes | None = None
    atomic: bool = False
    create_dirs: bool = True
    encoding: str = "utf-8"
    mode: str | None = None
    overwrite: bool = True
    missing_ok: bool = False


ResolvedIOContext = Annotated[
    ModelResolvedHttpContext | ModelResolvedDbContext | ModelResolvedKafkaContext | ModelResolvedFilesystemContext,
    Field(discriminator="handler_type"),
]
