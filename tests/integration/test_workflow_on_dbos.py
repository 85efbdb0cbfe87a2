"""A workflow contract on the dbos engine: its process dies at each wait, and another one ends it."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue, SecretStr

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_core.protocols.protocol_workflow_engine import RunFilter, Signal, StartRequest
from omnibase_core.utils.workflow_bundle import bundle_of
from omnibase_spi.bootstrap import register_effect_handlers
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.engine_dbos import DbosDriver
from tests.support.databases import CORRELATION, until

NOTE = """\
effect_subcontract:
  subcontract_name: note
  operations:
    - operation_name: insert
      io_config:
        handler_type: db
        operation: insert
        connection_name: main
        query_template: INSERT INTO notes (word) VALUES ($1)
        query_params: ["${input.word}"]
"""
SHOUT = """\
compute_subcontract:
  operation_name: shout
  pipeline:
    - step_name: upper
      step_type: transformation
      transformation_type: case_conversion
      transformation_config: {config_type: case_conversion, mode: uppercase}
"""
CHILD = """\
orchestrator_subcontract:
  workflow_name: child
  version: 1.0.0
  steps:
    - {step_id: shout, step_type: compute, node: shout.yaml, input: "${input.word}"}
  output: {word: "${steps.shout}"}
"""
WORKFLOW = """\
orchestrator_subcontract:
  workflow_name: parent
  version: 1.0.0
  durability: DURABILITY
  steps:
    - {step_id: first, step_type: compute, node: shout.yaml, input: "${input.word}"}
    - {step_id: note, step_type: effect, node: note.yaml, input: {word: "${steps.first}"}, depends_on: [first]}
    - {step_id: go, step_type: wait, wait: {signal: go}, depends_on: [note]}
    - {step_id: child, step_type: orchestrator, node: child.yaml, input: {word: "${input.word}"}, depends_on: [go]}
    - {step_id: again, step_type: effect, node: note.yaml, input: {word: "${steps.child.word}"}, depends_on: [child]}
  output: {first: "${steps.first}", child: "${steps.child.word}"}
"""


@pytest.mark.parametrize("durability", ["step", "level", "run"])
async def test_a_contract_outlives_its_process(tmp_path: Path, durability: str) -> None:
    """Each row is written once, the signal is kept, and the run ends with its output."""
    files = {"note.yaml": NOTE, "shout.yaml": SHOUT, "child.yaml": CHILD}
    bundle = bundle_of("workflow.yaml", {"workflow.yaml": WORKFLOW.replace("DURABILITY", durability), **files})
    main = ModelConnection(url=SecretStr(f"sqlite:///{tmp_path}/main.db"))
    container = ModelONEXContainer()
    register_effect_handlers(container, ModelSettings(connections={"main": main}))
    db = container.get_service(DbAdapter)
    await _sql(db, "CREATE TABLE notes (word TEXT)")
    url, runner = f"sqlite:///{tmp_path}/runs.db", WorkflowRunner(container)

    first = await DbosDriver.create(url, runner.run, lease_ttl_ms=600, db=db)
    await first.start(StartRequest("w", bundle, {"word": "hello"}))
    rows: list[JsonValue] = []

    async def noted() -> bool:
        rows[:] = await _sql(db, "SELECT word FROM notes")
        return bool(rows) and any(step.name == "note" for step in await first.steps("w"))

    await until(noted, "the first row", 10)
    await first.crash()
    second = await DbosDriver.create(url, WorkflowRunner(container).run, lease_ttl_ms=600, db=db)
    await second.signal("w", Signal("go", {"by": "ann"}))
    view = await second.wait("w", timedelta(seconds=20))
    children = await second.list(RunFilter(parent_id="w"))
    await second.aclose()

    assert view.status is EnumRunStatus.COMPLETED, view
    assert isinstance(view.output, dict)
    assert view.output["output"] == {"first": "HELLO", "child": "HELLO"}
    assert [found.name for found in children] == ["child"]
    assert await _sql(db, "SELECT word FROM notes") == [{"word": "HELLO"}, {"word": "HELLO"}]
    await container.aclose()


async def _sql(db: DbAdapter, query: str) -> list[JsonValue]:
    context = ModelResolvedDbContext(
        connection_name="main", operation="select" if query[0] == "S" else "raw", query=query, timeout_ms=5000
    )
    document = await db.execute(context, CORRELATION)
    rows = document["rows"]
    assert isinstance(rows, list)
    return rows
