"""What tests of aggregations share: contracts in short, reducers of a program's own, and data."""

import random

from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.utils.aggregation_values import reducer
from omnibase_core.utils.algorithms import ItemFault

_REDUCTION = {
    "value_field", "group_by", "state_key", "percentile", "reducer", "parameters", "null_values",
}  # fmt: skip
_STREAMING = {
    "enabled",
    "items_come_as",
    "chunk_size",
    "window",
    "watermark_ms",
    "late_data_policy",
    "checkpoint_items",
    "run_id",
}


def contract(data: object, method: str, /, **fields: object) -> ModelContractReducer:
    """Fields of the inner models are given flat; `buffer_size_mb` and `spill_directory` too."""
    inner: dict[str, dict[str, object]] = {"reduction_config": {"aggregation_method": method}}
    outer: dict[str, object] = {}
    for name, value in fields.items():
        if name in _REDUCTION:
            inner["reduction_config"][name] = value
        elif name in _STREAMING:
            inner.setdefault("streaming_config", {})[name] = value
        elif name in {"buffer_size_mb", "spill_directory"}:
            inner.setdefault("memory_management", {})[name] = value
        else:
            outer[name] = value
    return ModelContractReducer.model_validate({"input_data": data, **inner, **outer})


@reducer("span")
class Span:
    """The least and the greatest, times a factor; refuses negative numbers."""

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    def init(self) -> list[int]:
        return []

    def add(self, state: list[int], value: object) -> list[int]:
        if not isinstance(value, int) or value < 0:
            raise ItemFault(0, f"expected a natural number, found {value!r}")
        if value == 13:
            raise LookupError("no luck")
        return [min([*state, value]), max([*state, value])]

    def merge(self, first: list[int], second: list[int]) -> list[int]:
        both = first + second
        return [min(both), max(both)] if both else []

    def finish(self, state: list[int]) -> object:
        return [self.factor * each for each in state]


def sales(count: int, groups: int = 7, seed: int = 1) -> list[dict[str, object]]:
    """Items with a group, an amount, a label, an object, and an event time that jumps back a little now and then."""
    source = random.Random(seed)
    return [
        {
            "region": f"r{source.randrange(groups)}",
            "amount": source.choice([source.uniform(-1e9, 1e9), source.uniform(-1, 1), float(source.randrange(9)), at]),
            "label": source.choice("abc"),
            "number": source.randrange(20, 99),
            "facts": {source.choice("xyz"): source.randrange(3), "in": {source.choice("pq"): at}},
            "at": at * 100 - source.choice([0, 0, 0, 250, 1200]),
        }
        for at in range(count)
    ]
