"""`onex explain` of compute contracts: what a step takes and gives, with which settings, and what makes it fail."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from omnibase_core.enums.enum_compute import EnumTransformationType as Kind
from omnibase_runtime.commands import _console
from omnibase_runtime.commands._compute import kind_of_step

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
        ComputeStep,
        ModelComputeSubcontract,
    )

_TEXT: Final = ("a text", "a text", "for anything but a text")
_KEYED: Final = "for anything but a list, for an item without the key"
_EXPRESSION: Final = "for anything but a list, for an item of which the expression cannot be made"
_TYPES: Final = {
    Kind.IDENTITY: ("anything", "the same", "never"),
    Kind.REGEX: ("a text", "a text", "for anything but a text, when the search takes too long"),
    Kind.CASE_CONVERSION: _TEXT,
    Kind.TRIM: _TEXT,
    Kind.NORMALIZE_UNICODE: _TEXT,
    Kind.JSON_PATH: ("anything", "what is there, or a list of matches", "when one value is asked for and not there"),
    Kind.SPLIT: ("a text", "a list of texts", "for anything but a text"),
    Kind.JOIN: ("a list of texts", "a text", "for anything but a list of texts"),
    Kind.TEMPLATE: ("anything", "a text", "for a placeholder without a value, a list or a mapping inside the text"),
    Kind.TYPE_CONVERSION: ("a text, a number or a boolean", "the target type", "where something would be lost"),
    Kind.FILTER: ("a list", "a list", f"{_EXPRESSION} or is no boolean"),
    Kind.MAP: ("a list", "a list", _EXPRESSION),
    Kind.SORT: ("a list", "a list", f"{_KEYED}, for keys that are not all texts or all numbers"),
    Kind.GROUP_BY: ("a list", "a mapping of lists", f"{_KEYED}, for keys that are no text, whole number or boolean"),
    Kind.FLATTEN: ("a list", "a list", "for anything but a list"),
    Kind.UNIQUE: ("a list", "a list", _KEYED),
    Kind.LIMIT: ("a list", "a list", "for anything but a list"),
    Kind.ARITHMETIC: ("anything", "what the expression makes", "when the expression cannot be made of the value"),
}
"""(takes, gives, fails) of a transformation."""
_STEPS: Final = {
    "mapping": ("anything; it reads by paths", "a mapping", "when there is nothing at a path that names one value"),
    "conditional": (
        "anything; the steps inside receive it",
        "what they give; without steps, the same",
        "when the condition cannot be judged or a step inside fails",
    ),
    "parallel": ("anything; every branch receives it", "a mapping of their outputs", "when a step inside fails"),
}
_OWN: Final = frozenset({"step_name", "step_type", "transformation_type", "enabled", "timeout_ms"})
_INNER: Final = frozenset({"then", "else", "branches"})


def explain_pipeline(contract: "ModelComputeSubcontract", name: str | None, file: str) -> None:
    """Of each step, or of the one with this name, those of branches included."""
    whole = contract.pipeline_timeout_ms
    steps = list(_with_limits(contract.pipeline, "" if whole is None else f"{whole} ms, of the pipeline"))
    known = [step.step_name for step, _ in steps]
    if name is not None and name not in known:
        raise _console.usage(f"{file}: there is no step {name!r}; there are {', '.join(known)}")
    found = [_explained(step, limit) for step, limit in steps if name in {None, step.step_name}]
    if _console.mode.json:
        _console.say_json({"contract": contract.operation_name, "steps": [*found]})
        return
    from omnibase_runtime.commands._render import heading, pairs

    screen = _console.console()
    for index, one in enumerate(found):
        if index:
            screen.print()
        heading(screen, str(one["name"]), str(one["kind"]), contract.operation_name)
        screen.print(pairs([(key, _shown(one[key])) for key in ("takes", "gives", "fails", "limit", "settings")]))


def _with_limits(steps: "list[ComputeStep]", outer: str) -> "Iterator[tuple[ComputeStep, str]]":
    """Every step with the nearest limit of time; without one, the text is empty."""
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import step_lists

    for step in steps:
        own = step.timeout_ms
        yield step, outer if own is None else f"{own} ms, its own"
        for inner in step_lists(step).values():
            yield from _with_limits(inner, outer if own is None else f"{own} ms, of step {step.step_name}")


def _explained(step: "ComputeStep", limit: str) -> "dict[str, JsonValue]":
    takes, gives, fails = _nature(step)
    whole: dict[str, JsonValue] = json.loads(step.model_dump_json(by_alias=True, exclude_none=True))
    settings: dict[str, JsonValue] = {}
    for key, value in whole.items():
        if key in _OWN or key in _INNER:
            continue
        settings |= value if isinstance(value, dict) else {key: value}
    settings.pop("config_type", None)
    return {
        "name": step.step_name,
        "kind": kind_of_step(step) if step.enabled else f"{kind_of_step(step)}, disabled: it is left out",
        "takes": takes,
        "gives": gives,
        "fails": fails,
        "limit": limit
        or (
            "a second of CPU time for a search" if getattr(step, "transformation_type", None) is Kind.REGEX else "none"
        ),
        "settings": settings,
    }


def _nature(step: "ComputeStep") -> tuple[str, str, str]:
    kind = getattr(step, "transformation_type", None)
    if kind is not None:
        return _TYPES[kind]
    config = getattr(step, "validation_config", None)
    if config is None:
        return _STEPS[step.step_type.value]
    fails = f"when it does not fit {config.schema_ref}" if config.fail_on_error else "never: a breach is in its result"
    return "anything", "the same", fails


def _shown(value: "JsonValue") -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {json.dumps(one, ensure_ascii=False)}" for key, one in value.items()) or "none"
    return str(value)
