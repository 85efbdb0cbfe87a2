"""`reference/effect-contract.md`, out of the contract models."""

from typing import Final

from docs.field_tables import default_of, meanings, paragraph, table
from docs.templates_section import LIMITS, templates
from omnibase_core.enums.enum_compute import EnumTransformationType
from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.contracts.model_contract_file import ModelContractFile
from omnibase_core.models.contracts.subcontracts.effect_retry_config import IDEMPOTENCY_DEFAULTS
from omnibase_core.utils.contract_shapes import Shape, fields_of

_INTRODUCTION: Final = paragraph(f"""
    A contract file is one YAML mapping in UTF-8: {LIMITS}. Unknown fields are refused. Values are never coerced across
    kinds: `"5"` is no number, `yes` is no boolean, `0644` is no text. `onex schema effect` prints the same as JSON
    Schema for editors. What each refusal looks like is in [diagnostics](diagnostics.md).
""")
_IDEMPOTENCY: Final = paragraph("""
    Whether doing an operation twice is as good as once, where `idempotent` is not set. `raw` SQL counts as not
    idempotent; so does an UPDATE or UPSERT that sets a column relative to itself (`n = n + 1`). An
    `idempotency_key` makes an http call count as idempotent.
""")


_TITLES = {
    "ModelContractFile": "The file",
    "ModelEffectSubcontract": "`effect_subcontract`",
    "ModelEffectOperation": "Operation",
    "ModelHttpIOConfig": "`io_config`: http",
    "ModelDbIOConfig": "`io_config`: db",
    "ModelKafkaIOConfig": "`io_config`: kafka",
    "ModelFilesystemIOConfig": "`io_config`: filesystem",
    "ModelHttpBasicAuth": "`auth`: basic",
    "ModelHttpBearerAuth": "`auth`: bearer",
    "ModelHttpApiKeyAuth": "`auth`: api_key",
    "ModelHttpOAuth2Auth": "`auth`: oauth2",
    "ModelHttpIdempotencyKey": "`idempotency_key`",
    "ModelEffectResponseHandling": "`response_handling`",
    "ModelEffectResponseExtract": "`extract_fields`: long form",
    "ModelEffectRetryPolicy": "`retry_policy`, `default_retry_policy`",
    "ModelEffectCircuitBreaker": "`circuit_breaker`, `default_circuit_breaker`",
    "ModelEffectTransactionConfig": "`transaction`",
    "ModelEffectObservability": "`observability`",
    "ModelEffectInputSchema": "`input_schema`",
    "ModelEffectContractMetadata": "`metadata`",
    "ModelComputeContractFile": "The file",
    "ModelComputeSubcontract": "`compute_subcontract`",
    "ModelComputeParallelConfig": "`parallel`",
    "ModelComputeTransformationStep": "Step: transformation",
    "ModelComputeMappingStep": "Step: mapping",
    "ModelComputeMappingConfig": "`mapping_config`",
    "ModelComputeValidationStep": "Step: validation",
    "ModelComputeValidationConfig": "`validation_config`",
    "ModelComputeConditionalStep": "Step: conditional",
    "ModelComputeParallelStep": "Step: parallel",
    **{
        f"Model{name.title().replace('_', '')}Config": f"`{name}`"
        for name in EnumTransformationType
        if name != EnumTransformationType.IDENTITY
    },
    "ModelReducerContractFile": "The file",
    "ModelReducerSubcontract": "`reducer_subcontract`",
    "ModelFSMSubcontract": "`state_machine`",
    "ModelFSMState": "State",
    "ModelFSMTransition": "Transition",
    "ModelFSMIntent": "Intent",
    "ModelOrchestratorContractFile": "The file",
    "ModelOrchestratorSubcontract": "`orchestrator_subcontract`",
    "ModelWorkflowStep": "Step",
    "ModelWorkflowWait": "`wait`",
    "ModelWorkflowEventMatch": "`wait`: event",
    "ModelWorkflowApproval": "`approval`",
    "ModelWorkflowAside": "`compensate`, `escalate`",
    "ModelConflictResolutionConfig": "`conflict_resolution`",
    "ModelDependency": "`dependencies`",
    "ModelWorkflowLease": "`lease`",
    "ModelWorkflowTrigger": "`triggers`",
    "ModelScheduleTrigger": "`triggers`: schedule",
    "ModelContinueAsNew": "`continue_as_new`",
    "ModelEventTrigger": "`triggers`: event",
}

_PLANNED = {
    "ModelHttpIOConfig": ("`response_format: stream`",),
    "ModelEffectOperation": ("handler kinds of one's own",),
}
"""Refused values beside the refused fields, as `contract_shapes` knows them."""


def effect_contract() -> str:
    """Every field of an effect contract."""
    parts = [
        "# Effect contract: every field",
        _INTRODUCTION,
    ]
    seen: list[type[ContractModel]] = []
    collect(ModelContractFile, seen)
    parts += sections(seen)
    parts += [_idempotency(), templates()]
    return "\n\n".join(parts) + "\n"


def sections(models: list[type[ContractModel]]) -> list[str]:
    """A section for each model, in the order of the titles."""
    return [section(cls) for cls in sorted(models, key=lambda cls: list(_TITLES).index(cls.__name__))]


def collect(cls: type[ContractModel], seen: list[type[ContractModel]]) -> None:
    """The model and all below it, each once."""
    if cls in seen:
        return
    seen.append(cls)
    for field in fields_of(cls).values():
        for shape in (field.shape, field.shape.items, field.shape.values):
            for model in _models(shape):
                collect(model, seen)


def _models(shape: Shape | None) -> list[type[ContractModel]]:
    if shape is None:
        return []
    return ([] if shape.model is None else [shape.model]) + list((shape.tagged or {}).values())


def section(cls: type[ContractModel]) -> str:
    """A heading, what the docstring says, and a table of the fields."""
    whole, texts = meanings(cls)
    rows = []
    for key, field in fields_of(cls).items():
        default = default_of(cls, field.name)
        if key == "handler_type":
            default = "required"
        elif key == "correlation_id":
            default = "derived"
        rows.append((f"`{key}`", _takes(field.shape), default, texts[key]))
    parts = [f"## {_TITLES[cls.__name__]}", whole, table(("field", "takes", "default", "meaning"), rows)]
    refused = [f"`{name}`" for name in cls.not_built] + list(_PLANNED.get(cls.__name__, ()))
    if refused:
        parts.append(f"Planned, and until then refused with `E-NOT-BUILT`: {', '.join(refused)}.")
    return "\n\n".join(parts)


def _takes(shape: Shape) -> str:
    """The loader's own words, with what lists and mappings hold and links to models."""
    text = shape.allowed
    if shape.items is not None:
        count = f", {shape.least} to {shape.most} entries" if shape.most else ""
        text = text.replace("a list", f"a list{count}, each {_entry(shape.items)}", 1)
    if shape.values is not None:
        text = text.replace("a mapping", f"a mapping, each value {_entry(shape.values)}", 1)
    elif _models(shape):
        text = text.replace("a mapping", _links(shape), 1)
    return text


def _entry(shape: Shape) -> str:
    text = _takes(shape)
    return f"({text})" if " or " in text and not _models(shape) else text


def _links(shape: Shape) -> str:
    return " or ".join(_link(_TITLES[model.__name__]) for model in _models(shape))


def _link(title: str) -> str:
    anchor = "".join(c for c in title.lower() if c.isalnum() or c in " _-").replace(" ", "-")
    return f"[{title.replace('`', '')}](#{anchor})"


def _idempotency() -> str:
    rows = [
        (
            kind,
            ", ".join(o for o, yes in verbs.items() if yes) or "none",
            ", ".join(o for o, yes in verbs.items() if not yes),
        )
        for kind, verbs in IDEMPOTENCY_DEFAULTS.items()
    ]
    return "\n\n".join(
        [
            "## Idempotency by default",
            _IDEMPOTENCY,
            table(("kind", "idempotent", "not idempotent"), rows),
        ]
    )
