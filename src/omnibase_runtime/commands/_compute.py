"""What the commands do with compute contracts: carry out, show, draw."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from omnibase_runtime.commands import _console
from omnibase_runtime.commands._bar import Bar

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
        ComputeStep,
        ModelComputeSubcontract,
    )
    from omnibase_core.utils.compute_plan import ComputePlan


def run_pipeline(plan: "ComputePlan", data: "JsonValue", cluster: "Callable[[], Executor]") -> int:
    """Run once, show the output (with --json the whole result), and give the exit status.

    cluster: makes the executor of the backend `cluster`.
    """
    from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
    from omnibase_core.errors.onex_error import ModelOnexError
    from omnibase_core.mixins.pipeline_limits import run_limited, run_limited_async
    from omnibase_core.models.model_compute_output import TOO_DEEP, ComputeFailedError
    from omnibase_core.utils.compute_executor import raise_failure

    try:
        if plan.find_items is None:
            result = raise_failure(plan, *run_limited(plan, data))
        else:
            with Bar(plan.subcontract.operation_name) as bar:
                result = asyncio.run(run_limited_async(plan, data, on_progress=bar, cluster=cluster))
    except ComputeFailedError as failed:
        if not _console.mode.json:
            return _console.tell(failed)
        partial = failed.pipeline_result
        document: JsonValue = None if partial is None else json.loads(partial.model_dump_json())
        _console.say_json({"error": _console.error_document(failed), "output": document})
        return failed.error_code.exit_status
    whole: dict[str, JsonValue] = json.loads(result.model_dump_json())
    if whole["output"] == TOO_DEEP != result.output:
        message = f"compute {plan.subcontract.operation_name!r}: its output is nested too deeply to be written as JSON"
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
    _console.say_json(whole if _console.mode.json else whole["output"])
    return 0


def show_plan(contract: "ModelComputeSubcontract", plan: "ComputePlan", data: "JsonValue") -> None:
    """The steps that would run, with their settings; the input is judged by its schema."""
    if plan.check_input is not None:
        plan.check_input(data)
    steps: list[JsonValue] = [_step(step) for step in contract.pipeline]
    parallel = contract.parallel
    head: dict[str, JsonValue] = {
        "name": contract.operation_name,
        "version": contract.version,
        "pipeline_timeout_ms": contract.pipeline_timeout_ms,
        "parallel": None
        if parallel is None
        else {"workers": parallel.worker_count, "backend": parallel.chosen_backend},
    }
    if _console.mode.json:
        _console.say_json({"contract": head, "steps": steps})
        return
    limit = f", at most {contract.pipeline_timeout_ms} ms" if contract.pipeline_timeout_ms else ""
    _console.say(f"{contract.operation_name} {contract.version}{limit}")
    if parallel is not None:
        items = "the input" if parallel.items is None else parallel.items
        _console.say(
            f"  for each item of {items}, workers: {parallel.worker_count}, backend: {parallel.chosen_backend}"
        )
    for line in _lines(contract.pipeline, "  "):
        _console.say(line)


def _step(step: "ComputeStep") -> "JsonValue":
    dumped: JsonValue = json.loads(step.model_dump_json(by_alias=True))
    return dumped


def _lines(steps: "list[ComputeStep]", margin: str) -> Iterator[str]:
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import step_lists

    for step in steps:
        off = "" if step.enabled else " (disabled)"
        limit = f", at most {step.timeout_ms} ms" if step.timeout_ms else ""
        yield f"{margin}{step.step_name}: {kind_of_step(step)}{limit}{off}"
        for place, inner in step_lists(step).items():
            if inner:
                yield f"{margin}  {place[-1]}:"
                yield from _lines(inner, margin + "    ")


def kind_of_step(step: "ComputeStep") -> str:
    """What a step does, in a word or two."""
    kind = getattr(step, "transformation_type", None)
    if kind is not None:
        return str(kind)
    when = getattr(step, "when", None)
    return f"{step.step_type} when {when}" if when is not None else str(step.step_type)


def edges(steps: "list[ComputeStep]", before: "list[str]") -> "Iterator[tuple[str, str, str]]":
    """(from, to, label) between the names of enabled steps. `before`: steps that the first one follows."""
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import step_lists

    for step in steps:
        if step.enabled:
            for name in before:
                yield name, step.step_name, ""
            for place, inner in step_lists(step).items():
                first = next((one.step_name for one in inner if one.enabled), None)
                if first is not None:
                    yield step.step_name, first, str(place[-1])
                    yield from edges(inner, [])
            before = [step.step_name]


def boxes(steps: "list[ComputeStep]") -> "Iterator[tuple[str, str]]":
    """Name and kind of every enabled step, those of branches included."""
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import step_lists

    for step in steps:
        if step.enabled:
            yield step.step_name, kind_of_step(step)
            for inner in step_lists(step).values():
                yield from boxes(inner)
