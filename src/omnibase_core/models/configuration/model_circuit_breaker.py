"""The circuit breaker: stops asking a target that does not answer, and finds out by few probes when it does again.

Theory. A breaker is CLOSED while its target is well: everything passes and results are counted. Too many failures make
it OPEN: nothing passes until `timeout_seconds` are over. Then it is HALF_OPEN: a few probes pass, and the first result
that settles the question decides: enough successes close it, one failure opens it again. Three more states are entered
by hand only: FORCED_OPEN (nothing passes until a person says so), DISABLED (everything passes, nothing is counted) and
METRICS_ONLY (everything passes and is counted, but the breaker never opens).

Permits. What passes carries a number. In the states in which everything passes it is the generation, which changes
with every transition; a probe's number is its own and stands for a lease, which is given back by its result, by
`release`, or by running out, which counts as a failure. A result with a number that is no longer valid is late and
changes nothing.

The engine below knows nothing but the table: an event that the table does not list for a state is refused.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from pydantic import ValidationError

from omnibase_core.enums.enum_circuit_breaker_state import EnumCircuitBreakerState as State
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.model_circuit_breaker_subcontract import ModelCircuitBreakerSubcontract


class BreakerEvent(StrEnum):
    """What can happen to a breaker."""

    TOO_MANY_FAILURES = "too_many_failures"
    TIMEOUT_OVER = "timeout_over"
    PROBES_SUCCEEDED = "probes_succeeded"
    PROBE_FAILED = "probe_failed"
    FORCE_OPEN = "force_open"
    FORCE_CLOSED = "force_closed"
    DISABLE = "disable"
    WATCH_ONLY = "metrics_only"


class BreakerAction(StrEnum):
    """What a transition does beside changing the state and the generation."""

    START_TIMEOUT = "start_timeout"
    FORGET = "forget"  # counts and window start anew
    KEEP = "keep"


_E, _A = BreakerEvent, BreakerAction
TRANSITIONS: Final[dict[tuple[State, BreakerEvent], tuple[State, BreakerAction]]] = {
    (State.CLOSED, _E.TOO_MANY_FAILURES): (State.OPEN, _A.START_TIMEOUT),
    (State.OPEN, _E.TIMEOUT_OVER): (State.HALF_OPEN, _A.KEEP),
    (State.HALF_OPEN, _E.PROBES_SUCCEEDED): (State.CLOSED, _A.FORGET),
    (State.HALF_OPEN, _E.PROBE_FAILED): (State.OPEN, _A.START_TIMEOUT),
    # By hand, from everywhere.
    (State.CLOSED, _E.FORCE_OPEN): (State.FORCED_OPEN, _A.KEEP),
    (State.OPEN, _E.FORCE_OPEN): (State.FORCED_OPEN, _A.KEEP),
    (State.HALF_OPEN, _E.FORCE_OPEN): (State.FORCED_OPEN, _A.KEEP),
    (State.FORCED_OPEN, _E.FORCE_OPEN): (State.FORCED_OPEN, _A.KEEP),
    (State.DISABLED, _E.FORCE_OPEN): (State.FORCED_OPEN, _A.KEEP),
    (State.METRICS_ONLY, _E.FORCE_OPEN): (State.FORCED_OPEN, _A.KEEP),
    (State.CLOSED, _E.FORCE_CLOSED): (State.CLOSED, _A.FORGET),
    (State.OPEN, _E.FORCE_CLOSED): (State.CLOSED, _A.FORGET),
    (State.HALF_OPEN, _E.FORCE_CLOSED): (State.CLOSED, _A.FORGET),
    (State.FORCED_OPEN, _E.FORCE_CLOSED): (State.CLOSED, _A.FORGET),
    (State.DISABLED, _E.FORCE_CLOSED): (State.CLOSED, _A.FORGET),
    (State.METRICS_ONLY, _E.FORCE_CLOSED): (State.CLOSED, _A.FORGET),
    (State.CLOSED, _E.DISABLE): (State.DISABLED, _A.FORGET),
    (State.OPEN, _E.DISABLE): (State.DISABLED, _A.FORGET),
    (State.HALF_OPEN, _E.DISABLE): (State.DISABLED, _A.FORGET),
    (State.FORCED_OPEN, _E.DISABLE): (State.DISABLED, _A.FORGET),
    (State.DISABLED, _E.DISABLE): (State.DISABLED, _A.FORGET),
    (State.METRICS_ONLY, _E.DISABLE): (State.DISABLED, _A.FORGET),
    (State.CLOSED, _E.WATCH_ONLY): (State.METRICS_ONLY, _A.FORGET),
    (State.OPEN, _E.WATCH_ONLY): (State.METRICS_ONLY, _A.FORGET),
    (State.HALF_OPEN, _E.WATCH_ONLY): (State.METRICS_ONLY, _A.FORGET),
    (State.FORCED_OPEN, _E.WATCH_ONLY): (State.METRICS_ONLY, _A.FORGET),
    (State.DISABLED, _E.WATCH_ONLY): (State.METRICS_ONLY, _A.FORGET),
    (State.METRICS_ONLY, _E.WATCH_ONLY): (State.METRICS_ONLY, _A.FORGET),
}
_EVERYTHING_PASSES = frozenset({State.CLOSED, State.DISABLED, State.METRICS_ONLY})
_DISABLED = State.DISABLED  # a look-up on the enum costs more than the rest of a success
_MAY_PAUSE = frozenset({State.CLOSED, State.OPEN, State.HALF_OPEN})


def transitions_mermaid() -> str:
    """The table as a mermaid state diagram."""
    lines = [f"    {old} --> {new}: {event}" for (old, event), (new, _) in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.CLOSED}", *lines])


class _Window:
    """Counts of the last seconds in ten slots, each overwritten when its time comes round again."""

    __slots__ = ("_slot_seconds", "_slots")

    _SLOTS: Final = 10

    def __init__(self, seconds: float) -> None:
        self._slot_seconds = seconds / self._SLOTS
        self._slots = [[-1, 0, 0, 0] for _ in range(self._SLOTS)]

    def add(self, now: float, total: int, failures: int, slow: int) -> None:
        number = math.floor(now / self._slot_seconds)
        slot = self._slots[number % self._SLOTS]
        if slot[0] != number:
            slot[:] = [number, 0, 0, 0]
        slot[1] += total
        slot[2] += failures
        slot[3] += slow

    def sums(self, now: float) -> tuple[int, int, int]:
        """Total, failures and slow calls that are still inside the window."""
        oldest = math.floor(now / self._slot_seconds) - self._SLOTS
        alive = [slot for slot in self._slots if slot[0] > oldest]
        return sum(slot[1] for slot in alive), sum(slot[2] for slot in alive), sum(slot[3] for slot in alive)

    def clear(self) -> None:
        for slot in self._slots:
            slot[:] = [-1, 0, 0, 0]


class ModelCircuitBreaker:
    """A run-time object, mutable and thread-safe. Fields and bounds are those of `ModelCircuitBreakerSubcontract`.

    Two ways to use it. With permits, for callers that overlap: `acquire`, then exactly one of `succeed`, `fail`,
    `release`. Without, one call after another: `should_allow_request`, then `record_success` or `record_failure`;
    results then belong to whatever state the breaker is in by that time.

    on_transition: called with the old and the new state after each change, by the thread that caused it and without a
        lock; must not raise.
    """

    __slots__ = (
        "_clock",
        "_failures",
        "_generation",
        "_last_failure_time",
        "_last_state_change",
        "_leases",
        "_lock",
        "_news",
        "_next",
        "_open_until",
        "_pass",
        "_passed",
        "_passed_before",
        "_paused_until",
        "_state",
        "_successes",
        "_total",
        "_unnamed",
        "_wall",
        "_window",
        "config",
        "on_transition",
    )

    def __init__(  # the fields of the configuration, in its order
        self,
        enabled: bool = True,
        failure_threshold: int = 5,
        success_threshold: int = 2,
        timeout_seconds: float = 60.0,
        half_open_max_requests: int = 3,
        window_size_seconds: float = 60.0,
        failure_rate_threshold: float | None = None,
        minimum_request_threshold: int = 10,
        slow_call_duration_threshold_ms: float | None = None,
        slow_call_rate_threshold: float | None = None,
        *,
        lease_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        try:
            config = ModelCircuitBreakerSubcontract(
                enabled=enabled,
                failure_threshold=failure_threshold,
                success_threshold=success_threshold,
                timeout_seconds=timeout_seconds,
                half_open_max_requests=half_open_max_requests,
                window_size_seconds=window_size_seconds,
                failure_rate_threshold=failure_rate_threshold,
                minimum_request_threshold=minimum_request_threshold,
                slow_call_duration_threshold_ms=slow_call_duration_threshold_ms,
                slow_call_rate_threshold=slow_call_rate_threshold,
                lease_seconds=lease_seconds,
            )
        except ValidationError as error:
            findings = "; ".join(
                f"{'.'.join(map(str, each['loc'][:1]))}: {each['msg']}, found {each['input']!r}"
                for each in error.errors()
            )
            raise ModelOnexError(f"circuit breaker: {findings}", EnumCoreErrorCode.VALIDATION_ERROR) from None
        self.config = config
        self.on_transition: Callable[[State, State], None] | None = None
        self._clock = clock
        self._wall = wall_clock
        self._lock = threading.Lock()
        self._news: deque[tuple[State, State]] = deque()
        rates = config.failure_rate_threshold is not None or config.slow_call_rate_threshold is not None
        self._window = _Window(config.window_size_seconds) if rates else None
        self._leases: dict[int, float] = {}
        self._unnamed: deque[int] = deque()
        self._failures = self._successes = self._total = 0
        self._passed = self._passed_before = 0  # successes while everything passes; up to the last transition
        self._last_failure_time: datetime | None = None
        self._last_state_change: datetime | None = None
        self._open_until = self._paused_until = -math.inf
        self._state = State.CLOSED if config.enabled else State.DISABLED
        self._generation = 1
        self._next = 2
        # The permit of a state in which everything passes, else None: the one thing that is read without the lock, so
        # that state and permit can never disagree.
        self._pass: int | None = self._generation

    @classmethod
    def from_config(
        cls,
        config: ModelCircuitBreakerSubcontract,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """A breaker of that configuration."""
        return cls(**config.model_dump(), clock=clock, wall_clock=wall_clock)

    @classmethod
    def create_fast_fail(cls) -> Self:
        """For callers that have an alternative: opens after 3 failures, for 10 s, and one success closes it."""
        return cls(failure_threshold=3, success_threshold=1, timeout_seconds=10.0, half_open_max_requests=1)

    @classmethod
    def create_resilient(cls) -> Self:
        """For targets that stumble often: opens after 20 failures, for 120 s, and five successes close it."""
        return cls(failure_threshold=20, success_threshold=5, timeout_seconds=120.0, half_open_max_requests=5)

    @classmethod
    def create_disabled(cls) -> Self:
        """Lets everything pass."""
        return cls(enabled=False)

    # With permits.

    def refusal(self) -> float | None:
        """None: a request may go on. Else the seconds until it is worth asking again (`inf`: not by itself).

        Takes no permit; `acquire` may still say no, when others were faster.
        """
        if self._pass is not None:
            return None
        with self._lock:
            wait = self._wait(self._clock())
        self._announce()
        return wait

    def acquire(self, lease_seconds: float | None = None) -> int | None:
        """A permit, to be given to exactly one of `succeed`, `fail` and `release`; None when refused.

        lease_seconds: for a probe, instead of the configuration's.
        """
        permit = self._pass
        if permit is not None:
            return permit
        with self._lock:
            now = self._clock()
            if self._wait(now) is not None:
                permit = None
            elif self._state is State.HALF_OPEN:
                permit = self._number()
                self._leases[permit] = now + (self.config.lease_seconds if lease_seconds is None else lease_seconds)
            else:
                permit = self._generation
        self._announce()
        return permit

    def succeed(self, permit: int, duration_ms: float | None = None) -> None:
        """The request succeeded; with a duration it may also have been slow."""
        if permit == self._generation:
            if self._state is not _DISABLED:
                # Without the lock, which would cost more than all the rest. These counts decide nothing, and under the
                # interpreter's lock no other thread runs between reading and writing one.
                self._passed += 1
                if self._failures:
                    self._failures = 0
                if self._window is not None:
                    self._note_duration(permit, duration_ms)
            return
        with self._lock:
            if self._leases.pop(permit, None) is not None:
                self._probe_succeeded()
        self._announce()

    def _note_duration(self, permit: int, duration_ms: float | None) -> None:
        with self._lock:
            if permit == self._generation and self._window is not None:
                slow = self._is_slow(duration_ms)
                self._window.add(self._clock(), 1, 0, slow)
                if slow:
                    self._judge()
        self._announce()

    def fail(self, permit: int) -> None:
        """The request failed in a way that speaks against the target."""
        with self._lock:
            if permit == self._generation:
                self._failed()
            elif self._leases.pop(permit, None) is not None:
                self._probe_failed()
        self._announce()

    def release(self, permit: int) -> None:
        """The request says nothing about the target (cancelled, never sent, refused here): count it neither way."""
        if permit == self._generation:
            return
        with self._lock:
            self._leases.pop(permit, None)

    def pause(self, seconds: float) -> None:
        """The target asked for quiet (429): refuse for that long, without counting a failure. Only ever lengthens."""
        if not seconds > 0:  # also NaN
            return
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            if self._state in _MAY_PAUSE:
                self._pass = None

    # Without permits.

    def should_allow_request(self) -> bool:
        """Whether a request may go on; while half-open it takes one of the probes, until a result is recorded."""
        permit = self.acquire()
        if permit is None:
            return False
        if permit != self._generation:
            with self._lock:
                if permit in self._leases:
                    self._unnamed.append(permit)
        return True

    def record_success(self) -> None:
        """A request succeeded."""
        permit = self._oldest_unnamed()
        if permit is not None:
            self.succeed(permit)

    def record_failure(self) -> None:
        """A request failed."""
        permit = self._oldest_unnamed()
        if permit is None:  # nothing passes in this state, so it is a late one, which only leaves a trace
            with self._lock:
                self._last_failure_time = self._wall()
        else:
            self.fail(permit)

    def record_slow_call(self, duration_ms: float | None = None) -> None:
        """A request was slow, or took `duration_ms`; its success or failure is recorded beside it.

        Looked at only with `slow_call_rate_threshold`; then a slow probe counts as a failed one.
        """
        with self._lock:
            if self._window is None or not self._is_slow(math.inf if duration_ms is None else duration_ms):
                return
            if self._state is State.HALF_OPEN:
                self._fire(BreakerEvent.PROBE_FAILED)
            elif self._state in {State.CLOSED, State.METRICS_ONLY}:
                self._window.add(self._clock(), 0, 0, 1)
                self._judge()
        self._announce()

    # By hand.

    def force_open(self) -> None:
        """Let nothing pass until told otherwise."""
        self._by_hand(BreakerEvent.FORCE_OPEN)

    def force_closed(self) -> None:
        """Close, forget all counts and any pause."""
        self._by_hand(BreakerEvent.FORCE_CLOSED)

    def reset(self) -> None:
        """As new: closed, or disabled if it was made so, with all counts at zero."""
        self._by_hand(BreakerEvent.FORCE_CLOSED if self.config.enabled else BreakerEvent.DISABLE)
        with self._lock:
            self._total = self._passed = self._passed_before = 0
            self._last_failure_time = None

    def disable(self) -> None:
        """Let everything pass and count nothing."""
        self._by_hand(BreakerEvent.DISABLE)

    def metrics_only(self) -> None:
        """Let everything pass, but count."""
        self._by_hand(BreakerEvent.WATCH_ONLY)

    # To be read.

    @property
    def enabled(self) -> bool:
        """Whether it was made to work; `disable` is a matter of the state."""
        return self.config.enabled

    @property
    def state(self) -> State:
        """The state as of the last request or result; OPEN becomes HALF_OPEN when somebody asks after the timeout."""
        return self._state

    @property
    def failure_count(self) -> int:
        """Failures one after another, or those inside the window when a failure rate is set; kept while open."""
        if self.config.failure_rate_threshold is None or self._window is None:
            return self._failures
        with self._lock:
            return self._window.sums(self._clock())[1]

    @property
    def success_count(self) -> int:
        """Successes since the last change of state; while half-open, those that count towards closing."""
        return self._successes if self._state is State.HALF_OPEN else self._passed - self._passed_before

    @property
    def total_requests(self) -> int:
        """Results counted since it was made or reset."""
        return self._total + self._passed

    @property
    def half_open_requests(self) -> int:
        """Probes under way."""
        return len(self._leases)

    @property
    def last_failure_time(self) -> datetime | None:
        """UTC."""
        return self._last_failure_time

    @property
    def last_state_change(self) -> datetime | None:
        """UTC; None when the state never changed."""
        return self._last_state_change

    def __repr__(self) -> str:
        return f"ModelCircuitBreaker(state={self._state.value}, failures={self._failures}, probes={len(self._leases)})"

    # The engine. Everything below but `_announce` and `_by_hand` runs under the lock.

    def _fire(self, event: BreakerEvent) -> None:
        row = TRANSITIONS.get((self._state, event))
        if row is None:
            message = f"circuit breaker: the event {event.value} does not belong to the state {self._state.value}"
            raise ModelOnexError(message, EnumCoreErrorCode.INTERNAL_ERROR)
        old = self._state
        self._state, action = row
        self._generation = self._number()
        self._leases.clear()
        self._unnamed.clear()
        self._successes = 0
        self._passed_before = self._passed
        if action is BreakerAction.START_TIMEOUT:
            self._open_until = self._clock() + self.config.timeout_seconds
        elif action is BreakerAction.FORGET:
            self._failures = 0
            if self._window is not None:
                self._window.clear()
        paused = self._state is State.CLOSED and self._paused_until > self._clock()
        self._pass = self._generation if self._state in _EVERYTHING_PASSES and not paused else None
        if self._state is not old:
            self._last_state_change = self._wall()
            self._news.append((old, self._state))

    def _wait(self, now: float) -> float | None:
        """What `refusal` says. Moves the machine on where time alone does it."""
        if self._state is State.FORCED_OPEN:
            return math.inf
        if self._state is State.HALF_OPEN and any(end <= now for end in self._leases.values()):
            self._probe_failed()
        if self._state is State.OPEN:
            if self._open_until > now:
                return max(self._open_until, self._paused_until) - now
            self._fire(BreakerEvent.TIMEOUT_OVER)
        if self._paused_until > now and self._state in _MAY_PAUSE:
            return self._paused_until - now
        if self._state is State.HALF_OPEN:
            full = len(self._leases) >= self.config.half_open_max_requests
            return min(self._leases.values()) - now if full else None
        self._pass = self._generation  # a pause is over
        return None

    def _failed(self) -> None:
        if self._state is State.DISABLED:
            return
        self._total += 1
        self._failures += 1
        self._last_failure_time = self._wall()
        if self._window is not None:
            self._window.add(self._clock(), 1, 1, 0)
        self._judge()

    def _judge(self) -> None:
        """Open when the counts ask for it. Judged at failures and slow calls, which alone can raise a rate."""
        if self._state is not State.CLOSED:
            return
        config = self.config
        bad = config.failure_rate_threshold is None and self._failures >= config.failure_threshold
        if self._window is not None and not bad:
            total, failures, slow = self._window.sums(self._clock())
            if total >= config.minimum_request_threshold:
                failed, slowed = config.failure_rate_threshold, config.slow_call_rate_threshold
                bad = (failed is not None and failures >= failed * total) or (
                    slowed is not None and slow >= slowed * total
                )
        if bad:
            self._fire(BreakerEvent.TOO_MANY_FAILURES)

    def _probe_succeeded(self) -> None:
        self._total += 1
        self._successes += 1
        if self._successes >= self.config.success_threshold:
            self._fire(BreakerEvent.PROBES_SUCCEEDED)

    def _probe_failed(self) -> None:
        self._total += 1
        self._failures += 1
        self._last_failure_time = self._wall()
        self._fire(BreakerEvent.PROBE_FAILED)

    def _is_slow(self, duration_ms: float | None) -> bool:
        if duration_ms is None or self.config.slow_call_rate_threshold is None:
            return False
        limit = self.config.slow_call_duration_threshold_ms
        return duration_ms >= limit if limit is not None else duration_ms == math.inf

    def _oldest_unnamed(self) -> int | None:
        """The permit to which a result without one belongs; None in the states in which nothing passes."""
        with self._lock:
            if self._state in _EVERYTHING_PASSES:
                return self._generation
            if self._state is not State.HALF_OPEN:
                return None
            while self._unnamed:
                permit = self._unnamed.popleft()
                if permit in self._leases:
                    return permit
            permit = self._number()  # a result that nobody asked leave for: it counts as a probe all the same
            self._leases[permit] = math.inf
            return permit

    def _number(self) -> int:
        number = self._next
        self._next += 1
        return number

    def _by_hand(self, event: BreakerEvent) -> None:
        with self._lock:
            self._paused_until = -math.inf
            self._fire(event)
        self._announce()

    def _announce(self) -> None:
        """Tell about changes, outside the lock, so that the listener may use the breaker."""
        while self._news:
            try:
                old, new = self._news.popleft()
            except IndexError:  # another thread tells it
                return
            if self.on_transition is not None:
                self.on_transition(old, new)
