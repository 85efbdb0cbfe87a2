"""The routing table of intents."""

from pathlib import Path

import pytest

from omnibase_core.errors import ContractError
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute
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


def test_a_contract_is_relative_to_its_table(tmp_path: Path) -> None:
    """So that a table and its contracts move together."""
    (tmp_path / "routes.yaml").write_text(TABLE, encoding="utf-8")

    routes = load_intent_routes(tmp_path / "routes.yaml")

    assert routes.route_of("api_call", "payments").contract == str(tmp_path / "pay.yaml")


def test_what_is_wrong_is_told_with_its_place() -> None:
    """All at once."""
    with pytest.raises(ContractError) as caught:
        load_intent_routes("routes:\n  - {intent_type: '', colour: red}\n  - {target: x}\n")

    assert [(found.code, found.key_path, found.line) for found in caught.value.diagnostics] == [
        ("E-VALUE", "routes[0].intent_type", 2),
        ("E-UNKNOWN-FIELD", "routes[0].colour", 2),
        ("E-MISSING-FIELD", "routes[1].intent_type", 3),
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
