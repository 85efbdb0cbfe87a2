"""The circuit breaker against a simple model, over arbitrary histories."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from omnibase_core.enums.enum_circuit_breaker_state import EnumCircuitBreakerState as State
from omnibase_core.models.configuration.model_circuit_breaker import TRANSITIONS, ModelCircuitBreaker

TIMEOUT, LEASE = 10.0, 25.0
LEGAL = {(old, new) for (old, _), (new, _) in TRANSITIONS.items()}


class BreakerMachine(RuleBasedStateMachine):
    """Takes permits, settles them late or never, lets time pass, and interferes by hand."""

    permits = Bundle("permits")

    @initialize(
        failures=st.integers(1, 3), successes=st.integers(1, 4), probes=st.integers(1, 3), rate=st.none() | st.just(0.5)
    )
    def make(self, failures: int, successes: int, probes: int, rate: float | None) -> None:
        self.now = 0.0
        self.probes = probes
        self.alive: dict[int, float] = {}  # probes that were taken and neither settled nor ended by a change of state
        self.breaker = ModelCircuitBreaker(
            failure_threshold=failures,
            success_threshold=successes,
            half_open_max_requests=probes,
            timeout_seconds=TIMEOUT,
            failure_rate_threshold=rate,
            minimum_request_threshold=2,
            lease_seconds=LEASE,
            clock=lambda: self.now,
        )
        self.breaker.on_transition = self.changed
        self.pause_end = -math.inf

    def changed(self, old: State, new: State) -> None:
        assert (old, new) in LEGAL
        self.alive.clear()

    def state(self) -> State:
        return self.breaker.state

    @rule(target=permits)
    def acquire(self) -> tuple[int, State] | None:
        refusal = self.breaker.refusal()
        permit = self.breaker.acquire()
        assert (refusal is None) == (permit is not None)  # nobody else is there to be faster
        if permit is None:
            return None
        if self.breaker.state is State.HALF_OPEN:
            assert permit not in self.alive
            self.alive[permit] = self.now + LEASE
        return permit, self.breaker.state

    @rule(taken=consumes(permits), how=st.sampled_from(["succeed", "fail", "release"]))
    def settle(self, taken: tuple[int, State] | None, how: str) -> None:
        if taken is None:
            return
        permit, _state = taken
        current = permit in self.alive or permit == self.breaker._generation
        before = (self.breaker.state, self.breaker.total_requests, self.breaker.failure_count)
        self.alive.pop(permit, None)

        getattr(self.breaker, how)(permit)

        if not current or how == "release":
            assert (self.breaker.state, self.breaker.total_requests, self.breaker.failure_count) == before

    @rule(seconds=st.sampled_from([0.0, 1.0, TIMEOUT / 2, TIMEOUT, LEASE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([1.0, TIMEOUT * 2]))
    def pause(self, seconds: float) -> None:
        self.breaker.pause(seconds)
        self.pause_end = max(self.pause_end, self.now + seconds)

    @rule(act=st.sampled_from(["force_open", "force_closed", "reset", "disable", "metrics_only"]))
    def by_hand(self, act: str) -> None:
        getattr(self.breaker, act)()
        self.alive.clear()
        self.pause_end = -math.inf

    @rule(act=st.sampled_from(["record_success", "record_failure", "record_slow_call", "should_allow_request"]))
    def plainly(self, act: str) -> None:
        before = set(self.breaker._leases)
        getattr(self.breaker, act)()
        if self.state() is State.HALF_OPEN:
            after = self.breaker._leases
            assert len(before - set(after)) <= 1  # a result settles one probe, and no other goes missing
            self.alive = dict(after)

    @rule()
    def open_ends(self) -> None:
        if self.state() is not State.OPEN:
            return
        left = self.breaker.refusal()
        if left is not None:
            assert left <= max(TIMEOUT, self.pause_end - self.now)
            self.now += left
        assert self.breaker.refusal() is None
        assert self.state() is State.HALF_OPEN

    @invariant()
    def never_too_many_probes(self) -> None:
        assert self.breaker.half_open_requests <= self.probes or self.breaker.state is not State.HALF_OPEN
        if self.breaker.state is not State.HALF_OPEN:
            assert self.breaker.half_open_requests == 0

    @invariant()
    def no_probe_is_lost(self) -> None:
        if self.breaker.state is State.HALF_OPEN:
            assert set(self.alive) <= set(self.breaker._leases) | {
                permit for permit, end in self.alive.items() if end <= self.now
            }


BreakerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase
