"""The circuit breaker, on a clock of its own."""

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from omnibase_core.enums.enum_circuit_breaker_state import EnumCircuitBreakerState as State
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_circuit_breaker import (
    TRANSITIONS,
    BreakerEvent,
    ModelCircuitBreaker,
    transitions_mermaid,
)
from omnibase_core.models.contracts.subcontracts.model_circuit_breaker_subcontract import ModelCircuitBreakerSubcontract

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock, **options: float) -> ModelCircuitBreaker:
    breaker = ModelCircuitBreaker(
        failure_threshold=1,
        timeout_seconds=options.get("timeout_seconds", 10.0),
        half_open_max_requests=int(options.get("half_open_max_requests", 2)),
        success_threshold=int(options.get("success_threshold", 2)),
        clock=clock,
        wall_clock=lambda: NOON,
    )
    breaker.record_failure()
    return breaker


def half_opened(clock: Clock, **options: float) -> ModelCircuitBreaker:
    breaker = opened(clock, **options)
    clock.now += options.get("timeout_seconds", 10.0)
    return breaker


def test_it_opens_after_that_many_failures_in_a_row(clock: Clock) -> None:
    """`failure_threshold` counts failures one after another; a success in between starts the count anew."""
    breaker = ModelCircuitBreaker(failure_threshold=3, clock=clock)

    for result in (breaker.record_failure, breaker.record_failure, breaker.record_success) * 2:
        result()
    before = breaker.state
    for _ in range(3):
        breaker.record_failure()

    assert (before, breaker.state) == (State.CLOSED, State.OPEN)
    assert (breaker.failure_count, breaker.total_requests) == (3, 9)


def test_an_open_breaker_says_when_it_will_try_again(clock: Clock) -> None:
    """`refusal` gives the seconds that are left, to the fraction, and None once they are over."""
    breaker = opened(clock, timeout_seconds=1.5)

    at_once = breaker.refusal()
    clock.now += 1.4
    later = breaker.refusal()
    clock.now += 0.1

    assert at_once == 1.5
    assert later == pytest.approx(0.1)
    assert breaker.refusal() is None
    assert breaker.state is State.HALF_OPEN


def test_half_open_lets_only_so_many_probes_through(clock: Clock) -> None:
    """At most `half_open_max_requests` permits are out; a released one can be taken again."""
    breaker = half_opened(clock)

    first, second, third = breaker.acquire(), breaker.acquire(), breaker.acquire()
    refusal = breaker.refusal()
    assert first is not None
    breaker.release(first)

    assert second is not None
    assert third is None
    assert refusal is not None
    assert refusal > 0
    assert breaker.acquire() is not None
    assert breaker.half_open_requests == 2


def test_successes_one_after_another_close_it(clock: Clock) -> None:
    """`success_threshold` may be larger than the number of probes at a time."""
    breaker = half_opened(clock, half_open_max_requests=1, success_threshold=3)

    states = []
    for _ in range(3):
        permit = breaker.acquire()
        assert permit is not None
        breaker.succeed(permit)
        states.append(breaker.state)

    assert states == [State.HALF_OPEN, State.HALF_OPEN, State.CLOSED]
    assert (breaker.failure_count, breaker.success_count) == (0, 0)


def test_one_failed_probe_opens_it_again_for_the_whole_timeout(clock: Clock) -> None:
    """A failure while half-open starts the timeout anew."""
    breaker = half_opened(clock)
    permit = breaker.acquire()
    assert permit is not None

    breaker.fail(permit)

    assert (breaker.state, breaker.refusal()) == (State.OPEN, 10.0)


def test_a_probe_that_nobody_reports_on_counts_as_a_failure(clock: Clock) -> None:
    """A lease that runs out opens the breaker again, and its late success changes nothing."""
    breaker = half_opened(clock)
    permit = breaker.acquire(lease_seconds=5)
    assert permit is not None
    failures = breaker.failure_count

    clock.now += 5
    refused = breaker.acquire()
    breaker.succeed(permit)

    assert refused is None
    assert (breaker.state, breaker.half_open_requests) == (State.OPEN, 0)
    assert breaker.failure_count == failures + 1


def test_a_result_of_an_older_generation_changes_nothing(clock: Clock) -> None:
    """Requests that began before the breaker opened cannot close it, nor open it again."""
    breaker = ModelCircuitBreaker(failure_threshold=1, timeout_seconds=1.0, clock=clock)
    early, other = breaker.acquire(), breaker.acquire()
    assert early is not None
    assert other is not None
    breaker.fail(early)
    clock.now += 1
    probe = breaker.acquire()
    assert probe is not None

    for result in (breaker.fail, breaker.succeed, breaker.release):
        result(other)

    assert (breaker.state, breaker.half_open_requests, breaker.total_requests) == (State.HALF_OPEN, 1, 1)


@pytest.mark.parametrize("state", [State.CLOSED, State.HALF_OPEN])
def test_a_released_permit_counts_neither_way(clock: Clock, state: State) -> None:
    """Cancellation says nothing about the target."""
    breaker = half_opened(clock) if state is State.HALF_OPEN else ModelCircuitBreaker(clock=clock)
    breaker.refusal()
    before = (breaker.total_requests, breaker.failure_count, breaker.success_count)
    permit = breaker.acquire()
    assert permit is not None

    breaker.release(permit)

    assert (breaker.total_requests, breaker.failure_count, breaker.success_count) == before
    assert (breaker.state, breaker.half_open_requests) == (state, 0)


def test_a_pause_refuses_without_counting_a_failure(clock: Clock) -> None:
    """After `pause` requests are refused for that long, a shorter pause does not cut it, and the state stays."""
    breaker = ModelCircuitBreaker(clock=clock)

    breaker.pause(3)
    breaker.pause(1)
    breaker.pause(math.nan)
    breaker.pause(-1)

    assert (breaker.refusal(), breaker.acquire(), breaker.state) == (3.0, None, State.CLOSED)
    clock.now += 3
    assert (breaker.refusal(), breaker.failure_count) == (None, 0)
    assert breaker.acquire() is not None


def test_a_pause_outlives_the_closing_of_the_breaker(clock: Clock) -> None:
    """What the target asked for while half-open still holds after it closed."""
    breaker = half_opened(clock, success_threshold=1)
    permit = breaker.acquire()
    assert permit is not None

    breaker.pause(7)
    breaker.succeed(permit)

    assert (breaker.state, breaker.refusal()) == (State.CLOSED, 7.0)


def test_the_plain_way_goes_through_all_states(clock: Clock) -> None:
    """`should_allow_request` and `record_*` alone open, probe and close the breaker."""
    breaker = ModelCircuitBreaker(failure_threshold=2, timeout_seconds=1.0, clock=clock)

    breaker.record_failure()
    breaker.record_failure()
    refused = breaker.should_allow_request()
    clock.now += 1
    probes = [breaker.should_allow_request() for _ in range(4)]
    breaker.record_success()
    breaker.record_success()

    assert refused is False
    assert probes == [True, True, True, False]
    assert breaker.state is State.CLOSED


def test_results_that_come_while_it_is_open_do_not_move_it(clock: Clock) -> None:
    """A late `record_*` while open neither closes the breaker nor prolongs the timeout."""
    breaker = opened(clock)
    clock.now += 4

    breaker.record_success()
    breaker.record_failure()

    assert (breaker.state, breaker.refusal()) == (State.OPEN, 6.0)


def test_a_failure_rate_takes_the_place_of_the_count(clock: Clock) -> None:
    """With a rate the breaker opens by share and minimum, not by failures in a row."""
    breaker = ModelCircuitBreaker(
        failure_threshold=1, failure_rate_threshold=0.5, minimum_request_threshold=6, clock=clock
    )

    for result in (breaker.record_failure, breaker.record_failure, breaker.record_success, breaker.record_success):
        result()
    few = breaker.state
    breaker.record_success()
    breaker.record_failure()

    assert (few, breaker.state) == (State.CLOSED, State.OPEN)


def test_what_left_the_window_no_longer_counts(clock: Clock) -> None:
    """Failures older than the window are forgotten, in steps of a tenth of it."""
    breaker = ModelCircuitBreaker(
        failure_rate_threshold=0.5, minimum_request_threshold=2, window_size_seconds=10.0, clock=clock
    )
    breaker.record_failure()
    inside = breaker.failure_count

    clock.now += 10
    outside = breaker.failure_count
    breaker.record_failure()

    assert (inside, outside, breaker.state) == (1, 0, State.CLOSED)


def test_slow_calls_open_it_by_their_rate(clock: Clock) -> None:
    """Calls at or above the slow limit count as slow, whether told by `succeed` or by `record_slow_call`."""
    breaker = ModelCircuitBreaker(
        slow_call_duration_threshold_ms=100.0, slow_call_rate_threshold=0.5, minimum_request_threshold=4, clock=clock
    )
    permit = breaker.acquire()
    assert permit is not None

    for duration in (10, 99.9, 100):
        breaker.succeed(permit, duration)
    breaker.record_slow_call(50)
    before = breaker.state
    breaker.succeed(permit, 100)

    assert (before, breaker.state) == (State.CLOSED, State.OPEN)


def test_slow_calls_mean_nothing_without_a_rate(clock: Clock) -> None:
    """Without `slow_call_rate_threshold` a slow call changes nothing."""
    breaker = ModelCircuitBreaker(clock=clock, minimum_request_threshold=1)

    for _ in range(50):
        breaker.record_slow_call()

    assert breaker.state is State.CLOSED


def test_states_by_hand_stay_until_told_otherwise(clock: Clock) -> None:
    """Forced open refuses for ever, disabled and metrics-only let everything pass, only the last one counts."""
    breaker = ModelCircuitBreaker(failure_threshold=1, clock=clock)

    breaker.force_open()
    clock.now += 1e9
    forced = (breaker.state, breaker.refusal(), breaker.should_allow_request())
    breaker.disable()
    breaker.record_failure()
    disabled = (breaker.state, breaker.should_allow_request(), breaker.total_requests)
    breaker.metrics_only()
    breaker.record_failure()
    watching = (breaker.state, breaker.should_allow_request(), breaker.total_requests)
    breaker.force_closed()

    assert forced == (State.FORCED_OPEN, math.inf, False)
    assert disabled == (State.DISABLED, True, 0)
    assert watching == (State.METRICS_ONLY, True, 1)
    assert (breaker.state, breaker.failure_count) == (State.CLOSED, 0)


def test_reset_makes_it_as_new(clock: Clock) -> None:
    """`reset` forgets counts and pauses; a breaker made disabled is disabled again."""
    breaker = opened(clock)
    breaker.reset()
    off = ModelCircuitBreaker.create_disabled()
    off.force_open()

    off.reset()

    assert (breaker.state, breaker.total_requests, breaker.last_failure_time) == (State.CLOSED, 0, None)
    assert (off.state, off.enabled) == (State.DISABLED, False)


def test_it_says_when_things_happened(clock: Clock) -> None:
    """The last failure and the last change of state are UTC times, and None before there was one."""
    breaker = ModelCircuitBreaker(clock=clock)

    assert (breaker.last_failure_time, breaker.last_state_change) == (None, None)
    assert (opened(clock).last_failure_time, opened(clock).last_state_change) == (NOON, NOON)
    broken = ModelCircuitBreaker(failure_threshold=1)
    broken.record_failure()
    assert broken.last_state_change is not None
    assert broken.last_state_change.tzinfo is UTC


def test_a_listener_hears_every_change_and_may_use_the_breaker(clock: Clock) -> None:
    """`on_transition` gets the old and the new state, outside the lock."""
    breaker = ModelCircuitBreaker(failure_threshold=1, success_threshold=1, timeout_seconds=1.0, clock=clock)
    heard: list[tuple[State, State, float | None]] = []
    breaker.on_transition = lambda old, new: heard.append((old, new, breaker.refusal()))

    breaker.record_failure()
    clock.now += 1
    breaker.should_allow_request()
    breaker.record_success()
    breaker.reset()

    assert heard == [
        (State.CLOSED, State.OPEN, 1.0),
        (State.OPEN, State.HALF_OPEN, None),
        (State.HALF_OPEN, State.CLOSED, None),
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"failure_threshold": 0}, "failure_threshold.*greater than or equal to 1"),
        ({"failure_threshold": True}, "failure_threshold.*integer"),
        ({"success_threshold": 11}, "success_threshold.*less than or equal to 10"),
        ({"timeout_seconds": 0}, "timeout_seconds.*greater than 0"),
        ({"timeout_seconds": math.inf}, "timeout_seconds"),
        ({"half_open_max_requests": 0}, "half_open_max_requests"),
        ({"failure_rate_threshold": 1.1}, "failure_rate_threshold.*less than or equal to 1"),
        ({"window_size_seconds": -1.0}, "window_size_seconds"),
    ],
)
def test_a_setting_out_of_bounds_is_named_with_its_bound(options: dict[str, float], found: str) -> None:
    """Wrong settings are VALIDATION_ERROR, saying which, the bound and what was found."""
    make: Callable[..., ModelCircuitBreaker] = ModelCircuitBreaker

    with pytest.raises(ModelOnexError, match=found) as caught:
        make(**options)

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


def test_a_configuration_makes_the_same_breaker(clock: Clock) -> None:
    """`from_config` takes every field over; the configuration is frozen and refuses unknown fields."""
    config = ModelCircuitBreakerSubcontract(failure_threshold=2, timeout_seconds=0.25, lease_seconds=3.0)

    breaker = ModelCircuitBreaker.from_config(config, clock)

    assert breaker.config == config
    with pytest.raises(ValidationError):
        ModelCircuitBreakerSubcontract.model_validate({"failure_treshold": 2})
    with pytest.raises(ValidationError):
        config.failure_threshold = 3  # type: ignore[misc] # that it is refused is what is tested


def test_the_factories_differ_as_their_names_say() -> None:
    """Fast fail gives up before resilient does, and disabled never."""
    fast, resilient = ModelCircuitBreaker.create_fast_fail(), ModelCircuitBreaker.create_resilient()

    assert fast.config.failure_threshold < resilient.config.failure_threshold
    assert fast.config.timeout_seconds < resilient.config.timeout_seconds
    assert ModelCircuitBreaker.create_disabled().state is State.DISABLED


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(BreakerEvent))
def test_an_event_that_the_table_does_not_list_changes_nothing(state: State, event: BreakerEvent) -> None:
    """The engine knows only the table; anything else raises and leaves the breaker as it was."""
    breaker = ModelCircuitBreaker()
    breaker._state = state
    before = (breaker._generation, breaker._pass)

    if (state, event) in TRANSITIONS:
        breaker._fire(event)
        assert breaker.state is TRANSITIONS[state, event][0]
    else:
        with pytest.raises(ModelOnexError, match=event.value):
            breaker._fire(event)
        assert (breaker.state, breaker._generation, breaker._pass) == (state, *before)


def test_the_diagram_has_an_arrow_for_every_row() -> None:
    """The mermaid diagram is drawn from the table."""
    diagram = transitions_mermaid().splitlines()

    assert diagram[0] == "stateDiagram-v2"
    assert "    half_open --> open: probe_failed" in diagram
    assert len(diagram) == 2 + len(TRANSITIONS)


def test_threads_neither_lose_counts_nor_exceed_the_probes(clock: Clock) -> None:
    """Four threads count every result of a closed breaker and never hold more probes than allowed."""
    breaker = ModelCircuitBreaker(failure_threshold=100, half_open_max_requests=3, timeout_seconds=1.0, clock=clock)
    most: list[int] = []

    def hammer(work: Callable[[], None]) -> None:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def count() -> None:
        for _ in range(5_000):
            permit = breaker.acquire()
            assert permit is not None
            breaker.succeed(permit)

    def probe() -> None:
        for _ in range(2_000):
            permit = breaker.acquire()
            if permit is not None:
                most.append(breaker.half_open_requests)
                breaker.release(permit)

    hammer(count)
    counted = (breaker.total_requests, breaker.success_count)
    for _ in range(100):
        breaker.record_failure()
    clock.now += 1
    hammer(probe)

    assert counted == (20_000, 20_000)
    assert max(most) <= 3
    assert (breaker.state, breaker.half_open_requests) == (State.HALF_OPEN, 0)
