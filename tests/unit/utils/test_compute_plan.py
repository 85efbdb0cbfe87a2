"""Compute pipelines: order, mapping, validation, branches, limits of time, and what a contract may not say."""

import json
import time
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_compute import EnumComputeStepType, EnumTransformationType
from omnibase_core.errors import ContractError, ModelOnexError
from omnibase_core.models.contracts.subcontracts.compute_transformations import ModelTrimConfig
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
    ModelComputeSubcontract,
    ModelComputeTransformationStep,
)
from omnibase_core.models.model_compute_output import ModelComputeStepResult
from omnibase_core.utils.compute_executor import StepPlan, execute_pipeline, run_steps
from omnibase_core.utils.compute_plan import ComputePlan
from omnibase_core.utils.compute_run import ComputeRun
from omnibase_core.utils.contract_loader import judge_text, load_contract
from tests.support.compute import contract, findings, plan_of, run, transformation

HOSTILE = "a" * 60 + "b"
UPPER = transformation("case_conversion", "upper", mode="uppercase")
TRIM = transformation("trim", "trim")
Steps = list[dict[str, object]]


def mapping(name: str = "out", **mappings: str) -> dict[str, object]:
    return {"step_name": name, "step_type": "mapping", "mapping_config": {"field_mappings": mappings}}


def validation(ref: str, name: str = "check", **config: object) -> dict[str, object]:
    return {"step_name": name, "step_type": "validation", "validation_config": {"schema_ref": ref, **config}}


def conditional(
    when: str, then: list[dict[str, object]], other: list[dict[str, object]] | None = None
) -> dict[str, object]:
    step: dict[str, object] = {"step_name": "choose", "step_type": "conditional", "when": when, "then": then}
    return step if other is None else {**step, "else": other}


def test_each_step_gets_the_output_of_the_one_before() -> None:
    """And every result is there, in order."""
    result = run([TRIM, UPPER], " ab ")

    assert (result.success, result.output, result.steps_executed) == (True, "AB", 2)
    assert [(name, one.output) for name, one in result.step_results.items()] == [("trim", "ab"), ("upper", "AB")]
    assert result.processing_time_ms >= sum(one.duration_ms for one in result.step_results.values())
    assert json.loads(result.model_dump_json())["step_results"]["trim"]["transformation_type"] == "trim"


def test_the_first_failure_ends_the_pipeline() -> None:
    """Later steps are not run, and the results of earlier ones are kept."""
    result = run([TRIM, transformation("join", "join"), UPPER], " ab ")

    assert (result.success, result.output, result.error_step, result.steps_executed) == (False, None, "join", 2)
    assert list(result.step_results) == ["trim", "join"]
    assert result.step_results["trim"].output == "ab"
    assert result.step_results["join"].error_type == result.error_type == "VALIDATION_ERROR"


def test_results_are_frozen() -> None:
    """Nobody writes into what happened, and trusted models are what validated ones would be."""
    result = run([TRIM], " ab ")
    step = result.step_results["trim"]

    with pytest.raises(ValidationError):
        result.success = False  # type: ignore[misc]  # that is what is refused
    with pytest.raises(ValidationError):
        step.output = 1  # type: ignore[misc]  # that is what is refused
    assert step == ModelComputeStepResult.model_validate(step.model_dump())


def test_a_disabled_step_is_left_out() -> None:
    """It has no result, and nobody may refer to it."""
    off = {**TRIM, "enabled": False}

    assert list(run([off, UPPER], " a").step_results) == ["upper"]
    assert [finding.code for finding in findings([off, mapping(a="$.steps.trim")])] == ["E-UNKNOWN-STEP"]


# mapping


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.input", {"name": " a ", "list": [{"x": 1}, {"x": 2}]}),
        ("$input", {"name": " a ", "list": [{"x": 1}, {"x": 2}]}),
        ("$.input.name", " a "),
        ("$input.list[1].x", 2),
        ("$input['name']", " a "),
        ("$.input.list[*].x", [1, 2]),
        ("$.steps.name", " a "),
        ("$.steps.name.output", " a "),
        ("$.steps.whole.list[0]", {"x": 1}),
        ("$.steps.whole.output.name", " a "),
    ],
)
def test_a_mapping_takes_parts(path: str, expected: JsonValue) -> None:
    """Of the input and of earlier outputs."""
    steps = [transformation("identity", "whole"), transformation("json_path", "name", path="$.name"), mapping(a=path)]

    assert run(steps, {"name": " a ", "list": [{"x": 1}, {"x": 2}]}).output == {"a": expected}


def test_a_mapping_without_a_match_fails() -> None:
    """The message names field and path."""
    result = run([mapping(a="$.input.b")], {"c": 1})

    assert result.error_type == "EXTRACTION_ERROR"
    assert "nothing at $.input.b in the pipeline, for field 'a'" in str(result.error_message)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("$.steps.later", "E-UNKNOWN-STEP"),
        ("$.steps.nobody.x", "E-UNKNOWN-STEP"),
        ("$.steps.out", "E-UNKNOWN-STEP"),
        ("$.inputs.x", "E-PATH"),
        ("name", "E-PATH"),
        ("$.input[", "E-PATH"),
        ("$.steps", "E-PATH"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, code: str) -> None:
    """Also one to the step itself, or to a later one."""
    (finding,) = findings([mapping(a=path), {**UPPER, "step_name": "later"}])

    assert (finding.code, finding.key_path) == (code, "compute_subcontract.pipeline[0].mapping_config.field_mappings.a")


# schemas

NAMED = {"type": "object", "required": ["name"]}


def test_schemas_are_enforced_before_and_behind() -> None:
    """The input's before any step runs, the output's behind the last."""
    before = run([TRIM], " a ", input_schema={"type": "number"})
    behind = run([TRIM], " a ", output_schema={"type": "number"})

    assert (before.success, before.steps_executed, before.error_step) == (False, 0, None)
    assert str(before.error_message).startswith("the input does not fit its schema")
    assert (behind.success, behind.steps_executed, behind.output) == (False, 1, None)
    assert str(behind.error_message).startswith("the output does not fit its schema")
    assert run([TRIM], " a ", input_schema={"type": "string"}, output_schema={"const": "a"}).success


def test_a_validation_step_judges() -> None:
    """By a named schema; it fails the pipeline, or records what is wrong and goes on."""
    strict = run([validation("person")], {}, schemas={"person": NAMED})
    lenient = run([validation("person", fail_on_error=False), mapping(a="$.input")], {}, schemas={"person": NAMED})

    assert (strict.success, strict.error_step) == (False, "check")
    assert "'required' 'name'" in str(strict.error_message)
    assert lenient.success
    assert lenient.step_results["check"].success
    assert "'required' 'name'" in str(lenient.step_results["check"].error_message)
    assert lenient.step_results["check"].output == {}
    assert lenient.step_results["out"].error_message is None
    assert run([validation("person")], {"name": 1}, schemas={"person": NAMED}).output == {"name": 1}


@pytest.mark.parametrize("ending", ["json", "yaml"])
@pytest.mark.parametrize("field", ["input_schema", "input_schema_ref"])
def test_a_schema_may_be_a_file_beside_the_contract(tmp_path: Path, ending: str, field: str) -> None:
    """Resolved when the contract is loaded."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / f"schemas/person.{ending}").write_text(json.dumps(NAMED))
    file = tmp_path / "contract.yaml"
    file.write_text(contract([validation("input_schema")], **{field: f"schemas/person.{ending}"}))

    plan = load_contract(file).compute_plan

    assert plan is not None
    assert not execute_pipeline(plan, {}).success
    assert execute_pipeline(plan, {"name": 1}).success


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("none.json", "cannot be read"),
        ("../outside.json", "outside of the contract's directory"),
        ("/etc/hosts.json", "outside of the contract's directory"),
        ("a\0.json", "null byte"),
        ("schema.txt", "ends in .json"),
        ("bad.json", "no valid JSON"),
        ("bad.yaml", "no valid YAML"),
        ("two.yaml", "has 2"),
        ("list.json", "a schema is a mapping"),
        ("large.json", "bytes"),
        ("wrong.json", "no JSON Schema"),
    ],
)
def test_a_reference_that_leads_to_no_schema_is_refused(tmp_path: Path, ref: str, words: str) -> None:
    """With the reason, at its place."""
    for name, text in {
        "bad.json": "{",
        "bad.yaml": "a: [",
        "two.yaml": "a: 1\n---\nb: 1\n",
        "list.json": "[]",
        "large.json": " " * (2 << 20),
        "wrong.json": '{"type": 7}',
    }.items():
        (tmp_path / name).write_text(text)
    file = tmp_path / "contract.yaml"
    file.write_text(contract([TRIM], input_schema=ref))

    with pytest.raises(ContractError) as caught:
        load_contract(file)

    (finding,) = caught.value.diagnostics
    assert finding.key_path == "compute_subcontract.input_schema"
    assert words in finding.message


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        (
            {"input_schema": {"properties": {"a": {"type": "integr"}}}},
            "input_schema.properties.a.type",
            "at properties.a.type: 'integr' is no type",
        ),
        ({"schemas": {"s": {"type": ["integer", "x"]}}}, "schemas.s.type", "at type: ['integer', 'x'] is no type"),
        ({"schemas": {"s": {"pattern": "("}}}, "schemas.s.pattern", "at pattern: "),
        ({"output_schema": {"$ref": "#/none"}}, "output_schema", "does not exist"),
        ({"output_schema_ref": "f.json"}, "output_schema_ref", "at items.minimum: "),
        ({"schemas": {"s": "f.json"}}, "schemas.s", "at items.minimum: "),
    ],
)
def test_what_breaks_in_a_schema_is_found_where_it_stands(
    fields: dict[str, object], path: str, words: str, tmp_path: Path
) -> None:
    """A schema of a file is named by its file, and the place is told; what points outside has no place."""
    (tmp_path / "f.json").write_text('{"items": {"minimum": "x"}}')
    file = tmp_path / "contract.yaml"
    file.write_text(contract([TRIM], **fields))

    with pytest.raises(ContractError) as caught:
        load_contract(file)

    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.key_path) == ("E-INPUT-SCHEMA", f"compute_subcontract.{path}")
    assert words in finding.message
    assert ("integer" in finding.allowed) is ("is no type" in finding.message)
    assert finding.fix.startswith("references stay" if "$ref" in str(fields) else "mend ")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"input_schema": "a.json"}, "E-SCHEMA-FILE"),  # a text has no directory
        ({"input_schema": {"type": 7}}, "E-INPUT-SCHEMA"),
        ({"input_schema": {}, "input_schema_ref": "a.json"}, "E-SCHEMA-TWICE"),
        ({"schemas": {"input_schema": {}}}, "E-SCHEMA-TWICE"),
        ({"parallel": {"backend": "gpu"}}, "E-VALUE"),
        ({"parallel": {"worker_count": 0}}, "E-BOUNDS"),
        ({"parallel": {"items": "$..a"}}, "E-PATH"),
        ({"parallel": {"items": "a"}}, "E-PATH"),
        ({"parallel": {}, "pipeline_timeout_ms": 5}, "E-PARALLEL-LIMIT"),
        ({"parallel": {"backend": "cluster"}, "pipeline_timeout_ms": 5}, "E-PARALLEL-LIMIT"),
        ({"pipeline_timeout_ms": 0}, "E-BOUNDS"),
        ({"operation_version": "1"}, "E-TEXT"),
    ],
)
def test_a_field_that_cannot_work_is_refused(fields: dict[str, object], code: str) -> None:
    """At load."""
    assert [finding.code for finding in findings([TRIM], **fields)] == [code]


@pytest.mark.parametrize("entry", ["{step_name: b, step_type: trimmed}", "{step_name: b}", "{step_type: 7}", "7"])
def test_a_step_that_is_none_hides_no_other_problem(entry: str) -> None:
    """It keeps its place and its name, to which others may refer."""
    steps = (
        "{step_name: a, step_type: validation, validation_config: {schema_ref: nope}}",
        entry,
        "{step_name: c, step_type: mapping, mapping_config: {field_mappings: {x: $.steps.zz}}}",
    )
    text = "compute_subcontract:\n  operation_name: x\n  pipeline:\n" + "".join(f"    - {step}\n" for step in steps)

    found = judge_text(text)[0].diagnostics

    assert [one.code for one in found if one.line != 5] == ["E-UNKNOWN-SCHEMA", "E-UNKNOWN-STEP"]
    assert [one.line for one in found] == [4, 5, 6]


def test_an_unknown_schema_is_refused() -> None:
    """A validation step names a schema that the contract has."""
    (finding,) = findings([validation("person")], schemas={"persons": {}})

    assert (finding.code, finding.allowed) == ("E-UNKNOWN-SCHEMA", "persons")


# branches


@pytest.mark.parametrize(("data", "expected"), [(" a", " A"), ("  ", "")])
def test_a_conditional_step_runs_one_of_its_lists(data: str, expected: str) -> None:
    """Only the steps that ran have results."""
    result = run([conditional("value.contains('a')", [UPPER], [TRIM])], data)

    assert result.output == expected
    assert len(result.step_results) == 2


def test_a_conditional_step_without_else_hands_its_value_on() -> None:
    """When its condition does not hold."""
    assert run([conditional("input == 'x'", [UPPER])], "a").output == "a"


def test_a_condition_sees_earlier_steps() -> None:
    """By name, below `steps`."""
    assert run([TRIM, UPPER, conditional("steps.trim == 'a'", [transformation("split", "s")])], " a ").output == ["A"]


def test_a_parallel_step_gives_the_outputs_of_its_branches() -> None:
    """Each branch gets what the step received; a step behind it reads the whole."""
    branches = {"x": [TRIM, UPPER], "y": [transformation("split", "s")]}
    step: dict[str, object] = {
        "step_name": "both",
        "step_type": "parallel",
        "branches": branches,
    }

    result = run([step, mapping(a="$.steps.both.y[0]")], " a")

    assert result.step_results["both"].output == {"x": "A", "y": [" a"]}
    assert result.output == {"a": " a"}
    assert list(result.step_results) == ["trim", "upper", "s", "both", "out"]


def test_a_failure_inside_of_a_branch_fails_the_steps_around_it() -> None:
    """`error_step` is the innermost."""
    result = run([conditional("true", [TRIM]), UPPER], 5)

    assert (result.error_step, result.steps_executed) == ("trim", 2)
    assert list(result.step_results) == ["trim", "choose"]
    assert not result.step_results["choose"].success


@pytest.mark.parametrize(
    "reader", [mapping(a="$.steps.trim"), transformation("template", "t", template="${output.trim.output}")]
)
def test_a_step_of_another_branch_is_not_seen(reader: dict[str, object]) -> None:
    """It may not have run."""
    parallel: dict[str, object] = {"step_name": "p", "step_type": "parallel", "branches": {"x": [TRIM], "y": [reader]}}

    assert [finding.code for finding in findings([parallel])] == ["E-UNKNOWN-STEP"]
    assert [finding.code for finding in findings([conditional("true", [TRIM]), reader])] == ["E-UNKNOWN-STEP"]


@pytest.mark.parametrize("place", ["${output.whole.output.a}", "${output.whole.a}"])
def test_a_template_reads_earlier_outputs(place: str) -> None:
    """By the name of the step, its output or a field of it."""
    steps = [transformation("identity", "whole"), transformation("template", "t", template=f"<{place}>")]

    assert run(steps, {"a": 1}).output == "<1>"


# what a contract may not say


@pytest.mark.parametrize(
    ("step", "code", "place"),
    [
        (
            {**transformation("identity"), "transformation_config": {"config_type": "trim"}},
            "E-STEP-CONFIG",
            ".transformation_config",
        ),
        ({"step_name": "a", "step_type": "transformation", "transformation_type": "trim"}, "E-STEP-CONFIG", ""),
        ({**TRIM, "transformation_type": "join"}, "E-STEP-CONFIG", ".transformation_config.config_type"),
        ({**TRIM, "mapping_config": {}}, "E-UNKNOWN-FIELD", ".mapping_config"),
        ({**TRIM, "transformation_type": "trimm"}, "E-VALUE", ".transformation_type"),
        ({**TRIM, "timeout_ms": 0}, "E-BOUNDS", ".timeout_ms"),
        ({**TRIM, "step_name": "a b"}, "E-TEXT", ".step_name"),
        ({"step_name": "a", "step_type": "mapping"}, "E-MISSING-FIELD", ""),
        ({"step_name": "a", "step_type": "validation"}, "E-MISSING-FIELD", ""),
        ({"step_name": "a", "step_type": "conditional", "when": "true"}, "E-MISSING-FIELD", ""),
        ({"step_name": "a", "step_type": "conditional", "then": [UPPER]}, "E-MISSING-FIELD", ""),
        ({"step_name": "a", "step_type": "parallel"}, "E-MISSING-FIELD", ""),
        ({"step_name": "a", "step_type": "magic"}, "E-VALUE", ".step_type"),
        ({"step_name": "a"}, "E-MISSING-FIELD", ""),
        (conditional("1 + 1", [UPPER]), "E-CEL", ".when"),
        (conditional("valu", [UPPER]), "E-CEL", ".when"),
        (conditional("true", [transformation("limit", count=True)]), "E-TYPE", ".then[0].transformation_config.count"),
    ],
)
def test_a_step_that_cannot_work_is_refused(step: dict[str, object], code: str, place: str) -> None:
    """One finding for each mistake, at its place."""
    (finding,) = findings([step])

    assert finding.code == code
    assert finding.key_path.startswith(f"compute_subcontract.pipeline[0]{place}")
    assert finding.line == 1


@pytest.mark.parametrize(
    ("step", "place"),
    [
        (transformation("arithmetic", "a", expression="1 + steps.nobody"), "transformation_config.expression"),
        (transformation("map", "a", expression="steps.trim + steps['later']"), "transformation_config.expression"),
        (transformation("filter", "a", expression="has(steps.a.x)"), "transformation_config.expression"),
        (conditional("steps.inner == 1", [transformation("limit", "inner", count=1)]), "when"),
    ],
)
def test_an_expression_over_an_unknown_step_is_refused(step: dict[str, object], place: str) -> None:
    """At load, at the place of the name: steps that are not there, not there yet, or in a branch."""
    steps = [TRIM, step, transformation("identity", "later")]

    (finding,) = findings(steps)

    assert finding.code == "E-UNKNOWN-STEP"
    assert finding.key_path == f"compute_subcontract.pipeline[1].{place}"
    assert "trim" in str(finding.allowed)
    text = contract(steps)
    assert text[finding.column - 1 :].startswith(("nobody", "'later", "a.x", "inner"))


def test_all_mistakes_are_found_at_once() -> None:
    """Those of fields do not hide those of rules and of the plan."""
    steps: Steps = [
        {**TRIM, "timeout_ms": "soon"},
        {**TRIM},
        mapping(a="$.steps.nobody"),
        conditional("valu", [transformation("trim", "inner", mode="middle")]),
        {"step_name": "v", "step_type": "validation", "validation_config": {}},
        {"step_name": "m", "step_type": "mapping"},
        transformation("regex", "r"),
    ]

    codes = sorted(finding.code for finding in findings(steps))

    assert codes == sorted(
        [
            "E-TYPE",
            "E-STEP-NAME",
            "E-UNKNOWN-STEP",
            "E-CEL",
            "E-VALUE",
            "E-MISSING-FIELD",
            "E-MISSING-FIELD",
            "E-MISSING-FIELD",
        ]
    )


def test_a_contract_that_is_no_mapping_is_refused() -> None:
    """Nothing below it is judged."""
    (finding,) = judge_text("compute_subcontract: 7\n")[0].diagnostics

    assert finding.code == "E-TYPE"


def test_names_are_unique_and_steps_are_counted_with_branches() -> None:
    """Up to 100 steps in all."""
    inner = [transformation("identity", f"i{number}") for number in range(60)]
    many: list[dict[str, object]] = [
        conditional("true", inner),
        *(transformation("identity", f"o{number}") for number in range(60)),
    ]

    assert [finding.code for finding in findings([conditional("true", [TRIM], [TRIM])])] == ["E-STEP-NAME"]
    assert [finding.code for finding in findings(many)] == ["E-LENGTH"]
    assert [finding.code for finding in findings([])] == ["E-LENGTH"]


def test_mappings_have_bounds_too() -> None:
    """Found at the key, like those of lists."""
    empty: list[dict[str, object]] = [
        {"step_name": "m", "step_type": "mapping", "mapping_config": {"field_mappings": {}}},
        {"step_name": "p", "step_type": "parallel", "branches": {}},
    ]

    found = findings(empty)

    assert [(finding.code, finding.key_path.rpartition(".")[2], finding.allowed) for finding in found] == [
        ("E-LENGTH", "field_mappings", "at least 1"),
        ("E-LENGTH", "branches", "1 to 100 entries"),
    ]


def test_rules_hold_in_python_too() -> None:
    """A model that breaks one is not built."""
    with pytest.raises(ModelOnexError, match="identity has no transformation_config"):
        ModelComputeTransformationStep(
            step_name="a",
            step_type=EnumComputeStepType.TRANSFORMATION,
            transformation_type=EnumTransformationType.IDENTITY,
            transformation_config=ModelTrimConfig(config_type=EnumTransformationType.TRIM),
        )


# limits of time

CATASTROPHE = transformation("regex", pattern="^(a|aa)+$")


@pytest.mark.parametrize(
    ("step", "fields", "at_most_s"),
    [
        (CATASTROPHE, {}, 1.0),
        ({**CATASTROPHE, "timeout_ms": 50}, {}, 0.05),
        (CATASTROPHE, {"pipeline_timeout_ms": 50}, 0.05),
        ({**CATASTROPHE, "timeout_ms": 5_000}, {"pipeline_timeout_ms": 50}, 0.05),
    ],
)
def test_a_regular_expression_that_does_not_end_is_stopped(
    step: dict[str, object], fields: dict[str, object], at_most_s: float
) -> None:
    """Under the step's limit, the pipeline's, or a second: an error, not a hang. The engine counts CPU time."""
    began = time.process_time()

    result = run([step, UPPER], HOSTILE, **fields)

    assert time.process_time() - began < at_most_s + 1
    assert (result.error_type, result.error_step, result.steps_executed) == ("TIMEOUT", "step", 1)
    assert "stopped" in str(result.error_message)


def _slow(seconds: float) -> StepPlan:
    def work(value: JsonValue, _run: ComputeRun) -> JsonValue:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return value

    return StepPlan("slow", EnumComputeStepType.TRANSFORMATION, None, None, work)


def _with_steps(*steps: StepPlan, limit_seconds: float | None = None) -> ComputePlan:
    return ComputePlan(plan_of([TRIM]).subcontract, steps, None, None, limit_seconds)


def test_a_step_that_ends_behind_the_limit_fails() -> None:
    """Its late output goes nowhere, and a regular expression behind the limit does not even begin."""
    late = execute_pipeline(_with_steps(_slow(0.02), limit_seconds=0.01), "a")
    inside = _with_steps(
        StepPlan(
            "both", EnumComputeStepType.PARALLEL, None, None, lambda value, run: run_steps([_slow(0.02)], value, run)
        ),
        limit_seconds=0.01,
    )

    assert (late.error_type, late.output) == ("TIMEOUT", None)
    assert "stopped, the limit of what it is part of was reached 10 ms after" in str(late.error_message)
    assert execute_pipeline(inside, "a").error_step == "slow"
    with pytest.raises(TimeoutError):
        ComputeRun(None, deadline=0.0).search_seconds()


@pytest.mark.parametrize(
    ("step", "data"),
    [
        (transformation("filter", expression="item.startsWith('b')"), ["a"] * 200_000),
        (transformation("map", expression="item"), ["a"] * 200_000),
        (transformation("json_path", path="$..a"), [{"a": 1}] * 50_000),
        (transformation("flatten", depth=100), [[[1] * 1_000] * 1_000] * 5),
        (transformation("sort"), list(range(500_000, 0, -1))),
    ],
)
def test_long_lists_are_looked_at_with_an_eye_on_the_clock(step: dict[str, object], data: JsonValue) -> None:
    """A step over many items ends soon behind its limit."""
    result = run([{**step, "timeout_ms": 1}], data)

    assert result.error_type == "TIMEOUT"
    assert result.step_results["step"].duration_ms < 5_000


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RecursionError(), "VALIDATION_ERROR", "nested too deeply"),
        (MemoryError(), "RESOURCE_UNAVAILABLE", "out of memory"),
        (KeyError("secret"), "INTERNAL_ERROR", "unexpected KeyError"),
    ],
)
def test_whatever_goes_wrong_in_a_step_is_its_failure(error: Exception, code: str, words: str) -> None:
    """Never an exception of another kind, and never the value."""

    def fail(_value: JsonValue, _run: ComputeRun) -> JsonValue:
        raise error

    result = execute_pipeline(_with_steps(StepPlan("bad", EnumComputeStepType.MAPPING, None, None, fail)), None)

    assert (result.error_type, result.error_step) == (code, "bad")
    assert words in str(result.error_message)
    assert "secret" not in str(result.error_message)


def test_the_overhead_of_a_step_does_not_grow_with_its_input() -> None:
    """Nothing is copied: an identity step hands on the very object."""
    data = cast("JsonValue", [{"a": index} for index in range(1_000)])

    result = run([transformation("identity", f"s{number}") for number in range(5)], data)

    assert all(step.output is data for step in result.step_results.values())


def test_the_model_of_a_contract_keeps_what_was_written() -> None:
    """And the loader gives it with its plan."""
    loaded = load_contract(contract([TRIM], description="d", pipeline_timeout_ms=5))

    assert loaded.kind == "compute"
    assert loaded.effect_subcontract is None
    assert loaded.effect_plan is None
    assert isinstance(loaded.compute_subcontract, ModelComputeSubcontract)
    assert loaded.compute_plan is not None
    assert loaded.compute_plan.limit_seconds == 0.005
