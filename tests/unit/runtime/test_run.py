"""`onex run` inside the process: input, output, exit status."""

import json
from pathlib import Path

import pytest

from tests.support.cli import BROKEN, GREETING, Onex


@pytest.fixture
def contract(onex: Onex, tmp_path: Path) -> str:
    (tmp_path / "c.yaml").write_text(GREETING)
    return "c.yaml"


def test_it_carries_the_contract_out_and_sums_up(onex: Onex, contract: str, tmp_path: Path) -> None:
    """Exit status 0, a line per operation, the effect in the world."""
    ended = onex("run", contract, "--set", "name=bob")

    assert ended.status == 0, ended.err
    assert (tmp_path / "out/bob.txt").read_text() == "Hello bob"
    assert "content=Hello bob" in ended.out
    assert "greeting 1.0.0" in ended.out
    assert ended.err == ""


def test_json_is_the_output_model_alone(onex: Onex, contract: str) -> None:
    """Standard output holds exactly one JSON document."""
    ended = onex("run", contract, "--input", '{"name": "bob"}', "--json")

    assert json.loads(ended.out)["result"] == {"write": {"size": 9}, "read": {"content": "Hello bob"}}


def test_a_failure_in_json_has_the_error_and_the_partial_output(onex: Onex, contract: str, tmp_path: Path) -> None:
    """What was done before the failure is in the same document."""
    text = (
        (tmp_path / "c.yaml")
        .read_text()
        .replace(
            "operation: read\n        file_path_template: out/", "operation: read\n        file_path_template: none/"
        )
    )
    (tmp_path / "c.yaml").write_text(text)

    ended = onex("run", contract, "--set", "name=bob", "--json")

    document = json.loads(ended.out)
    assert ended.status == 14
    assert document["error"]["code"] == "NOT_FOUND"
    assert document["error"]["exit_status"] == 14
    assert [o["success"] for o in document["output"]["operations"]] == [True, False]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_continuing_mode_ends_with_the_status_of_the_first_failure(
    onex: Onex, contract: str, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Nothing is raised, but the shell must hear of it."""
    text = GREETING.replace("input_schema", "execution_mode: sequential_continue\n  input_schema")
    first, second = text.split("    - operation_name: read")
    (tmp_path / "c.yaml").write_text(first.replace("out/", "/nowhere-of-ours/") + "    - operation_name: read" + second)

    ended = onex("run", contract, "--set", "name=bob", *flags)

    assert ended.status == 13


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", '{"name": }'], "--input:1:10: no valid JSON"),
        (["--input", '{"name": "\\ud800"}'], "--input: a text has half of a surrogate pair"),
        (["--input", '{"\udcff": 1}'], "--input: a text has half of a surrogate pair"),
        (["--set", "name=\udcff"], "a text has half of a surrogate pair"),
        (["--set", 'name="\\uDC00"'], "a text has half of a surrogate pair"),
        (["--input", "[1]"], "found a list"),
        (["--input", '{"name": NaN}'], "NaN is no JSON value"),
        (["--input", '{"name": 1e999}'], "--input: no valid JSON: 1e999 is beyond the range of floats"),
        (["--input", '{"name": [{"b": 0, "a": 1, "a": 2}]}'], "the key 'a' stands twice in one object"),
        (["--set", "name=-1e999"], "--set 'name=-1e999': -1e999 is beyond the range of floats"),
        (["--set", 'name={"a": 1, "a": 2}'], "the key 'a' stands twice"),
        (["--input", "c.yaml"], "a file is given as @c.yaml"),
        (["--input", "@none.json"], "none.json: no such file"),
        (["--set", "name"], "write key=value"),
        (["--set", "name=1", "--set", "name.x=2"], "name is a number, which has no keys"),
        (["--set", "a=[1]", "--set", "a.5=2"], "'5' is no index of a list of 1"),
        ([], "name"),
    ],
)
def test_wrong_input_is_told_in_one_line(onex: Onex, contract: str, args: list[str], message: str) -> None:
    """Exit status 2, the place of the mistake, and no traceback."""
    ended = onex("run", contract, *args)

    assert ended.status == 2
    assert message in ended.err
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none.yaml", "none.yaml: no such file"),
        ("cc.yaml", "no such file; did you mean c.yaml?"),
        (".", "is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(onex: Onex, contract: str, file: str, message: str) -> None:
    """With the nearest name where there is one."""
    ended = onex("run", file)

    assert ended.status == 2
    assert message in ended.err


def test_a_broken_contract_is_told_with_all_findings(onex: Onex, tmp_path: Path) -> None:
    """As validate tells them."""
    (tmp_path / "b.yaml").write_text(BROKEN)

    ended = onex("run", "b.yaml")

    assert ended.status == 2
    assert "b.yaml:7:9: error E-UNKNOWN-FIELD" in ended.err
    assert "E-BOUNDS" in ended.err


def test_set_takes_json_values_text_and_dotted_keys(onex: Onex, tmp_path: Path) -> None:
    """`a.b=5` is a number, `a.c=x y` a text, and later wins over --input."""
    (tmp_path / "c.yaml").write_text(GREETING.replace("Hello ${input.name}", "${input.a.b}${input.a.c}${input.l[0].x}"))
    data = '{"name": "n", "a": {"b": 1}, "l": [{}]}'

    onex("run", "c.yaml", "-i", data, "-s", "a.b=5", "-s", "a.c=x y", "-s", "l.0.x=true")

    assert (tmp_path / "out/n.txt").read_text() == "5x ytrue"


def test_wrong_settings_end_with_3(onex: Onex, contract: str, tmp_path: Path) -> None:
    """Nothing runs under settings that nobody understands."""
    (tmp_path / "onex.toml").write_text("data_dir = \n")

    ended = onex("run", contract, "--set", "name=bob")

    assert ended.status == 3
    assert "onex.toml:1:" in ended.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_connection_is_told_with_what_to_do(onex: Onex, tmp_path: Path) -> None:
    """RESOURCE_UNAVAILABLE, and where the connection is to be set up."""
    (tmp_path / "c.yaml").write_text(
        "effect_subcontract:\n  subcontract_name: x\n  operations:\n    - operation_name: q\n      io_config:\n"
        "        {handler_type: db, operation: select, connection_name: ghost, query_template: SELECT 1}\n"
    )

    ended = onex("run", "c.yaml")

    assert ended.status == 4
    assert "ONEX_CONNECTIONS__GHOST__URL" in ended.err


def test_a_secret_is_not_printed(onex: Onex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the summary nor in the document, though the operation extracts it."""
    monkeypatch.setenv("ONEX_TEST_TOKEN", "correct-horse-battery")
    (tmp_path / "c.yaml").write_text(GREETING.replace("Hello ${input.name}", "${secret.ONEX_TEST_TOKEN}"))

    summary = onex("run", "c.yaml", "-s", "name=n")
    document = onex("run", "c.yaml", "-s", "name=n", "--json")

    assert summary.status == document.status == 0
    assert "correct-horse" not in summary.out + document.out
    assert "content=***" in summary.out


def test_debug_shows_where(onex: Onex, tmp_path: Path) -> None:
    """Only then a traceback."""
    (tmp_path / "c.yaml").write_text(GREETING)

    ended = onex("--debug", "run", "c.yaml", "-i", "nonsense")

    assert "Traceback" in ended.err


def test_what_a_rollback_undid_is_no_success(onex: Onex, tmp_path: Path) -> None:
    """The summary says so, and the transaction's fate."""
    (tmp_path / "tx.yaml").write_text(
        "effect_subcontract:\n  subcontract_name: tx\n  transaction: {enabled: true}\n  operations:\n"
        "    - operation_name: one\n      io_config:\n"
        "        {handler_type: db, operation: insert, connection_name: embedded, query_template: SELECT 1}\n"
        "    - operation_name: two\n      io_config:\n"
        "        {handler_type: db, operation: insert, connection_name: embedded, query_template: SELECT ghost}\n"
    )

    ended = onex("run", "tx.yaml")

    assert ended.status == 5
    assert "undone: the transaction was rolled back" in ended.out
    assert "transaction rolled back" in ended.out


def test_no_control_character_reaches_a_terminal(onex: Onex, tmp_path: Path) -> None:
    """What a file, a server or an input holds cannot move the cursor or colour the screen."""
    (tmp_path / "c.yaml").write_text(GREETING)
    evil = json.dumps({"name": "n\x1b[2Jx\x9b31m"})

    outputs = [onex("plan", "c.yaml", "-i", evil), onex("run", "c.yaml", "-i", evil), onex("run", "\x1b[2J.yaml")]

    for ended in outputs:
        assert not {"\x1b", "\x9b"} & set(ended.out + ended.err)
    assert "\\x1b[2J" in outputs[0].out
