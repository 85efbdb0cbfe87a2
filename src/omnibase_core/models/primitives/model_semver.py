"""Semantic versions."""

from functools import total_ordering
from typing import Annotated, Self

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

_Part = Annotated[int, Field(ge=0, strict=True)]


@total_ordering
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelSemVer:
    """`major.minor.patch`, each >= 0; ordered by number. Built as `ModelSemVer(1, 0, 0)` or by `parse("1.0.0")`."""

    major: _Part
    minor: _Part = 0
    patch: _Part = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version that `text` spells; VALIDATION_ERROR unless it is three decimal numbers joined by dots."""
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            message = f"a version is three numbers such as '1.0.0', found {text!r}"
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, ModelSemVer):
            return NotImplemented
        return (self.major, self.minor, self.patch) < (other.major, other.minor, other.patch)
