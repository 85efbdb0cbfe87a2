"""What `run_workflow` promises to those who test their workflows with it."""

import asyncio
from pathlib import Path

import pytest

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors import ContractError, ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, Signal
from omnibase_spi.testing import ScriptedHandler, container_with, fault, run_workflow

WAIT = "orchestrator_subcontract: {workflow_name: w, steps: [{step_id: a, step_type: wait, wait: {WAIT}}]}"
EFFECT = """
effect_subcontract:
  subcontract_name: get
  operations:
    - operation_name: get
      io_config: {handler_type: http, method: GET, url_template: "http://127.0.0.1/"}
      retry_policy: {max_retries: 0}
"""
WORKFLOW = """
orchestrator_subcontract:
  workflow_name: w
  steps:
    - {step_id: a, step_type: effect, node: get.yaml, input: {}, retry: {max_retries: 2, base_delay_ms: 60000}}
"""


def test_a_week_passes_in_a_moment() -> None:
    """By the virtual clock it is one; outputs, statuses and the journal can be looked at."""
    trial = run_workflow(WAIT.replace("WAIT", "duration_ms: 604800000"), {"x": 1})

    assert trial.seconds == pytest.approx(604_800)
    assert trial.statuses == {"a": "completed"}
    assert trial.output == {"a": None}
    assert trial.view.input_data == {"x": 1}


def test_what_drives_goes_on_beside_the_run() -> None:
    """It may sleep and send."""

    async def drive(engine: EngineDriver) -> None:
        await asyncio.sleep(3600)
        await engine.signal("mine", Signal("go", "word"))

    trial = run_workflow(WAIT.replace("WAIT", "signal: go"), drive=drive, workflow_id="mine")

    assert trial.output == {"a": "word"}
    assert trial.seconds == pytest.approx(3600)


def test_effects_answer_from_a_script_and_a_failed_run_raises_nothing(tmp_path: Path) -> None:
    """Waits between attempts pass like all others."""
    (tmp_path / "get.yaml").write_text(EFFECT)
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    handler = ScriptedHandler(fault())

    trial = run_workflow(tmp_path / "w.yaml", container=container_with(http=handler))

    assert (trial.view.status, trial.statuses, trial.output) == (EnumRunStatus.FAILED, {"a": "failed"}, None)
    assert [record.name for record in trial.records] == ["a"]
    assert trial.records[0].outcome.attempts == len(handler.contexts) == 3
    assert trial.seconds > 60


def test_what_waits_for_ever_is_found_out() -> None:
    """After a year; bad contracts at once."""
    with pytest.raises(ModelOnexError, match="still running"):
        run_workflow(WAIT.replace("WAIT", "signal: never"))
    with pytest.raises(ContractError):
        run_workflow(WAIT.replace("WAIT", "nothing: 1"))
