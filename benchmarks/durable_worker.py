"""One subject of the benchmark of durable steps, in a process of its own: dbos is a singleton.

    python -m benchmarks.durable_worker SUBJECT URL

Subjects: `bare`, dbos as its users call it; `step`, `level`, `run`: a workflow contract of that durability on the dbos
driver; `prefect`: a flow of Prefect with its own server in the process tree, on loopback. Each line of the input is a
round; the answer is its wall time and CPU time in seconds, all threads.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

from pydantic import JsonValue

STEPS = 100
LEVELS = 4
SCHEMA = "onex_bench"
Round = Callable[[], Awaitable[None]]

NODE = """\
compute_subcontract:
  operation_name: shout
  pipeline:
    - {step_name: upper, step_type: transformation, transformation_type: case_conversion,
       transformation_config: {config_type: case_conversion, mode: uppercase}}
"""


def contract(durability: str) -> str:
    """A hundred pure steps, in four levels."""
    lines = [
        "orchestrator_subcontract:",
        "  workflow_name: hundred",
        "  version: 1.0.0",
        f"  durability: {durability}",
        "  steps:",
    ]
    width = STEPS // LEVELS
    for number in range(STEPS):
        needs = f"[s{number - width}]" if number >= width else "[]"
        lines.append(
            f"    - {{step_id: s{number}, step_type: compute, node: node.yaml, depends_on: {needs}, "
            "input: '${input.text}'}"
        )
    return "\n".join(lines) + "\n"


async def ours(durability: str, url: str) -> Round:
    from omnibase_core.mixins.workflow_interpreter import interpret
    from omnibase_core.mixins.workflow_steps import StepRunner
    from omnibase_core.models.container.model_onex_container import ModelONEXContainer
    from omnibase_core.protocols.protocol_workflow_engine import DurableContext, StartRequest, WorkflowBundle
    from omnibase_core.utils.workflow_bundle import bundle_of, load_bundle
    from omnibase_spi.engine_dbos import DbosDriver

    bundle = bundle_of("workflow.yaml", {"workflow.yaml": contract(durability), "node.yaml": NODE})
    loaded = load_bundle(bundle)
    runner = StepRunner(loaded.nodes, ModelONEXContainer())
    begun, ended = 0.0, 0.0

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        nonlocal begun, ended
        begun = time.perf_counter()
        document = await interpret(loaded.plan, context, runner, input_data)
        ended = time.perf_counter()
        return document

    driver = await DbosDriver.create(url, run, schema=f"{SCHEMA}_{durability}")

    async def once() -> None:
        request = StartRequest(uuid4().hex, bundle, {"text": "hello"})
        await driver.start(request)
        view = await driver.wait(request.workflow_id)
        assert view.error is None, view

    return _within(once, lambda: ended - begun)


async def bare(url: str) -> Round:
    """The same in dbos alone, on an engine that is set up as ours is."""
    from dbos import DBOS

    from omnibase_spi.engine_dbos_link import make_engine

    engine = make_engine(url)
    DBOS(
        config={
            "name": "bare",
            "system_database_engine": engine,
            "dbos_system_schema": f"{SCHEMA}_bare",
            "log_level": "ERROR",
            "use_listen_notify": False,
        }
    )
    begun, ended = 0.0, 0.0

    async def shout(text: str) -> str:
        return text.upper()

    @DBOS.workflow()
    async def hundred(text: str) -> list[str]:
        nonlocal begun, ended
        begun = time.perf_counter()
        found = [await DBOS.run_step_async({"name": f"s{number}"}, shout, text) for number in range(STEPS)]
        ended = time.perf_counter()
        return found

    DBOS.launch()

    async def once() -> None:
        handle = await DBOS.start_workflow_async(hundred, "hello")
        await handle.get_result()

    return _within(once, lambda: ended - begun)


async def prefect(_url: str) -> Round:
    os.environ |= {
        "PREFECT_HOME": tempfile.mkdtemp(prefix="onex-prefect-"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
    }
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    begun, ended = 0.0, 0.0

    @task(cache_policy=NO_CACHE)  # type: ignore[untyped-decorator,unused-ignore]  # untyped where it is not installed
    async def shout(text: str) -> str:
        return text.upper()

    @flow  # type: ignore[untyped-decorator,unused-ignore]  # as above
    async def hundred(text: str) -> list[str]:
        nonlocal begun, ended
        begun = time.perf_counter()
        found = [await shout(text) for _ in range(STEPS)]
        ended = time.perf_counter()
        return found

    async def once() -> None:
        await hundred("hello")

    return _within(once, lambda: ended - begun)


def _within(once: Round, seconds: Callable[[], float]) -> Round:
    """A round that tells the wall time of its steps, without what starts and ends the workflow."""

    async def measured() -> None:
        cpu = time.process_time()
        await once()
        sys.stdout.write(f"{seconds():.6f} {time.process_time() - cpu:.6f}\n")
        sys.stdout.flush()

    return measured


async def main(subject: str, url: str) -> None:
    made = {"bare": lambda: bare(url), "prefect": lambda: prefect(url)}
    measured = await made.get(subject, lambda: ours(subject, url))()
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        await measured()
    os._exit(0)  # what is measured is over; closing is not part of it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
