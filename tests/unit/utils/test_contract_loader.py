"""The contract loader: what it loads, how it refuses, and where it points."""

import copy
import hashlib
import json
import logging
import os
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contracts import contract_text
from omnibase_core.errors import ContractError, Diagnostic, EnumCoreErrorCode, ModelOnexError
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.utils.contract_hash import canonical_json, contract_hash, ecmascript_number
from omnibase_core.utils.contract_loader import judge_text, load_contract
from tests.support.timing import cpu_bound

GOOD = """\
name: demo
version: "1.0.0"
effect_subcontract:
  subcontract_name: demo
  operations:
    - operation_name: ask
      io_config:
        handler_type: http
        method: GET
        url_template: https://example.test/${input.id}
"""


def diagnostics(text: str) -> list[Diagnostic]:
    return [finding for judged in judge_text(text) for finding in judged.diagnostics]


def only(text: str) -> Diagnostic:
    (finding,) = diagnostics(text)
    return finding


def test_a_good_contract_loads_with_its_plan() -> None:
    """A loaded contract holds root fields, model and the compiled plan."""
    loaded = load_contract(GOOD)

    assert (loaded.source, loaded.kind, loaded.name, loaded.version) == ("<text>", "effect", "demo", "1.0.0")
    assert loaded.effect_subcontract is not None
    assert loaded.effect_plan is not None
    assert loaded.effect_plan.subcontract is loaded.effect_subcontract
    assert loaded.findings == ()


def test_the_same_text_loads_equal() -> None:
    """Loading twice gives equal models with equal derived ids and hashes."""
    first, second = (load_contract(contract_text(8)).effect_subcontract for _ in range(2))

    assert first == second
    assert first is not None
    assert second is not None
    assert [op.correlation_id for op in first.operations] == [op.correlation_id for op in second.operations]
    assert first.metadata.contract_hash == second.metadata.contract_hash


def test_python_and_yaml_have_the_same_hash_and_ids() -> None:
    """An equal model that was written in Python has the hash and the breaker ids of the file."""
    loaded = load_contract(GOOD).effect_subcontract
    built = ModelEffectSubcontract.model_validate(
        {
            "operations": [
                {
                    "io_config": {
                        "url_template": "https://example.test/${input.id}",
                        "handler_type": "http",
                        "method": "GET",
                    },
                    "operation_name": "ask",
                }
            ],
            "subcontract_name": "demo",
        }
    )

    assert loaded == built
    assert loaded is not None
    assert loaded.metadata.contract_hash == contract_hash(built)
    assert loaded.operations[0].correlation_id == built.operations[0].correlation_id


def test_a_computed_hash_does_not_count_as_set() -> None:
    """The hash that the loader fills in changes neither equality nor what other contracts see as default."""
    loaded = load_contract(GOOD).effect_subcontract

    assert loaded is not None
    assert "metadata" not in loaded.model_fields_set
    assert "metadata" not in loaded.model_dump(mode="json")
    fresh = ModelEffectSubcontract.model_fields["metadata"].default
    assert fresh.contract_hash is None


def test_a_hash_that_nobody_has_read_yet_goes_where_the_contract_goes() -> None:
    """It is computed when it is first read, also from a copy, from a pickle and by printing."""

    def fresh() -> ModelEffectSubcontract:
        loaded = load_contract(GOOD).effect_subcontract
        assert loaded is not None
        return loaded

    expected = contract_hash(fresh())

    assert copy.copy(fresh().metadata).contract_hash == expected
    assert copy.deepcopy(fresh()).metadata.contract_hash == expected
    assert fresh().model_copy().metadata.contract_hash == expected
    assert pickle.loads(pickle.dumps(fresh())).metadata.contract_hash == expected
    assert pickle.loads(pickle.dumps(fresh().metadata)).contract_hash == expected
    assert expected in repr(fresh().metadata)
    assert expected in str(fresh())
    assert fresh() == fresh()
    assert fresh().metadata == fresh().metadata


def test_the_hash_is_sha256_over_canonical_json_without_metadata() -> None:
    """The hash can be computed by anyone from the dump of what was set."""
    loaded = load_contract(
        GOOD.replace("subcontract_name", "metadata: {author: me}\n  subcontract_name")
    ).effect_subcontract
    assert loaded is not None
    dumped = loaded.model_dump(mode="json")
    del dumped["metadata"]

    text = json.dumps(dumped, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert loaded.metadata.contract_hash == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("line", ["timeout_ms: 500", "headers: {a: b}", "verify_ssl: true"])
def test_the_hash_changes_with_the_content(line: str) -> None:
    """Whatever is set changes the hash, also when it is the default."""
    changed = load_contract(GOOD + f"        {line}\n").effect_subcontract
    same = load_contract(GOOD).effect_subcontract

    assert changed is not None
    assert same is not None
    assert changed.metadata.contract_hash != same.metadata.contract_hash


def test_a_given_hash_that_differs_is_a_warning_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A stale hash does not stop the contract; it is among the findings and in the log."""
    text = GOOD.replace("subcontract_name", f"metadata: {{contract_hash: '{'0' * 64}'}}\n  subcontract_name")

    with caplog.at_level(logging.WARNING, "onex.contract"):
        loaded = load_contract(text)

    assert [(finding.code, finding.severity) for finding in loaded.findings] == [("W-HASH", "warning")]
    assert "W-HASH" in caplog.text
    good = GOOD.replace(
        "subcontract_name", f"metadata: {{contract_hash: {loaded.findings[0].allowed}}}\n  subcontract_name"
    )
    assert load_contract(good).findings == ()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_spelled_as_ecmascript_does(number: float) -> None:
    """The text reads back as the same number, and has an exponent only where ECMAScript has one."""
    text = ecmascript_number(number)

    assert float(text) == number
    assert ("e" in text) == (number != 0 and not 1e-6 <= abs(number) < 1e21)
    assert not text.endswith(".0")


def test_canonical_json_sorts_by_code_units_and_escapes_little() -> None:
    """Keys sort as in RFC 8785, 3.2.3; only what must be escaped is."""
    value = {"\U0001f600": 1, "\ufb33": 2.0, "a": ["\u20ac$\u000f\nA'\x7f", 1e21, 4.5, 2e-3, 1e-27, True, None]}

    text = canonical_json(value)

    assert text == ('{"a":["\u20ac$\\u000f\\nA\'\x7f",1e+21,4.5,0.002,1e-27,true,null],"\U0001f600":1,"\ufb33":2}')


@pytest.mark.parametrize("text", ["", "   \n", "# nothing\n", "\ufeff"])
def test_an_empty_text_is_refused(text: str) -> None:
    """A text without content says that there is no contract."""
    assert only(text).code == "E-EMPTY"
    with pytest.raises(ContractError, match="the text is empty"):
        load_contract(text)


def test_two_documents_are_refused_where_one_is_wanted() -> None:
    """load_contract wants one document, and still reports what is wrong in each."""
    with pytest.raises(ContractError, match="2 documents") as caught:
        load_contract(GOOD + "---\nfoo: 1\n")

    assert [d.code for d in caught.value.diagnostics] == ["E-DOCUMENTS", "E-KIND", "E-UNKNOWN-FIELD"]


def test_every_document_is_judged_by_itself() -> None:
    """A bad document does not spoil its neighbours, and problems of the text go to the document they lie in."""
    judged = judge_text(GOOD + "---\n" + GOOD + "name: twice\n" + "---\n" + GOOD + "---\n[")

    assert [entry.contract is not None for entry in judged] == [True, False, True, False]
    assert [[d.code for d in entry.diagnostics] for entry in judged] == [
        [],
        ["E-YAML-DUPLICATE-KEY"],
        [],
        ["E-YAML-SYNTAX"],
    ]


def test_a_file_is_loaded_and_named(tmp_path: Path) -> None:
    """Diagnostics and the loaded contract carry the file's name."""
    file = tmp_path / "demo.yaml"
    file.write_text("\ufeff" + GOOD, encoding="utf-8")
    bad = tmp_path / "bad.yaml"
    bad.write_text("\ufeff" + GOOD.replace("GET", "GTE"), encoding="utf-8")

    loaded = load_contract(file)
    with pytest.raises(ContractError) as caught:
        load_contract(bad)

    assert loaded.source == str(file)
    (finding,) = caught.value.diagnostics
    assert (finding.file, finding.line, finding.column, finding.fix) == (str(bad), 9, 17, "did you mean 'GET'?")


@pytest.mark.parametrize("text", ["demo.yaml", "conf/demo.YML", "/etc/demo.json"])
def test_a_text_that_names_a_file_says_so(text: str) -> None:
    """A str is YAML text; one that names a file gets the advice to pass a Path."""
    with pytest.raises(ContractError, match=r"pass Path\("):
        load_contract(text)


def test_what_cannot_be_read_is_a_contract_error(tmp_path: Path) -> None:
    """Missing files, directories, pipes and binary files are refused with a reason, at once."""
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\x7fELF\0\0")
    pipe = tmp_path / "p.yaml"
    os.mkfifo(pipe)
    latin = tmp_path / "l.yaml"
    latin.write_bytes(b"name: caf\xe9\n")
    reasons = {}

    for path in (tmp_path / "none.yaml", tmp_path, binary, pipe, latin, Path("a\0b.yaml")):
        with pytest.raises(ContractError) as caught:
            load_contract(path)
        reasons[path.name] = caught.value.diagnostics[0]

    assert [d.code for d in reasons.values()] == ["E-FILE"] * 4 + ["E-YAML-ENCODING", "E-FILE"]
    assert "No such file" in reasons["none.yaml"].message
    assert "a directory" in reasons[tmp_path.name].message
    assert "NUL" in reasons["b.yaml"].message


def test_another_type_is_refused() -> None:
    """Bytes are neither text nor a file."""
    with pytest.raises(ModelOnexError, match="found bytes") as caught:
        load_contract(b"name: x")  # type: ignore[arg-type]  # the mistake under test

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


def test_an_unknown_field_points_at_its_key() -> None:
    """The place of an unknown field is its key; the nearest field that is not used yet is proposed."""
    finding = only(GOOD + "        tiemout_ms: 500\n")

    assert (finding.code, finding.line, finding.column) == ("E-UNKNOWN-FIELD", 11, 9)
    assert finding.key_path == "effect_subcontract.operations[0].io_config.tiemout_ms"
    assert finding.fix == "did you mean 'timeout_ms'?"


def test_a_missing_field_points_at_the_key_of_its_mapping() -> None:
    """What is missing has no place of its own; the mapping that lacks it has."""
    finding = only(GOOD.replace("        method: GET\n", ""))

    assert (finding.code, finding.line, finding.column) == ("E-MISSING-FIELD", 7, 7)
    assert finding.key_path == "effect_subcontract.operations[0].io_config.method"
    assert "GET, POST" in finding.allowed


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("timeout_ms: 50", "E-BOUNDS", "a whole number from 100 to 300000"),
        ("timeout_ms: 1.5", "E-TYPE", "a whole number from 100 to 300000"),
        ("timeout_ms: true", "E-TYPE", "a whole number from 100 to 300000"),
        ("timeout_ms: '500'", "E-TYPE", "remove the quotes: 500"),
        ("verify_ssl: yes", "E-TYPE", "write true"),
        ("verify_ssl: 1", "E-TYPE", "true or false"),
        ("headers: {a: 1}", "E-TYPE", "put it in quotes: '1'"),
        ("headers: [a]", "E-TYPE", "a mapping"),
        ("response_format: jsn", "E-VALUE", "did you mean 'json'?"),
        ("response_format: stream", "E-NOT-BUILT", "not built yet"),
        ("auth: {type: digest}", "E-VALUE", "basic, bearer, api_key, oauth2"),
        ("auth: {token: x}", "E-MISSING-FIELD", "basic, bearer, api_key, oauth2"),
        ("auth: {type: bearer}", "E-MISSING-FIELD", "auth.token"),
        ("auth: {type: bearer, token: ''}", "E-TEXT", "at least 1 character"),
        ("query_params: {a: {b: 1}}", "E-TYPE", "a scalar"),
        ("query_params: {a: [1, [2]]}", "E-TYPE", "query_params.a[1]"),
        ("idempotency_key: {header: X, valu: y}", "E-UNKNOWN-FIELD", "did you mean 'value'?"),
        ("max_response_bytes: null", "E-TYPE", "found null"),
    ],
)
def test_a_wrong_value_gives_one_finding_in_plain_words(line: str, code: str, words: str) -> None:
    """Each wrong value is found once, whatever unions it passes, and pydantic is not heard."""
    finding = only(GOOD + f"        {line}\n")

    assert (finding.code, finding.line) == (code, 11)
    assert words in str(finding)
    for foreign in ("Input should", "pydantic", "NoneType", "str_", "constrained", "union["):
        assert foreign not in str(finding)


def test_a_number_that_should_be_text_is_shown_quoted_as_written() -> None:
    """The quoted form keeps what reading as a number would lose."""
    text = GOOD.replace('"1.0.0"', "1.10").replace("url_template", "mode: 0644\n        url_template")

    findings = diagnostics(text)

    assert findings[0].fix == "put it in quotes: '1.10'"
    assert (
        diagnostics(
            "effect_subcontract:\n  subcontract_name: t\n  operations:\n    - operation_name: a\n      io_config:\n"
            "        {handler_type: filesystem, operation: write, file_path_template: a, mode: 0644}\n"
        )[0].fix
        == "put it in quotes: '0644'"
    )


def test_all_problems_come_in_one_go_in_order_of_place() -> None:
    """Types, rules, templates and references of all parts that can be judged are reported together."""
    text = """\
effect_subcontract:
  subcontract_name: t
  transaction: {enabled: true, isolation_level: strong}
  operations:
    - operation_name: a
      io_config: {handler_type: http, method: POST, url_template: "https://x/${outptu.b}", timeout_ms: 1}
    - operation_name: b-
      io_config: {handler_type: filesystem, operation: delete, file_path_template: x, atomic: true}
    - operation_name: b
      depends_on: [b-, aa]
      io_config: {handler_type: htp}
    - operation_name: b
      io_config: {handler_type: db, operation: select, connection_name: m, query_template: "select '${input.q}', $1"}
      retry_policy: {max_retries: 11}
    - 7
"""

    found = [(finding.line, finding.code) for finding in diagnostics(text)]

    assert found == [
        (3, "E-TX-KINDS"),
        (3, "E-VALUE"),
        (6, "E-BODY-REQUIRED"),
        (6, "E-TEMPLATE"),
        (6, "E-BOUNDS"),
        (7, "E-TEXT"),
        (8, "E-ATOMIC"),
        (10, "E-UNKNOWN-OPERATION"),
        (11, "E-VALUE"),
        (12, "E-DUPLICATE-NAME"),
        (13, "E-SQL-PARAMS"),
        (13, "E-SQL-TEMPLATE"),
        (14, "E-BOUNDS"),
        (15, "E-TYPE"),
    ]


@pytest.mark.parametrize(
    ("scalar", "line", "column"),
    [
        ('"${input.a} $${ ${foo.b}"', 6, 49),
        ("'it''s ${input.a} ${foo.b}'", 6, 51),
        ("|\n          one ${input.a}\n            two ${foo.b}", 8, 17),
        (">-\n          one ${input.a}\n\n          two ${foo.b}", 9, 15),
        ("plain ${input.a} and\n          ${foo.b}", 7, 11),
        ('"\\u0024{foo.b} is hidden"', 6, 33),
    ],
)
def test_a_template_problem_points_at_its_placeholder(scalar: str, line: int, column: int) -> None:
    """The n-th placeholder of a text is found in the source, in every style of scalar; failing that, the scalar."""
    text = (
        "effect_subcontract:\n  subcontract_name: t\n  operations:\n    - operation_name: a\n      io_config:\n"
        f"        partition_key_template: {scalar}\n"
        "        handler_type: kafka\n        topic: t\n        payload_template: x\n"
    )

    finding = only(text)

    assert (finding.code, finding.line, finding.column) == ("E-TEMPLATE", line, column)


@pytest.mark.parametrize("text", ["[]", "7", "text", "null", "true"])
def test_a_root_that_is_no_mapping_is_refused(text: str) -> None:
    """A contract is a mapping."""
    assert only(text + "\n").code == "E-ROOT"


def test_a_contract_without_its_kind_gets_the_key() -> None:
    """Fields of an effect at the root are told where they belong."""
    findings = diagnostics("subcontract_name: t\noperations: []\n")

    assert findings[0].code == "E-KIND"
    assert "below effect_subcontract:" in findings[0].fix


def test_two_kinds_are_refused() -> None:
    """A file has exactly one kind."""
    codes = [finding.code for finding in diagnostics(GOOD + "orchestrator_subcontract: {workflow_name: t}\n")]

    assert codes == ["E-KIND", "E-MISSING-FIELD"]


def test_the_error_tells_everything() -> None:
    """The exception carries code, all diagnostics, and their text in its message."""
    with pytest.raises(ContractError) as caught:
        load_contract(GOOD.replace("GET", "GTE") + "        timeout_ms: 1\n")

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert len(caught.value.diagnostics) == 2
    assert "<text>:9:17: error E-VALUE" in str(caught.value)
    assert "<text>:11:21: error E-BOUNDS" in str(caught.value)
    assert copy.deepcopy(caught.value).diagnostics == caught.value.diagnostics


@pytest.mark.parametrize(
    "text",
    [
        "effect_subcontract:\n" + "".join(f"  subcontract_nam{i}: 1\n" for i in range(24_000)),
        GOOD.replace("${input.id}", "${" * 400_000),
        GOOD.replace("${input.id}", "a/" * 400_000),
        GOOD + "        headers: {a: '" + "${input.a}" * 90_000 + "'}\n",
        GOOD + "        body_template: '" + "[" * 900_000 + "'\n",
        GOOD + "    - " * 30,
        GOOD + "      depends_on: [" + "x," * 40_000 + "]\n",
        GOOD + "      response_handling: {extract_fields: {a: '$[?" + "(" * 50_000 + "'}}\n",
        GOOD + "      response_handling: {success_codes: [" + "x," * 40_000 + "]}\n",
        "--- {effect_subcontract: {}}\n" * 10_000,
        "version: " + "1" * 900_000 + "\n",
        "name: '" + "x" * 900_000 + "'\n",
    ],
    ids=lambda text: f"{len(text)}",
)
def test_a_hostile_text_ends_soon_with_a_clear_error(text: str) -> None:
    """Whatever the text, judging ends within a second of CPU time and says what is wrong."""
    begin = time.process_time()

    findings = diagnostics(text)

    assert time.process_time() - begin < cpu_bound(1.0)
    assert findings
    assert len(findings) <= 1_001
    assert all(len(finding.message) < 400 for finding in findings)


def test_fifty_operations_load_without_a_finding() -> None:
    """The contract of the benchmarks is a good one."""
    loaded = load_contract(contract_text(50))

    assert loaded.effect_subcontract is not None
    assert len(loaded.effect_subcontract.operations) == 50
    assert loaded.findings == ()
