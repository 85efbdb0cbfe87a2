"""JSON values that come back from their text as they were."""

import math
from typing import Annotated

from pydantic import AfterValidator, JsonValue


def _finite(value: JsonValue) -> JsonValue:
    """JSON has no NaN and no infinity: they would come back as null."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, float):
            if not math.isfinite(part):
                message = f"must be JSON, which has no {part!r}"
                raise ValueError(message)
        elif isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return value


FiniteJson = Annotated[JsonValue, AfterValidator(_finite)]
