"""`onex validate`: findings for people, compilers' readers, and tools."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.support.cli import BROKEN, GREETING, Onex


@pytest.fixture
def files(onex: Onex, tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GREETING)
    (tmp_path / "bad.yaml").write_text(BROKEN)
    return tmp_path


def test_a_valid_contract_ends_with_0(onex: Onex, files: Path) -> None:
    """And says what it is."""
    ended = onex("validate", "good.yaml")

    assert ended.status == 0
    assert "good.yaml" in ended.out
    assert "effect greeting 1.0.0, 2 operations" in ended.out


def test_a_routing_table_of_intents_is_judged_as_one(onex: Onex, files: Path) -> None:
    """It lies beside the contracts; a contract that only speaks of routes stays one."""
    (files / "routes.yaml").write_text("routes:\n  - {intent_type: crm, target: '*', contract: good.yaml}\n")
    (files / "wrong.yaml").write_text("routes:\n  - {intent_type: crm, target: '*', vai: kafka}\ntemplates: 5\n")
    (files / "good.yaml").write_text(GREETING.replace("greeting", "routes", 1))

    good = onex("validate", "routes.yaml", "good.yaml")
    wrong = onex("validate", "wrong.yaml")
    (found,) = json.loads(onex("validate", "routes.yaml", "--json").out)["files"]

    assert good.status == 0
    assert "routes.yaml  routing table of intents, 1 route" in good.out
    assert "effect routes 1.0.0" in good.out
    assert found["contracts"] == [{"kind": "intent_routes", "name": None, "version": None}]
    assert wrong.status == 2
    assert "wrong.yaml:2:37: error E-UNKNOWN-FIELD: routes[0].vai: " in wrong.out
    assert "    fix: did you mean 'via'?" in wrong.out.splitlines()
    assert "wrong.yaml:3:12: error E-TYPE: templates: " in wrong.out


def test_a_routing_table_is_judged_with_its_contracts_and_its_mails(onex: Onex, files: Path) -> None:
    """Each file at its own place; one that has mails only is a table, and so is one with a misspelt key."""
    (files / "routes.yaml").write_text(
        "routes:\n  - {intent_type: crm, contract: none.yaml}\n  - {intent_type: erp, contract: bad.yaml}\n"
    )
    (files / "mails.yaml").write_text('templates:\n  hello: {subject: "${inpt.name}", body: b}\n')
    (files / "spelt.yaml").write_text("routes: []\ntemplate: {}\n")

    ended = onex("validate", "routes.yaml", "mails.yaml", "spelt.yaml")

    assert ended.status == 2
    assert "routes.yaml:2:34: error E-FILE: routes[0].contract: none.yaml: the file cannot be read" in ended.out
    assert "bad.yaml:7:9: error E-UNKNOWN-FIELD: " in ended.out
    assert "mails.yaml:2:21: error E-TEMPLATE: templates.hello.subject: unknown source 'inpt'" in ended.out
    assert "spelt.yaml:2:1: error E-UNKNOWN-FIELD: template: " in ended.out


def test_all_findings_of_all_files_are_told(onex: Onex, files: Path) -> None:
    """Each with file, line, column, code and fix; one bad file does not keep the others from being judged."""
    ended = onex("validate", "bad.yaml", "good.yaml", "none.yaml")

    assert ended.status == 2
    lines = ended.out.splitlines()
    assert any(line.startswith("bad.yaml:7:9: error E-UNKNOWN-FIELD: ") for line in lines)
    assert any(line.startswith("bad.yaml:9:21: error E-BOUNDS: ") for line in lines)
    assert any(line.startswith("none.yaml: error E-FILE: no such file") for line in lines)
    assert "    fix: did you mean 'method'?" in lines
    assert "in 2 of 3 files" in ended.err


def test_warnings_alone_end_with_0(onex: Onex, tmp_path: Path) -> None:
    """A warning is told and changes nothing."""
    (tmp_path / "w.yaml").write_text(
        "effect_subcontract:\n  subcontract_name: w\n  operations:\n    - operation_name: q\n      io_config:\n"
        "        {handler_type: db, operation: raw, connection_name: embedded, query_template: VACUUM}\n"
    )

    ended = onex("validate", "w.yaml")

    assert ended.status == 0
    assert "W-RAW-IDEMPOTENCE" in ended.out
    assert "1 warning" in ended.out


def test_each_document_of_a_file_is_judged(onex: Onex, tmp_path: Path) -> None:
    """A file may hold several; run takes one."""
    (tmp_path / "many.yaml").write_text(f"{GREETING}---\n{BROKEN}---\n{GREETING}")

    ended = onex("validate", "many.yaml", "--json")

    report = json.loads(ended.out)["files"][0]
    assert ended.status == 2
    assert report["documents"] == 3
    assert [contract["name"] for contract in report["contracts"]] == ["greeting"] * 2
    assert onex("run", "many.yaml").status == 2


def test_json_holds_every_field_of_a_finding(onex: Onex, files: Path) -> None:
    """For tools: counts, files, findings."""
    ended = onex("validate", "bad.yaml", "good.yaml", "--json")

    document = json.loads(ended.out)
    finding = next(d for d in document["files"][0]["diagnostics"] if d["code"] == "E-UNKNOWN-FIELD")
    assert not document["valid"]
    assert document["errors"] == len(document["files"][0]["diagnostics"])
    assert (finding["file"], finding["line"], finding["column"]) == ("bad.yaml", 7, 9)
    assert finding["fix"] == "did you mean 'method'?"


def test_sarif_has_a_result_with_a_place_per_finding(onex: Onex, files: Path) -> None:
    """Version 2.1.0: rules and results refer to each other, places count from 1."""
    ended = onex("validate", "bad.yaml", "none it is.yaml", "--sarif")

    log = json.loads(ended.out)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert log["version"] == "2.1.0"
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    assert {result["level"] for result in run["results"]} == {"error"}
    assert {"startLine": 7, "startColumn": 9} in [place.get("region") for place in places]
    assert places[-1] == {"artifactLocation": {"uri": "none%20it%20is.yaml"}}


def test_a_contract_may_come_from_standard_input(onex: Onex, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads it, and places name it so."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BROKEN.encode())))

    ended = onex("validate", "-")

    assert ended.status == 2
    assert "<stdin>:7:9: error" in ended.out


def test_json_and_sarif_exclude_each_other(onex: Onex, files: Path) -> None:
    """There is one standard output."""
    assert onex("validate", "good.yaml", "--json", "--sarif").status == 2


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: &a [*a]", b"", b"[]", b"x" * (1 << 20) + b"yz"])
def test_no_bytes_make_a_traceback(onex: Onex, tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, it is judged."""
    (tmp_path / "odd.yaml").write_bytes(content)

    ended = onex("validate", "odd.yaml")

    assert ended.status in {0, 2}
    assert "defect" not in ended.err
