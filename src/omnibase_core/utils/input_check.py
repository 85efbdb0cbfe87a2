"""`input_schema` compiled: what `operation_data` must hold, judged before any operation runs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Final, cast

from pydantic import BaseModel, JsonValue
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectInputSchema
from omnibase_core.utils.templates import is_index, key_names

if TYPE_CHECKING:
    import jsonschema_rs

InputCheck = Callable[[Mapping[str, object]], None]
_SHOWN = 10


def compile_input_check(
    schema: ModelEffectInputSchema, contract_name: str, report: Callable[[Breach], None]
) -> InputCheck:
    """A function that raises VALIDATION_ERROR, naming every field that is missing or wrong."""
    if schema.json_schema is not None:
        what = f"input of contract {contract_name!r}"
        return compile_schema_check(schema.json_schema, what, ("input_schema", "json_schema"), report)
    required = tuple((name, tuple(name.split("."))) for name in schema.required_fields)

    def check(data: Mapping[str, object]) -> None:
        missing = [name for name, path in required if not _has(data, path)]
        if missing:
            raise ModelOnexError(
                f"input of contract {contract_name!r}: missing {', '.join(missing)} (or null); "
                f"the input has {key_names(data)}",
                EnumCoreErrorCode.VALIDATION_ERROR,
                {"missing_fields": missing},
            )

    return check


def _has(data: object, path: tuple[str, ...]) -> bool:
    for key in path:
        if isinstance(data, BaseModel) or is_dataclass(data):
            data = to_jsonable_python(data, by_alias=True, fallback=str)
        if isinstance(data, list | tuple) and is_index(key, len(data)):
            data = data[int(key)]
        elif isinstance(data, Mapping) and key in data:
            data = data[key]
        else:
            return False
    return data is not None


class SchemaCheck:
    """Raises VALIDATION_ERROR, when called, for a document that does not fit."""

    __slots__ = ("_validator", "_what")

    def __init__(self, validator: "jsonschema_rs.Draft202012Validator", what: str) -> None:
        self._validator = validator
        self._what = what

    def __call__(self, data: object) -> None:
        problems = self.problems(data)
        if not problems:
            return
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ModelOnexError(
            f"{self._what} does not fit its schema: {'; '.join(problems[:_SHOWN])}{more}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"problems": problems},
        )

    def problems(self, data: object) -> list[str]:
        """What is wrong with a document, never showing a value. VALIDATION_ERROR for one without a JSON form."""
        try:
            document = cast("JsonValue", to_jsonable_python(data, by_alias=True, fallback=str))  # JSON, typed as Any
            if self._validator.is_valid(document):
                return []
            return [_described(error) for error in self._validator.iter_errors(document)]
        except (ValueError, RecursionError):  # its text may show the value
            raise ModelOnexError(
                f"{self._what}: has no JSON form (circular, too deep, or no Unicode text)",
                EnumCoreErrorCode.VALIDATION_ERROR,
            ) from None

    def misfits(self, sample: JsonValue, unknown: Mapping[KeyPath, bool]) -> Iterator[tuple[KeyPath, str]]:
        """(place, problem) of a document of which some values are not known yet and stand as samples.

        unknown: their places, with true where at least the type is that of the sample. Only what is wrong whatever they
        turn out to be.
        """
        for error in self._validator.iter_errors(sample):
            place = tuple(error.instance_path)
            rule = error.schema_path[-1]
            if any(place[: len(hole)] == hole and not (typed and rule == "type") for hole, typed in unknown.items()):
                continue
            above = any(hole[: len(place)] == place for hole in unknown)
            if not above or rule in _WHATEVER_IS_INSIDE:
                extra = getattr(error.kind, "unexpected", ())  # names that the contract itself has written
                yield place, _described(error) + (f" ({', '.join(map(repr, extra))})" if extra else "")


_WHATEVER_IS_INSIDE: Final = frozenset(
    {
        "type", "required", "additionalProperties", "propertyNames", "minItems", "maxItems", "minProperties",
        "maxProperties", "dependentRequired", "unevaluatedProperties",
    }
)  # fmt: skip  # a list of words
"""Rules about a map or a list that its values cannot change."""


def compile_schema_check(
    schema: Mapping[str, JsonValue],
    what: str,
    path: KeyPath,
    report: Callable[[Breach], None],
    *,
    inline: bool = True,
) -> SchemaCheck:
    """The check of a schema; `what` says whose document it is.

    path: where the schema stands in the contract, or, unless it is inline, the name of its file.
    """
    import jsonschema_rs  # only for contracts that have a schema

    try:
        validator = jsonschema_rs.Draft202012Validator(dict(schema), retriever=_no_remote_schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        report(_no_schema(error, path, inline=inline))
        validator = jsonschema_rs.Draft202012Validator({})  # the plan is not run
    return SchemaCheck(validator, what)


_TYPES: Final = "array, boolean, integer, null, number, object, string"


def _no_schema(error: Exception, path: KeyPath, *, inline: bool) -> Breach:
    """What is wrong with a schema, and where: it points outside, or else a place in it breaks a rule."""
    inside: KeyPath = (*getattr(error, "instance_path", ()),)
    detail = str(error).split("\n", 1)[0]
    if not inside:
        fix = "references stay inside the schema: '#/$defs/...'"
        return Breach("E-INPUT-SCHEMA", f"{path[-1]} is no JSON Schema 2020-12: {detail}", path, fix=fix)
    place = ".".join(map(str, inside))
    of_types = "type" in inside[-2:]
    if of_types:
        detail = f"{getattr(error, 'instance', None)!r} is no type"
    return Breach(
        "E-INPUT-SCHEMA",
        f"{path[-1]} is no JSON Schema 2020-12: at {place}: {detail}",
        (*path, *inside) if inline else path,
        allowed=_TYPES if of_types else "",
        fix=f"mend {place}",
    )


def _described(error: "jsonschema_rs.ValidationError") -> str:
    """Where and which rule, never the value. Of what is missing the schema knows the name."""
    place = ".".join(str(key)[:60] for key in error.instance_path)
    missing = getattr(error.kind, "property", None)
    what = f" {missing!r}" if isinstance(missing, str) else ""
    return f"{place or 'the input'}: breaks {error.schema_path[-1]!r}{what}"


def _no_remote_schema(uri: str) -> JsonValue:
    message = f"references to {uri!r} are not followed"
    raise ValueError(message)
