"""What goes into an algorithm and what comes out: items found and checked, results in the wanted shape."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.model_contract_compute import (
    ModelComputeInputValidation,
    ModelContractCompute,
    OutputFormat,
)

MAX_LISTED: Final = 100
"""Problems that a message lists; all of them are counted."""
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
    "str": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "list": (list, tuple),
    "dict": (dict,),
}
_DATAFRAMES: Final = ("pandas", "polars")


def checked_items(contract: ModelContractCompute) -> Sequence[object]:
    """The items to work on. VALIDATION_ERROR with everything that is wrong with the input in `context["problems"]`."""
    problems = _Problems()
    data = contract.input_data
    validation = contract.input_validation
    if isinstance(data, dict):
        _check(data, "input_data", validation, problems)
    elif validation.required_fields or validation.data_types:
        for index, item in enumerate(data):
            if isinstance(item, dict):
                _check(item, f"input_data[{index}]", validation, problems)
            else:
                problems.add(f"input_data[{index}]: expected an object, found {_kind(item)}")
    items = _items(data, contract.input_field, problems)
    problems.raise_if_any(contract)
    return items


def require_format(wanted: OutputFormat) -> None:
    """CONFIGURATION_ERROR when a dataframe is wanted and no library is there: said before the work is done."""
    if wanted == "dataframe" and not any(map(importlib.util.find_spec, _DATAFRAMES)):
        raise ModelOnexError(
            "output_transformation.format is 'dataframe', which needs pandas or polars, and neither is installed; "
            "say pip install 'omnibase[dataframe]', or choose json, array or none",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        )


def in_format(result: object, wanted: OutputFormat) -> object:
    """The result in the wanted shape; see `ModelOutputTransformation`."""
    if wanted == "none":
        return None
    if wanted == "json":
        return result
    rows = result if isinstance(result, list) else [result]
    if wanted == "array":
        return rows
    require_format(wanted)
    library = next(filter(importlib.util.find_spec, _DATAFRAMES))
    made = cast("Callable[[object], object]", importlib.import_module(library).DataFrame)  # of a library without types
    return made([row if isinstance(row, dict) else {"value": row} for row in rows])


class _Problems:
    def __init__(self) -> None:
        self.listed: list[str] = []
        self.count = 0

    def add(self, problem: str) -> None:
        self.count += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(problem)

    def raise_if_any(self, contract: ModelContractCompute) -> None:
        if not self.count:
            return
        more = self.count - len(self.listed)
        text = "; ".join(self.listed) + (f"; and {more} more" if more else "")
        raise ModelOnexError(
            f"input of algorithm {contract.algorithm_config.algorithm_type!r}: {text}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"problems": self.listed, "problem_count": self.count},
            contract.correlation_id,
        )


def _check(
    data: Mapping[str, object], where: str, validation: ModelComputeInputValidation, problems: _Problems
) -> None:
    for name in validation.required_fields:
        if name not in data:
            problems.add(f"{where}.{name} is missing")
    for name, wanted in validation.data_types.items():
        if name in data and not _is_of(data[name], wanted):
            problems.add(f"{where}.{name}: expected {wanted}, found {_kind(data[name])}")


def _is_of(value: object, wanted: str) -> bool:
    types = _TYPES[wanted]
    return isinstance(value, types) and (type(value) is not bool or bool in types)


def _items(data: list[object] | dict[str, object], field: str | None, problems: _Problems) -> Sequence[object]:
    if isinstance(data, list):
        if field is not None:
            problems.add(f"input_field is {field!r}, but input_data is a list itself; leave input_field out")
        return data
    lists = {name: value for name, value in data.items() if isinstance(value, list | tuple)}
    if field is None and len(lists) == 1:
        return next(iter(lists.values()))
    if field in lists:
        return lists[field]
    found = ", ".join(lists) or "none"
    if field is not None:
        problems.add(f"input_field is {field!r}, but input_data has no list of that name; lists: {found}")
    else:
        problems.add(f"input_data has not one list but {len(lists)} ({found}); name the items by input_field")
    return ()


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
