"""The JSON Schema of contract files agrees with the loader."""

import json
from pathlib import Path

import jsonschema
import jsonschema_rs
import pytest
from pydantic import JsonValue

from benchmarks.contracts import contract_text
from omnibase_core.errors import ModelOnexError
from omnibase_core.utils.contract_loader import judge_text
from omnibase_core.utils.contract_schema import contract_schema
from omnibase_core.utils.yaml_document import read_documents

HEAD = "effect_subcontract:\n  subcontract_name: t\n  operations:\n    - operation_name: a\n      io_config: "
DB = "{handler_type: db, connection_name: m, query_template: SELECT 1, "
KAFKA = "{handler_type: kafka, topic: t, payload_template: x"
HTTP = "{handler_type: http, method: GET, url_template: 'https://x/'"
GOOD = [
    contract_text(8),
    HEAD + HTTP + "}",
    HEAD + HTTP + ", idempotency_key: auto}",
    HEAD + HTTP + ", auth: {type: bearer, token: '${secret.T}'}}",
    HEAD + HTTP + ", auth: null}",
    HEAD + DB + "operation: Select}",
    HEAD + KAFKA + ", acks: 1}",
    HEAD + KAFKA + ", acks: '0'}",
    HEAD + HTTP + "}\n      response_handling: {extract_fields: {a: $.x, b: {from: status}}}",
]
BAD = [
    "effect_subcontract: {}",
    "compute_subcontract: {}",
    "name: x",
    HEAD + "{}",
    HEAD + HTTP + ", methd: GET}",
    HEAD + HTTP + ", timeout_ms: 99}",
    HEAD + HTTP + ", timeout_ms: true}",
    HEAD + HTTP + ", auth: {type: digest}}",
    HEAD + HTTP + ", response_format: stream}",
    HEAD + "{method: GET, url_template: 'https://x/'}",
    HEAD + "{handler_type: db, method: GET, url_template: 'https://x/'}",
    HEAD + DB + "operation: selects}",
    HEAD + KAFKA + ", acks: 2}",
    HEAD + HTTP + "}\n      when: x",
    HEAD + HTTP + "}\n      response_handling: {extraction_engine: xpath}",
    HEAD + HTTP + "}\n  version: '1.0'",
]

PIPELINE = "compute_subcontract:\n  operation_name: t\n  pipeline:\n    - {step_name: a, step_type: "
TRIM = "transformation, transformation_type: trim, transformation_config: {config_type: trim"
CHOOSE = "conditional, when: 'true', then: [{step_name: b, step_type: "
GOOD += [
    PIPELINE + TRIM + "}}",
    PIPELINE + CHOOSE + TRIM + "}}]}",
    PIPELINE + "mapping, mapping_config: {field_mappings: {a: $.input}}}\n  input_schema: {type: object}",
]
WORKFLOW = "orchestrator_subcontract:\n  workflow_name: t\n  steps:\n    - {step_id: a, step_type: "
GOOD += [
    WORKFLOW + "effect, node: x, input: {a: ['${input.a}', 7, null]}, for_each: [1], on_event: [a]}\n"
    "  coordination_type: event_driven",
    WORKFLOW + "wait, wait: {duration_ms: 5}}\n  triggers: [{schedule: {cron: '0 2 * * *'}}]",
    WORKFLOW + "approval, approval: {prompt: x, timeout_ms: 9, on_timeout: fail}}\n  input_schema: {type: object}",
]
BAD += [
    "orchestrator_subcontract: {}",
    WORKFLOW + "efect, node: x}",
    WORKFLOW + "effect, node: x, priority: 0}",
    WORKFLOW + "effect, node: x, on_failure: ignore}",
    WORKFLOW + "effect, node: x, nodes: y}",
    WORKFLOW + "wait, wait: {duration_ms: '5'}}",
    WORKFLOW + "effect, node: x}\n  max_parallel_steps: 101",
    WORKFLOW + "effect, node: x}\n  lease: {ttl: 5}",
]
BAD += [
    PIPELINE + "transformation}",
    PIPELINE + TRIM + ", mode: middle}}",
    PIPELINE + CHOOSE + TRIM + ", mode: middle}}]}",
    PIPELINE + TRIM + "}}\n  parallel: {backend: gpu}",
    PIPELINE + "mapping, transformation_type: trim}",
]


def _data(text: str) -> JsonValue:
    return read_documents(text)[0][0].data


def test_the_schema_is_one_of_the_draft_it_names() -> None:
    """The schema validates against its own dialect and is plain JSON."""
    schema = contract_schema()

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema
    assert "discriminator" not in json.dumps(schema)


@pytest.mark.parametrize("text", GOOD)
def test_good_contracts_are_good_to_both(text: str) -> None:
    """What the loader takes, two independent validators take as well."""
    schema, data = contract_schema(), _data(text)

    assert [d for judged in judge_text(text) for d in judged.diagnostics if d.severity == "error"] == []
    jsonschema.Draft202012Validator(schema).validate(data)
    jsonschema_rs.Draft202012Validator(schema).validate(data)
    assert isinstance(data, dict)
    (kind,) = (key.removesuffix("_subcontract") for key in data if key.endswith("_subcontract"))
    jsonschema_rs.Draft202012Validator(contract_schema(kind)).validate(data)


@pytest.mark.parametrize("text", BAD)
def test_bad_contracts_are_bad_to_both(text: str) -> None:
    """What breaks a field's type, bound or vocabulary is refused by the loader and by plain validators."""
    schema, data = contract_schema(), _data(text)

    assert judge_text(text)[0].contract is None
    assert not jsonschema.Draft202012Validator(schema).is_valid(data)
    assert not jsonschema_rs.Draft202012Validator(schema).is_valid(data)


def test_every_example_contract_validates() -> None:
    """The examples of the repository are valid for loader and schema."""
    schema = jsonschema_rs.Draft202012Validator(contract_schema())
    root = Path(__file__).parents[3] / "examples" / "contracts" / "effect"

    wrong = {
        file.name: [
            str(d)
            for judged in judge_text(file.read_text("utf-8"))
            for d in judged.diagnostics
            if d.severity == "error"
        ]
        for file in root.rglob("*.yaml")
        if judge_text(file.read_text("utf-8"))[0].contract is None
        or not schema.is_valid(_data(file.read_text("utf-8")))
    }

    assert wrong == {}


def test_operations_and_fields_are_described() -> None:
    """Editors show the models' docstrings, defaults and bounds."""
    definitions = contract_schema()["$defs"]

    assert isinstance(definitions, dict)
    policy = definitions["ModelEffectRetryPolicy"]
    assert isinstance(policy, dict)
    assert "inherited" in str(policy["description"])
    properties = policy["properties"]
    assert isinstance(properties, dict)
    assert properties["max_retries"] == {"default": 3, "maximum": 10, "minimum": 0, "type": "integer"}
    assert policy["additionalProperties"] is False


def test_other_kinds_are_refused() -> None:
    """A kind that is not known has no schema."""
    with pytest.raises(ModelOnexError, match="unknown"):
        contract_schema("foo")
