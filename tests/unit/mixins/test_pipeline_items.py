"""`parallel` of a pipeline: every item once, in order, on every backend; failures that name chunk and item; limits."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.infrastructure.infra_bases import ModelServiceCompute
from omnibase_core.mixins import pipeline_items
from omnibase_core.mixins.pipeline_items import ItemsWork, run_over_items
from omnibase_core.mixins.pipeline_limits import run_limited
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_compute import ModelContractCompute
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_compute_output import ComputeFailedError
from omnibase_core.nodes.node_compute import NodeCompute
from omnibase_core.utils.chunking import Chunk
from omnibase_core.utils.compute_executor import execute_pipeline
from omnibase_spi.bootstrap import register_effect_handlers
from tests.support import executors
from tests.support.compute import contract, plan_of, transformation
from tests.unit.mixins.test_pipeline_limits import ENDLESS_SCHEMA, endless, nested

BACKENDS = ["serial", "threads", "processes", "cluster"]
STEPS: list[dict[str, object]] = [
    transformation("trim", "trim"),
    {
        "step_name": "pair",
        "step_type": "mapping",
        "mapping_config": {"field_mappings": {"was": "$.input", "is": "$.steps.trim"}},
    },
]


@pytest.fixture(autouse=True)
def _engines_end() -> Iterator[None]:
    """Those that were cancelled in the middle too."""
    yield
    executors.MADE.clear()
    for left in multiprocessing.active_children():
        left.kill()
        left.join()


def node_of(steps: list[dict[str, object]], parallel: dict[str, object], **fields: object) -> NodeCompute:
    """With a cluster that is a pool of processes."""
    container = ModelONEXContainer()
    register_effect_handlers(container, ModelSettings(compute_cluster="tests.support.executors:of_processes"))
    return NodeCompute.from_contract(container, contract(steps, parallel=parallel, **fields))


@pytest.mark.parametrize("backend", BACKENDS)
async def test_every_item_goes_through_the_pipeline(backend: str) -> None:
    """In order; `$.input` is the item; schemas judge the whole."""
    schema = {"type": "array", "minItems": 7}
    node = node_of(STEPS, {"backend": backend, "worker_count": 2}, input_schema=schema, output_schema=schema)
    data: JsonValue = [f" {number} " for number in range(7)]

    output = await node.process(ModelComputeInput(data=data))

    assert output.result == [{"was": f" {number} ", "is": str(number)} for number in range(7)]
    assert output.parallel_execution_used is (backend != "serial")
    assert output.pipeline is not None
    assert output.pipeline.steps_executed == 14
    assert {name: (one.success, one.output) for name, one in output.pipeline.step_results.items()} == {
        "trim": (True, None),
        "pair": (True, None),
    }


@pytest.mark.parametrize("length", [0, 1, 2, 3, 100])
async def test_every_length_is_covered(length: int) -> None:
    """No items and fewer than workers too; a path may lead to them."""
    plan = plan_of(
        [transformation("arithmetic", expression="value * 2")],
        parallel={"backend": "threads", "worker_count": 5, "chunk_size": 3, "items": "$.a.list"},
    )
    seen: list[tuple[int, int]] = []

    result, failure = await run_over_items(
        plan, {"a": {"list": list(range(length))}}, on_progress=lambda done, of: seen.append((done, of))
    )

    assert failure is None
    assert result.output == [2 * number for number in range(length)]
    assert seen == sorted(seen)
    assert not length or seen[-1] == (length, length)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_failure_names_chunk_item_and_step(backend: str) -> None:
    """The first in order, however many fail."""
    data: list[JsonValue] = [" a ", " b ", " c ", 4, " e ", 6]
    node = node_of(STEPS, {"backend": backend, "worker_count": 2, "chunk_size": 2})

    with pytest.raises(ComputeFailedError) as raised:
        await node.process(ModelComputeInput(data=data))

    error = raised.value
    assert error.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert (
        "chunk 1 (items 2 to 3), item 3: step 'trim' (trim): the input must be a text, found a number" in error.message
    )
    assert {key: error.context[key] for key in ("chunk", "first", "last", "item", "step")} == {
        "chunk": 1,
        "first": 2,
        "last": 3,
        "item": 3,
        "step": "trim",
    }
    assert error.pipeline_result is not None
    assert error.pipeline_result.error_step == "trim"
    assert data[3] == 4


@pytest.mark.parametrize(
    ("data", "items", "found"),
    [({}, None, "a mapping"), ({"a": 1}, "$.a", "a number"), ({}, "$.a", "nothing"), (None, "$.a", "nothing")],
)
def test_an_input_without_a_list_is_refused(data: JsonValue, items: str | None, found: str) -> None:
    """The message says where it was looked for."""
    result = execute_pipeline(plan_of(STEPS, parallel={} if items is None else {"items": items}), data)

    assert (result.success, result.error_type, result.error_step) == (False, "VALIDATION_ERROR", None)
    assert f"must be a list of items, found {found}" in str(result.error_message)
    assert (items or "the input") in str(result.error_message)


def test_a_caller_without_a_loop_gets_the_same() -> None:
    """On workers too, and when the pipeline is run by hand, one item after another."""
    plan = plan_of(STEPS, parallel={"worker_count": 2})

    there, _ = run_limited(plan, [" a ", " b "])
    here = execute_pipeline(plan, [" a ", " b "])
    failed = execute_pipeline(plan, [" a ", 1])

    assert there.output == here.output == [{"was": " a ", "is": "a"}, {"was": " b ", "is": "b"}]
    assert run_limited(plan_of(STEPS, parallel={}), [" a "])[0].output == [{"was": " a ", "is": "a"}]
    assert failed.error_step == "trim"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_what_a_step_passed_over_is_kept(backend: str) -> None:
    """The first item that it was wrong for, and for how many."""
    check: dict[str, object] = {
        "step_name": "check",
        "step_type": "validation",
        "validation_config": {"schema_ref": "number", "fail_on_error": False},
    }
    node = node_of([check], {"backend": backend, "worker_count": 2}, schemas={"number": {"type": "number"}})

    output = await node.process(ModelComputeInput(data=[1, 2, 3, "four", 5, "six", 7]))

    assert output.pipeline is not None
    result = output.pipeline.step_results["check"]
    assert (result.success, result.error_type) == (True, "VALIDATION_ERROR")
    assert str(result.error_message).startswith("item 3 (the first of 2 items): ")


async def test_a_limit_of_the_whole_kills_the_workers() -> None:
    """Whatever they are at."""
    plan = plan_of(
        [endless()], schemas={"deep": ENDLESS_SCHEMA}, parallel={"backend": "processes"}, pipeline_timeout_ms=400
    )
    began = time.monotonic()

    result, failure = await run_over_items(plan, [nested(40)])

    assert time.monotonic() - began < 5
    assert failure is not None
    assert failure.error_code is EnumCoreErrorCode.TIMEOUT
    assert result.error_message == "the pipeline: stopped, its limit is 400 ms, for 1 items"
    assert not _workers()


async def test_a_limit_of_a_step_kills_its_worker() -> None:
    """The failure names the chunk; steps that look at the clock name the item."""
    limited = endless(timeout_ms=200)
    outer: dict[str, object] = {"step_name": "outer", "step_type": "parallel", "branches": {"a": [limited]}}
    parallel = {"backend": "processes", "chunk_size": 1}
    plan = plan_of([outer], schemas={"deep": ENDLESS_SCHEMA}, parallel=parallel)
    looking = {**transformation("filter", expression="item == 1"), "timeout_ms": 50}
    polite = plan_of([looking], parallel=parallel)

    _, killed = await run_over_items(plan, [[], nested(40)])
    _, stopped = await run_over_items(polite, [[], [0] * 300_000])

    assert killed is not None
    assert stopped is not None
    assert (killed.error_code, killed.context["chunk"]) == (EnumCoreErrorCode.TIMEOUT, 1)
    assert (stopped.error_code, stopped.context["item"]) == (EnumCoreErrorCode.TIMEOUT, 1)
    assert "its limit is 50 ms" in stopped.message


async def test_cancelling_ends_the_workers() -> None:
    """At once."""
    plan = plan_of([endless()], schemas={"deep": ENDLESS_SCHEMA}, parallel={"backend": "processes"})
    call = asyncio.ensure_future(run_over_items(plan, [nested(40)]))
    await asyncio.to_thread(_until_busy)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert not _workers()


def test_work_is_the_contract_and_is_compiled_where_it_arrives() -> None:
    """The alarm of a step is set while it runs, and off behind it."""
    steps: list[dict[str, object]] = [
        {**transformation("trim", "a"), "timeout_ms": 60_000},
        {
            "step_name": "p",
            "step_type": "parallel",
            "timeout_ms": 50_000,
            "branches": {"x": [transformation("trim", "b")]},
        },
    ]
    plan = plan_of(steps, parallel={"backend": "processes"})
    before = signal.getsignal(signal.SIGALRM)
    try:
        work = pickle.loads(pickle.dumps(ItemsWork(plan, alarmed=True)))

        done = work(Chunk([" a ", " b "]))

        assert done.outputs == [{"x": "a"}, {"x": "b"}]
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_limit_of_the_pipeline_begins_where_the_work_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the process that it arrives in."""
    plan = plan_of(STEPS, parallel={"backend": "processes"}, pipeline_timeout_ms=1500)
    there = pickle.dumps(ItemsWork(plan, alarmed=False))
    monkeypatch.setattr(pipeline_items, "now", lambda: 100.0)

    arrived = pickle.loads(there)

    assert arrived._deadline == 101.5


def _workers() -> list[psutil.Process]:
    """Processes of Python below this one that burn CPU; servers of other tests are below it too, and that of forks."""
    server = getattr(forkserver, "_forkserver")._forkserver_pid  # noqa: B009  # not in the types
    below = [process for process in psutil.Process().children(recursive=True) if process.pid != server]
    return [process for process in below if _seconds(process) > 0.3 and "python" in process.name()]


def _seconds(process: psutil.Process) -> float:
    try:
        return float(process.cpu_times().user) if process.status() != psutil.STATUS_ZOMBIE else 0.0
    except psutil.NoSuchProcess:
        return 0.0


def _until_busy() -> None:
    end = time.monotonic() + 20
    while not _workers() and time.monotonic() < end:
        time.sleep(0.02)


# the cluster


async def test_an_algorithm_runs_on_the_cluster() -> None:
    """The contract names the backend, the setting the engine, which is shut down with the call."""
    container = ModelONEXContainer()
    register_effect_handlers(container, ModelSettings(compute_cluster="tests.support.executors:of_processes"))

    told: list[tuple[int, int]] = []
    output = await ModelServiceCompute(container).execute_compute(
        ModelContractCompute.model_validate(
            {
                "input_data": list(range(100)),
                "algorithm_config": {"algorithm_type": "sum"},
                "parallel_config": {"backend": "cluster", "worker_count": 2, "chunk_size": 7},
            }
        ),
        on_progress=lambda done, of: told.append((done, of)),
    )

    assert output.result == 4950
    assert told[-1] == (100, 100)
    (engine,) = executors.MADE
    with pytest.raises(RuntimeError, match="shutdown"):
        engine.submit(int)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, "is not set"),
        ("tests.support.nobody:make", "cannot be imported"),
        ("tests.support.executors:nobody", "cannot be imported"),
        ("tests.support.executors:of_nothing", "no concurrent.futures.Executor"),
    ],
)
async def test_a_cluster_that_is_not_there_is_a_configuration_error(setting: str | None, words: str) -> None:
    """The message names the setting and what it should be."""
    container = ModelONEXContainer()
    register_effect_handlers(container, ModelSettings(compute_cluster=setting))
    node = NodeCompute.from_contract(container, contract(STEPS, parallel={"backend": "cluster"}))

    with pytest.raises(ModelOnexError, match=words) as raised:
        await node.process(ModelComputeInput(data=[" a "]))

    assert raised.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "compute_cluster" in raised.value.message


async def test_without_anybody_to_make_one_there_is_no_cluster() -> None:
    """Who calls the executor by hand brings it."""
    _, failure = await run_over_items(plan_of(STEPS, parallel={"backend": "cluster"}), [" a "])

    assert failure is not None
    assert "none was brought" in failure.message


async def test_what_the_engine_raises_is_a_failure_of_the_chunk(tmp_path: Path) -> None:
    """A worker that dies, here; and a call that is cancelled leaves the engine."""
    node = node_of([endless()], {"backend": "cluster"}, schemas={"deep": ENDLESS_SCHEMA})
    for kill in (True, False):
        call = asyncio.ensure_future(node.process(ModelComputeInput(data=[nested(40)])))
        await asyncio.to_thread(_until_busy)
        if kill:
            for worker in _workers():
                os.kill(worker.pid, 9)
            with pytest.raises(ModelOnexError, match=r"chunk 0.*executor of the cluster failed \(BrokenProcessPool"):
                await call
        else:
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            for worker in _workers():
                os.kill(worker.pid, 9)  # the engine's own business: it cannot be stopped from here
