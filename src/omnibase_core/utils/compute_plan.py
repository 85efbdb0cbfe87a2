"""A compute contract compiled once: each step a closure, schemas and paths and expressions ready (section 3.1).

Problems are reported as `Breach`es with their key path; a plan with problems is never run.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
    ComputeStep,
    ModelComputeConditionalStep,
    ModelComputeMappingStep,
    ModelComputeParallelConfig,
    ModelComputeParallelStep,
    ModelComputeSubcontract,
    ModelComputeTransformationStep,
    ModelComputeValidationStep,
    step_lists,
)
from omnibase_core.utils.compute_executor import StepPlan, run_steps
from omnibase_core.utils.compute_growth import small_input
from omnibase_core.utils.compute_items import FindItems, compile_items, gather, run_items
from omnibase_core.utils.compute_run import ComputeRun
from omnibase_core.utils.compute_schemas import Check, Documents, compile_schemas, read_schemas
from omnibase_core.utils.compute_transformations import (
    VALUE_NAMES,
    Transform,
    compile_transformation,
    identity,
    nothing_at,
    program_of,
    query_of,
    unknown_step,
)
from omnibase_core.utils.contract_files import ContractFiles
from omnibase_core.utils.extraction import Missing, names_one_place

Report = Callable[[Breach], None]

_INPUT_PATH: Final = re.compile(r"\$\.?input(?=[.\[]|$)")
_STEP_PATH: Final = re.compile(r"\$\.steps\.([A-Za-z_][A-Za-z0-9_]*)(?:\.output(?=[.\[]|$))?(?=[.\[]|$)")


@dataclass(frozen=True, slots=True)
class ComputePlan:
    """A contract, compiled.

    limit_seconds: of a whole call; None is none. documents: its schemas, those of files as they were read.
    small_input: None for a contract without limits, else up to which size of its input nobody need watch them
    (`compute_growth`). find_items, over_items: of a contract with `parallel` what gives the list of
    items, and what runs the steps for each, one after another; else None.
    """

    subcontract: ModelComputeSubcontract
    steps: tuple[StepPlan, ...]
    check_input: Check | None
    check_output: Check | None
    limit_seconds: float | None
    documents: Documents = field(default_factory=dict)
    small_input: float | None = None
    find_items: FindItems | None = None
    over_items: Transform | None = None


def compile_compute(contract: ModelComputeSubcontract, files: ContractFiles | None, report: Report) -> ComputePlan:
    """The plan of a contract; of one with holes only what can be judged is.

    files: what lies beside the contract; None when it is no file.
    """
    return compile_again(contract, read_schemas(contract, files, report), report)


def _judged_before(breach: Breach) -> None:
    raise AssertionError(breach)


def compile_again(
    contract: ModelComputeSubcontract, documents: Documents, report: Report = _judged_before
) -> ComputePlan:
    """The same from schemas that have been read. report: not needed for a contract that was compiled before."""
    compiler = _Compiler(compile_schemas(contract, documents, report), report)
    steps, _ = compiler.steps(contract.__dict__.get("pipeline", []), ("pipeline",), frozenset())
    limit = contract.__dict__.get("pipeline_timeout_ms")
    limits = compiler.limits if limit is None else [*compiler.limits, limit]
    checks = compiler.checks
    find_items = compiler.items(contract.__dict__.get("parallel"))
    return ComputePlan(
        contract,
        steps,
        checks.get("input_schema"),
        checks.get("output_schema"),
        None if limit is None else limit / 1e3,
        documents,
        small_input(contract, documents, min(limits)) if limits else None,
        find_items,
        None if find_items is None else _over_items(steps, find_items),
    )


class _Compiler:
    def __init__(self, checks: dict[str, Check], report: Report) -> None:
        self.checks = checks
        self.report = report
        self.limits: list[float] = []

    def items(self, parallel: ModelComputeParallelConfig | None) -> FindItems | None:
        if parallel is None:
            return None
        path = parallel.__dict__.get("items")
        if path is None:
            return compile_items(None, lambda document, _deadline: document)
        if not names_one_place(path):
            allowed, place = "a path of names and indexes, such as $.orders", ("parallel", "items")
            self.report(Breach("E-PATH", f"path {path!r} does not lead to one place", place, repr(path), allowed))
            path = "$"
        return compile_items(path, query_of(path, ("parallel", "items"), self.report))

    def at(self, path: KeyPath) -> Report:
        return lambda breach: self.report(
            Breach(
                breach.code,
                breach.message,
                (*path, *breach.path),
                breach.found,
                breach.allowed,
                breach.fix,
                breach.severity,
            )
        )

    def steps(
        self, steps: list[ComputeStep], path: KeyPath, visible: frozenset[str]
    ) -> tuple[tuple[StepPlan, ...], frozenset[str]]:
        """The plans of enabled steps, and the names that a step behind them may read."""
        plans: list[StepPlan] = []
        for index, step in enumerate(steps):
            there = step.__dict__
            name = there.get("step_name", "")
            limit = there.get("timeout_ms")
            run = self.step(step, (*path, index), visible)
            if there.get("enabled", True):
                kind = there.get("transformation_type")
                self.limits += [] if limit is None else [limit]
                plans.append(StepPlan(name, step.step_type, kind, None if limit is None else limit / 1e3, run))
                visible |= {name}
        return tuple(plans), visible

    def step(self, step: ComputeStep, path: KeyPath, visible: frozenset[str]) -> Transform:
        there = step.__dict__
        match step:
            case ModelComputeTransformationStep():
                config = there.get("transformation_config")
                if config is None or len(config.__dict__) < len(type(config).model_fields):
                    return identity  # identity, or one with holes
                return compile_transformation(config, visible, self.at((*path, "transformation_config")))
            case ModelComputeMappingStep():
                mappings = getattr(there.get("mapping_config"), "__dict__", {}).get("field_mappings", {})
                return self.mapping(mappings, (*path, "mapping_config", "field_mappings"), visible)
            case ModelComputeValidationStep():
                config = getattr(there.get("validation_config"), "__dict__", {})
                return self.validation(config.get("schema_ref"), (*path, "validation_config"), config)
            case ModelComputeConditionalStep():
                return self.conditional(step, path, visible)
            case ModelComputeParallelStep():
                lists = self.lists(step, path, visible)
                return _parallel({str(key[-1]): steps for key, steps in lists.items()})

    def lists(self, step: ComputeStep, path: KeyPath, visible: frozenset[str]) -> dict[KeyPath, tuple[StepPlan, ...]]:
        return {key: self.steps(inner, (*path, *key), visible)[0] for key, inner in step_lists(step).items()}

    def conditional(self, step: ModelComputeConditionalStep, path: KeyPath, visible: frozenset[str]) -> Transform:
        lists = self.lists(step, path, visible)
        when = step.__dict__.get("when")
        program = (
            None if when is None else program_of(when, VALUE_NAMES, visible, "when", self.at(path), condition=True)
        )
        if program is None:
            return identity
        holds, then, otherwise = program.holds, lists.get(("then",), ()), lists.get(("else",), ())

        def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
            chosen = then if holds({"value": value, "input": run.input, "steps": run.outputs}) else otherwise
            return run_steps(chosen, value, run)

        return transform

    def mapping(self, mappings: dict[str, str], path: KeyPath, visible: frozenset[str]) -> Transform:
        finders = [(name, text, self.finder(text, (*path, name), visible)) for name, text in mappings.items()]

        def transform(_value: JsonValue, run: ComputeRun) -> JsonValue:
            made: dict[str, JsonValue] = {}
            for name, text, find in finders:
                found = find(run)
                if isinstance(found, Missing):
                    raise nothing_at(text, f"the pipeline, for field {name!r}")
                made[name] = found
            return made

        return transform

    def finder(self, text: str, path: KeyPath, visible: frozenset[str]) -> Callable[[ComputeRun], JsonValue | Missing]:
        place = _INPUT_PATH.match(text)
        if place is not None:
            below = text[place.end() :]
            if not below:
                return lambda run: run.input
            find = query_of(f"${below}", path, self.report)
            return lambda run: find(run.input, run.deadline)
        place = _STEP_PATH.match(text)
        if place is None:
            allowed = "$.input... (or $input...), $.steps.<name>..."
            self.report(
                Breach(
                    "E-PATH", f"path {text!r} begins nowhere", path, repr(text), allowed, "begin it with one of them"
                )
            )
            return lambda _run: None
        step, below = place[1], text[place.end() :]
        if step not in visible:
            self.report(unknown_step(step, visible, path))
        if not below:
            return lambda run: run.outputs[step]
        find_below = query_of(f"${below}", path, self.report)
        return lambda run: find_below(run.outputs[step], run.deadline)

    def validation(self, schema: str | None, path: KeyPath, config: dict[str, bool]) -> Transform:
        if schema is None:
            return identity
        check = self.checks.get(schema)
        if check is None:
            self.report(
                Breach(
                    "E-UNKNOWN-SCHEMA",
                    f"there is no schema {schema!r}",
                    (*path, "schema_ref"),
                    repr(schema),
                    ", ".join(self.checks) or "none: the contract has no schema",
                    "write input_schema or output_schema, or add it to schemas",
                )
            )
            return identity
        fails = config.get("fail_on_error", True)

        def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
            try:
                check(value)
            except ModelOnexError as error:
                if fails:
                    raise
                run.passed_over = error
            return value

        return transform


def _over_items(steps: tuple[StepPlan, ...], find_items: FindItems) -> Transform:
    return lambda data, run: gather([run_items(steps, find_items(data), run.deadline)], run)


def _parallel(branches: dict[str, tuple[StepPlan, ...]]) -> Transform:
    """Branches run one after another, in order of the contract: they are pure, so nobody can tell, and threads of one
    interpreter would not be faster.
    """
    fixed = tuple(branches.items())

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        return {name: run_steps(steps, value, run) for name, steps in fixed}

    return transform
