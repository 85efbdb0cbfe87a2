"""Limits of time that hold: a pipeline that may be long over its limit runs in a process that can be killed.

Inside of one process nothing can stop a sort of ten million items, an expression or a schema. So a contract with a
`pipeline_timeout_ms` or a `timeout_ms` runs in a worker process, unless its input is so small that it ends by itself
well before the shortest of its limits (`compute_growth`); then it runs where it was called, as one without limits does.

A worker is a Python of its own, which imports nothing of the program. It stays for the next call, which saves a third
of a second, and ends itself when it had none for a minute; it is killed when a limit has passed, when the call is
cancelled, and when the program ends. Its start does not count as time of the pipeline; sending input and outputs does.
Before a worker is killed it has a moment to stop by itself, as most steps do.

Where processes cannot take over a socket (Windows), limits hold only where a step looks at the clock.
"""

import asyncio
import atexit
import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from math import inf
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.compute_parallel import OnProgress
from omnibase_core.mixins.pipeline_items import run_over_items
from omnibase_core.mixins.pipeline_worker import (
    IDLE_SECONDS,
    READY,
    Began,
    Call,
    Contract,
    Ended,
    Message,
    Over,
    Stream,
)
from omnibase_core.models.model_compute_output import ModelComputePipelineResult
from omnibase_core.utils.compute_executor import (
    StepPlan,
    failed_step,
    judged_run,
    pipeline_result,
    pipeline_stopped,
    raise_failure,
    step_error,
)
from omnibase_core.utils.compute_growth import is_small
from omnibase_core.utils.compute_plan import ComputePlan
from omnibase_core.utils.compute_run import ComputeRun, now
from omnibase_core.utils.compute_transformations import identity

Judged = tuple[ModelComputePipelineResult, ModelOnexError | None]

_START_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 0.05
"""What a worker has beyond a limit to say itself that it stopped."""
_IDLE_WORKERS: Final = 2
_CAN_KILL: Final = os.name == "posix"
_PROGRAM: Final = "import sys; sys.path[:] = {path!r}; from omnibase_core.mixins.pipeline_worker import main; main()"


class Cancel:
    """Kills the worker of one call, from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._cancelled = False

    def __call__(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._worker is not None:
                self._worker.kill()

    def watch(self, worker: "_Worker | None") -> None:
        with self._lock:
            self._worker = worker
            if self._cancelled and worker is not None:
                worker.kill()


def run_here(plan: ComputePlan, data: JsonValue) -> bool:
    """Whether a call need not be watched from outside."""
    return plan.small_input is None or not _CAN_KILL or is_small(data, plan.small_input)


def _needs_workers(plan: ComputePlan) -> bool:
    parallel = plan.subcontract.parallel
    return parallel is not None and parallel.chosen_backend != "serial"


def run_limited(plan: ComputePlan, data: JsonValue, cancel: Cancel | None = None) -> Judged:
    """Run once, under limits that hold: the result, and its failure if it is one. Blocks the thread.

    A worker that cannot be started, or dies, is a failure RESOURCE_UNAVAILABLE.
    """
    if _needs_workers(plan):
        with ThreadPoolExecutor(1) as threads:  # a loop of its own, because one may run here
            return threads.submit(lambda: asyncio.run(run_over_items(plan, data))).result()
    if run_here(plan, data):
        return judged_run(plan, data)
    began = now()
    run = ComputeRun(data)
    try:
        worker = _take(plan)
    except (OSError, EOFError, TimeoutError) as error:
        unstarted = ModelOnexError(
            f"the worker process of the pipeline did not start ({type(error).__name__}: {error})",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        )
        return pipeline_result(None, unstarted, run, began), unstarted
    call = _Watched(worker, plan, run)
    if cancel is not None:
        cancel.watch(worker)
    healthy = False
    try:
        output, failure, healthy = call.carry_out()
    finally:
        if cancel is not None:
            cancel.watch(None)
        _give_back(worker, healthy=healthy)
    return pipeline_result(output, failure, run, began), failure


async def run_limited_async(
    plan: ComputePlan,
    data: JsonValue,
    *,
    on_progress: OnProgress | None = None,
    cluster: Callable[[], Executor] | None = None,
) -> ModelComputePipelineResult:
    """As `run_limited`, in a thread where it has to wait; a failure is a ComputeFailedError. Cancelling kills.

    on_progress, cluster: of contracts with `parallel`, as in `run_over_items`.
    """
    if plan.find_items is not None:
        return raise_failure(plan, *await run_over_items(plan, data, on_progress=on_progress, cluster=cluster))
    if run_here(plan, data):
        return raise_failure(plan, *judged_run(plan, data))
    cancel = Cancel()
    waiting = asyncio.ensure_future(asyncio.to_thread(run_limited, plan, data, cancel))
    try:
        judged = await asyncio.shield(waiting)
    except asyncio.CancelledError:
        cancel()
        while not waiting.done():  # soon: its worker is dead
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((waiting,))
        raise
    return raise_failure(plan, *judged)


class _Worker:
    """A process, and what it holds compiled."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  # our own program
                    [sys.executable, "-c", _PROGRAM.format(path=sys.path), str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        self.plan: ComputePlan | None = None
        self.idle_since = now()
        self.stream = Stream(ours)

    def wait_until_ready(self) -> None:
        self.stream.deadline = now() + _START_SECONDS
        self.stream.read(len(READY))

    @property
    def usable(self) -> bool:
        """Whether it lives, and will not end itself for having nothing to do before it is asked."""
        return now() - self.idle_since < IDLE_SECONDS / 2 and self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def forget(self) -> None:
        """In a fork: let go of what is the parent's."""
        self._socket.close()
        self._process.returncode = 0  # so that nobody waits for it here

    def bury(self) -> None:
        """Kill, and leave nothing behind."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


class _Watched:
    """One call in a worker, watched from here."""

    def __init__(self, worker: _Worker, plan: ComputePlan, run: ComputeRun) -> None:
        self._worker = worker
        self._plan = plan
        self._run = run
        self._began = now()
        self._limit = self._began + (inf if plan.limit_seconds is None else plan.limit_seconds)
        self._open: list[tuple[StepPlan, float, float]] = []
        """Steps that run, outermost first: when each began, and its limit."""

    def carry_out(self) -> tuple[JsonValue, ModelOnexError | None, bool]:
        """(output, failure, whether the worker may be used again)."""
        stream = self._worker.stream
        try:
            self._set_deadline()
            self._send(stream)
            receive = pickle.Unpickler(stream).load  # noqa: S301  # from our own worker
            while True:
                message: Message = receive()
                if isinstance(message, Over):
                    self._run.begun, self._run.failed_step = message.steps_executed, message.failed_step
                    return message.output, message.error, True
                self._note(message)
        except TimeoutError:
            return None, self._failed(TimeoutError()), False
        except (EOFError, OSError):
            died = ModelOnexError(
                "the worker process died: it was killed, or out of memory", EnumCoreErrorCode.RESOURCE_UNAVAILABLE
            )
            return None, self._failed(died), False

    def _send(self, stream: Stream) -> None:
        worker, plan = self._worker, self._plan
        contract = None if worker.plan is plan else Contract(plan.subcontract, plan.documents)
        stream.write(READY)
        try:
            pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(Call(contract, self._run.input, self._began))
        except (TimeoutError, OSError):
            raise
        except Exception as error:
            raise ModelOnexError(
                f"compute {plan.subcontract.operation_name!r}: the input cannot be sent to the process in which limits "
                f"of time hold ({type(error).__name__}: {error}); give JSON values, or take the limits out",
                EnumCoreErrorCode.VALIDATION_ERROR,
            ) from error
        worker.plan = plan

    def _note(self, message: Began | Ended) -> None:
        run = self._run
        if isinstance(message, Began):
            step = StepPlan(
                message.name, message.step_type, message.transformation_type, message.limit_seconds, identity
            )
            began = now()
            self._open.append((step, began, began + message.seconds_left))
            run.begun += 1
        else:
            self._open.pop()
            run.results[message.name] = message.result
        self._set_deadline()

    def _set_deadline(self) -> None:
        limit = min((limit for _, _, limit in self._open), default=inf)
        self._worker.stream.deadline = min(limit, self._limit) + _GRACE_SECONDS

    def _failed(self, error: Exception) -> ModelOnexError:
        """The failure of the steps that run, or else of the pipeline."""
        run = self._run
        if not self._open:
            return error if isinstance(error, ModelOnexError) else pipeline_stopped(self._plan)
        step, began, limit = self._open[-1]
        run.failed_step = step.name
        run.deadline = min(limit, self._limit)
        failure = step_error(step, error, began, run)
        for step, began, _ in reversed(self._open):
            run.results[step.name] = failed_step(step, failure, began)
        return failure


_idle: Final[list[_Worker]] = []
_lock: Final = threading.Lock()


def _take(plan: ComputePlan) -> _Worker:
    """An idle worker, best one that knows the plan, or a new one. Raises OSError or EOFError when none starts."""
    while True:
        with _lock:
            if not _idle:
                break
            worker = _idle.pop(next((at for at, idle in enumerate(_idle) if idle.plan is plan), -1))
        if worker.usable:
            return worker
        worker.bury()
    worker = _Worker()
    try:
        worker.wait_until_ready()
    except BaseException:
        worker.bury()
        raise
    return worker


def _give_back(worker: _Worker, *, healthy: bool) -> None:
    if healthy:
        worker.idle_since = now()
        with _lock:
            if len(_idle) < _IDLE_WORKERS:
                _idle.append(worker)
                return
    worker.bury()


def end_workers() -> None:
    """End the workers that are idle. The end of the program does so."""
    with _lock:
        workers = _idle.copy()
        _idle.clear()
    for worker in workers:
        worker.bury()


def _forget_idle() -> None:
    """After a fork: the workers are the parent's."""
    for worker in _idle:
        worker.forget()
    _idle.clear()


atexit.register(end_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_idle)
