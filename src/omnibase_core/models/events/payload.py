"""What an event, a result or a projection may hold: a pydantic model, or JSON."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, JsonValue, PlainValidator, SerializeAsAny, TypeAdapter, WithJsonSchema

JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue, config=ConfigDict(allow_inf_nan=False))


def model_or_json(value: object) -> BaseModel | JsonValue:
    """A model as it is, JSON as a copy; ValidationError for anything that JSON would not give back as it was."""
    return value if isinstance(value, BaseModel) else JSON.validate_python(value)


Payload = Annotated[
    SerializeAsAny[BaseModel | JsonValue], PlainValidator(model_or_json), WithJsonSchema({"description": "any JSON"})
]
