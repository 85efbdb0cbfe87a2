"""`onex run` of a workflow."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.commands._workflow_run import WorkflowProgress
from tests.support.cli import GREETING, Onex
from tests.support.workflow_cli import NOTE, PRICE, write_order

GREET = """\
orchestrator_subcontract:
  workflow_name: greet
  version: 1.0.0
  input_schema: {type: object, required: [name]}
  steps:
    - step_id: write
      step_type: effect
      node: note.yaml
      input: {id: "${input.name}"}
      compensate: {step_type: effect, node: gone.yaml, input: {id: "${input.name}"}}
    - step_id: read
      step_type: effect
      node: read.yaml
      input: {file: "${input.file}"}
  output: {wrote: "${input.name}"}
"""
GONE = """\
effect_subcontract:
  subcontract_name: gone
  operations:
    - operation_name: remove
      io_config: {handler_type: filesystem, operation: delete, file_path_template: "notes/${input.id}.txt"}
"""
READ = """\
effect_subcontract:
  subcontract_name: read
  operations:
    - operation_name: read
      io_config: {handler_type: filesystem, operation: read, file_path_template: "notes/${input.file}.txt"}
"""


@pytest.fixture
def greet(onex: Onex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A workflow that writes a file and reads one; when reading fails, the first is taken away again."""
    del onex
    monkeypatch.delenv("ONEX_DATABASE_URL", raising=False)
    for name, text in {"greet": GREET, "note": NOTE, "gone": GONE, "read": READ, "price": PRICE}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return "greet.yaml"


def test_it_carries_the_workflow_out_and_sums_up(onex: Onex, greet: str, tmp_path: Path) -> None:
    """Timeline and output on standard output, exit status 0, nothing left behind but the effects."""
    ended = onex("run", greet, "-s", "name=bob", "-s", "file=bob")

    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith("greet 1.0.0 · run ")
    assert [line.split()[1:3] for line in lines[2:4]] == [["write", "completed"], ["read", "completed"]]
    assert json.loads("".join(lines[4:])) == {"wrote": "bob"}
    assert (tmp_path / "notes/bob.txt").read_text() == "paid"
    assert not (tmp_path / ".onex").exists()
    assert ended.err == ""


def test_json_is_the_output_model_alone(onex: Onex, greet: str) -> None:
    """As the node gives it."""
    document = json.loads(onex("run", greet, "-s", "name=bob", "-s", "file=bob", "--id", "r", "--json").out)

    assert (document["workflow_id"], document["result"]) == ("r", {"wrote": "bob"})
    assert document["completed_steps"] == ["write", "read"]


def test_steps_are_told_in_lines_where_that_is_wanted(onex: Onex, greet: str) -> None:
    """As they end, on standard error; the result stays alone on standard output."""
    ended = onex("run", greet, "-s", "name=bob", "-s", "file=bob", "--steps", "--json")

    assert json.loads(ended.out)["completed_steps"] == ["write", "read"]
    assert [line.rpartition(",")[0] for line in ended.err.splitlines()] == [
        "1 of 2: write completed, 1 attempt",
        "2 of 2: read completed, 1 attempt",
    ]


def test_a_failed_run_is_undone_and_told(onex: Onex, greet: str, tmp_path: Path) -> None:
    """The exit status is that of the error, the compensation is in the timeline."""
    ended = onex("run", greet, "-s", "name=bob", "-s", "file=none")

    assert ended.status == 14
    assert not (tmp_path / "notes/bob.txt").exists()
    assert [line.split()[1:3] for line in ended.out.splitlines()[2:5]] == [
        ["write", "compensated"],
        ["read", "failed"],
        ["write.compensate", "completed"],
    ]
    assert ended.err.startswith("error NOT_FOUND: workflow 'greet'")
    assert len(ended.err.splitlines()) == 1


def test_a_failure_in_json_has_error_and_output(onex: Onex, greet: str) -> None:
    """One document, with what had happened by then."""
    ended = onex("run", greet, "-s", "name=bob", "-s", "file=none", "--json")

    document = json.loads(ended.out)
    assert (ended.status, ended.err) == (14, "")
    assert document["error"]["code"] == "NOT_FOUND"
    assert document["output"]["failed_steps"] == ["read"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["greet.yaml"], "'name'"),
        (["greet.yaml", "-s", "name=a", "--timeout-ms", "5"], "workflow_timeout_ms"),
        (["price.yaml", "--id", "r"], "--database, --id and --steps are for workflows"),
        (["price.yaml", "--steps"], "--database, --id and --steps are for workflows"),
        (["hello.yaml", "--database", "sqlite:///x.db"], "--database, --id and --steps are for workflows"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_done(
    onex: Onex, greet: str, tmp_path: Path, args: list[str], message: str
) -> None:
    """Exit status 2, in one line."""
    del greet
    (tmp_path / "hello.yaml").write_text(GREETING)

    ended = onex("run", *args)

    assert (ended.status, ended.out) == (2, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "notes").exists()


def test_a_run_that_is_kept_can_be_asked_for_again(onex: Onex, greet: str, tmp_path: Path) -> None:
    """The same id gives what it gave, without doing anything again; another input is refused."""
    kept = ("run", greet, "--database", "sqlite:///runs.db", "--id", "r", "-s", "file=bob")
    first = onex(*kept, "-s", "name=bob")
    assert first.status == 0, first.err
    (tmp_path / "notes/bob.txt").unlink()

    again = onex(*kept, "-s", "name=bob")

    assert (again.status, again.out) == (0, first.out)
    assert not (tmp_path / "notes/bob.txt").exists()
    assert onex(*kept, "-s", "name=eve").status == 11


def test_runs_of_others_are_left_to_the_workers(onex: Onex, greet: str, tmp_path: Path) -> None:
    """What is queued there needs their settings, not those of whoever runs something once; children are one's own."""
    parent = """\
orchestrator_subcontract:
  workflow_name: parent
  version: 1.0.0
  steps:
    - {step_id: child, step_type: orchestrator, node: greet.yaml, input: {name: eve, file: eve}}
"""
    (tmp_path / "parent.yaml").write_text(parent)
    kept = ("--database", "sqlite:///runs.db")
    queued = onex("workflow", "start", greet, *kept, "--id", "theirs", "-s", "name=bob", "-s", "file=bob")
    assert queued.status == 0, queued.err

    ended = onex("run", "parent.yaml", *kept, "--id", "mine")

    assert ended.status == 0, ended.err
    runs = json.loads(onex("workflow", "list", *kept, "--json").out)
    assert {run["workflow_id"]: run["status"] for run in runs} == {
        "mine": "completed",
        "mine.child": "completed",
        "theirs": "queued",
    }
    assert onex("worker", *kept, "--until-idle").status == 0
    assert onex("workflow", "wait", "theirs", *kept).status == 0


def test_the_setting_says_where_runs_are_kept(
    onex: Onex, greet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONEX_ENGINE alone: in the data directory; `memory` overrules a database."""
    args = ("run", greet, "-s", "name=bob", "-s", "file=bob")
    monkeypatch.setenv("ONEX_DATABASE_URL", "sqlite:///runs.db")
    monkeypatch.setenv("ONEX_ENGINE", "memory")
    assert onex(*args).status == 0
    assert not (tmp_path / "runs.db").exists()

    monkeypatch.delenv("ONEX_DATABASE_URL")
    monkeypatch.setenv("ONEX_ENGINE", "dbos")

    assert onex(*args).status == 0
    assert (tmp_path / ".onex/workflows.db").exists()


def test_the_picture_has_what_began_and_how_it_ended() -> None:
    """A line for each step that has begun, and how many have ended; other runs are none of its business."""
    progress = WorkflowProgress("r", 3)
    progress.step_begun("r", "a")
    progress.step_ended("r", "a", {"status": "completed", "attempts": 2, "started_at": 5.0, "ended_at": 7.0})
    progress.step_begun("r", "b")
    progress.step_begun("other", "x")
    progress.run_ended("r", "failed", ModelOnexError("no", EnumCoreErrorCode.TIMEOUT))
    screen = Console(width=60, record=True, file=io.StringIO())

    screen.print(progress)

    lines = [line.split() for line in screen.export_text().splitlines()]
    assert lines[0][1:] == ["a", "completed", "2", "s,", "2", "attempts"]
    assert lines[1][1] == "b"
    assert lines[2] == ["1", "of", "3", "steps"]
    assert progress.left_over() == "b was under way"


def test_a_workflow_that_asks_somebody_ends_with_its_limit(onex: Onex, tmp_path: Path) -> None:
    """A run in memory cannot be answered from outside; its approval ends with the limit of the workflow."""
    file = write_order(tmp_path)
    text = (tmp_path / file).read_text().replace("  steps:\n", "  workflow_timeout_ms: 300\n  steps:\n", 1)
    (tmp_path / file).write_text(text)

    ended = onex("run", file, "-s", "id=7")

    assert ended.status == 6
    assert "TIMEOUT" in ended.err
