"""An aggregation that is killed at any moment and given the same input again comes to the same bits."""

import json
import subprocess
import sys
from pathlib import Path

from omnibase_core.utils.aggregation import aggregate
from tests.chaos.aggregation_worker import ITEMS
from tests.support.aggregations import contract


def test_killed_at_every_statement_no_item_is_lost_or_counted_twice(tmp_path: Path) -> None:
    """Before and after each statement of progress, backup, state and its end, with and without a transaction."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.aggregation_worker", str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=100, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    wanted = json.dumps(aggregate(contract(ITEMS, "sum", value_field="amount", group_by="region")))

    results = json.loads(done.stdout)

    assert done.stderr == ""
    assert len(results) > 20
    assert {json.dumps(result) for result in results} == {wanted}
