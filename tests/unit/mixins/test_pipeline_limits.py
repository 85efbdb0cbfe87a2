"""Pipelines with limits of time: where they run, that they give the same there, and that they are stopped."""

import asyncio
import copy
import dataclasses
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import psutil
import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins import pipeline_limits, pipeline_worker
from omnibase_core.mixins.pipeline_limits import Cancel, run_limited
from omnibase_core.mixins.pipeline_worker import READY, Began, Call, Contract, Ended, Over, Stream, serve
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_compute_output import ComputeFailedError
from omnibase_core.nodes.node_compute import NodeCompute
from omnibase_core.utils.compute_executor import judged_run
from omnibase_core.utils.compute_plan import ComputePlan
from tests.support.compute import contract, plan_of, transformation
from tests.support.processes import children

WORKER = "pipeline_worker"
ENDLESS_SCHEMA: dict[str, object] = {
    "$defs": {"n": {"anyOf": [{"items": {"$ref": "#/$defs/n"}, "type": "array"}] * 3}},
    "$ref": "#/$defs/n",
}
"""Tries three ways at each level of a list in lists: at forty levels it is done when the sun is cold."""
Steps = list[dict[str, object]]


def nested(levels: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(levels):
        value = [value]
    return value


def endless(name: str = "endless", **fields: object) -> dict[str, object]:
    return {"step_name": name, "step_type": "validation", "validation_config": {"schema_ref": "deep"}, **fields}


def watched(steps: Steps, **fields: object) -> ComputePlan:
    """A plan that runs in a worker whatever its input is."""
    return dataclasses.replace(plan_of(steps, pipeline_timeout_ms=60_000, **fields), small_input=-1.0)


@pytest.fixture(autouse=True)
def _no_worker_stays() -> Iterator[None]:
    """Each test begins without workers, and leaves none behind."""
    pipeline_limits.end_workers()
    assert not children(WORKER)
    yield
    pipeline_limits.end_workers()
    assert not children(WORKER)


def test_a_worker_gives_what_the_same_pipeline_gives_here() -> None:
    """Results, errors and their places are equal, for successes and failures of all kinds of steps."""
    both: dict[str, object] = {
        "step_name": "both",
        "step_type": "parallel",
        "branches": {"a": [transformation("trim", "inner")], "b": [transformation("sort", "other")]},
    }
    choice: dict[str, object] = {
        "step_name": "choice",
        "step_type": "conditional",
        "when": "size(value) > 2",
        "then": [transformation("limit", "first", count=2)],
    }
    cases: list[tuple[Steps, JsonValue, dict[str, object]]] = [
        ([transformation("sort", "s"), choice, transformation("map", "m", expression="item * 2")], [3, 1, 2], {}),
        ([transformation("trim", "t"), transformation("join", "j")], " a ", {}),
        ([both], " a ", {}),
        ([transformation("identity", "i")], {"a": 1}, {"input_schema": {"required": ["b"]}}),
        ([transformation("identity", "i")], {"a": 1}, {"output_schema": {"required": ["b"]}}),
        (
            [endless(validation_config={"schema_ref": "deep", "fail_on_error": False})],
            1,
            {"schemas": {"deep": ENDLESS_SCHEMA}},
        ),
    ]

    for steps, data, fields in cases:
        plan = watched(steps, **fields)
        there, failure = run_limited(plan, data)
        here, expected = judged_run(plan, data)
        assert _timeless(there) == _timeless(here)
        assert (failure and (failure.message, failure.context)) == (expected and (expected.message, expected.context))
    assert len(children(WORKER)) == 1


def _timeless(result: object) -> object:
    if isinstance(result, list):
        return [_timeless(entry) for entry in result]
    if hasattr(result, "model_dump"):
        return _timeless(result.model_dump())
    if isinstance(result, dict):
        return {
            key: _timeless(entry) for key, entry in result.items() if key not in {"duration_ms", "processing_time_ms"}
        }
    return result


@pytest.mark.parametrize("limit", ["pipeline_timeout_ms", "timeout_ms"])
def test_a_step_that_does_not_look_at_the_clock_is_cut_off(limit: str) -> None:
    """It would take many seconds; what came before it is kept, and the input is as it was."""
    wide: JsonValue = {f"k{number}": number for number in range(200)}  # sent once, compared each time
    data: list[JsonValue] = [wide] * 300_000
    slow = transformation("unique", "slow")
    fields: dict[str, object] = {limit: 600}
    if limit == "timeout_ms":
        slow, fields = {**slow, **fields}, {}
    plan = plan_of([transformation("identity", "before"), slow, transformation("sort", "never")], **fields)
    began = time.monotonic()

    result, failure = run_limited(plan, data)

    assert time.monotonic() - began < 6
    assert failure is not None
    assert failure.error_code is EnumCoreErrorCode.TIMEOUT
    assert (result.success, result.output, result.error_type) == (False, None, "TIMEOUT")
    whose = "its limit is 600 ms" if limit == "timeout_ms" else "the limit of what it is part of was reached "
    assert f"stopped, {whose}" in str(result.error_message)
    assert list(result.step_results) == ["before", "slow"]
    assert data == [copy.copy(wide)] * 300_000
    assert not children(WORKER)


def test_work_that_never_ends_is_cut_off_and_its_process_is_gone() -> None:
    """In an inner step; all steps around it failed with it, those before it stand."""
    inner: dict[str, object] = {
        "step_name": "branches",
        "step_type": "parallel",
        "branches": {"a": [transformation("flatten", "flat")], "b": [endless(timeout_ms=200)]},
    }
    plan = plan_of([transformation("identity", "kept"), inner], schemas={"deep": ENDLESS_SCHEMA})
    began = time.monotonic()

    result, failure = run_limited(plan, nested(40))

    assert time.monotonic() - began < 5
    assert not children(WORKER)
    assert failure is not None
    assert failure.context == {"step": "endless"}
    assert result.error_step == "endless"
    assert result.steps_executed == 4
    assert {name: one.success for name, one in result.step_results.items()} == {
        "kept": True,
        "flat": True,
        "endless": False,
        "branches": False,
    }
    assert 200 <= result.step_results["endless"].duration_ms < 5_000
    assert result.error_message == "step 'endless' (validation): stopped, its limit is 200 ms"
    assert result.step_results["kept"].output == nested(40)


def test_a_schema_of_the_contract_that_never_ends_is_cut_off() -> None:
    """Before the first step, where no step is to blame."""
    plan = plan_of([transformation("identity")], input_schema=ENDLESS_SCHEMA, pipeline_timeout_ms=100)

    result, _ = run_limited(plan, nested(40))

    assert (result.error_type, result.error_step, result.step_results) == ("TIMEOUT", None, {})
    assert result.error_message == "the pipeline: stopped, its limit is 100 ms"


async def test_cancelling_a_call_kills_its_process() -> None:
    """At once, while the event loop has gone on."""
    node = NodeCompute.from_contract(
        ModelONEXContainer(),
        contract([endless()], schemas={"deep": ENDLESS_SCHEMA}, pipeline_timeout_ms=60_000),
    )
    call = asyncio.ensure_future(node.process(ModelComputeInput(data=nested(40))))
    await asyncio.to_thread(_until_busy)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert not children(WORKER)


async def test_a_node_fails_with_what_was_computed() -> None:
    """The error of a cut pipeline is that of any failed one; calls side by side have processes of their own."""
    node = NodeCompute.from_contract(
        ModelONEXContainer(),
        contract([endless()], schemas={"deep": ENDLESS_SCHEMA}, pipeline_timeout_ms=150),
    )
    calls = (node.process(ModelComputeInput(data=nested(levels))) for levels in (40, 40, 1))

    first, second, quick = await asyncio.gather(*calls, return_exceptions=True)

    for cut in (first, second):
        assert isinstance(cut, ComputeFailedError)
        assert cut.error_code is EnumCoreErrorCode.TIMEOUT
        assert cut.pipeline_result is not None
    assert isinstance(quick, ComputeFailedError)
    assert quick.error_code is EnumCoreErrorCode.VALIDATION_ERROR


def test_small_work_runs_where_it_is_called() -> None:
    """A process would cost more than the work; without limits nothing needs one."""
    limited = plan_of([transformation("sort")], pipeline_timeout_ms=1_000)
    free = plan_of([endless()], schemas={"deep": ENDLESS_SCHEMA})

    assert run_limited(limited, [2, 1])[0].output == [1, 2]
    assert not run_limited(free, [1])[0].success
    assert not children(WORKER)


def test_a_worker_stays_for_the_next_call() -> None:
    """Of the same contract and of another one."""
    one, other = watched([transformation("sort")]), watched([transformation("limit", count=1)])

    outputs = [run_limited(plan, [2, 1])[0].output for plan in (one, one, other, one)]

    assert outputs == [[1, 2], [1, 2], [2], [1, 2]]
    assert len(children(WORKER)) == 1


def test_the_death_of_a_worker_is_a_failure_of_the_step() -> None:
    """And no reason to hang; the next call has a new one. One that died idle is not even noticed."""
    plan = watched([endless()], schemas={"deep": ENDLESS_SCHEMA})
    killer = threading.Timer(0.0, _kill_soon)
    killer.start()

    _, failure = run_limited(plan, nested(40))
    killer.join()

    assert failure is not None
    assert failure.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
    assert "the worker process died" in failure.message
    sort = watched([transformation("sort")])
    assert run_limited(sort, [2, 1])[0].success
    (idle,) = children(WORKER)
    os.kill(idle, signal.SIGKILL)
    os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)  # its sockets are closed then, and it is left to be reaped
    assert run_limited(sort, [2, 1])[0].success


def _kill_soon() -> None:
    os.kill(_until_busy(), signal.SIGKILL)


def _until_busy(parent: int | None = None) -> int:
    """A worker, once it has used so much CPU that it has started and works: it starts in half of that."""
    while True:
        for child in children(WORKER, parent):
            ticks = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11])
            if ticks > 60:
                return child
        time.sleep(0.01)


def test_a_worker_whose_parent_was_killed_ends_soon_behind_the_limit() -> None:
    """Nobody is left to kill it, and it never looks at its socket: the kernel does."""
    program = """
import sys
from omnibase_core.mixins.pipeline_limits import run_limited
from tests.unit.mixins.test_pipeline_limits import ENDLESS_SCHEMA, endless, nested
from tests.support.compute import plan_of
run_limited(plan_of([endless(timeout_ms=3_000)], schemas={"deep": ENDLESS_SCHEMA}), nested(40))
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[3])
    try:
        worker = psutil.Process(_until_busy(parent.pid))
    finally:
        parent.kill()
        parent.wait()

    worker.wait(10)  # raises when it lives on


def test_an_input_that_cannot_be_sent_is_refused() -> None:
    """It is no JSON; the message says what to do."""
    with pytest.raises(ModelOnexError, match="give JSON values") as raised:
        run_limited(watched([transformation("identity")]), [threading.Lock()])  # type: ignore[list-item]  # that is it

    assert raised.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


@pytest.mark.parametrize(
    ("of", "name", "value"), [(pipeline_limits, "_PROGRAM", "{path!r}"), (sys, "executable", "/nowhere")]
)
def test_a_worker_that_does_not_start_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, of: object, name: str, value: str
) -> None:
    """Nothing of it is left behind."""
    monkeypatch.setattr(of, name, value)

    result, failure = run_limited(watched([transformation("identity")]), 1)

    assert failure is not None
    assert failure.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
    assert "did not start" in str(result.error_message)


def test_a_call_that_is_cancelled_before_it_began_is_not_begun() -> None:
    """The thread that would begin it may be late."""
    cancel = Cancel()
    cancel()

    _, failure = run_limited(watched([transformation("sort")]), [2, 1], cancel)

    assert failure is not None
    assert "died" in failure.message


async def test_only_a_few_workers_stay() -> None:
    """After many calls side by side the others are ended."""
    text = contract([transformation("map", expression="item + input[0]")], pipeline_timeout_ms=60_000)
    node = NodeCompute.from_contract(ModelONEXContainer(), text)
    calls = [node.process(ModelComputeInput(data=[1, 2])) for _ in range(8)]

    outputs = await asyncio.gather(*calls)

    assert [output.result for output in outputs] == [[2, 3]] * 8
    assert len(children(WORKER)) <= 2


def test_a_fork_leaves_the_workers_to_its_parent() -> None:
    """The child has none of its own, and ends without a word."""
    plan = watched([transformation("sort")])
    run_limited(plan, [2, 1])
    (worker,) = children(WORKER)

    pid = os.fork()
    if pid == 0:
        pipeline_limits.end_workers()
        os._exit(0)
    _, status = os.waitpid(pid, 0)

    assert status == 0
    assert run_limited(plan, [2, 1])[0].success
    assert children(WORKER) == {worker}


# the side of the worker


def test_a_worker_tells_where_it_is() -> None:
    """Steps as they begin and end, then the rest; it ends when its parent is gone."""
    plan = watched([transformation("trim", "t"), {**transformation("join", "j"), "timeout_ms": 500}])
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    with ours, theirs:
        stream = Stream(ours)
        stream.deadline = inf
        assert stream.read(1) == READY
        stream.write(READY)
        pickle.dump(Call(Contract(plan.subcontract, plan.documents), " a ", time.perf_counter()), stream)
        receive = pickle.Unpickler(stream).load
        told = [receive() for _ in range(5)]
        ours.shutdown(socket.SHUT_RDWR)
        thread.join(5)

    assert not thread.is_alive()
    began, ended, second, failed, over = told
    assert isinstance(began, Began)
    assert isinstance(ended, Ended)
    assert (began.name, ended.result.output) == ("t", "a")
    assert second.seconds_left == pytest.approx(0.5)
    assert not failed.result.success
    assert isinstance(over, Over)
    assert (over.failed_step, over.steps_executed) == ("j", 2)


def test_the_program_of_a_worker_serves_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves Ctrl-C to its parent, and ends when that is gone."""
    before = signal.getsignal(signal.SIGINT)
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(sys, "argv", ["worker", str(theirs.detach())])
    try:
        with ours:
            ours.shutdown(socket.SHUT_WR)
            pipeline_worker.main()

            assert Stream(ours).read(1) == READY
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_worker_without_work_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent need not think of it."""
    monkeypatch.setattr(pipeline_worker, "IDLE_SECONDS", 0.01)
    ours, theirs = socket.socketpair()

    with ours, theirs:
        serve(theirs)

        assert Stream(ours).read(1) == READY


def test_a_stream_is_cut_at_its_deadline() -> None:
    """In the middle of reading, and before it begins to write."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Stream(ours)
        stream.deadline = time.perf_counter() + 0.01
        with pytest.raises(TimeoutError):
            stream.read(1)
        with pytest.raises(TimeoutError):
            stream.write(b"a")
        with pytest.raises(EOFError):
            stream.readline()
