"""Building frozen models from values that are known to be right, without validating them again.

`model_construct` of this pydantic is slower than validating; writing the three slots of a model is five times faster.
Tests pin equality, JSON, pickle and copy of what comes out here for the pydantic that is installed.
"""

from typing import TypeVar

from pydantic import BaseModel

B = TypeVar("B", bound=BaseModel)

_set = object.__setattr__


def trusted(cls: type[B], values: dict[str, object], fields_set: set[str]) -> B:
    """The model with exactly these values; `values` must hold every field and becomes the model's own dict."""
    model = cls.__new__(cls)
    _set(model, "__dict__", values)
    _set(model, "__pydantic_fields_set__", fields_set)
    _set(model, "__pydantic_extra__", None)
    _set(model, "__pydantic_private__", None)
    return model
