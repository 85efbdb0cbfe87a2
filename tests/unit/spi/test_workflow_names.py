"""What a run is listed as."""

import pytest

from omnibase_core.protocols.protocol_workflow_engine import WorkflowBundle
from omnibase_spi.workflow_names import names_of

PLAIN = "orchestrator_subcontract:\n  workflow_name: nightly\n  version: 2.1.0\n"
ELSEWHERE = """
orchestrator_subcontract:
  steps:
    - step_id: tell
      input: {workflow_name: other}
      # its own
    - step_id: more
      input:
        version: 3.1.0
        workflow_name: another
  workflow_name: nightly
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PLAIN, ("nightly", "2.1.0")),
        ("{orchestrator_subcontract: {workflow_name: nightly, version: 2.1.0}}", ("nightly", "2.1.0")),
        (ELSEWHERE, ("nightly", "1.0.0")),
        ("", ("order", "1.0.0")),
        ("- a list", ("order", "1.0.0")),
        ("a: [", ("order", "1.0.0")),
    ],
    ids=["block", "flow", "the same keys in an input", "a plan of Python", "a list", "no YAML"],
)
def test_a_workflow_is_listed_by_the_name_and_version_of_its_contract(text: str, names: tuple[str, str]) -> None:
    """However it is written; by the name of its file where the text tells none."""
    files = {"flows/order.yaml": text} if text else {}

    assert names_of(WorkflowBundle("flows/order.yaml", files, "")) == names
