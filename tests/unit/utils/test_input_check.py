"""The input schema."""

from dataclasses import dataclass
from uuid import uuid4

import pytest
from pydantic import BaseModel

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.contract_model import Breach
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectInputSchema
from omnibase_core.utils.input_check import InputCheck, compile_input_check


def _check(**schema: object) -> InputCheck:
    found: list[Breach] = []
    check = compile_input_check(ModelEffectInputSchema.model_validate(schema), "orders", found.append)
    assert found == []
    return check


def _refusal(check: InputCheck, data: dict[str, object]) -> ModelOnexError:
    with pytest.raises(ModelOnexError) as caught:
        check(data)
    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.__cause__ is None
    return caught.value


class User(BaseModel):
    name: str | None


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("names", "data"),
    [
        (["a"], {"a": 0}),
        (["a.b"], {"a": {"b": False, "c": 1}}),
        (["a.0.b"], {"a": [{"b": ""}]}),
        (["a.1"], {"a": (1, 2)}),
        (["a.name"], {"a": User(name="x")}),
        (["a.x"], {"a": Point(1)}),
        ([], {}),
    ],
)
def test_required_fields_that_are_there(names: list[str], data: dict[str, object]) -> None:
    """Dotted names reach into maps, lists, models and dataclasses; zero, false and the empty text are there."""
    _check(required_fields=names)(data)


@pytest.mark.parametrize(
    ("names", "data"),
    [
        (["a"], {}),
        (["a"], {"a": None}),
        (["a.b"], {"a": {}}),
        (["a.b"], {"a": "text"}),
        (["a.1"], {"a": [1]}),
        (["a.-1"], {"a": [1]}),
        (["a.name"], {"a": User(name=None)}),
    ],
)
def test_required_fields_that_are_missing(names: list[str], data: dict[str, object]) -> None:
    """Missing and null are refused by name."""
    error = _refusal(_check(required_fields=names), data)

    assert f"missing {names[0]} (or null);" in error.message
    assert error.context == {"missing_fields": names}


def test_every_missing_field_is_named_and_no_value() -> None:
    """All missing names at once, the contract, and what keys the input has; a key of the data never breaks the line."""
    error = _refusal(_check(required_fields=["a", "b", "c"], optional_fields=["d"]), {"b": "hidden-value", "x\ny": 1})

    assert error.message == r"input of contract 'orders': missing a, c (or null); the input has b, 'x\ny'"


SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["id", "user"],
    "properties": {
        "id": {"type": "string", "minLength": 3},
        "user": {"$ref": "#/$defs/user"},
        "items": {"type": "array", "items": {"type": "integer"}},
    },
    "$defs": {"user": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
}


def test_json_schema_passes_what_fits() -> None:
    """Objects from Python are judged in their JSON form; references inside the schema are followed."""
    _check(json_schema=SCHEMA)({"id": uuid4(), "user": User(name="Ann"), "items": (1, 2**200), "more": object()})


def test_json_schema_names_place_and_rule() -> None:
    """Every problem says where and which rule, and what is missing by name; values are not shown."""
    error = _refusal(_check(json_schema=SCHEMA), {"id": 12345678, "user": {}, "items": [1, "hidden-value"]})

    assert "id: breaks 'type'" in error.message
    assert "user: breaks 'required' 'name'" in error.message
    assert "items.1: breaks 'type'" in error.message
    assert "hidden-value" not in error.message
    assert "12345678" not in error.message
    assert "hidden-value" not in str(error.context)


def test_many_problems_are_cut() -> None:
    """A message lists ten problems, the context all."""
    error = _refusal(_check(json_schema={"properties": {"i": {"items": {"type": "integer"}}}}), {"i": ["x"] * 30})

    assert error.message.endswith("and 20 more")
    assert len(error.context["problems"]) == 30  # type: ignore[arg-type]  # a list of texts


def _circle() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


def _deep() -> list[object]:
    tree: list[object] = []
    for _ in range(20_000):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    "value", ["\ud800hidden-value", {"\ud800": 1}, _circle(), _deep(), b"\xff", 10**5_000], ids=range(6)
)
def test_json_schema_refuses_what_is_no_json(value: object) -> None:
    """What has no JSON form is VALIDATION_ERROR, and shows no value."""
    error = _refusal(_check(json_schema={"properties": {"v": {"type": "boolean"}}}), {"v": value})

    assert "hidden-value" not in repr(error.message)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "nope"}, ("type",)),
        ({"pattern": "("}, ("pattern",)),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, ()),
        ({"$ref": "file:///etc/hostname"}, ()),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, ()),
    ],
)
def test_a_bad_schema_is_reported_at_load(schema: dict[str, object], place: tuple[str, ...]) -> None:
    """A schema that is none, where it breaks, or that points outside itself, is a finding; nothing is fetched."""
    found: list[Breach] = []

    check = compile_input_check(ModelEffectInputSchema.model_validate({"json_schema": schema}), "orders", found.append)

    path = ("input_schema", "json_schema", *place)
    assert [(breach.code, breach.path) for breach in found] == [("E-INPUT-SCHEMA", path)]
    check({})


async def test_a_remote_schema_is_never_fetched() -> None:
    """Not one connection is opened for a `$ref` that names a server."""
    from tests.support.http_server import FaultServer

    async with FaultServer() as server:
        found: list[Breach] = []
        schema = {"json_schema": {"$schema": f"{server.url}/meta", "$ref": f"{server.url}/schema.json"}}
        compile_input_check(ModelEffectInputSchema.model_validate(schema), "orders", found.append)

        assert len(found) == 1
        assert server.connections == 0
