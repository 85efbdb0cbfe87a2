"""Intents: side effects as data. A reducer returns them, an effect node carries them out."""

from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field

from omnibase_core.enums.enum_intent import EnumIntentPriority, EnumIntentType
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.primitives.finite_json import FiniteJson
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictText

__all__ = ["EnumIntentPriority", "EnumIntentType", "ModelIntent"]


def _known(value: str) -> str:
    return _KNOWN.get(value, value)


_KNOWN: dict[str, EnumIntentType] = {member.value: member for member in EnumIntentType}
_Type = Annotated[StrictText, Field(min_length=1, max_length=200), AfterValidator(_known)]
_Text = Annotated[StrictText, Field(min_length=1, max_length=2000)]


DATABASE_WRITE_PARTS: Final = {
    "insert": frozenset({"data"}),
    "update": frozenset({"data", "where"}),
    "upsert": frozenset({"data", "key"}),
    "delete": frozenset({"where"}),
}
"""By operation, what the payload of a `database_write` may have beside it."""


class ModelIntent(FrozenModel):
    """A side effect that somebody wants, as data; nothing happens by making one.

    intent_type: a member of `EnumIntentType`, or a free string of an extension; the string of a member becomes it.
    target: table, connection or URL, path, topic, cache, mail connection, as the type says (section 4.4).
    payload: JSON of the shape that the type asks for; judged by who carries it out.
    idempotency_key: the same key is carried out once, however often it is asked for. None promises nothing.
    retry_policy: None leaves it to the route. metadata: for people and tools; no influence on what happens.
    Reading the JSON of an intent gives an equal one.
    """

    intent_id: UUID = Field(default_factory=new_id)
    intent_type: _Type
    target: _Text
    payload: FiniteJson = Field(default_factory=dict)
    priority: EnumIntentPriority = EnumIntentPriority.NORMAL
    correlation_id: UUID = Field(default_factory=new_id)
    idempotency_key: Annotated[StrictText, Field(min_length=1, max_length=500)] | None = None
    retry_policy: ModelEffectRetryPolicy | None = None
    metadata: dict[StrictText, FiniteJson] = Field(default_factory=dict)
    schema_version: Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = "1.0.0"
