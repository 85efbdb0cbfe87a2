"""Scalar types of contracts: never coerced across kinds, though strings still become UUIDs, enums and datetimes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict

StrictText = Annotated[str, Strict()]
StrictFlag = Annotated[bool, Strict()]
StrictNumber = Annotated[int, Strict()]
StrictReal = Annotated[float, Strict()]
Scalar = StrictText | StrictFlag | StrictNumber | StrictReal | None


class FrozenModel(BaseModel):
    """Frozen data that refuses unknown fields: the shape of everything that a contract holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
