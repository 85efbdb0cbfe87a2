"""Steps that compute: a contract that picks `value` of its input."""

from collections.abc import Mapping
from functools import cache

from omnibase_core.enums.enum_workflow import EnumWorkflowStepType
from omnibase_core.utils.contract_loader import LoadedContract, load_contract
from tests.support.workflows import StepSpec, step

TEXT = """
compute_subcontract:
  operation_name: pick
  operation_version: "1.0.0"
  pipeline:
    - step_name: pick
      step_type: transformation
      transformation_type: json_path
      transformation_config: {config_type: json_path, path: $.value}
"""


@cache
def compute_nodes() -> Mapping[str, LoadedContract]:
    """The contract as `pick.yaml`."""
    return {"pick.yaml": load_contract(TEXT)}


def pure(step_id: str, *needs: str, **fields: object) -> StepSpec:
    """A step that computes its own id, unless its input says otherwise."""
    given: dict[str, object] = {
        "kind": EnumWorkflowStepType.COMPUTE,
        "node": "pick.yaml",
        "is_service": False,
        "pure": True,
        "make_input": lambda _scope: {"value": step_id},
    }
    return step(step_id, *needs, **{**given, **fields})
