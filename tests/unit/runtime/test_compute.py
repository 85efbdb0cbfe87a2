"""The commands with compute contracts."""

import json
from pathlib import Path

import pytest

from tests.support.cli import Onex
from tests.support.compute import contract, transformation

STEPS: list[dict[str, object]] = [
    transformation("json_path", "name", path="$.name"),
    {**transformation("trim", "clean"), "timeout_ms": 50},
    {
        "step_name": "greet",
        "step_type": "conditional",
        "when": "value > 'b'",
        "then": [transformation("case_conversion", "upper", mode="uppercase")],
    },
    {**transformation("split", "off"), "enabled": False},
]


@pytest.fixture
def file(onex: Onex, tmp_path: Path) -> str:
    text = contract(STEPS, version="2.0.0", pipeline_timeout_ms=500, input_schema={"required": ["name"]})
    (tmp_path / "c.yaml").write_text(text)
    return "c.yaml"


def test_validate_names_it(onex: Onex, file: str) -> None:
    """Kind, name, version and number of steps; the same for tools."""
    assert "compute demo 2.0.0, 4 steps" in onex("validate", file).out
    (found,) = json.loads(onex("validate", file, "--json").out)["files"]
    assert found["contracts"] == [{"kind": "compute", "name": "demo", "version": "2.0.0"}]


def test_run_writes_the_output(onex: Onex, file: str) -> None:
    """As JSON; with --json the whole result."""
    plain = onex("run", file, "--set", "name= carl ")
    whole = onex("run", file, "--set", "name= carl ", "--json")

    assert (plain.status, json.loads(plain.out)) == (0, "CARL")
    assert list(json.loads(whole.out)["step_results"]) == ["name", "clean", "upper", "greet"]


def test_a_run_that_fails_tells_the_step(onex: Onex, file: str) -> None:
    """With the exit status of its code; with --json the error and what was computed."""
    plain = onex("run", file, "--set", "name=5")
    whole = onex("run", file, "--set", "name=5", "--json")

    assert (plain.status, plain.out, whole.status) == (2, "", 2)
    assert "step 'clean' (trim)" in plain.err
    document = json.loads(whole.out)
    assert document["error"]["code"] == "VALIDATION_ERROR"
    assert document["output"]["error_step"] == "clean"
    assert onex("run", file, "--timeout-ms", "5").status == 2


def test_the_input_of_a_pipeline_is_any_json(onex: Onex, tmp_path: Path) -> None:
    """For run and plan; --set reaches into lists, and scalars have nothing to set."""
    (tmp_path / "sort.yaml").write_text(contract([transformation("sort")], input_schema={"type": "array"}))

    ran = onex("run", "sort.yaml", "--input", "[3, 1, 2]", "--set", "0=0")
    scalar = onex("run", "sort.yaml", "--input", "5", "--set", "a=1")

    assert (ran.status, json.loads(ran.out)) == (0, [0, 1, 2])
    assert onex("plan", "sort.yaml", "--input", "[3]").status == 0
    assert (onex("plan", "sort.yaml").status, onex("run", "sort.yaml", "--input", "null").status) == (2, 2)
    assert json.loads(onex("run", "sort.yaml", "--input", '["\\ud83d\\ude00"]').out) == ["\U0001f600"]
    assert (scalar.status, "the input is a number, which has no keys" in scalar.err) == (2, True)


def test_explain_says_what_a_step_takes_gives_and_fails_for(onex: Onex, file: str) -> None:
    """Those of branches too, each with the nearest limit; one by its name."""
    steps = json.loads(onex("explain", file, "--json").out)["steps"]
    (one,) = json.loads(onex("explain", file, "upper", "--json").out)["steps"]

    assert [step["name"] for step in steps] == ["name", "clean", "greet", "upper", "off"]
    assert [step["limit"] for step in steps[:2]] == ["500 ms, of the pipeline", "50 ms, its own"]
    assert steps[0]["settings"] == {"path": "$.name"}
    assert one == {
        "name": "upper",
        "kind": "case_conversion",
        "takes": "a text",
        "gives": "a text",
        "fails": "for anything but a text",
        "limit": "500 ms, of the pipeline",
        "settings": {"mode": "uppercase"},
    }
    assert 'mode: "uppercase"' in onex("explain", file).out
    wrong = onex("explain", file, "uper")
    assert (wrong.status, "no step 'uper'" in wrong.err) == (2, True)


def test_explain_knows_every_kind_of_step(onex: Onex, tmp_path: Path) -> None:
    """A validation that goes on never fails, and a search has a limit of its own."""
    steps: list[dict[str, object]] = [
        {"step_name": "judge", "step_type": "validation", "validation_config": {"schema_ref": "input_schema"}},
        {
            "step_name": "note",
            "step_type": "validation",
            "validation_config": {"schema_ref": "input_schema", "fail_on_error": False},
        },
        {**transformation("identity", "same")},
        {
            "step_name": "both",
            "step_type": "parallel",
            "timeout_ms": 70,
            "branches": {"a": [transformation("identity", "inner")]},
        },
        {"step_name": "shape", "step_type": "mapping", "mapping_config": {"field_mappings": {"x": "$.input"}}},
        transformation("regex", "search", pattern="a"),
    ]
    (tmp_path / "c.yaml").write_text(contract(steps, input_schema={"type": "object"}))

    found = {step["name"]: step for step in json.loads(onex("explain", "c.yaml", "--json").out)["steps"]}

    assert found["judge"]["fails"] == "when it does not fit input_schema"
    assert found["note"]["fails"] == "never: a breach is in its result"
    assert (found["inner"]["limit"], found["same"]["limit"]) == ("70 ms, of step both", "none")
    assert found["search"]["limit"] == "a second of CPU time for a search"
    assert found["shape"]["settings"] == {"field_mappings": {"x": "$.input"}}
    assert found["both"]["gives"] == "a mapping of their outputs"


def test_plan_shows_the_steps(onex: Onex, file: str) -> None:
    """With their limits and branches; the input is judged."""
    plain = onex("plan", file, "--set", "name=a").out.splitlines()

    assert plain == [
        "demo 2.0.0, at most 500 ms",
        "  name: json_path",
        "  clean: trim, at most 50 ms",
        "  greet: conditional when value > 'b'",
        "    then:",
        "      upper: case_conversion",
        "  off: split (disabled)",
    ]
    document = json.loads(onex("plan", file, "--set", "name=a", "--json").out)
    assert document["contract"]["pipeline_timeout_ms"] == 500
    assert [step["step_name"] for step in document["steps"]] == ["name", "clean", "greet", "off"]
    assert onex("plan", file).status == 2


def test_graph_draws_the_steps(onex: Onex, file: str) -> None:
    """In both languages; branches are dotted, disabled steps are left out."""
    mermaid, dot = onex("graph", file).out, onex("graph", file, "--format", "dot").out

    assert "s_name --> s_clean" in mermaid
    assert 's_greet -. "then" .-> s_upper' in mermaid
    assert "s_clean -> s_greet" in dot
    assert 's_greet -> s_upper [style=dashed, label="then"]' in dot
    assert "off" not in mermaid + dot


def test_a_new_contract_is_valid_and_runs_at_once(onex: Onex, tmp_path: Path) -> None:
    """The schema beside it accepts it, and those of all kinds do."""
    made = onex("new", "compute", "hello")
    ran = onex("run", "hello.yaml", "--set", "name= bob ")

    assert (made.status, onex("validate", "hello.yaml").status) == (0, 0)
    assert json.loads(ran.out) == {"given": " bob ", "name": "bob", "greeting": "Hello, bob!"}
    assert json.loads((tmp_path / "onex-compute.schema.json").read_text()) == json.loads(onex("schema", "compute").out)
    assert len(json.loads(onex("schema").out)["anyOf"]) > 1


def test_items_are_run_on_workers(onex: Onex, tmp_path: Path) -> None:
    """The output is the list of outputs; a failure names chunk and item; plan tells how the work is shared."""
    parallel = {"worker_count": 2, "backend": "threads", "items": "$.names"}
    text = contract([transformation("trim", "clean")], parallel=parallel)
    (tmp_path / "items.yaml").write_text(text)

    done = onex("run", "items.yaml", "--input", '{"names": [" a", "b "]}')
    failed = onex("run", "items.yaml", "--input", '{"names": [" a", 5]}')

    assert (done.status, json.loads(done.out)) == (0, ["a", "b"])
    assert failed.status == 2
    assert "item 1: step 'clean'" in failed.err
    assert "  for each item of $.names, workers: 2, backend: threads" in onex("plan", "items.yaml").out.splitlines()


def test_the_cluster_of_the_settings_is_asked(onex: Onex, tmp_path: Path) -> None:
    """Without a setting the message names it."""
    (tmp_path / "items.yaml").write_text(
        contract([transformation("trim", "clean")], parallel={"backend": "cluster", "items": "$.names"})
    )

    done = onex("run", "items.yaml", "--input", '{"names": ["a"]}')

    assert done.status == 3
    assert "compute_cluster" in done.err
