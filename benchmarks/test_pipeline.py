"""What a step of a compute pipeline costs beside its transformation, and beside the same in a plain loop."""

import asyncio
import json
from collections.abc import Callable

from pydantic import JsonValue

from benchmarks.measure import Table, paired, repeated
from omnibase_core.mixins.pipeline_limits import run_limited
from omnibase_core.utils.compute_executor import execute_pipeline
from omnibase_core.utils.compute_plan import ComputePlan
from omnibase_core.utils.contract_loader import load_contract

STEPS = 50
TEXT = " Straße 7 "


def _plan(steps: list[dict[str, object]], **fields: object) -> ComputePlan:
    contract = {"compute_subcontract": {"operation_name": "benchmark", **fields, "pipeline": steps}}
    plan = load_contract(json.dumps(contract)).compute_plan
    assert plan is not None
    return plan


def _step(kind: str, number: int, **config: object) -> dict[str, object]:
    step: dict[str, object] = {"step_name": f"s{number}", "step_type": "transformation", "transformation_type": kind}
    return {**step, "transformation_config": {"config_type": kind, **config}} if kind != "identity" else step


def _loop(functions: list[Callable[[str], str]]) -> list[str]:
    """What one writes without us, with the output of every step kept."""
    value, outputs = TEXT, []
    for function in functions:
        value = function(value)
        outputs.append(value)
    return outputs


def test_pipeline_step(table: Table) -> None:
    """Fifty steps that upper and lower a text in turn; and fifty that hand a large document on."""
    cases: list[Callable[[str], str]] = [str.upper, str.lower]
    functions = [cases[number % 2] for number in range(STEPS)]
    modes = ("uppercase", "lowercase")
    plan = _plan([_step("case_conversion", number, mode=modes[number % 2]) for number in range(STEPS)])
    empty = _plan([_step("identity", number) for number in range(STEPS)])
    one = _plan([_step("trim", 0)])
    limited = _plan([_step("trim", 0)], pipeline_timeout_ms=1_000)
    large: JsonValue = {"items": [{"id": number} for number in range(100_000)]}
    watched = _plan([_step("arithmetic", 0, expression="[value].map(x, x)")], pipeline_timeout_ms=1_000)
    assert [step.output for step in execute_pipeline(plan, TEXT).step_results.values()] == _loop(functions)
    assert run_limited(watched, 1)[0].output == [1]

    times = asyncio.run(
        paired(
            {
                "steps": repeated(lambda: execute_pipeline(plan, TEXT)),
                "loop": repeated(lambda: _loop(functions)),
                "large": repeated(lambda: execute_pipeline(empty, large)),
                "small": repeated(lambda: execute_pipeline(empty, None)),
                "one": repeated(lambda: execute_pipeline(one, TEXT)),
                "limited": repeated(lambda: run_limited(limited, TEXT)),
                "watched": repeated(lambda: run_limited(watched, 1)),
            },
            operations=20,
            rounds=30,
        )
    )

    ours, loop = times.best("steps") / STEPS, times.best("loop") / STEPS
    note = f"{ours:.2f} us beside {loop:.2f} in a plain loop that keeps the outputs"
    table.add("pipeline", "added by a step", ours - loop, "us", 2, note=note)
    note = f"a step that hands 100,000 items on: {times.best('large') / STEPS:.2f} us; nothing: "
    table.add(
        "pipeline",
        "a step over a large input, beside a small one",
        times.best("large") / times.best("small"),
        "x",
        note=note + f"{times.best('small') / STEPS:.2f}",
    )
    table.add("pipeline", "a pipeline of one step", times.best("one"), "us")
    table.add(
        "pipeline", "the same with a limit, small input", times.best("limited"), "us", note="runs where it is called"
    )
    table.add(
        "pipeline",
        "in a process, for its limit",
        times.best("watched"),
        "us",
        note="CPU on this side; the process is there",
    )
