"""The process that runs pipelines with limits of time, and how it talks with its parent.

A pair of sockets carries pickles, as they are written: what is sent is never in memory twice, and either side may give
up in the middle. Within one call a stream of pickles shares what it has sent, so that the output of a step is not sent
again as the input of the next.
"""

import pickle
import signal
import socket
import sys
from math import inf
from typing import Final, NamedTuple, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_compute import EnumComputeStepType, EnumTransformationType
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeSubcontract
from omnibase_core.models.model_compute_output import ModelComputeStepResult
from omnibase_core.utils.compute_executor import StepPlan, judged_run
from omnibase_core.utils.compute_plan import ComputePlan, compile_again
from omnibase_core.utils.compute_run import now
from omnibase_core.utils.compute_schemas import Documents

IDLE_SECONDS: Final = 60.0
"""A worker that has nothing to do for so long ends itself."""
_ORPHAN_SECONDS: Final = 2.0
"""The parent kills long before; this is for one that was killed itself."""
READY: Final = b"r"
"""What a worker says when it has imported what it needs."""


class Contract(NamedTuple):
    """What a plan is compiled from."""

    subcontract: ModelComputeSubcontract
    documents: Documents


class Call(NamedTuple):
    """contract: None is that of the call before. began: on the clock `now`, which is one for all processes."""

    contract: Contract | None
    data: JsonValue
    began: float


class Began(NamedTuple):
    """A step began. limit_seconds: its own limit. seconds_left: until that or another; infinite where there is none."""

    name: str
    step_type: EnumComputeStepType
    transformation_type: EnumTransformationType | None
    limit_seconds: float | None
    seconds_left: float


class Ended(NamedTuple):
    """A step ended, the innermost of those that began."""

    name: str
    result: ModelComputeStepResult


class Over(NamedTuple):
    """The pipeline ended. steps have been told of already."""

    output: JsonValue
    steps_executed: int
    failed_step: str | None
    error: ModelOnexError | None


Message = Began | Ended | Over


class Stream:
    """A socket as the file that pickling wants, with a deadline on the clock `now`.

    Reading raises EOFError when the other side is gone, writing OSError, and both TimeoutError behind the deadline.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.deadline = inf

    def _arm(self) -> None:
        if self.deadline == inf:
            self._socket.settimeout(None)
            return
        left = self.deadline - now()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def write(self, data: bytes) -> int:
        self._arm()
        self._socket.sendall(data)
        return len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer."""
        wanted, found = len(buffer), 0
        while found < wanted:
            self._arm()
            count = self._socket.recv_into(buffer[found:])
            if not count:
                raise EOFError
            found += count
        return found

    def read(self, count: int) -> bytes:
        buffer = bytearray(count)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readline(self) -> bytes:
        """Part of the protocol; pickles of today have no lines."""
        raise EOFError


class Alarm:
    """Has the kernel end this process so many seconds behind a limit that passed, also when nobody else is left to.

    limit: of the whole, on the clock `now`; steps may have nearer ones. What SIGALRM does must be its default.
    """

    def __init__(self, limit: float, grace_seconds: float) -> None:
        self._limits = [limit]
        self._grace = grace_seconds
        self._set()

    def began(self, step: StepPlan, seconds_left: float) -> None:  # noqa: ARG002  # the seam's signature
        self._limits.append(now() + seconds_left)
        self._set()

    def ended(self, step: StepPlan, result: ModelComputeStepResult) -> None:  # noqa: ARG002  # as above
        self._limits.pop()
        self._set()

    def off(self) -> None:
        self._limits = [inf]
        self._set()

    def _set(self) -> None:
        limit = min(self._limits)
        signal.setitimer(signal.ITIMER_REAL, 0.0 if limit == inf else max(0.0, limit - now()) + self._grace)


class _Teller:
    """Tells the parent where the pipeline is, and sets the alarm."""

    def __init__(self, pickler: pickle.Pickler, alarm: Alarm) -> None:
        self._tell = pickler.dump
        self._alarm = alarm

    def began(self, step: StepPlan, seconds_left: float) -> None:
        self._alarm.began(step, seconds_left)
        self._tell(Began(step.name, step.step_type, step.transformation_type, step.limit_seconds, seconds_left))

    def ended(self, step: StepPlan, result: ModelComputeStepResult) -> None:
        self._alarm.ended(step, result)
        self._tell(Ended(step.name, result))


def serve(sock: socket.socket) -> None:
    """Run what the parent sends, one call after the other, until it is gone or has nothing to do for a while."""
    stream = Stream(sock)
    stream.write(READY)
    plan: ComputePlan | None = None
    while True:
        stream.deadline = now() + IDLE_SECONDS
        try:
            stream.read(len(READY))  # a call follows
        except (EOFError, OSError):  # gone, or idle
            return
        stream.deadline = inf
        try:
            plan = _carry_out(stream, plan)
        except (EOFError, OSError):  # the parent gave up
            return


def _carry_out(stream: Stream, plan: ComputePlan | None) -> ComputePlan | None:
    call: Call = pickle.Unpickler(stream).load()  # noqa: S301  # from the parent
    if call.contract is not None:
        plan = compile_again(*call.contract)
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    known = cast("ComputePlan", plan)  # the first call brings one
    alarm = Alarm(inf if known.limit_seconds is None else call.began + known.limit_seconds, _ORPHAN_SECONDS)
    try:
        result, error = judged_run(known, call.data, _Teller(pickler, alarm), call.began)
    finally:
        alarm.off()
    output = cast("JsonValue", result.output)  # of a pipeline
    pickler.dump(Over(output, result.steps_executed, result.error_step, error))
    return plan


def main() -> None:
    """The program of a worker: its argument is the descriptor of its socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent ends its workers
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        serve(sock)
