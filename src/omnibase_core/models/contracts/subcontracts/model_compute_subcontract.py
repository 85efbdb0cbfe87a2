"""The compute contract: a pipeline of pure steps (section 3.1)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_compute import EnumComputeStepType, EnumTransformationType
from omnibase_core.models.contracts.contract_model import Breach, ContractFile, ContractModel, KeyPath, Rule
from omnibase_core.models.contracts.subcontracts.compute_transformations import TransformationConfig
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

_Name = Annotated[StrictText, Field(min_length=1, max_length=100)]
_StepName = Annotated[StrictText, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
_Version = Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
_LimitMs = Annotated[int, Field(strict=True, ge=1, le=3_600_000)]
_Expression = Annotated[StrictText, Field(min_length=1, max_length=10_000)]
_Schema = dict[StrictText, JsonValue] | StrictText

MAX_STEPS: Final = 100
SCHEMA_NAMES: Final = ("input_schema", "output_schema")


class _Step(ContractModel):
    """What all steps have.

    step_name: of its result and of paths. enabled: false leaves the step out. timeout_ms: limit of this step; null is
    the pipeline's.
    """

    step_name: _StepName
    enabled: StrictFlag = True
    timeout_ms: _LimitMs | None = None


def _config_is_of_the_type(step: "ModelComputeTransformationStep") -> Iterator[Breach]:
    wanted, config = step.transformation_type, step.transformation_config
    if wanted is EnumTransformationType.IDENTITY:
        if config is not None:
            yield Breach(
                "E-STEP-CONFIG",
                f"step {step.step_name!r}: identity has no transformation_config",
                ("transformation_config",),
                fix="remove it",
            )
    elif config is None:
        yield Breach(
            "E-STEP-CONFIG",
            f"step {step.step_name!r}: {wanted} needs a transformation_config",
            ("transformation_config",),
            fix=f"add transformation_config with config_type: {wanted}",
        )
    elif config.config_type != wanted:
        yield Breach(
            "E-STEP-CONFIG",
            f"step {step.step_name!r}: transformation_type is {wanted}, its config is of {config.config_type}",
            ("transformation_config", "config_type"),
            repr(str(config.config_type)),
            str(wanted),
            f"write config_type: {wanted}, or change transformation_type",
        )


class ModelComputeTransformationStep(_Step):
    """Makes a value from the previous step's output.

    step_type: `transformation`. transformation_type: how. transformation_config: with which settings; identity has
    none.
    """

    step_type: Literal[EnumComputeStepType.TRANSFORMATION]
    transformation_type: EnumTransformationType
    transformation_config: TransformationConfig | None = None

    rules: ClassVar = (Rule(("step_name", "transformation_type", "transformation_config"), _config_is_of_the_type),)


class ModelComputeMappingConfig(ContractModel):
    """field_mappings: name -> path. `$.input` (or `$input`) is the pipeline's input, `$.steps.<name>` the output of an
    earlier step; below them RFC 9535. A path without a match is an error.
    """

    field_mappings: Annotated[dict[StrictText, StrictText], Field(min_length=1)]


class ModelComputeMappingStep(_Step):
    """Makes a mapping out of parts of the input and of earlier outputs.

    step_type: `mapping`. mapping_config: of which.
    """

    step_type: Literal[EnumComputeStepType.MAPPING]
    mapping_config: ModelComputeMappingConfig


class ModelComputeValidationConfig(ContractModel):
    """schema_ref: `input_schema`, `output_schema`, or a name in `schemas`. fail_on_error: false records what is wrong
    and goes on.
    """

    schema_ref: StrictText
    fail_on_error: StrictFlag = True


class ModelComputeValidationStep(_Step):
    """Judges the previous step's output by a schema; its own output is what it received.

    step_type: `validation`. validation_config: by which schema.
    """

    step_type: Literal[EnumComputeStepType.VALIDATION]
    validation_config: ModelComputeValidationConfig


class ModelComputeConditionalStep(_Step):
    """Runs one of two lists of steps; its output is that of the last step that ran, or what it received.

    step_type: `conditional`. when: a CEL expression over `value` (what the step receives), `input` and `steps`. then,
    else: the steps that run when it is true and when it is false.
    """

    step_type: Literal[EnumComputeStepType.CONDITIONAL]
    when: _Expression
    then: Annotated[list["ComputeStep"], Field(min_length=1, max_length=MAX_STEPS)]
    otherwise: Annotated[list["ComputeStep"], Field(alias="else", max_length=MAX_STEPS)] = Field(default_factory=list)


class ModelComputeParallelStep(_Step):
    """Gives what it receives to each of its branches; its output is the mapping of their outputs.

    step_type: `parallel`. branches: steps by the name of their output; they run one after another.
    """

    step_type: Literal[EnumComputeStepType.PARALLEL]
    branches: Annotated[
        dict[StrictText, Annotated[list["ComputeStep"], Field(min_length=1, max_length=MAX_STEPS)]],
        Field(min_length=1, max_length=MAX_STEPS),
    ]


ComputeStep: TypeAlias = Annotated[
    ModelComputeTransformationStep
    | ModelComputeMappingStep
    | ModelComputeValidationStep
    | ModelComputeConditionalStep
    | ModelComputeParallelStep,
    Field(discriminator="step_type"),
]
ModelComputeConditionalStep.model_rebuild()  # steps hold steps
ModelComputeParallelStep.model_rebuild()


def step_lists(step: object) -> Mapping[KeyPath, list[ComputeStep]]:
    """The lists of steps inside a step, by their place in it. A step with holes may lack them."""
    there = getattr(step, "__dict__", {})
    if isinstance(step, ModelComputeConditionalStep):
        return {(key,): there[name] for key, name in (("then", "then"), ("else", "otherwise")) if name in there}
    if isinstance(step, ModelComputeParallelStep):
        return {("branches", name): steps for name, steps in there.get("branches", {}).items()}
    return {}


def _walk(steps: list[ComputeStep], path: KeyPath) -> Iterator[tuple[ComputeStep, KeyPath]]:
    for index, step in enumerate(steps):
        place = (*path, index)
        yield step, place
        for below, inner in step_lists(step).items():
            yield from _walk(inner, (*place, *below))


class ModelComputeParallelConfig(ContractModel):
    """The pipeline runs for each item of a list, on workers; its output is the list of the outputs, in order.

    items: where the list is, a path of names below the input; null is the input itself. `$.input` is then the item.
    worker_count: how many work at a time. backend: null is `processes` for more than one worker, else `serial`;
    `cluster` is the engine of the settings. chunk_size: items that a worker takes at a time; null is a quarter of its
    share.
    """

    worker_count: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    backend: Annotated[StrictText, Field(pattern="^(serial|threads|processes|cluster)$")] | None = None
    chunk_size: Annotated[int, Field(strict=True, ge=1, le=100_000_000)] | None = None
    items: Annotated[StrictText, Field(min_length=1, max_length=1_000)] | None = None

    @property
    def chosen_backend(self) -> str:
        return self.backend or ("processes" if self.worker_count > 1 else "serial")


def _can_be_stopped(contract: "ModelComputeSubcontract") -> Iterator[Breach]:
    parallel = contract.parallel
    if parallel is None or parallel.chosen_backend == "processes":
        return
    limited = contract.__dict__.get("pipeline_timeout_ms") is not None or any(
        step.__dict__.get("timeout_ms") is not None for step, _ in _walk(contract.pipeline, ())
    )
    if limited:
        yield Breach(
            "E-PARALLEL-LIMIT",
            f"a limit of time holds where the work can be stopped, and the backend is {parallel.chosen_backend}",
            ("parallel",),
            parallel.chosen_backend,
            "backend: processes, with any worker_count",
            "write backend: processes, or take the limits out",
        )


def _names_are_unique(contract: "ModelComputeSubcontract") -> Iterator[Breach]:
    seen: set[str] = set()
    count = 0
    for step, path in _walk(contract.pipeline, ("pipeline",)):
        count += 1
        name = step.__dict__.get("step_name")
        if name is not None and name in seen:
            yield Breach(
                "E-STEP-NAME",
                f"step name {name!r} is used twice",
                (*path, "step_name"),
                repr(name),
                "names that are unique in the contract, branches included",
                "rename one of them",
            )
        seen.add(str(name))
    if count > MAX_STEPS and len(contract.pipeline) <= MAX_STEPS:
        yield Breach(
            "E-LENGTH",
            f"the pipeline has {count} steps, those of branches included",
            ("pipeline",),
            str(count),
            f"1 to {MAX_STEPS}",
            "split the contract",
        )


def _schemas_are_given_once(contract: "ModelComputeSubcontract") -> Iterator[Breach]:
    for name in SCHEMA_NAMES:
        if getattr(contract, name) is not None and getattr(contract, f"{name}_ref") is not None:
            yield Breach(
                "E-SCHEMA-TWICE",
                f"{name} and {name}_ref exclude each other",
                (f"{name}_ref",),
                fix="keep one of them",
            )
    for name in contract.schemas:
        if name in SCHEMA_NAMES:
            yield Breach(
                "E-SCHEMA-TWICE",
                f"{name!r} is the name of the contract's own schema",
                ("schemas", name),
                repr(name),
                fix="choose another name",
            )


class ModelComputeSubcontract(ContractModel):
    """A compute contract: what `compute_subcontract:` of a file holds.

    operation_name, operation_version: of results, errors and metrics. version: of the contract. description: for the
    reader. input_schema, output_schema: JSON Schema 2020-12, or the name of a file beside the contract; enforced before
    the first and after the last step. input_schema_ref, output_schema_ref: the name of the file. schemas: further ones,
    by name, for validation steps. pipeline: the steps, in order. pipeline_timeout_ms: limit of a whole call; null is
    none. parallel: run the pipeline for each item of a list; null is once for the whole input.
    """

    operation_name: _Name
    operation_version: _Version = "1.0.0"
    version: _Version = "1.0.0"
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    input_schema: _Schema | None = None
    output_schema: _Schema | None = None
    input_schema_ref: StrictText | None = None
    output_schema_ref: StrictText | None = None
    schemas: dict[StrictText, _Schema] = Field(default_factory=dict)
    pipeline: Annotated[list[ComputeStep], Field(min_length=1, max_length=MAX_STEPS)]
    pipeline_timeout_ms: _LimitMs | None = None
    parallel: ModelComputeParallelConfig | None = None

    rules: ClassVar = (
        Rule(("pipeline",), _names_are_unique),
        Rule(
            ("input_schema", "output_schema", "input_schema_ref", "output_schema_ref", "schemas"),
            _schemas_are_given_once,
        ),
        Rule(("pipeline", "parallel"), _can_be_stopped),
    )


class ModelComputeContractFile(ContractFile):
    """A file with a compute contract.

    compute_subcontract: the contract.
    """

    compute_subcontract: ModelComputeSubcontract
