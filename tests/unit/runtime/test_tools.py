"""`onex graph`, `schema`, `new`, `doctor` and the overview."""

import json
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support.cli import GREETING, ORDERS, Onex


def test_mermaid_shows_order_outputs_and_policies(onex: Onex, tmp_path: Path) -> None:
    """A dotted arrow per operation that is read, a solid one for the rest of the order."""
    (tmp_path / "c.yaml").write_text(ORDERS)

    out = onex("graph", "c.yaml").out

    assert out.startswith("flowchart TD\n")
    assert 'op0["create<br/>http POST<br/>5 retries, 1 min"]' in out
    assert 'op1["fetch<br/>http GET<br/>2 retries, 1 min, breaker 5"]' in out
    assert 'op0 -. "order" .-> op1' in out
    assert "op1 --> op2" in out
    assert "op0 --> op1" not in out


@pytest.mark.parametrize("name", ['a"]; click op0 href "x', "a]b{c}|d<e>", "end", "a#b&c;d", "ünïcode 名"])
@pytest.mark.parametrize("format_", ["mermaid", "dot"])
def test_no_name_breaks_out_of_its_label(onex: Onex, tmp_path: Path, name: str, format_: str) -> None:
    """Every quote in the picture is ours, whatever the contract is called."""
    (tmp_path / "c.yaml").write_text(
        GREETING.replace("subcontract_name: greeting", f"subcontract_name: {json.dumps(name)}")
    )

    out = onex("graph", "c.yaml", "--format", format_).out

    title = out.splitlines()[1]
    label = re.search(r'"((?:[^"\\]|\\.)*)"', title)
    assert label is not None
    assert title.count('"') - title.count('\\"') == 2
    if format_ == "mermaid":
        assert not set(label[1]) & set("\"<>{}[]|&'`")


def test_in_parallel_modes_only_dependencies_are_arrows(onex: Onex, tmp_path: Path) -> None:
    """Nothing else orders the operations."""
    (tmp_path / "c.yaml").write_text(GREETING.replace("input_schema", "execution_mode: parallel_abort\n  input_schema"))

    assert "-->" not in onex("graph", "c.yaml").out


def test_schema_is_a_schema_and_accepts_a_valid_contract(onex: Onex) -> None:
    """JSON Schema 2020-12."""
    import yaml

    schema = json.loads(onex("schema", "effect").out)

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(GREETING))


def test_schema_of_an_unknown_kind_is_refused(onex: Onex) -> None:
    """With the kinds there are."""
    ended = onex("schema", "effekt")

    assert ended.status == 2
    assert "effect" in ended.err
    assert "defect" not in ended.err


def test_a_new_contract_is_valid_and_runs_at_once(onex: Onex, tmp_path: Path) -> None:
    """File and database row are there; the editor finds the schema beside the contract."""
    made = onex("new", "effect", "hello", "--dir", "contracts")
    valid = onex("validate", "contracts/hello.yaml")
    ran = onex("run", "contracts/hello.yaml", "--set", "name=world")

    assert (made.status, valid.status, ran.status) == (0, 0, 0), ran.err
    assert (tmp_path / "hello-out/world.txt").read_text() == "Hello, world!\n"
    assert "W-" not in valid.out, "the first thing that one sees is no warning"
    with sqlite3.connect(tmp_path / ".onex/embedded.db") as database:
        rows = database.execute("SELECT name, size FROM greetings").fetchall()
    database.close()
    assert rows == [("world", 14)]
    first = (tmp_path / "contracts/hello.yaml").read_text().splitlines()[0]
    assert (tmp_path / "contracts" / first.partition("$schema=")[2]).is_file()


def test_nothing_is_overwritten(onex: Onex, tmp_path: Path) -> None:
    """A file of that name stays as it is."""
    (tmp_path / "hello.yaml").write_text("mine")

    ended = onex("new", "effect", "hello")

    assert ended.status == 2
    assert "exists already" in ended.err
    assert (tmp_path / "hello.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "a b", "1a", "${x}", "a" * 65])
def test_a_name_that_is_no_name_is_refused(onex: Onex, tmp_path: Path, name: str) -> None:
    """It becomes a file name and part of a contract."""
    assert onex("new", "effect", name).status == 2
    assert list(tmp_path.iterdir()) == []


def test_doctor_of_a_bare_installation_is_content(onex: Onex) -> None:
    """Nothing is configured, so nothing can be unreachable."""
    ended = onex("doctor", "--json")

    report = json.loads(ended.out)
    assert ended.status == 0
    assert report["healthy"]
    assert {"installation", "extras", "system"} == {check["group"] for check in report["checks"]}


def test_doctor_asks_every_connection(onex: Onex, tmp_path: Path) -> None:
    """Status 4 when one does not answer; the others are told all the same, and no password is."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (tmp_path / "onex.toml").write_text(
            f'[connections.away]\nurl = "postgresql://me:hunter2hunter2@127.0.0.1:{port}/x"\n'
            '[connections.here]\nurl = "sqlite:///here.db"\n'
        )

        ended = onex("doctor", "--json")

    checks = {check["name"]: check for check in json.loads(ended.out)["checks"] if check["group"] == "connections"}
    assert ended.status == 4
    assert checks["away"]["status"] == "failed"
    assert checks["here"]["status"] == "ok"
    assert "hunter2" not in ended.out


def test_the_overview_names_every_command(onex: Onex) -> None:
    """And each of them explains itself with an example."""
    overview = onex("--help").out

    commands = ["validate", "run", "plan", "explain", "graph", "schema", "doctor", "new", "intents"]
    assert all(command in overview for command in commands)
    for command in [*commands, "new effect", "intents list", "intents settle"]:
        assert "Example" in onex(*command.split(), "--help").out, command


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("run", "onex run [OPTIONS] FILE"),
        ("validate", "onex validate [OPTIONS] FILES..."),
        ("explain", "onex explain [OPTIONS] FILE [OPERATION]"),
        ("schema", "onex schema [OPTIONS] [KIND]"),
        ("new effect", "onex new effect [OPTIONS] NAME"),
    ],
)
def test_a_usage_line_has_brackets_only_around_what_may_be_left_out(onex: Onex, command: str, usage: str) -> None:
    """As everybody writes them, in the help and in the complaint about a mistake."""
    asked = onex(*command.split(), "--help").out
    mistaken = onex(*command.split(), "--no-such-option").err

    assert {line.strip() for line in asked.splitlines()} >= {f"Usage: {usage}"}
    assert f"Usage: {usage}" in mistaken.splitlines()


def test_a_mistyped_command_gets_the_nearest(onex: Onex) -> None:
    """Status 2, as for every mistake in what was typed."""
    ended = onex("valdate")

    assert ended.status == 2
    assert "validate" in ended.err


def test_doctor_makes_nothing(onex: Onex, tmp_path: Path) -> None:
    """An SQLite file that does not exist yet is not made by asking for it."""
    (tmp_path / "onex.toml").write_text('[connections.here]\nurl = "sqlite:///here.db"\n')

    ended = onex("doctor")

    assert ended.status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["onex.toml"]


def test_doctor_tells_a_directory_that_cannot_be_used(onex: Onex, tmp_path: Path) -> None:
    """A configured data directory that is a file is a failure."""
    (tmp_path / "data").write_text("")
    (tmp_path / "onex.toml").write_text('data_dir = "data"\n')

    ended = onex("doctor")

    assert ended.status == 4
    assert "is no directory" in ended.out


def test_doctor_knows_that_a_run_makes_the_directory_of_a_database(onex: Onex, tmp_path: Path) -> None:
    """An SQLite connection whose directory is missing is fine where it can be made."""
    (tmp_path / "onex.toml").write_text('[connections.here]\nurl = "sqlite:///not/yet/here.db"\n')

    ended = onex("doctor", "--json")

    check = next(check for check in json.loads(ended.out)["checks"] if check["name"] == "here")
    assert (ended.status, check["status"]) == (0, "ok")
    assert [path.name for path in tmp_path.iterdir()] == ["onex.toml"]


@pytest.mark.parametrize(
    "settings",
    ['data_dir = "/proc/onex/data"\n', '[connections.data_dir]\nurl = "sqlite:////proc/onex/here.db"\n'],
)
def test_doctor_does_not_believe_the_rights_of_root(onex: Onex, tmp_path: Path, settings: str) -> None:
    """Where nobody can make anything, not even root can, whatever the permission bits say."""
    (tmp_path / "onex.toml").write_text(settings)

    ended = onex("doctor", "--json")

    check = [check for check in json.loads(ended.out)["checks"] if check["name"] == "data_dir"][-1]
    assert (ended.status, check["status"]) == (4, "failed")
    assert "/proc" in check["detail"]


def test_doctor_judges_the_options_of_a_database_that_does_not_exist_yet(onex: Onex, tmp_path: Path) -> None:
    """What a run would refuse is told before the first run."""
    (tmp_path / "onex.toml").write_text('[connections.a]\nurl = "sqlite:///new.db"\noptions = {pool_sise = 5}\n')

    ended = onex("doctor", "--json")

    check = next(check for check in json.loads(ended.out)["checks"] if check["name"] == "a")
    assert (ended.status, check["status"]) == (4, "failed")
    assert "pool_sise" in check["detail"]


def test_doctor_misses_a_file_root_that_does_not_exist(onex: Onex, tmp_path: Path) -> None:
    """File operations need every root; each is judged by itself."""
    (tmp_path / "there").mkdir()
    (tmp_path / "onex.toml").write_text('[policy]\nfile_roots = ["there", "missing"]\n')

    ended = onex("doctor", "--json")

    checks = [check for check in json.loads(ended.out)["checks"] if check["name"] == "file_root"]
    assert ended.status == 4
    assert [(check["status"], check["detail"]) for check in checks] == [
        ("ok", "there"),
        ("failed", "missing does not exist"),
    ]


def test_a_new_contract_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """Not half of it, which would be in the way of the next try."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512));"
        "sys.argv = ['onex', 'new', 'effect', 'big']; from omnibase_runtime.cli import main; main()"
    )

    ended = subprocess.run(
        [sys.executable, "-B", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20
    )

    assert ended.returncode == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broken_installation_is_told_without_a_traceback(tmp_path: Path) -> None:
    """A library that cannot be imported is a matter of the installation: status 3, and what to do."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('rich is broken')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['onex', 'doctor'];"

    ended = subprocess.run(
        [sys.executable, "-B", "-c", f"{code} from omnibase_runtime.cli import main; main()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "rich is broken" in ended.stdout + ended.stderr


@pytest.mark.parametrize(("name", "status"), [("default", "ok"), ("nowhere", "failed"), ("bus", "failed")])
def test_doctor_tells_whether_states_can_be_kept_where_the_settings_say(
    onex: Onex, tmp_path: Path, name: str, status: str
) -> None:
    """The name of a database connection; nothing is connected for it."""
    settings = f'state_connection = "{name}"\n[connections.bus]\nurl = "mysql://127.0.0.1:1/x"\n'
    (tmp_path / "onex.toml").write_text(settings, encoding="utf-8")

    checks = json.loads(onex("doctor", "--json").out)["checks"]

    (found,) = [check for check in checks if check["name"] == "state_connection"]
    assert (found["status"], name in found["detail"]) == (status, True)
    assert not (tmp_path / ".onex").exists()
