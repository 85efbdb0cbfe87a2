"""The routing table of intents."""

from pathlib import Path

import pytest

from omnibase_core.errors import ContractError, ModelOnexError
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute, ModelMailTemplate
from omnibase_core.utils.intent_routes import load_intent_routes

TABLE = """
routes:
  - {intent_type: api_call, target: "pay*", connection: bank}
  - {intent_type: api_call, target: payments, contract: pay.yaml, idempotent: true}
templates:
  hello: {subject: "Hello ${input.name}", body: "Welcome"}
"""


def test_an_exact_target_goes_before_a_pattern() -> None:
    """Whatever the order of the rows."""
    routes = load_intent_routes(TABLE)

    assert routes.route_of("api_call", "payments").contract == "pay.yaml"
    assert routes.route_of("api_call", "payroll").connection == "bank"
    assert routes.route_of("api_call", "other") == ModelIntentRoute(intent_type="api_call")
    assert routes.templates["hello"].sender == "onex@localhost"


PAY = """
effect_subcontract:
  subcontract_name: pay
  operations:
    - operation_name: post
      io_config: {handler_type: http, method: GET, url_template: "https://pay.example.org/${input.intent_id}"}
"""


def _codes(table: str | Path) -> list[tuple[str, str, int, int, str]]:
    with pytest.raises(ContractError) as caught:
        load_intent_routes(table)
    return [(found.code, found.key_path, found.line, found.column, found.fix) for found in caught.value.diagnostics]


def test_a_contract_is_relative_to_its_table(tmp_path: Path) -> None:
    """So that a table and its contracts move together."""
    (tmp_path / "pay.yaml").write_text(PAY, encoding="utf-8")
    (tmp_path / "routes.yaml").write_text(TABLE, encoding="utf-8")

    routes = load_intent_routes(tmp_path / "routes.yaml")

    assert routes.route_of("api_call", "payments").contract == str(tmp_path / "pay.yaml")


def test_what_is_wrong_is_told_with_its_place_and_what_to_do() -> None:
    """All at once, in the words of the contract loader."""
    text = "routes:\n  - {intent_type: '', conection: red}\n  - {target: x}\ntemplates: 5\n"

    found = _codes(text)

    assert found == [
        ("E-TEXT", "routes[0].intent_type", 2, 19, "write a text, 1 to 2000 characters"),
        ("E-UNKNOWN-FIELD", "routes[0].conection", 2, 23, "did you mean 'connection'?"),
        ("E-MISSING-FIELD", "routes[1].intent_type", 3, 5, "add intent_type: a text, 1 to 2000 characters"),
        ("E-TYPE", "templates", 4, 12, "write a mapping"),
    ]


@pytest.mark.parametrize(
    ("row", "field", "fix"),
    [
        ("intent_type: database_write, via: kafka", "via", "remove via"),
        ("intent_type: message_publish, via: kafak", "via", "did you mean 'kafka'?"),
        ("intent_type: message_publish, via: kafka, contract: a.yaml", "via", "remove one of the two"),
        ("intent_type: message_publish, connection: events", "connection", "add via: kafka, or remove connection"),
        ("intent_type: api_call, contract: a.yaml, connection: bank", "connection", "remove connection"),
        ("intent_type: file_operation, connection: disk", "connection", "remove connection"),
    ],
)
def test_a_row_that_says_what_nothing_heeds_is_refused(row: str, field: str, fix: str) -> None:
    """It would be left aside in silence."""
    ((code, path, line, _column, told),) = _codes(f"routes:\n  - {{{row}}}\n")

    assert (code, path, line, told) == ("E-VALUE", f"routes[0].{field}", 2, fix)


def test_a_connection_is_a_name_and_its_password_is_not_shown() -> None:
    """Where it leads is a matter of the settings."""
    with pytest.raises(ContractError, match="not a URL") as caught:
        load_intent_routes("routes:\n  - {intent_type: notification, connection: 'smtp://ada:hunter2@mail'}\n")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "code", "field", "begin"),
    [
        ('subject: "Order ${inpt.id}", body: b', "E-TEMPLATE", "subject", "${"),
        ('subject: "Order ${input.id", body: b', "E-TEMPLATE", "subject", "${"),
        ('subject: s, body: "Dear ${env.USER}"', "E-TEMPLATE", "body", "${"),
        ('subject: "two\\nlines", body: b', "E-TEXT", "subject", '"two'),
        ('subject: s, body: b, sender: "${input.from}"', "E-LITERAL", "sender", '"$'),
        ('subject: s, body: b, sender: "a@b\\nBcc: c@d"', "E-TEXT", "sender", '"a@b'),
    ],
)
def test_a_template_that_no_mail_can_be_written_from_is_refused(
    template: str, code: str, field: str, begin: str
) -> None:
    """It speaks of the intent's data only, and a header is one line."""
    row = f"  hello: {{{template}}}"

    ((found, path, line, column, _fix),) = _codes(f"templates:\n{row}\n")

    assert (found, path, line, column) == (code, f"templates.hello.{field}", 2, row.index(begin) + 1)


def test_a_template_that_is_wrong_is_refused_in_python_too() -> None:
    """By the same rules."""
    with pytest.raises(ModelOnexError, match="unknown source 'inpt'"):
        ModelMailTemplate(subject="Order ${inpt.id}", body="")


def test_the_contracts_of_a_table_are_judged_with_it(tmp_path: Path) -> None:
    """A missing file, one of another kind, and what is wrong inside of one, at its own place."""
    table = tmp_path / "routes.yaml"
    rows = ["none.yaml", "two.yaml", "machine.yaml", "wrong.yaml", "wrong.yaml", "pay.yaml"]
    text = "".join(f"  - {{intent_type: t{number}, contract: {name}}}\n" for number, name in enumerate(rows))
    table.write_text(f"routes:\n{text}", encoding="utf-8")
    machine = "state_machine_name: m\n    initial_state: a\n    states: [{state_name: a}]\n    transitions: []\n"
    (tmp_path / "machine.yaml").write_text(f"reducer_subcontract:\n  state_machine:\n    {machine}", encoding="utf-8")
    (tmp_path / "two.yaml").write_text(f"{PAY}---{PAY}", encoding="utf-8")
    (tmp_path / "pay.yaml").write_text(PAY, encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(PAY.replace("method:", "methode:"), encoding="utf-8")

    with pytest.raises(ContractError) as caught:
        load_intent_routes(table)

    assert [(Path(found.file).name, found.code, found.key_path) for found in caught.value.diagnostics] == [
        ("routes.yaml", "E-FILE", "routes[0].contract"),
        ("routes.yaml", "E-FILE", "routes[1].contract"),
        ("routes.yaml", "E-FILE", "routes[2].contract"),
        ("wrong.yaml", "E-MISSING-FIELD", "effect_subcontract.operations[0].io_config.method"),
        ("wrong.yaml", "E-UNKNOWN-FIELD", "effect_subcontract.operations[0].io_config.methode"),
    ]


@pytest.mark.parametrize("text", ["routes: [", "", "---\nroutes: []\n---\nroutes: []\n"])
def test_what_is_no_single_document_is_refused(text: str) -> None:
    """A syntax error, nothing, or two tables."""
    with pytest.raises(ContractError):
        load_intent_routes(text)


def test_a_missing_file_is_told_by_name(tmp_path: Path) -> None:
    """As a contract error like any other."""
    with pytest.raises(ContractError, match=r"nothing\.yaml.*cannot be read"):
        load_intent_routes(tmp_path / "nothing.yaml")


def test_a_target_that_looks_like_a_pattern_fits_itself() -> None:
    """An address of IPv6 has brackets."""
    url = "http://[::1]:8080/"

    assert ModelIntentRoute(intent_type="api_call", target=url).fits("api_call", url)
