"""JSON Schema 2020-12 of contract files, for editors and for those who write contracts by program.

It is made from the models, so it says what they say about fields, types, bounds and vocabularies; rules over several
fields and over the content of texts are the loader's alone. What needs a validator of ours (upper and lower case of
`operation`, the number form of `acks`) is written out, so that plain validators agree with the loader.
"""

import inspect
from typing import Final, cast

from pydantic import JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpIOConfig,
    ModelKafkaIOConfig,
)
from omnibase_core.utils.contract_kinds import BUILT_KINDS, contract_kind

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ID: Final = "urn:omnibase:contract:{kind}:1.0.0"


class _ContractSchema(GenerateJsonSchema):
    """The generator: `oneOf` by tag without the OpenAPI keyword, which validators of JSON Schema do not know."""

    schema_dialect = DIALECT

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> object:
        factory = schema.get(
            "default_factory"
        )  # of lists and maps: a constant one would be copied deeply for each model
        return super().get_default_value(schema) if factory is None else factory()  # type: ignore[call-arg]  # none takes data

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        generated = super().tagged_union_schema(schema)
        generated.pop("discriminator", None)
        return generated


def contract_schema(kind: str | None = None) -> dict[str, JsonValue]:
    """The schema of a contract file. kind: such as `effect`; None is every kind that is built.

    Raises ModelOnexError VALIDATION_ERROR for a kind that there is not.
    """
    names = [key.removesuffix("_subcontract") for key in BUILT_KINDS]
    if kind is not None and kind not in names:
        raise ModelOnexError(
            f"contract kind {kind!r} is unknown; allowed: {', '.join(names)}",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    roots: list[JsonSchemaValue] = []
    definitions: dict[str, dict[str, object]] = {}
    for name in names if kind is None else [kind]:
        built = contract_kind(f"{name}_subcontract")
        if built is not None:
            root = built.file.model_json_schema(mode="validation", schema_generator=_ContractSchema)
            definitions |= root.pop("$defs")
            root["title"] = "ONEX contract"
            _tidy(root)
            roots.append(root)
    for name, definition in definitions.items():
        _tidy(definition)
        _require_tag(name, definition)
    if ModelDbIOConfig.__name__ in definitions:
        _accept_what_validators_accept(definitions)
    whole = roots[0] if len(roots) == 1 else {"title": "ONEX contract", "anyOf": roots}
    return cast(
        "dict[str, JsonValue]",  # a schema is JSON
        {"$schema": DIALECT, "$id": _ID.format(kind=kind or "any"), **whole, "$defs": definitions},
    )


_TAGGED: Final[tuple[type[ContractModel], ...]] = (
    ModelHttpIOConfig,
    ModelDbIOConfig,
    ModelKafkaIOConfig,
    ModelFilesystemIOConfig,
)


def _require_tag(name: str, definition: dict[str, object]) -> None:
    """In Python `handler_type` has a default; in a file it tells the configs apart."""
    if any(model.__name__ == name for model in _TAGGED):
        required = cast("list[str]", definition.setdefault("required", []))  # the keyword is a list of names
        required.insert(0, "handler_type")
        cast("dict[str, dict[str, object]]", definition["properties"])["handler_type"].pop("default", None)  # schemas


def _accept_what_validators_accept(definitions: dict[str, dict[str, object]]) -> None:
    def field(model: type[ContractModel], name: str) -> dict[str, object]:
        return cast("dict[str, dict[str, object]]", definitions[model.__name__]["properties"])[name]  # schemas by name

    operation = field(ModelDbIOConfig, "operation")
    words = cast("list[str]", operation.pop("enum"))  # the vocabulary of a Literal
    either = "|".join("".join(f"[{c}{c.upper()}]" for c in word) for word in words)
    operation |= {"type": "string", "pattern": f"^({either})$", "examples": words}
    acks = field(ModelKafkaIOConfig, "acks")
    acks["enum"] = [*cast("list[str]", acks["enum"]), 0, 1]
    acks.pop("type", None)
    key = field(ModelHttpIOConfig, "idempotency_key")
    cast("list[object]", key["anyOf"]).append({"type": "string", "minLength": 1})  # the short form: its value


def _tidy(node: object) -> None:
    """Descriptions as one paragraph per paragraph; titles that only repeat the key go."""
    if isinstance(node, dict):
        description = node.get("description")
        if isinstance(description, str):
            node["description"] = inspect.cleandoc(description)
        properties = node.get("properties")
        if isinstance(properties, dict):
            for schema in properties.values():
                if isinstance(schema, dict):
                    schema.pop("title", None)
        for child in node.values():
            _tidy(child)
    elif isinstance(node, list):
        for child in node:
            _tidy(child)
