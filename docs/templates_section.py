"""Templates and documents, for `reference/effect-contract.md`: what is shown is what the executor really makes."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import JsonValue, SecretStr

from docs.field_tables import paragraph, table
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import SOURCES
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpIOConfig,
)
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
)
from omnibase_core.utils.effect_executor import resolve_io_config
from omnibase_core.utils.yaml_document import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_NODES
from omnibase_spi.db.adapter import DbAdapter

LIMITS: Final = paragraph(f"""
    at most {MAX_BYTES >> 20} MiB, {MAX_DEPTH} levels, {MAX_NODES} nodes and {MAX_ALIASES} aliases, without tags, merge
    keys and duplicate keys
""")
_SOURCES: Final[Mapping[str, str]] = {
    "input": "the input document (`operation_data`); `${input.a.b}`, `${input.list.0}`",
    "env": "a variable of the environment",
    "secret": "a secret, by name; masked wherever it might be shown",
    "output": "of an operation before: `${output.NAME.FIELD}` an extracted field, `${output.NAME.result}` the document",
    "item": "planned",
    "index": "planned",
    "meta": "`correlation_id`, `operation_id`, `timestamp` of the call",
}
_ABOUT: Final = paragraph("""
    `${source.path}` stands for a value. A template that is one placeholder keeps the value's type; inside a text only
    scalars may stand, and look as in JSON (`true`, `null`, `12`). `${input.x:-5}` has a default for a value that is
    missing or null, `$${` is a literal `${`. What is put in is not looked at again, so a value cannot bring
    placeholders. A missing value fails the operation before anything is sent.
""")
_PLACES: Final = paragraph("""
    Values are encoded for the place that they go to, and there is no way around it. The table shows what is sent for
    three values; refused means that nothing is.
""")
_DOCUMENTS: Final = paragraph("""
    What `extract_fields` reads and `${output.NAME.result}` gives. HTTP: the body, parsed when its Content-Type
    says JSON, else text; `response_format: bytes` gives base64. Database: `rows` is a list of `{column: value}`,
    `rowCount` the number of rows returned, or changed where none are; dates are ISO 8601 text, decimals exact
    text, bytes base64. A Kafka `offset` is null with `acks: "0"`.
""")
_VALUES: Final = ('a "b" \\', "../x&y=1", "line\r\nX: 1")
_CONFIGS: Final = {
    "URL path": ("url", "https://h.example/${input.v}"),
    "query in the URL": ("url", "https://h.example/?q=${input.v}"),
    "header": ("headers", "${input.v}"),
    "JSON body, in quotes": ("body", '{"a": "${input.v}"}'),
    "JSON body, bare": ("body", '{"a": ${input.v}}'),
    "plain body": ("body", "v=${input.v}"),
    "SQL parameter": ("params", "${input.v}"),
    "file path": ("file_path", "data/${input.v}.txt"),
}


def templates() -> str:
    """Sources, places, documents."""
    rows = [
        (place, f"`{template}`", *(_sent(field, template, value) for value in _VALUES))
        for place, (field, template) in _CONFIGS.items()
    ]
    heads = ("place", "template", *(f"`{_visible(v)}`" for v in _VALUES))
    return "\n\n".join(
        [
            "## Templates",
            _ABOUT,
            table(("source", "is"), [(f"`{source}`", _SOURCES[source]) for source in SOURCES]),
            _PLACES,
            table(heads, rows),
            "## Documents",
            _DOCUMENTS,
            table(("operation", "keys of the document"), asyncio.run(_documents())),
        ]
    )


def _sent(field: str, template: str, value: str) -> str:
    try:
        context = resolve_io_config(_config(field, template), {"input": {"v": value}})
    except ModelOnexError as error:
        return f"refused: {error.message.rpartition('}: ')[2]}"
    found = getattr(context, field)
    if isinstance(found, Mapping):
        found = found["X"]
    elif isinstance(found, list):
        found = found[0]
    return f"`{_visible(str(found))}`"


def _visible(text: str) -> str:
    return text.replace("\r", "␍").replace("\n", "␊")


def _config(field: str, template: str) -> ModelHttpIOConfig | ModelDbIOConfig | ModelFilesystemIOConfig:
    if field == "params":
        return ModelDbIOConfig.model_validate(
            {
                "operation": "select",
                "connection_name": "main",
                "query_template": "SELECT $1",
                "query_params": [template],
            }
        )
    if field == "file_path":
        return ModelFilesystemIOConfig.model_validate({"operation": "read", "file_path_template": template})
    fields: dict[str, object] = {"method": "POST", "url_template": "https://h.example/", "body_template": ""}
    name = {"url": "url_template", "body": "body_template"}.get(field)
    return ModelHttpIOConfig.model_validate(fields | ({name: template} if name else {"headers": {"X": template}}))


async def _documents() -> list[tuple[str, str]]:
    """The keys that real operations give."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        files = FilesystemHandler([Path(directory)])
        for operation, other in (("write", None), ("read", None), ("copy", "b"), ("move", "c"), ("delete", None)):
            path = "b" if operation == "move" else "a"
            context = ModelResolvedFilesystemContext.model_validate(
                {"timeout_ms": 1000, "operation": operation, "file_path": path, "destination_path": other}
                | ({"content": "x"} if operation == "write" else {})
            )
            rows.append((f"{operation} a file", _keys(await files.execute(context, UUID(int=1)))))
    memory = ModelConnection(url=SecretStr("sqlite:///:memory:"))
    database = DbAdapter(ModelSettings(connections={"main": memory}))
    statement = ModelResolvedDbContext(timeout_ms=1000, connection_name="main", query="SELECT 1 AS one")
    rows.append(("any statement", _keys(await database.execute(statement, UUID(int=1)))))
    await database.aclose()
    return [*rows, ("a message", "`topic`, `partition`, `offset`, `timestamp`")]


def _keys(document: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"`{key}`" for key in document)
