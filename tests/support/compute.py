"""Compute contracts for tests."""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from omnibase_core.errors import Diagnostic
from omnibase_core.models.model_compute_output import ModelComputePipelineResult
from omnibase_core.utils.compute_executor import execute_pipeline
from omnibase_core.utils.compute_plan import ComputePlan
from omnibase_core.utils.contract_loader import judge_text, load_contract

Step = Mapping[str, object]


def transformation(kind: str, name: str = "step", **config: object) -> dict[str, object]:
    """A transformation step; without settings it has no config at all."""
    step: dict[str, object] = {"step_name": name, "step_type": "transformation", "transformation_type": kind}
    if kind != "identity":
        step["transformation_config"] = {"config_type": kind, **config}
    return step


def contract(steps: Sequence[Step], **fields: object) -> str:
    """The text of a contract; JSON is YAML."""
    return json.dumps({"compute_subcontract": {"operation_name": "demo", **fields, "pipeline": steps}})


def plan_of(steps: Sequence[Step], **fields: object) -> ComputePlan:
    plan = load_contract(contract(steps, **fields)).compute_plan
    assert plan is not None
    return plan


def run(steps: Sequence[Step], data: JsonValue, **fields: object) -> ModelComputePipelineResult:
    return execute_pipeline(plan_of(steps, **fields), data)


def findings(steps: Sequence[Step], **fields: object) -> list[Diagnostic]:
    """What the loader says of a contract."""
    return [finding for judged in judge_text(contract(steps, **fields)) for finding in judged.diagnostics]
