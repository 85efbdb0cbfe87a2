"""A database step of a workflow on SQLite: its effect and its record are one transaction."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.nodes import ModelOrchestratorInput, NodeOrchestrator, OrchestrationFailedError
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver
from omnibase_spi.bootstrap import register_effect_handlers
from tests.support.workflows import Service, failure

WORKFLOW = """
orchestrator_subcontract:
  workflow_name: stock
  steps:
    - {step_id: take, step_type: effect, node: take.yaml, input: {item: "${input.item}"}}
"""
UNDONE = """
orchestrator_subcontract:
  workflow_name: stock
  steps:
    - step_id: take
      step_type: effect
      node: take.yaml
      input: {item: "${input.item}"}
      compensate: {step_type: effect, node: back.yaml, input: {item: "${input.item}"}}
    - {step_id: pay, step_type: effect, node: pay, input: {}, depends_on: [take]}
"""
TAKE = """
effect_subcontract:
  subcontract_name: take
  version: "1.0.0"
  execution_mode: sequential_abort
  operations:
    - operation_name: note
      io_config:
        handler_type: db
        operation: insert
        connection_name: shop
        query_template: "INSERT INTO log (item) VALUES ($1)"
        query_params: ["${input.item}"]
    - operation_name: take
      io_config:
        handler_type: db
        operation: update
        connection_name: shop
        query_template: "UPDATE stock SET left_over = left_over - 1 WHERE item = $1"
        query_params: ["${input.item}"]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A workflow beside its contract and its database: nothing may fall below zero."""
    (tmp_path / "stock.yaml").write_text(WORKFLOW)
    (tmp_path / "take.yaml").write_text(TAKE)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, left_over INTEGER CHECK (left_over >= 0))")
        connection.execute("CREATE TABLE log (item TEXT)")
        connection.execute("INSERT INTO stock VALUES ('book', 1)")
        connection.commit()
    return tmp_path


def rows(shop: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(shop / "shop.db")) as connection:
        return connection.execute(query).fetchall()


async def taken(shop: Path, workflow_id: str) -> list[str]:
    """Run the workflow in a program of its own; returns its completed steps."""
    container = ModelONEXContainer()
    url = f"sqlite:///{shop}/shop.db"
    register_effect_handlers(container, ModelSettings.model_validate({"connections": {"shop": {"url": url}}}))
    async with container:
        node = NodeOrchestrator.from_contract(container, shop / "stock.yaml")
        output = await node.process(ModelOrchestratorInput(workflow_id=workflow_id, input_data={"item": "book"}))
    return output.completed_steps


async def test_a_database_step_has_its_effect_once_also_when_its_run_is_made_again(shop: Path) -> None:
    """A second program, which knows nothing of the first, finds the outcome beside the effect."""
    for _ in range(3):
        assert await taken(shop, "order-1") == ["take"]

    assert rows(shop, "SELECT left_over FROM stock") == [(0,)]
    assert rows(shop, "SELECT item FROM log") == [("book",)]
    assert len(rows(shop, "SELECT * FROM onex_workflow_tx")) == 1


async def test_a_database_step_that_fails_leaves_nothing(shop: Path) -> None:
    """Neither its first statement nor its record."""
    await taken(shop, "order-1")

    with pytest.raises(OrchestrationFailedError):
        await taken(shop, "order-2")

    assert rows(shop, "SELECT item FROM log") == [("book",)]
    assert len(rows(shop, "SELECT * FROM onex_workflow_tx")) == 1


async def test_a_database_step_that_was_undone_is_done_again_when_its_run_goes_on(shop: Path) -> None:
    """Resumed after its compensation, and rewound: the record of the time before does not stand for the effect."""
    (shop / "back.yaml").write_text(
        TAKE.replace("left_over - 1", "left_over + 1").replace("subcontract_name: take", "subcontract_name: back")
    )
    (shop / "stock.yaml").write_text(UNDONE)
    container = ModelONEXContainer()
    url = f"sqlite:///{shop}/shop.db"
    register_effect_handlers(container, ModelSettings.model_validate({"connections": {"shop": {"url": url}}}))
    pay = Service({"{}": [failure("no money"), "paid"]})
    container.register_service("pay", pay)
    async with container:
        node = NodeOrchestrator.from_contract(container, shop / "stock.yaml")
        with pytest.raises(OrchestrationFailedError, match="no money"):
            await node.process(ModelOrchestratorInput(workflow_id="w", input_data={"item": "book"}))
        undone = rows(shop, "SELECT left_over FROM stock")
        engine = container.get_service("EngineDriver")
        assert isinstance(engine, EngineDriver)
        await engine.resume("w")
        resumed = await engine.wait("w")
        taken_again = rows(shop, "SELECT left_over FROM stock")
        with closing(sqlite3.connect(shop / "shop.db")) as connection:
            connection.execute("UPDATE stock SET left_over = 5")
            connection.commit()
        await engine.rewind("w", "take")
        await engine.wait("w")

    assert undone == [(1,)]
    assert resumed.status is EnumRunStatus.COMPLETED
    assert taken_again == [(0,)]
    assert rows(shop, "SELECT left_over FROM stock") == [(4,)]
