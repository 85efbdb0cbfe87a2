"""Every rule that sections 2.2 to 2.11 of the specification put on a contract at load, one case each.

A case is a contract that breaks exactly that rule: the loader gives one finding, with this code and these words.
"""

from textwrap import indent

import pytest

from omnibase_core.errors import Diagnostic, ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_io_configs import ModelDbIOConfig
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectOperation
from omnibase_core.utils.contract_loader import judge_text

HTTP = "handler_type: http, url_template: 'https://x.test/'"
GET = f"io_config: {{{HTTP}, method: GET}}"
DB = "handler_type: db, connection_name: m"
SELECT = f"io_config: {{{DB}, operation: select, query_template: SELECT 1}}"
INSERT = f"io_config: {{{DB}, operation: insert, query_template: INSERT INTO t VALUES (1)}}"
KAFKA = "handler_type: kafka, topic: t"
FILE = "handler_type: filesystem, file_path_template: a"
TX = "transaction: {enabled: true}"


def contract(*operations: str, head: str = "") -> str:
    """A contract of these operations, named a, b, c ...; `head` is put beside them."""
    text = (
        "effect_subcontract:\n  subcontract_name: t\n" + (indent(head, "  ") + "\n" if head else "") + "  operations:\n"
    )
    for name, operation in zip("abcdefgh", operations, strict=False):
        text += f"  - operation_name: {name}\n{indent(operation, '    ')}\n"
    return text


def judge(text: str) -> list[Diagnostic]:
    return [finding for judged in judge_text(text) for finding in judged.diagnostics]


def io(fields: str, *more: str) -> str:
    return "\n".join([f"io_config: {{{fields}}}", *more])


CASES: dict[str, tuple[str, str, str]] = {
    # 2.2: the subcontract
    "subcontract_name is required": (
        "effect_subcontract:\n  operations: [{operation_name: a, " + GET + "}]\n",
        "E-MISSING-FIELD",
        "subcontract_name is missing",
    ),
    "subcontract_name has 1 to 100 characters": (
        contract(GET).replace("name: t", "name: " + "t" * 101, 1),
        "E-TEXT",
        "1 to 100 characters",
    ),
    "version is N.N.N": (contract(GET, head="version: '1.0'"), "E-TEXT", "'1.0.0'"),
    "a number for version shows the quoted form": (contract(GET, head="version: 1.10"), "E-TYPE", "'1.10'"),
    "description has at most 1000 characters": (
        contract(GET, head=f"description: {'x' * 1001}"),
        "E-TEXT",
        "1000 characters",
    ),
    "revision is at least 1": (contract(GET, head="metadata: {revision: 0}"), "E-BOUNDS", "at least 1"),
    "author has at most 100 characters": (
        contract(GET, head=f"metadata: {{author: {'x' * 101}}}"),
        "E-TEXT",
        "100 characters",
    ),
    "contract_id is a UUID": (contract(GET, head="metadata: {contract_id: x}"), "E-TEXT", "a UUID"),
    "created_at is a time": (contract(GET, head="metadata: {created_at: soon}"), "E-TEXT", "a date and time"),
    "a hash that differs is a warning": (
        contract(GET, head=f"metadata: {{contract_hash: {'0' * 64}}}").replace("0" * 64, "a" * 64),
        "W-HASH",
        "changed since",
    ),
    "execution_mode is one of four": (contract(GET, head="execution_mode: sequential"), "E-VALUE", "parallel_continue"),
    "max_concurrency is 1 to 100": (contract(GET, head="max_concurrency: 101"), "E-BOUNDS", "from 1 to 100"),
    "there is an operation": ("effect_subcontract: {subcontract_name: t, operations: []}\n", "E-LENGTH", "1 to 50"),
    "operation names are unique": (contract(GET, GET).replace("name: b", "name: a"), "E-DUPLICATE-NAME", "used twice"),
    "correlation_id is a UUID": (contract(GET, head="correlation_id: x"), "E-TEXT", "a UUID"),
    "deterministic is a boolean": (contract(GET, head="deterministic: yes"), "E-TYPE", "write true"),
    "future keys begin with ONEX_": (contract(GET, head="future: {x: 1}"), "E-FUTURE-KEY", "ONEX_x"),
    "flow_timeout_ms is 1000 to 3600000": (
        contract(GET, head="flow_timeout_ms: 999"),
        "E-BOUNDS",
        "from 1000 to 3600000",
    ),
    "INTERFACE_VERSION is not settable": (
        contract(GET, head="INTERFACE_VERSION: 1.0.0"),
        "E-UNKNOWN-FIELD",
        "INTERFACE_VERSION",
    ),
    "an input schema is written in one way": (
        contract(GET, head="input_schema: {required_fields: [a], json_schema: {}}"),
        "E-INPUT-SCHEMA",
        "stands alone",
    ),
    "json_schema is a schema": (
        contract(GET, head="input_schema: {json_schema: {type: 5}}"),
        "E-INPUT-SCHEMA",
        "2020-12",
    ),
    "observability takes booleans": (contract(GET, head="observability: {log_request: 1}"), "E-TYPE", "true or false"),
    # 2.2: operations
    "operation_name is an identifier": (
        contract(GET).replace("name: a", "name: a-b"),
        "E-TEXT",
        "letters, digits and _",
    ),
    "operation description has at most 500 characters": (
        contract(GET + f"\ndescription: {'x' * 501}"),
        "E-TEXT",
        "500 characters",
    ),
    "io_config is required": (contract("idempotent: true"), "E-MISSING-FIELD", "io_config is missing"),
    "success codes are status codes": (
        contract(GET + "\nresponse_handling: {success_codes: [99]}"),
        "E-BOUNDS",
        "from 100 to 599",
    ),
    "operation_timeout_ms is 1000 to 600000": (
        contract(GET + "\noperation_timeout_ms: 999"),
        "E-BOUNDS",
        "from 1000 to 600000",
    ),
    "depends_on names an operation": (
        contract(GET, GET + "\ndepends_on: [aa]"),
        "E-UNKNOWN-OPERATION",
        "did you mean 'a'?",
    ),
    "depends_on goes backwards in sequence": (
        contract(GET + "\ndepends_on: [b]", GET),
        "E-ORDER",
        "does not come before",
    ),
    "parallel operations wait for each other in no circle": (
        contract(GET + "\ndepends_on: [b]", GET + "\ndepends_on: [a]", head="execution_mode: parallel_abort"),
        "E-CYCLE",
        "wait for each other",
    ),
    # 2.3: http
    "method is a known one": (contract(io(f"{HTTP}, method: FETCH")), "E-VALUE", "Unknown method 'FETCH'"),
    "POST requires a body": (contract(io(f"{HTTP}, method: POST")), "E-BODY-REQUIRED", "requires body_template"),
    "there is one body": (
        contract(io(f"{HTTP}, method: PUT, body_template: a, body_json: 1")),
        "E-BODY-TWICE",
        "body_template and body_json",
    ),
    "timeout_ms is 100 to 300000": (
        contract(io(f"{HTTP}, method: GET, timeout_ms: 300001")),
        "E-BOUNDS",
        "from 100 to 300000",
    ),
    "header names are tokens": (
        contract(io(f"{HTTP}, method: GET, headers: {{'a b': x}}")),
        "E-HEADER-NAME",
        "not a token",
    ),
    "a URL is absolute": (
        contract("io_config: {handler_type: http, method: GET, url_template: /x}"),
        "E-URL",
        "absolute",
    ),
    "a URL holds no user": (
        contract("io_config: {handler_type: http, method: GET, url_template: 'http://u:p@h/'}"),
        "E-URL-USERINFO",
        "userinfo",
    ),
    "auth is of a known type": (contract(io(f"{HTTP}, method: GET, auth: {{type: ntlm}}")), "E-VALUE", "bearer"),
    "auth and headers do not both name Authorization": (
        contract(io(f"{HTTP}, method: GET, headers: {{authorization: x}}, auth: {{type: bearer, token: x}}")),
        "E-AUTH-TWICE",
        "by hand",
    ),
    # 2.3: db
    "a db operation is a known one": (
        contract(io(f"{DB}, operation: merge, query_template: x")),
        "E-VALUE",
        "Unknown operation 'merge'",
    ),
    "query_params fit the placeholders": (
        contract(io(f"{DB}, operation: select, query_template: 'SELECT $1'")),
        "E-SQL-PARAMS",
        "query_params count",
    ),
    "every number is used": (
        contract(io(f"{DB}, operation: select, query_template: 'SELECT $2', query_params: [1, 2]")),
        "E-SQL-PARAMS",
        "$1 is not used",
    ),
    "SQL holds no placeholder": (
        contract(io(f"{DB}, operation: select, query_template: 'SELECT ${{input.x}}'")),
        "E-SQL-TEMPLATE",
        "must not embed",
    ),
    "connection_name is literal": (
        contract(io("handler_type: db, operation: select, query_template: x, connection_name: '${env.DB}'")),
        "E-LITERAL",
        "connection_name is literal",
    ),
    "a raw statement without idempotent is a warning": (
        contract(io(f"{DB}, operation: raw, query_template: VACUUM")),
        "W-RAW-IDEMPOTENCE",
        "counts as non-idempotent",
    ),
    # 2.3: kafka
    "topic is literal": (
        contract(io("handler_type: kafka, payload_template: x, topic: '${env.T}'")),
        "E-TEXT",
        "literal",
    ),
    "payload_template is required": (contract(io(KAFKA)), "E-MISSING-FIELD", "payload_template"),
    "acks is 0, 1 or all": (contract(io(f"{KAFKA}, payload_template: x, acks: 2")), "E-VALUE", "0, 1, all"),
    "compression is a known one": (contract(io(f"{KAFKA}, payload_template: x, compression: zip")), "E-VALUE", "gzip"),
    # 2.3: filesystem
    "move requires a destination": (
        contract(io(f"{FILE}, operation: move")),
        "E-DESTINATION-REQUIRED",
        "requires destination_path_template",
    ),
    "read takes no destination": (
        contract(io(f"{FILE}, operation: read, destination_path_template: b")),
        "E-DESTINATION-FORBIDDEN",
        "does not belong",
    ),
    "read takes no content": (
        contract(io(f"{FILE}, operation: read, content_template: b")),
        "E-CONTENT-FORBIDDEN",
        "does not belong",
    ),
    "atomic is not possible for delete": (
        contract(io(f"{FILE}, operation: delete, atomic: true")),
        "E-ATOMIC",
        "atomic=true not supported",
    ),
    "missing_ok is for delete": (
        contract(io(f"{FILE}, operation: read, missing_ok: true")),
        "E-MISSING-OK",
        "does not belong",
    ),
    "mode is an octal text": (
        contract(io(f"{FILE}, operation: write, content_template: x, mode: '0999'")),
        "E-TEXT",
        "octal",
    ),
    "a number for mode shows the quoted form": (
        contract(io(f"{FILE}, operation: write, content_template: x, mode: 0644")),
        "E-TYPE",
        "'0644'",
    ),
    # 2.4: templates
    "a template's source is a known one": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${in.a}'")),
        "E-TEMPLATE",
        "unknown source",
    ),
    "a placeholder has a path": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${input}'")),
        "E-TEMPLATE",
        "empty path",
    ),
    "a placeholder is closed": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${input.a'")),
        "E-TEMPLATE",
        "not closed",
    ),
    "output names an operation": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${output.z.id}'")),
        "E-UNKNOWN-OPERATION",
        "there is no operation",
    ),
    "output names what was extracted": (
        contract(GET, io("handler_type: http, method: GET, url_template: 'http://x/${output.a.id}'")),
        "E-UNKNOWN-FIELD-REFERENCE",
        "extracts no field",
    ),
    "output goes backwards in sequence": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${output.b.result}'"), GET),
        "E-ORDER",
        "does not come before",
    ),
    "item exists only inside for_each": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${item.a}'")),
        "E-TEMPLATE",
        "for_each",
    ),
    "meta has three names": (
        contract(io("handler_type: http, method: GET, url_template: 'http://x/${meta.foo}'")),
        "E-TEMPLATE",
        "timestamp",
    ),
    "a host from data needs allowed_hosts": (
        contract(io("handler_type: http, method: GET, url_template: 'http://${input.h}/'")),
        "E-HOST-FROM-DATA",
        "allowed_hosts",
    ),
    "a host is among allowed_hosts": (
        contract(io(f"{HTTP}, method: GET, allowed_hosts: [y.test]")),
        "E-HOST",
        "allowed_hosts",
    ),
    "a body that says it is JSON parses": (
        contract(io(f"{HTTP}, method: POST, headers: {{Content-Type: application/json}}, body_template: 'a b'")),
        "E-JSON",
        "no JSON",
    ),
    "a body that looks like JSON and is not is a warning": (
        contract(io(f"{HTTP}, method: POST, body_template: '[a b'")),
        "W-JSON",
        "no JSON",
    ),
    "a placeholder is no key": (
        contract(io(f"{HTTP}, method: POST, body_template: '{{\"${{input.a}}\": 1}}'")),
        "E-JSON-KEY",
        "as key",
    ),
    # 2.5 and 2.6: policies
    "max_retries is 0 to 10": (
        contract(GET, head="default_retry_policy: {max_retries: 11}"),
        "E-BOUNDS",
        "from 0 to 10",
    ),
    "base_delay_ms is 100 to 60000": (
        contract(GET, head="default_retry_policy: {base_delay_ms: 99}"),
        "E-BOUNDS",
        "from 100 to 60000",
    ),
    "max_delay_ms is 1000 to 300000": (
        contract(GET, head="default_retry_policy: {max_delay_ms: 999}"),
        "E-BOUNDS",
        "from 1000 to 300000",
    ),
    "two delays do not conflict": (
        contract(GET, head="default_retry_policy: {base_delay_ms: 5000, max_delay_ms: 1000}"),
        "E-RETRY-DELAYS",
        "less than base_delay_ms",
    ),
    "jitter_factor is 0 to 0.5": (
        contract(GET, head="default_retry_policy: {jitter_factor: 0.6}"),
        "E-BOUNDS",
        "from 0 to 0.5",
    ),
    "scalars are not coerced": (
        contract(GET, head="default_retry_policy: {max_retries: true}"),
        "E-TYPE",
        "whole number",
    ),
    "backoff_strategy is a known one": (
        contract(GET, head="default_retry_policy: {backoff_strategy: cubic}"),
        "E-VALUE",
        "exponential",
    ),
    "an explicit retry wants an idempotent operation": (
        contract(io(f"{KAFKA}, payload_template: x", "retry_policy: {max_retries: 1}")),
        "E-RETRY-UNSAFE",
        "is not idempotent but has retry enabled",
    ),
    "an explicit retry that inherits its number wants one too": (
        contract(INSERT + "\nretry_policy: {base_delay_ms: 200}", head="default_retry_policy: {max_retries: 4}"),
        "E-RETRY-UNSAFE",
        "is not idempotent but has retry enabled",
    ),
    "an explicit retry that switches the inherited one on wants one too": (
        contract(INSERT + "\nretry_policy: {enabled: true}", head="default_retry_policy: {enabled: false}"),
        "E-RETRY-UNSAFE",
        "is not idempotent but has retry enabled",
    ),
    "failure_threshold is 1 to 100": (
        contract(GET, head="default_circuit_breaker: {failure_threshold: 0}"),
        "E-BOUNDS",
        "from 1 to 100",
    ),
    "half_open_requests is 1 to 10": (
        contract(GET + "\ncircuit_breaker: {half_open_requests: 11}"),
        "E-BOUNDS",
        "from 1 to 10",
    ),
    # 2.8: transactions
    "a transaction is of db operations": (contract(SELECT, GET, head=TX), "E-TX-KINDS", "non-DB operations: b (http)"),
    "a transaction has the same connection": (
        contract(SELECT, SELECT.replace("name: m", "name: n"), head=TX),
        "E-TX-CONNECTIONS",
        "same connection",
    ),
    "no raw statement inside a transaction": (
        contract(io(f"{DB}, operation: raw, query_template: x", "idempotent: true"), head=TX),
        "E-TX-RAW",
        "not allowed inside transactions",
    ),
    "no SELECT with its own retry in a snapshot": (
        contract(
            SELECT + "\nretry_policy: {max_retries: 1}",
            head="transaction: {enabled: true, isolation_level: serializable}",
        ),
        "E-TX-SELECT-RETRY",
        "SELECT",
    ),
    "no parallel mode inside a transaction": (
        contract(SELECT, head=f"{TX}\nexecution_mode: parallel_abort"),
        "E-TX-PARALLEL",
        "sequential_abort",
    ),
    "a retry of a statement inside a transaction is a warning": (
        contract(SELECT + "\nretry_policy: {max_retries: 1}", head=TX),
        "W-TX-RETRY",
        "no effect",
    ),
    "writes without a transaction are a warning": (contract(INSERT, INSERT), "W-NO-TRANSACTION", "a, b write to 'm'"),
    "transaction timeout is 1000 to 300000": (
        contract(SELECT, head="transaction: {timeout_ms: 1}"),
        "E-BOUNDS",
        "from 1000 to 300000",
    ),
    "isolation_level is a known one": (
        contract(SELECT, head="transaction: {isolation_level: snapshot}"),
        "E-VALUE",
        "serializable",
    ),
    # 2.10: extraction
    "extraction_engine is a known one": (
        contract(GET + "\nresponse_handling: {extraction_engine: xpath}"),
        "E-VALUE",
        "Unknown extraction_engine",
    ),
    "a JSONPath compiles": (
        contract(GET + "\nresponse_handling: {extract_fields: {a: '$['}}"),
        "E-EXTRACT-PATH",
        "RFC 9535",
    ),
    "result is reserved": (
        contract(GET + "\nresponse_handling: {extract_fields: {result: $.a}}"),
        "E-EXTRACT-RESERVED",
        "reserved",
    ),
    "from is status, headers or body": (
        contract(GET + "\nresponse_handling: {extract_fields: {a: {from: cookie}}}"),
        "E-VALUE",
        "status, headers, body",
    ),
    # 2.11: not built
    **{
        f"{field} is refused until it is built": (
            contract(GET + f"\n{field}:"),
            "E-NOT-BUILT",
            f"{field} is part of the specification but not built yet",
        )
        for field in ("when", "for_each", "rate_limit", "bulkhead", "cache", "compensate", "on_failure")
    },
    "streaming is refused until it is built": (
        contract(io(f"{HTTP}, method: GET, response_format: stream")),
        "E-NOT-BUILT",
        "not built yet",
    ),
    "custom handler kinds are refused until they are built": (
        contract(io("handler_type: acme.mail")),
        "E-NOT-BUILT",
        "not built yet",
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_rule(rule: str) -> None:
    """A contract that breaks one rule gets one finding, with its place and the rule's words."""
    text, code, words = CASES[rule]

    (finding,) = judge(text)

    assert finding.code == code
    assert words in str(finding)
    assert finding.line > 0
    assert finding.key_path.startswith("effect_subcontract")
    assert finding.severity == ("warning" if code.startswith("W-") else "error")
    assert finding.fix or finding.allowed


@pytest.mark.parametrize("default", ["{max_retries: 0}", "{enabled: false}"])
@pytest.mark.parametrize("operation", [INSERT, f"idempotent: false\n{SELECT}"])
def test_an_explicit_policy_that_does_not_retry_is_no_danger(default: str, operation: str) -> None:
    """What counts is the merged policy: one's own block over the inherited one, field by field."""
    text = contract(operation + "\nretry_policy: {base_delay_ms: 200}", head=f"default_retry_policy: {default}")

    assert judge(text) == []


def test_a_select_whose_merged_policy_does_not_retry_reads_its_snapshot_once() -> None:
    """The same holds for retries inside a transaction."""
    head = "transaction: {enabled: true, isolation_level: serializable}\ndefault_retry_policy: {max_retries: 0}"

    assert judge(contract(SELECT + "\nretry_policy: {base_delay_ms: 200}", head=head)) == []


def test_every_unsafe_retry_is_found_beside_what_is_not_well_formed() -> None:
    """An operation that cannot be read hides no finding of another."""
    unsafe = INSERT + "\nretry_policy: {max_retries: 1}"

    found = judge(contract(unsafe, "io_config: 5", unsafe + "\nidempotent: 7", unsafe))

    assert [f.key_path.removeprefix("effect_subcontract.operations") for f in found if f.code == "E-RETRY-UNSAFE"] == [
        "[0].retry_policy",
        "[3].retry_policy",
    ]


def test_an_operation_built_alone_retries_as_the_built_in_policy_says() -> None:
    """Python knows no contract around it: a block that leaves max_retries out has three of them."""
    config = ModelDbIOConfig(operation="insert", connection_name="m", query_template="INSERT INTO t VALUES (1)")

    with pytest.raises(ModelOnexError, match="is not idempotent but has retry enabled"):
        ModelEffectOperation(
            operation_name="a", io_config=config, retry_policy=ModelEffectRetryPolicy(base_delay_ms=200)
        )
    ModelEffectOperation(operation_name="a", io_config=config, retry_policy=ModelEffectRetryPolicy(max_retries=0))


def test_a_dotpath_must_start_with_a_dollar() -> None:
    """A dotpath without its prefix is refused with the words that tools search for."""
    text = contract(GET + "\nresponse_handling: {extraction_engine: dotpath, extract_fields: {a: b.c}}")

    (finding,) = judge(text)

    assert finding.code == "E-DOTPATH"
    assert "must start with '$.'" in finding.message


def test_a_select_retry_names_the_isolation_level() -> None:
    """The message holds SELECT, retry and the level."""
    text = contract(
        SELECT + "\nretry_policy: {max_retries: 1}",
        head="transaction: {enabled: true, isolation_level: repeatable_read}",
    )

    (finding,) = judge(text)

    assert all(word in finding.message for word in ("SELECT", "retry", "repeatable_read"))


def test_inherited_retries_are_permissions() -> None:
    """A default policy narrows itself for an operation that is not idempotent, and nothing is said."""
    assert judge(contract(io(f"{KAFKA}, payload_template: x"), head="default_retry_policy: {max_retries: 5}")) == []


def test_an_idempotency_key_permits_a_retry() -> None:
    """A POST with an idempotency key counts as idempotent."""
    text = contract(
        io(f"{HTTP}, method: POST, body_template: '', idempotency_key: auto", "retry_policy: {max_retries: 2}")
    )

    assert judge(text) == []


def test_a_raw_statement_is_no_reason_for_a_transaction() -> None:
    """What a transaction could not hold is not counted among the writes that want one."""
    raw = f"idempotent: true\nio_config: {{{DB}, operation: raw, query_template: CREATE TABLE t (a)}}"

    assert judge(contract(raw, INSERT)) == []


def test_connections_are_not_judged_at_load() -> None:
    """A connection is the host program's business; any name loads."""
    assert judge(contract(SELECT.replace("name: m", "name: nowhere"))) == []


def test_more_than_fifty_operations_are_refused() -> None:
    """The limit of 50 is one finding, not one per operation beyond it."""
    text = "effect_subcontract:\n  subcontract_name: t\n  operations:\n"
    text += "".join(f"  - {{operation_name: o{i}, {GET}}}\n" for i in range(51))

    (finding,) = judge(text)

    assert (finding.code, finding.allowed) == ("E-LENGTH", "1 to 50 entries")
