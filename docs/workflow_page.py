"""`reference/workflow-contract.md`, out of the contract models."""

from typing import Final

from docs.contract_page import collect, section, sections
from docs.field_tables import paragraph, table
from docs.templates_section import LIMITS
from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorContractFile
from omnibase_core.utils.workflow_values import CONDITION_NAMES, MAX_ITEMS, RUN_KEYS, SOURCES, STEP_KEYS

_INTRODUCTION: Final = paragraph(f"""
    A workflow file is one YAML mapping in UTF-8: {LIMITS}. Unknown fields are refused, values are never coerced across
    kinds. `onex schema orchestrator` prints the same as JSON Schema for editors. What each refusal looks like is in
    [diagnostics](diagnostics.md#workflows); how to write one, in [Write a workflow](../how-to/write-a-workflow.md).
""")
_RETRY: Final = paragraph("""
    Of a step, `retryable_errors` are error codes such as `TIMEOUT` or class names of exceptions;
    `retryable_status_codes`, `respect_retry_after` and `budget` are about one request and have no effect here.
""")
_TEMPLATES: Final = paragraph("""
    Texts in `input`, `output`, `items`, `for_each`, `idempotency_key`, `prompt`, `until` and `key` are templates:
    `${source.key.0.key}`, optionally with `:-default`; `$${` is a literal `${`. A text that is one placeholder keeps
    the type of its value, any other gives a text. What was put in is not looked at again. A missing value is an error
    of the step. Conditions (`when`, `filter`) are [CEL](https://cel.dev) over the same names, without `$` and braces.
""")
_READS: Final = {
    "input": "the input of the run",
    "steps": "outputs of steps that surely ended before, by id; null for one that was skipped",
    "item": "the entry of a `for_each`, or the item of a pipeline as it came in",
    "index": "its number, from 0",
    "workflow": f"of the run {', '.join(RUN_KEYS)}; in a step besides {', '.join(STEP_KEYS[len(RUN_KEYS) :])}",
    "event": "what started a step of an event-driven workflow (of joined ones a map by type), or what a filter or a "
    "trigger looks at",
}
_BEFORE: Final = paragraph("""
    Before means: in a sequential workflow and in a pipeline, all that come earlier in topological order; in a parallel
    or an event-driven one, those that `depends_on` leads to, directly or not. Anything else is refused when the
    contract is loaded, because which step ends first is a matter of chance.
""")
_ORDER: Final = (
    ("sequential", "topologically, of several that could be next the one that is declared first"),
    ("parallel", "each as soon as what it depends on has ended, at most `max_parallel_steps` at once"),
    (
        "pipeline",
        "items pass from step to step, in their order, while others are in other steps, `max_parallel_steps` at once",
    ),
    (
        "event_driven",
        "each as soon as its events have come and what it depends on has ended, at most `max_parallel_steps` at once",
    ),
)
_NODES: Final = (
    ("effect", "a map, the `operation_data`", "extracted fields by operation: `${steps.<id>.<operation>.<field>}`"),
    ("compute", "the input of the pipeline", "the output of its last step"),
    ("reducer", "`{action, payload, state}`; state is a snapshot, null begins", "`{state, intents, transition}`"),
    ("orchestrator", "the input of the child run", "its `output`"),
    ("a service", "whatever its `execute(parameters)` takes", "what that returns, as JSON"),
    ("wait", "", "the payload of the signal or the event, null for a time"),
    ("approval", "", "`{approved, by, ...}`"),
)
_FILES: Final = paragraph(f"""
    A `node` that ends in `.yaml`, `.yml` or `.json` is a contract, relative to the workflow's file; any other is the
    name of a service of the program. Contracts are loaded with the workflow: their kind, and whether they take the
    input that the step gives, is judged then, as far as placeholders let tell. A run keeps the texts of the workflow,
    of these contracts, their schemas and their child workflows as they were when it began. A `for_each` has at most
    {MAX_ITEMS} entries.
""")


def workflow_contract() -> str:
    """Every field of a workflow contract, and what may be read where."""
    if set(_READS) != set(SOURCES) or not set(CONDITION_NAMES) <= set(SOURCES):
        message = f"the page explains {sorted(_READS)}, templates read {sorted(SOURCES)}"
        raise LookupError(message)
    seen: list[type[ContractModel]] = []
    collect(ModelOrchestratorContractFile, seen)
    parts = [
        "# Workflow contract: every field",
        _INTRODUCTION,
        *sections([model for model in seen if model is not ModelEffectRetryPolicy]),
        section(ModelEffectRetryPolicy),
        _RETRY,
        "## Order",
        table(("coordination_type", "steps run"), list(_ORDER)),
        "## Templates and conditions",
        _TEMPLATES,
        table(("source", "is"), [(f"`{name}`", text) for name, text in _READS.items()]),
        _BEFORE,
        "## Nodes",
        _FILES,
        table(("step_type", "is given", "its output"), list(_NODES)),
    ]
    return "\n\n".join(parts) + "\n"
