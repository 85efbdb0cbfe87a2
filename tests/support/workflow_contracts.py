"""Workflow contracts as texts, and what the loader says of them."""

from collections.abc import Mapping

from omnibase_core.errors import Diagnostic
from omnibase_core.utils.contract_files import files_of
from omnibase_core.utils.contract_loader import judge_text
from omnibase_core.utils.workflow_bundle import LoadedWorkflow

NODES: Mapping[str, str] = {
    "send.yaml": """\
effect_subcontract:
  subcontract_name: send
  input_schema: {required_fields: [order.id]}
  operations:
    - operation_name: post
      io_config:
        handler_type: http
        method: POST
        url_template: https://api.example.org/orders
        body_json: {order: "${input.order.id}", note: "${input.note:-none}", by: "${input.by}"}
""",
    "typed.yaml": """\
effect_subcontract:
  subcontract_name: typed
  input_schema: {json_schema: {type: object, required: [n], properties: {n: {type: integer}}}}
  operations:
    - operation_name: read
      io_config: {handler_type: filesystem, operation: read, file_path_template: a.txt}
      response_handling: {extract_fields: {size: $.size_bytes}}
""",
    "store.yaml": """\
effect_subcontract:
  subcontract_name: store
  operations:
    - operation_name: note
      io_config:
        handler_type: db
        operation: insert
        connection_name: main
        query_template: INSERT INTO orders VALUES ($1)
        query_params: ["${input.id}"]
""",
    "total.yaml": """\
compute_subcontract:
  operation_name: total
  input_schema: lines.json
  pipeline:
    - {step_name: same, step_type: transformation, transformation_type: identity}
""",
    "lines.json": """\
{"type": "object", "required": ["lines"], "additionalProperties": false,
 "properties": {"lines": {"type": "array", "items": {"type": "integer"}}, "mode": {"enum": ["a", "b"]},
                "title": {"type": "string", "minLength": 3}}}
""",
    "machine.yaml": """\
reducer_subcontract:
  state_machine:
    state_machine_name: orders
    initial_state: open
    states: [{state_name: open}, {state_name: closed, is_terminal: true}]
    transitions: [{transition_name: close, from_state: open, to_state: closed, trigger: CLOSE}]
""",
    "deep/child.yaml": """\
orchestrator_subcontract:
  workflow_name: child
  input_schema: {type: object, required: [n]}
  steps:
    - {step_id: count, step_type: compute, node: count.yaml, input: {n: "${input.n}"}}
""",
    "deep/count.yaml": """\
compute_subcontract:
  operation_name: count
  input_schema: n.yaml
  pipeline:
    - {step_name: same, step_type: transformation, transformation_type: identity}
""",
    "deep/n.yaml": "type: object\nrequired: [n]\n",
    "broken.yaml": """\
effect_subcontract:
  subcontract_name: broken
  operations: []
""",
}
"""Contracts beside a workflow."""


def workflow(steps: str, **fields: str) -> str:
    """The text of a workflow; each line of `steps` is an entry in flow style, as are the fields."""
    head = "orchestrator_subcontract:\n  workflow_name: test\n"
    rest = "".join(f"  {name}: {value}\n" for name, value in fields.items())
    return head + rest + "  steps:\n" + "".join(f"    - {{{line}}}\n" for line in steps.splitlines())


def findings(text: str, nodes: Mapping[str, str] = NODES) -> list[Diagnostic]:
    """What the loader finds; the text lies beside NODES."""
    return [found for judged in judge_text(text, "main.yaml", files_of(nodes)) for found in judged.diagnostics]


def codes(text: str, nodes: Mapping[str, str] = NODES) -> list[str]:
    return [found.code for found in findings(text, nodes)]


def only(text: str, nodes: Mapping[str, str] = NODES) -> Diagnostic:
    (found,) = findings(text, nodes)
    return found


def loaded(text: str, nodes: Mapping[str, str] = NODES) -> LoadedWorkflow:
    """A workflow without an error."""
    (judged,) = judge_text(text, "main.yaml", files_of(nodes))
    assert judged.contract is not None, "\n".join(map(str, judged.diagnostics))
    workflow = judged.contract.workflow
    assert workflow is not None
    return workflow
