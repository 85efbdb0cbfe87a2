"""How much work a pipeline is at most, told from its contract and the size of its input.

Who enforces a limit of time asks this: small work ends by itself long before any limit, so that it need not run where
it can be stopped. The answer is a bound and generous; what it cannot bound is infinite.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from math import inf
from typing import Final

from pydantic import JsonValue

from omnibase_core.models.contracts.subcontracts import compute_transformations as configs
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
    ComputeStep,
    ModelComputeConditionalStep,
    ModelComputeMappingStep,
    ModelComputeParallelStep,
    ModelComputeSubcontract,
    ModelComputeTransformationStep,
    ModelComputeValidationStep,
    step_lists,
)

_VALUE: Final = 16
"""Characters that a value counts for, beside its own."""
_LONG_EXPRESSION: Final = 500
_LOOP: Final = re.compile(r"\.\s*(map|filter|all|exists|exists_one)\s*\(")
_WHOLE: Final = re.compile(r"\b(input|steps)\b")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_DEEP_PATH: Final = 30.0
"""How many ancestors a value has at most for which `..` counts; a document with deeper ones is larger for it."""

_AT_ONCE_PER_MS: Final = 5_000
"""Characters that every step goes through in less than a millisecond, however it works."""
_AT_ONCE: Final = 1_000_000
"""More than this is never done at once: an event loop waits for it."""

Documents = Mapping[str, tuple[object, Mapping[str, JsonValue]]]


def small_input(contract: ModelComputeSubcontract, documents: Documents, shortest_limit_ms: float) -> float:
    """Characters of an input, as `is_small` counts them, whose pipeline ends well before its shortest limit."""
    return min(_AT_ONCE, shortest_limit_ms * _AT_ONCE_PER_MS) / growth_of(contract, documents)


def growth_of(contract: ModelComputeSubcontract, documents: Documents) -> float:
    """How many times as large as the input everything together is at most that a pipeline makes or goes through.

    Infinite where that cannot be told: expressions with loops, paths that meet a value in many ways, schemas that
    refer to parts of themselves. The contract may have holes.
    """
    factor = 1.0
    for name in ("input_schema", "output_schema"):
        factor *= _schema(name, documents)
    return factor * _steps(contract.__dict__.get("pipeline", []), documents)


def is_small(value: object, at_most: float) -> bool:
    """Whether a document is of at most so many characters; each value of it counts for 16 more.

    Looks at no more of it than it needs to tell. What is no JSON is not small.
    """
    left = at_most
    pending: list[Iterator[object]] = [iter((value,))]
    while pending:
        for entry in pending[-1]:
            left -= _VALUE
            if left < 0:
                return False
            if isinstance(entry, str):
                left -= len(entry)
            elif isinstance(entry, dict):
                left -= sum(len(key) if isinstance(key, str) else _VALUE for key in islice(entry, int(left) + 1))
                pending.append(iter(entry.values()))
            elif isinstance(entry, list):
                pending.append(iter(entry))
            elif isinstance(entry, int):
                left -= entry.bit_length() >> 2
            elif entry is not None and not isinstance(entry, float):
                return False
            if isinstance(entry, dict | list):
                break
        else:
            pending.pop()
    return left >= 0


def _steps(steps: list[ComputeStep], documents: Documents) -> float:
    factor = 1.0
    for step in steps:
        if step.__dict__.get("enabled", True):
            factor *= _step(step, documents)
    return factor


def _step(step: ComputeStep, documents: Documents) -> float:
    there = step.__dict__
    match step:
        case ModelComputeTransformationStep():
            return _transformation(there.get("transformation_config"))
        case ModelComputeMappingStep():
            mappings = getattr(there.get("mapping_config"), "__dict__", {}).get("field_mappings", {})
            return 1.0 + sum(_path(path) for path in mappings.values())
        case ModelComputeValidationStep():
            return _schema(getattr(there.get("validation_config"), "__dict__", {}).get("schema_ref"), documents)
        case ModelComputeConditionalStep():
            inner = [_steps(steps, documents) for steps in step_lists(step).values()]
            return _expression(there.get("when", "")) * max(inner, default=1.0)
        case ModelComputeParallelStep():
            return 1.0 + sum(_steps(steps, documents) for steps in step_lists(step).values())


def _transformation(config: configs.TransformationConfig | None) -> float:
    there = {} if config is None else config.__dict__
    match config:
        case configs.ModelRegexConfig():
            return 1.0 + len(there.get("replacement", ""))
        case configs.ModelJoinConfig():
            return 1.0 + len(there.get("separator", "")) / _VALUE
        case configs.ModelSplitConfig():
            return 1.0 + _VALUE
        case configs.ModelTemplateConfig():
            text = str(there.get("template", ""))
            return 1.0 + text.count("${") + len(text) / _VALUE
        case configs.ModelJsonPathConfig():
            return _path(there.get("path", ""))
        case configs.ModelSortConfig() | configs.ModelGroupByConfig() | configs.ModelUniqueConfig():
            return 1.0 if there.get("key") is None else 1.0 + _path(there["key"])
        case configs.ModelFilterConfig() | configs.ModelMapConfig():
            text = there.get("expression", "")
            return inf if _WHOLE.search(text) else _expression(text)  # else each item goes through all of the input
        case configs.ModelArithmeticConfig():
            return _expression(there.get("expression", ""))
    return 1.0  # the others give what they get, or some of it


def _expression(text: str) -> float:
    """An expression gives no more than the texts and lists in it, each as often as it names them."""
    if len(text) > _LONG_EXPRESSION or _LOOP.search(text):
        return inf
    return 1.0 + text.count("+") + len(text) / _VALUE


def _path(text: str) -> float:
    """Each selector beside the first may meet every value once more, a filter that names the root all of them."""
    if "?" in text and text.count("$") > 1:
        return inf
    if text.count("..") > 1 or text.count("?") > 1 or (".." in text and "?" in text):
        return inf
    return (1.0 + text.count(",") + text.count("*")) * (_DEEP_PATH if ".." in text else 1.0)


def _schema(name: str | None, documents: Documents) -> float:
    _, schema = documents.get(name or "", (None, {}))
    return inf if _refers(schema) else 1.0


def _refers(schema: JsonValue | Mapping[str, JsonValue]) -> bool:
    if isinstance(schema, list):
        return any(_refers(entry) for entry in schema)
    if not isinstance(schema, Mapping):
        return False
    return any(key in schema for key in _REFERENCES) or any(_refers(entry) for entry in schema.values())
