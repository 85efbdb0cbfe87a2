"""`reference/compute-contract.md` and `reference/reducer-contract.md`, out of the contract models."""

from typing import Final

from docs.contract_page import collect, section, sections
from docs.field_tables import paragraph, table
from docs.templates_section import LIMITS
from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeContractFile
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelReducerContractFile
from omnibase_core.utils.compute_transformations import ITEM_NAMES, VALUE_NAMES
from omnibase_core.utils.fsm_plan import META_NAMES, SOURCES

_FILE: Final = f"""
    A contract file is one YAML mapping in UTF-8: {LIMITS}. Unknown fields are refused, values are never coerced across
    kinds. `onex schema"""
_COMPUTE: Final = paragraph(f"""
    {_FILE} compute` prints the same as JSON Schema for editors. What each refusal looks like is in
    [diagnostics](diagnostics.md#compute-pipelines); how to write one, in
    [Compute pipelines](../how-to/compute-pipelines.md).
""")
_REDUCER: Final = paragraph(f"""
    {_FILE} reducer` prints the same as JSON Schema for editors. What each refusal looks like is in
    [diagnostics](diagnostics.md#state-machines); how to write one, in [State machines](../how-to/state-machines.md).
""")
_EXPRESSIONS: Final = paragraph("""
    Expressions are [CEL](https://cel.dev) over JSON: integers of 64 bits and doubles, which do not mix (`1 + 1.0` is an
    error). They have a budget of iterations, and regular expressions in them run in linear time. `map` and `filter` go
    over the keys of a map in their order; maps that come out are sorted by key. Names are checked at load.
""")
_IN_COMPUTE: Final = {
    "item": "the item, in filter and map",
    "value": "what the step receives, in arithmetic and `when`",
    "input": "the input of the pipeline; with `parallel` the item",
    "steps": "outputs of earlier steps by name",
}
_IN_MACHINE: Final = {
    "state": "the data of the state; in exit intents and `assign` as it was before, elsewhere as it becomes",
    "payload": "that of the action",
    "input": "the same, in templates only",
    "meta": f"of the action: {', '.join(sorted(META_NAMES))}",
}
_INVARIANTS: Final = "Invariants read `state` only."


def compute_contract() -> str:
    """Every field of a compute contract."""
    _explained(_IN_COMPUTE, {*VALUE_NAMES, *ITEM_NAMES})
    seen: list[type[ContractModel]] = []
    collect(ModelComputeContractFile, seen)
    parts = [
        "# Compute contract: every field",
        _COMPUTE,
        *sections(seen),
        "## Expressions",
        _EXPRESSIONS,
        table(("name", "is"), [(f"`{name}`", text) for name, text in _IN_COMPUTE.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def reducer_contract() -> str:
    """Every field of a state machine."""
    _explained(_IN_MACHINE, set(SOURCES))
    seen: list[type[ContractModel]] = []
    collect(ModelReducerContractFile, seen)
    parts = [
        "# Reducer contract: every field",
        _REDUCER,
        *sections([model for model in seen if model is not ModelEffectRetryPolicy]),
        section(ModelEffectRetryPolicy),
        "## Templates and expressions",
        _EXPRESSIONS,
        table(("name", "is"), [(f"`{name}`", text) for name, text in _IN_MACHINE.items()]),
        _INVARIANTS,
    ]
    return "\n\n".join(parts) + "\n"


def _explained(known: dict[str, str], names: set[str]) -> None:
    if set(known) != names:
        message = f"the page explains {sorted(known)}, contracts read {sorted(names)}"
        raise LookupError(message)
