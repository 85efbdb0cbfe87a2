"""Judges the rules of every part of a contract: the loader's side of `ContractModel.rules`."""

from collections.abc import Callable
from functools import cache

from omnibase_core.models.contracts.contract_model import Breach, ContractModel, KeyPath, Rule
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import (
    ModelEffectSubcontract,
)
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.contract_shapes import Shape, fields_of

Reporter = Callable[[KeyPath], Callable[[Breach], None]]
"""Key path of a part -> sink for the breaches of that part."""


def judge_rules(part: ContractModel, path: KeyPath, reporter: Reporter, *, whole: bool = True) -> None:
    """Judge the rules of `part` and of all parts below it.

    whole: every part is well-formed. Otherwise parts may lack fields; then a rule is judged only where those that it
    needs are there.
    """
    cls = type(part)
    there = part.__dict__
    given = part.model_fields_set
    for rule in cls.rules:
        if rule.in_python:
            continue
        if whole:
            for breach in rule.check(part):
                reporter(path)(breach)
        elif all(name in there for name in rule.needs):
            for breach in _judge_partial(rule, part):
                reporter(path)(breach)
    for name, key in _parts_with_rules(cls):
        if name not in given:
            continue  # defaults of ours break no rule
        _judge_below(there.get(name), (*path, key), reporter, whole=whole)


def _judge_below(value: object, path: KeyPath, reporter: Reporter, *, whole: bool) -> None:
    if isinstance(value, ContractModel):
        judge_rules(value, path, reporter, whole=whole)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            _judge_below(entry, (*path, index), reporter, whole=whole)
    elif isinstance(value, dict):
        for key, entry in value.items():
            _judge_below(entry, (*path, key), reporter, whole=whole)


def _judge_partial(rule: Rule[ContractModel], part: ContractModel) -> list[Breach]:
    """What a rule finds on a part with holes; one that it trips over cannot be judged.

    For a rule over all operations, those without a readable `io_config` are left out then, so that one bad operation
    does not hide what is wrong between the others.
    """
    found, tripped = _collect(rule, part)
    if tripped and isinstance(part, ModelEffectSubcontract):
        readable = [index for index, operation in enumerate(part.operations) if "io_config" in operation.__dict__]
        operations = [part.operations[index] for index in readable]
        fewer = trusted(ModelEffectSubcontract, {**part.__dict__, "operations": operations}, part.model_fields_set)
        return [_with_index(breach, readable) for breach in _collect(rule, fewer)[0]]
    return found


def _collect(rule: Rule[ContractModel], part: ContractModel) -> tuple[list[Breach], bool]:
    """What a rule finds, and whether it tripped over something that is missing."""
    found: list[Breach] = []
    try:
        for breach in rule.check(part):
            found.append(breach)  # noqa: PERF402  # what was found before it tripped counts
    except AttributeError:
        return found, True
    return found, False


def _with_index(breach: Breach, indexes: list[int]) -> Breach:
    path = breach.path
    if len(path) > 1 and path[0] == "operations" and isinstance(path[1], int):
        path = ("operations", indexes[path[1]], *path[2:])
    return Breach(breach.code, breach.message, path, breach.found, breach.allowed, breach.fix, breach.severity)


@cache
def _parts_with_rules(cls: type[ContractModel]) -> tuple[tuple[str, str], ...]:
    """Names and keys of the fields below which there are rules."""
    return tuple((field.name, field.key) for field in fields_of(cls).values() if _leads_to_rules(field.shape))


def _leads_to_rules(shape: Shape) -> bool:
    models = [*(shape.tagged or {}).values(), *([shape.model] if shape.model else [])]
    if any(model.rules or _parts_with_rules(model) for model in models):
        return True
    return any(inner is not None and _leads_to_rules(inner) for inner in (shape.items, shape.values))
