"""One contract per finding of the loader, each wrong in one way, for the reference page of diagnostics.

They are data for a page that shows what the loader really says; a test sees to it that every code has one.
"""

from textwrap import indent
from typing import Final

from omnibase_core.utils.yaml_document import MAX_PROBLEMS

_HEAD: Final = "effect_subcontract:\n  subcontract_name: example\n"


def _contract(operations: str, rest: str = "") -> str:
    return _HEAD + indent(rest, "  ") + "  operations:\n" + indent(operations, "    ")


def _operation(kind: str, config: str, rest: str = "", name: str = "step") -> str:
    io_config = indent(f"handler_type: {kind}\n{config}", "    ")
    return f"- operation_name: {name}\n  io_config:\n{io_config}" + indent(rest, "  ")


def _http(config: str, rest: str = "") -> str:
    return _contract(_operation("http", config, rest))


def _db(config: str, rest: str = "") -> str:
    return _contract(_operation("db", config, rest))


_GET = "method: GET\nurl_template: https://api.example.org/x\n"
_POST = "method: POST\nurl_template: https://api.example.org/x\n"
_READ = "operation: read\nfile_path_template: in.txt\n"
_UPDATE = "operation: update\nconnection_name: main\nquery_template: UPDATE t SET a = 1\n"
_SELECT = "operation: select\nconnection_name: main\nquery_template: SELECT a FROM t\n"
_TRANSACTION = "transaction: {enabled: true}\n"
_HASH = "metadata:\n  contract_hash: " + "'" + "0" * 64 + "'\n"


def _pipeline(step: str, rest: str = "") -> str:
    head = "compute_subcontract:\n  operation_name: example\n"
    return head + indent(rest, "  ") + "  pipeline:\n" + indent(step, "    ")


def _transformation(kind: str, settings: str = "", name: str = "clean") -> str:
    config = f"  transformation_config: {{config_type: {kind}{settings}}}\n"
    return f"- step_name: {name}\n  step_type: transformation\n  transformation_type: {kind}\n{config}"


_CHECK = "- step_name: check\n  step_type: validation\n  validation_config: {schema_ref: order}\n"
_PICK = "- step_name: pick\n  step_type: mapping\n  mapping_config:\n    field_mappings: {total: $.steps.sum}\n"


def _machine(states: str, transitions: str) -> str:
    """A machine that begins in `open`; each line of states and transitions is an entry."""
    head = "reducer_subcontract:\n  state_machine:\n    state_machine_name: example\n    initial_state: open\n"
    return head + f"    states:\n{_entries(states)}    transitions:\n{_entries(transitions)}"


def _entries(lines: str) -> str:
    return "".join(f"      - {{{line}}}\n" for line in lines.splitlines())


def _workflow(steps: str, rest: str = "") -> str:
    """Each line of steps is an entry."""
    head = "orchestrator_subcontract:\n  workflow_name: example\n"
    return head + indent(rest, "  ") + "  steps:\n" + "".join(f"    - {{{line}}}\n" for line in steps.splitlines())


_BOOK = "step_id: book, step_type: effect, node: booking, input: {order: '${input.order}'}\n"
_TELL = "step_id: tell, step_type: effect, node: mailing, input: {text: 'Booked ${steps.book.id}'}\n"
_ASK = "step_id: ask, step_type: wait, wait: {signal: answer}\n"
_SEND = "step_id: send, step_type: effect, node: send.yaml, input: {order: '${input.order}'}\n"
_PARALLEL = "coordination_type: parallel\n"

BESIDE: Final = {
    "send.yaml": _contract(
        _operation(
            "http", "method: POST\nurl_template: https://api.example.org/x\nbody_json: {order: '${input.order}'}\n"
        )
    )
}
"""Contracts that lie beside those of workflows."""

_STATES = "state_name: open\nstate_name: closed, is_terminal: true\n"
_CLOSE = "transition_name: close, from_state: open, to_state: closed, trigger: CLOSE\n"

BAD_CONTRACTS: Final[dict[str, dict[str, str | bytes]]] = {
    "The text": {
        "E-EMPTY": "# nothing but a comment\n",
        "E-YAML-SYNTAX": "effect_subcontract:\n  subcontract_name: [example\n",
        "E-YAML-ENCODING": b"effect_subcontract:\n  subcontract_name: caf\xe9\n",
        "E-YAML-CHARACTER": "effect_subcontract:\n  subcontract_name: a\x07b\n",
        "E-YAML-DUPLICATE-KEY": _http(_GET + "method: PUT\n"),
        "E-YAML-KEY": _http(_GET + "headers:\n  404: nothing\n"),
        "E-YAML-MERGE-KEY": _http(_GET, "response_handling:\n  <<: {fail_on_empty: true}\n"),
        "E-YAML-TAG": _http(_GET, "description: !note the first one\n"),
        "E-YAML-ALIAS": _http("method: GET\nurl_template: *base\n"),
        "E-YAML-LIMIT": "future: " + "[" * 33 + "]" * 33 + "\n",
    },
    "The root": {
        "E-ROOT": "- effect_subcontract\n",
        "E-KIND": "name: example\n",
        "E-NOT-BUILT": _http(_GET, "rate_limit: {requests: 5, per_ms: 1000}\n"),
    },
    "Fields": {
        "E-UNKNOWN-FIELD": _http(_GET + "timeout: 500\n"),
        "E-MISSING-FIELD": _http("url_template: https://api.example.org/x\n"),
        "E-TYPE": _contract(_operation("filesystem", _READ + "mode: 0644\n")),
        "E-VALUE": _http("method: FETCH\nurl_template: https://api.example.org/x\n"),
        "E-BOUNDS": _http(_GET + "timeout_ms: 50\n"),
        "E-LENGTH": "effect_subcontract:\n  subcontract_name: example\n  operations: []\n",
        "E-TEXT": _contract(_operation("http", _GET, name="first step")),
        "E-DUPLICATE-NAME": _contract(_operation("http", _GET) + _operation("filesystem", _READ)),
        "E-FUTURE-KEY": _contract(_operation("http", _GET), "future: {cache_ttl_ms: 500}\n"),
        "E-INPUT-SCHEMA": _contract(
            _operation("http", _GET), "input_schema:\n  required_fields: [id]\n  json_schema: {type: object}\n"
        ),
        "W-HASH": _contract(_operation("http", _GET), _HASH),
    },
    "Templates and references": {
        "E-TEMPLATE": _http("method: GET\nurl_template: https://api.example.org/users/${user.id}\n"),
        "E-LITERAL": _db("operation: select\nconnection_name: ${input.tenant}\nquery_template: SELECT 1\n"),
        "E-UNKNOWN-OPERATION": _http("method: GET\nurl_template: https://api.example.org/${output.ftech.id}\n"),
        "E-UNKNOWN-FIELD-REFERENCE": _contract(
            _operation("http", _GET, "response_handling:\n  extract_fields: {id: $.id}\n", name="fetch")
            + _operation("http", "method: GET\nurl_template: https://api.example.org/${output.fetch.name}\n")
        ),
        "E-ORDER": _contract(
            _operation("http", _GET, "depends_on: [second]\n", name="first") + _operation("http", _GET, name="second")
        ),
        "E-CYCLE": _contract(
            _operation("http", _GET, "depends_on: [second]\n", name="first")
            + _operation("http", _GET, "depends_on: [first]\n", name="second"),
            "execution_mode: parallel_abort\n",
        ),
        "E-EXTRACT-PATH": _http(_GET, "response_handling:\n  extract_fields: {id: '$.items['}\n"),
        "E-EXTRACT-RESERVED": _http(_GET, "response_handling:\n  extract_fields: {result: $.id}\n"),
        "E-DOTPATH": _http(_GET, "response_handling:\n  extraction_engine: dotpath\n  extract_fields: {id: id}\n"),
    },
    "HTTP": {
        "E-BODY-REQUIRED": _http(_POST),
        "E-BODY-TWICE": _http(_POST + "body_template: a\nbody_json: {a: 1}\n"),
        "E-JSON": _http(_POST + "headers: {Content-Type: application/json}\nbody_template: '{\"id\": ${input.id}'\n"),
        "E-JSON-KEY": _http(_POST + "body_template: '{\"${input.name}\": 1}'\n"),
        "E-JSON-ESCAPE": _http(_POST + 'body_template: \'{"a": "\\${input.name}"}\'\n'),
        "W-JSON": _http(_POST + "body_template: '[INFO] ${input.text}'\n"),
        "E-HEADER-NAME": _http(_GET + "headers: {'X ${input.name}': '1'}\n"),
        "E-HEADER-VALUE": _http(_GET + "headers:\n  X-Note: |\n    two\n    lines\n"),
        "E-HEADER-TWICE": _http(_GET + "headers: {X-Note: a, x-note: b}\n"),
        "E-AUTH-TWICE": _http(_GET + "headers: {Authorization: Bearer x}\nauth: {type: bearer, token: y}\n"),
        "E-AUTH-CREDENTIAL": _http(_GET + "auth: {type: basic, username: 'a:b', password: '${secret.pw}'}\n"),
        "E-URL": _http("method: GET\nurl_template: api.example.org/x\n"),
        "E-URL-USERINFO": _http("method: GET\nurl_template: https://ada:pw@api.example.org/x\n"),
        "E-HOST": _http(_GET + "allowed_hosts: ['*.example.com']\n"),
        "E-HOST-FROM-DATA": _http("method: GET\nurl_template: https://${input.host}/x\n"),
    },
    "SQL": {
        "E-SQL-TEMPLATE": _db(
            "operation: select\nconnection_name: main\nquery_template: SELECT * FROM t WHERE id = '${input.id}'\n"
        ),
        "E-SQL-PARAMS": _db(
            "operation: select\nconnection_name: main\nquery_template: SELECT * FROM t WHERE a = $1 AND b = $2\n"
            "query_params: ['${input.a}']\n"
        ),
        "W-RAW-IDEMPOTENCE": _db("operation: raw\nconnection_name: main\nquery_template: VACUUM\n"),
        "W-NO-TRANSACTION": _contract(
            _operation("db", _UPDATE, name="first") + _operation("db", _UPDATE, name="second")
        ),
    },
    "Transactions": {
        "E-TX-KINDS": _contract(_operation("db", _UPDATE) + _operation("http", _GET, name="tell"), _TRANSACTION),
        "E-TX-CONNECTIONS": _contract(
            _operation("db", _UPDATE) + _operation("db", _UPDATE.replace("main", "other"), name="second"), _TRANSACTION
        ),
        "E-TX-PARALLEL": _contract(_operation("db", _UPDATE), "execution_mode: parallel_abort\n" + _TRANSACTION),
        "E-TX-RAW": _contract(
            _operation("db", "operation: raw\nconnection_name: main\nquery_template: VACUUM\n", "idempotent: true\n"),
            _TRANSACTION,
        ),
        "E-TX-SELECT-RETRY": _contract(
            _operation("db", _SELECT, "retry_policy: {max_retries: 2}\n"),
            "transaction: {enabled: true, isolation_level: serializable}\n",
        ),
        "W-TX-RETRY": _contract(_operation("db", _UPDATE, "retry_policy: {max_retries: 2}\n"), _TRANSACTION),
        "W-TX-ROLLBACK": _contract(
            _operation("db", _UPDATE), "transaction: {enabled: true, rollback_on_error: false}\n"
        ),
    },
    "Retries": {
        "E-RETRY-UNSAFE": _http(_POST + "body_json: {a: 1}\n", "retry_policy: {max_retries: 3}\n"),
        "E-RETRY-DELAYS": _http(_GET, "retry_policy: {base_delay_ms: 5000, max_delay_ms: 2000}\n"),
    },
    "Files": {
        "E-ATOMIC": _contract(_operation("filesystem", "operation: delete\nfile_path_template: a.txt\natomic: true\n")),
        "E-MISSING-OK": _contract(_operation("filesystem", _READ + "missing_ok: true\n")),
        "E-CONTENT-FORBIDDEN": _contract(_operation("filesystem", _READ + "content_template: hello\n")),
        "E-DESTINATION-REQUIRED": _contract(_operation("filesystem", "operation: move\nfile_path_template: a.txt\n")),
        "E-DESTINATION-FORBIDDEN": _contract(_operation("filesystem", _READ + "destination_path_template: b.txt\n")),
    },
    "Compute pipelines": {
        "E-STEP-NAME": _pipeline(_transformation("trim") + _transformation("trim")),
        "E-STEP-CONFIG": _pipeline(_transformation("trim").replace("type: trim\n", "type: split\n")),
        "E-UNKNOWN-STEP": _pipeline(_PICK),
        "E-UNKNOWN-SCHEMA": _pipeline(_CHECK, "schemas: {orders: {type: array}}\n"),
        "E-SCHEMA-TWICE": _pipeline(
            _transformation("trim"), "input_schema: {type: string}\ninput_schema_ref: text.json\n"
        ),
        "E-SCHEMA-FILE": _pipeline(_transformation("trim"), "input_schema: ../text.json\n"),
        "E-PARALLEL-LIMIT": _pipeline(
            _transformation("trim"), "parallel: {backend: threads}\npipeline_timeout_ms: 500\n"
        ),
        "E-PATH": _pipeline(_transformation("json_path", ", path: order.total")),
        "E-REGEX": _pipeline(_transformation("regex", ", pattern: '(a'")),
        "E-CEL": _pipeline(_transformation("filter", ", expression: items.total > 0")),
        "E-PURE": _pipeline(_transformation("template", ", template: '${env.HOME}'")),
    },
    "State machines": {
        "E-CEL": _machine(_STATES, _CLOSE.replace("\n", ', guard: "stat.total > 0"\n')),
        "E-STATE-DUPLICATE": _machine(_STATES + "state_name: open\n", _CLOSE),
        "E-STATE-WILDCARD": _machine(_STATES, _CLOSE.replace("open", "[open, '*']")),
        "E-STATE-UNREACHABLE": _machine(_STATES + "state_name: lost, is_terminal: true\n", _CLOSE),
        "E-UNKNOWN-STATE": _machine(
            _STATES, _CLOSE + "transition_name: shut, from_state: opened, to_state: closed, trigger: SHUT\n"
        ),
        "E-TERMINAL-LEFT": _machine(
            _STATES, _CLOSE + "transition_name: reopen, from_state: closed, to_state: open, trigger: OPEN\n"
        ),
        "E-TRANSITION-DUPLICATE": _machine(_STATES, _CLOSE + _CLOSE.replace("CLOSE", "SHUT")),
        "W-DEAD-END": _machine("state_name: open\nstate_name: closed\n", _CLOSE),
        "W-AMBIGUOUS": _machine(_STATES, _CLOSE + _CLOSE.replace("close,", "shut,")),
        "W-NEVER-TAKEN": _machine(_STATES, _CLOSE + _CLOSE.replace("close,", "shut, priority: -1,")),
        "W-INTENT-PAYLOAD": _machine(
            _STATES,
            _CLOSE.replace(
                "\n",
                ", intents: [{intent_type: database_write, target: doors, "
                "payload: {operation: insert, data: {id: 1}, where: {id: 1}}}]\n",
            ),
        ),
        "W-SHADOWED": _machine(_STATES, _CLOSE + _CLOSE.replace("close,", "shut,").replace("open", "'*'")),
    },
    "Workflows": {
        "E-STEP-DUPLICATE": _workflow(_ASK + _ASK),
        "E-UNKNOWN-STEP": _workflow(_BOOK + _TELL.replace("steps.book", "steps.boko")),
        "E-ORDER": _workflow(_BOOK + _TELL, _PARALLEL),
        "E-CYCLE": _workflow(
            _ASK.replace("wait,", "wait, depends_on: [again],", 1)
            + _ASK.replace("ask", "again").replace("wait,", "wait, depends_on: [ask],", 1)
        ),
        "E-STEP-UNREACHABLE": _workflow(_BOOK, "coordination_type: event_driven\n"),
        "E-STEP-FIELD": _workflow("step_id: book, step_type: effect, input: {order: 7}\n"),
        "E-WAIT": _workflow(_ASK.replace("answer", "answer, duration_ms: 60000")),
        "E-TRIGGER": _workflow(_BOOK, "triggers:\n  - schedule: {cron: '0 24 * * *'}\n"),
        "W-RETRY-CONDITION": _workflow(_BOOK, "conflict_resolution: {retry_conditions: [TIMED_OUT]}\n"),
        "E-NODE-FILE": _workflow(_BOOK.replace("booking", "booking.yaml")),
        "E-NODE-KIND": _workflow(_SEND.replace("effect", "compute")),
        "E-STEP-INPUT": _workflow(_SEND.replace("{order:", "{orders:")),
        "W-STEP-RETRY": _workflow(_BOOK.replace("\n", ", retry: {max_retries: 2, budget: false}\n")),
        "W-STEP-NOT-IDEMPOTENT": _workflow(_SEND.replace("\n", ", retry: {max_retries: 2}\n")),
        "W-STEP-KEY": _workflow(_BOOK.replace("\n", ", idempotency_key: booking\n")),
        "W-STEP-NOTHING-UNDONE": _workflow(_BOOK.replace("\n", ", on_failure: compensate\n")),
        "W-STEP-PRIORITY": _workflow(_BOOK.replace("\n", ", priority: 1\n")),
        "W-STEP-DISABLED": _workflow(_BOOK.replace("effect", "effect, enabled: false") + _TELL),
    },
}
"""Subject -> code -> a contract that has that finding."""

MANY_MISTAKES: Final = _HEAD + "".join(f"  x{number}: 1\n" for number in range(MAX_PROBLEMS + 1)) + "  operations: []\n"
"""What has E-LIMIT; too long for a page."""

TWO_DOCUMENTS: Final = _http(_GET) + "---\n" + _http(_GET)
"""What has E-DOCUMENTS when one contract is wanted."""
