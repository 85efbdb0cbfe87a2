"""`python -m tests.support.pipeline_memory ENGINE DURABILITY ITEMS [DIRECTORY]`: how much memory a pipeline needs.

Each item is a short text on its way in and out, and in between a text of two thousand characters that each step makes
anew. Prints one JSON document; `grown_kib` is by how much more memory the items needed at most
than the three thousand that went through before.
"""

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import JsonValue

from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, StartRequest
from omnibase_core.utils.workflow_bundle import bundle_of
from omnibase_spi.engine_memory import MemoryEngine

LARGE = 2_000
FILLS = 3_000
_STEPS = {
    "grow": ("^(.*)$", r"\1 " + "x" * LARGE),
    "second": ("x$", "y"),
    "third": ("y$", "z"),
    "fourth": ("z$", "w"),
    "shrink": (" .*$", "!"),
}
"""Pattern and replacement of each."""


def files(durability: str) -> dict[str, str]:
    """A pipeline of five steps."""
    texts = {}
    steps = ""
    for name, (pattern, replacement) in _STEPS.items():
        step = {
            "step_name": "replaced",
            "step_type": "transformation",
            "transformation_type": "regex",
            "transformation_config": {"config_type": "regex", "pattern": pattern, "replacement": replacement},
        }
        texts[f"{name}.json"] = json.dumps({"compute_subcontract": {"operation_name": name, "pipeline": [step]}})
        steps += f"    - {{step_id: {name}, step_type: compute, node: {name}.json}}\n"
    head = f"  workflow_name: large\n  coordination_type: pipeline\n  durability: {durability}\n  steps:\n"
    return {**texts, "workflow.yaml": f"orchestrator_subcontract:\n{head}{steps}"}


@asynccontextmanager
async def _engine(kind: str, directory: str) -> AsyncIterator[EngineDriver]:
    run = WorkflowRunner(ModelONEXContainer()).run
    if kind == "memory":
        yield MemoryEngine(run)
        return
    from omnibase_spi.engine_dbos import DbosDriver

    driver = await DbosDriver.create(f"sqlite:///{Path(directory) / 'runs.db'}", run)
    try:
        yield driver
    finally:
        await driver.aclose()


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(kind: str, durability: str, items: int, directory: str) -> None:
    bundle = bundle_of("workflow.yaml", files(durability))
    async with _engine(kind, directory) as engine:
        for name, count in (("first", FILLS), ("second", items)):  # the first one fills all queues
            before = _peak_kib()
            given: list[JsonValue] = [f"n{number}" for number in range(count)]
            await engine.start(StartRequest(name, bundle, {"items": given}))
            view = await engine.wait(name)
        document = view.output
        output = document["output"] if isinstance(document, dict) else None
        lines = output["shrink"] if isinstance(output, dict) else None
        print(
            json.dumps(
                {
                    "status": view.status.value,
                    "in_order": lines == [f"n{number}!" for number in range(items)],
                    "grown_kib": _peak_kib() - before,
                    "records": len(await engine.steps(name)),
                }
            )
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "."))
