"""Pipelines at durability `level`: items share records, and a run that is taken up goes from record to record."""

import copy
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_workflow_engine import StartRequest, StepOutcome, StepRecord
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_store import MemoryStore
from omnibase_spi.testing import run_virtual
from tests.support.workflow_contracts import loaded, workflow
from tests.support.workflows import Service

ITEMS = 600
NODES: Mapping[str, str] = {
    "whole.yaml": """\
compute_subcontract:
  operation_name: whole
  input_schema: {type: integer}
  pipeline:
    - {step_name: same, step_type: transformation, transformation_type: identity}
""",
    "small.yaml": """\
compute_subcontract:
  operation_name: small
  input_schema: {type: integer, maximum: 590}
  pipeline:
    - {step_name: same, step_type: transformation, transformation_type: identity}
""",
}
PURE = """\
step_id: first, step_type: compute, node: whole.yaml
step_id: second, step_type: compute, node: small.yaml"""
MIXED = """\
step_id: first, step_type: compute, node: whole.yaml
step_id: told, step_type: effect, node: work
step_id: second, step_type: compute, node: small.yaml"""


def items() -> list[JsonValue]:
    """Numbers; one in a hundred is none, which the first step refuses, and the last ten are too large for `small`."""
    return [None if number % 100 == 7 else number for number in range(ITEMS)]


class Ran:
    """A run of a pipeline on a store that may have records of it."""

    def __init__(self, steps: str, durability: str = "level", store: MemoryStore | None = None) -> None:
        self.service = Service()
        self.store = store or MemoryStore()
        container = ModelONEXContainer()
        container.register_service("work", self.service)
        text = workflow(steps, coordination_type="pipeline", durability=durability)
        request = StartRequest("w", loaded(text, NODES).bundle, {"items": items()})

        async def main() -> None:
            engine = MemoryEngine(WorkflowRunner(container).run, self.store)
            await engine.start(request)
            self.view = await engine.wait("w")
            await engine.aclose()

        run_virtual(main())

    @property
    def document(self) -> dict[str, JsonValue]:
        found = self.view.output
        assert isinstance(found, dict), self.view.error
        return found

    @property
    def records(self) -> list[StepRecord]:
        return sorted(self.store.runs["w"].records.values(), key=lambda record: record.position)

    def said(self) -> tuple[JsonValue, ...]:
        """What it ended with, without times."""
        steps = self.document["steps"]
        assert isinstance(steps, dict)
        told = [(name, one["status"], one["items"]) for name, one in steps.items() if isinstance(one, dict)]
        return self.document["output"], self.document["failed_items"], str(told)

    def cut_after(self, records: int) -> MemoryStore:
        """The store as a crash leaves it that comes behind so many records."""
        run = copy.copy(self.store.runs["w"])
        in_order = list(self.store.runs["w"].records.items())
        run.records = dict(in_order[:records])
        run.status, run.output, run.error, run.task, run.waiters = EnumRunStatus.RUNNING, None, None, None, []
        return MemoryStore(runs={"w": run}, latest=self.store.latest, count=1)


@pytest.fixture(scope="module")
def mixed() -> Ran:
    """The run with an effect in the middle, from beginning to end."""
    return Ran(MIXED)


@pytest.mark.parametrize("steps", [PURE, MIXED])
def test_items_share_records_and_nothing_else_changes(steps: str) -> None:
    """Output, order and failed items are those of `step`; pure steps have a record for many items."""
    each, grouped = Ran(steps, "step"), Ran(steps)

    assert grouped.said() == each.said()
    assert sum(record.name.startswith("second") for record in each.records) == ITEMS - 6
    assert sum(record.name.startswith("first") for record in grouped.records) <= 4


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1))
def test_a_run_that_is_taken_up_goes_from_record_to_record(mixed: Ran, share: float) -> None:
    """Wherever the crash was, what was recorded is not done again, and the end is the same."""
    kept = int(share * len(mixed.records))
    store = mixed.cut_after(kept)
    calls = sum(record.name.startswith("told") for record in store.runs["w"].records.values())

    again = Ran(MIXED, store=store)

    assert again.said() == mixed.said()
    assert len(again.service.calls) == len(mixed.service.calls) - calls


def test_the_first_item_that_aborts_ends_the_run() -> None:
    """Behind it nothing is recorded for the step."""
    done = Ran(PURE.replace("node: whole.yaml", "node: whole.yaml, on_failure: abort"))

    assert done.view.status is EnumRunStatus.FAILED
    assert done.view.error is not None
    assert "step 'first' is failed" in done.view.error.message
    values = [len(r.outcome.value) for r in done.records if r.name == "first[0]" and isinstance(r.outcome.value, list)]
    assert values == [8]


def test_an_item_whose_failure_is_skipped_goes_on_without_a_value() -> None:
    """It keeps its place."""
    done = Ran("step_id: first, step_type: compute, node: whole.yaml, on_failure: skip")
    output = done.document["output"]

    assert isinstance(output, dict)
    assert output["first"] == items()


def test_a_record_that_is_not_about_items_is_refused() -> None:
    """A journal of something else is not taken for one's own."""
    whole = Ran(PURE)
    store = whole.cut_after(1)
    ((position, record),) = store.runs["w"].records.items()
    store.runs["w"].records[position] = StepRecord(position, record.name, StepOutcome(EnumStepStatus.COMPLETED, "?"))

    done = Ran(PURE, store=store)

    assert done.view.error is not None
    assert "is not about the items of this run" in done.view.error.message


def test_a_record_about_more_items_than_there_are_is_refused() -> None:
    """As above."""
    whole = Ran(PURE)
    store = whole.cut_after(1)
    ((position, record),) = store.runs["w"].records.items()
    value = record.outcome.value
    assert isinstance(value, list)
    outcome = StepOutcome(EnumStepStatus.COMPLETED, value * 10)
    store.runs["w"].records[position] = StepRecord(position, record.name, outcome)

    done = Ran(PURE, store=store)

    assert done.view.error is not None
    assert "is not about the items of this run" in done.view.error.message
