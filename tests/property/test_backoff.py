"""Delays between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.enums.enum_effect_policy import EnumBackoffStrategy, EnumJitter
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.utils.effect_executor import calculate_backoff


@st.composite
def _policies(draw: st.DrawFn, *, jitter: EnumJitter | None = None) -> ModelEffectRetryPolicy:
    base = draw(st.integers(100, 60_000))
    fields: dict[str, object] = {
        "base_delay_ms": base,
        "backoff_strategy": draw(st.sampled_from(EnumBackoffStrategy)),
        "jitter": jitter or draw(st.sampled_from(EnumJitter)),
        "jitter_factor": draw(st.floats(0, 0.5)),
    }
    if draw(st.booleans()):
        fields["max_delay_ms"] = draw(st.integers(max(1_000, base), 300_000))
    return ModelEffectRetryPolicy.model_validate(fields)


_counts = st.integers(1, 10) | st.integers(-5, 10**6)
_random = st.floats(0, 1, exclude_max=True)


def _cap(policy: ModelEffectRetryPolicy) -> int:
    return max(policy.max_delay_ms, policy.base_delay_ms)


def _without_jitter(policy: ModelEffectRetryPolicy, count: int) -> int:
    plain = policy.model_copy(update={"jitter": EnumJitter.PROPORTIONAL, "jitter_factor": 0.0})
    return calculate_backoff(count, plain)


@given(policy=_policies(), count=st.integers(1, 60))
def test_the_formula(policy: ModelEffectRetryPolicy, count: int) -> None:
    """Fixed b, linear b*n, exponential b*2^(n-1), each under the cap."""
    base = policy.base_delay_ms
    wanted = {"fixed": base, "linear": base * count, "exponential": base * 2 ** (count - 1)}[
        policy.backoff_strategy.value
    ]

    assert _without_jitter(policy, count) == min(wanted, _cap(policy))


@given(policy=_policies(), count=_counts, random=_random, previous=st.integers(0, 10**6))
def test_a_delay_is_a_whole_number_within_bounds(
    policy: ModelEffectRetryPolicy, count: int, random: float, previous: int
) -> None:
    """Never negative; above the cap by no more than the factor of proportional jitter."""
    delay = calculate_backoff(count, policy, rng=lambda: random, previous_ms=previous)

    assert type(delay) is int
    assert 0 <= delay <= _cap(policy) * (1 + policy.jitter_factor * (policy.jitter is EnumJitter.PROPORTIONAL)) + 1


@given(policy=_policies(), count=st.integers(1, 1_000))
def test_without_jitter_delays_never_shrink(policy: ModelEffectRetryPolicy, count: int) -> None:
    """A later retry never waits less."""
    assert _without_jitter(policy, count) <= _without_jitter(policy, count + 1)


@given(policy=_policies(jitter=EnumJitter.PROPORTIONAL), count=_counts, random=_random)
def test_the_cap_comes_before_proportional_jitter(policy: ModelEffectRetryPolicy, count: int, random: float) -> None:
    """Proportional jitter spreads the capped delay by its factor to both sides."""
    plain = _without_jitter(policy, count)

    delay = calculate_backoff(count, policy, rng=lambda: random)

    assert abs(delay - plain) <= plain * policy.jitter_factor + 1
    assert abs(delay - plain * (1 + policy.jitter_factor * (2 * random - 1))) <= 0.5


@given(policy=_policies(jitter=EnumJitter.FULL), count=_counts, random=_random)
def test_full_jitter(policy: ModelEffectRetryPolicy, count: int, random: float) -> None:
    """Anything from nothing to the capped delay."""
    assert abs(calculate_backoff(count, policy, rng=lambda: random) - _without_jitter(policy, count) * random) <= 0.5


@given(policy=_policies(jitter=EnumJitter.EQUAL), count=_counts, random=_random)
def test_equal_jitter(policy: ModelEffectRetryPolicy, count: int, random: float) -> None:
    """Half of the capped delay for certain, the other half by chance."""
    plain = _without_jitter(policy, count)

    assert plain / 2 - 0.5 <= calculate_backoff(count, policy, rng=lambda: random) <= plain + 0.5


@given(policy=_policies(jitter=EnumJitter.DECORRELATED), count=_counts, random=_random, previous=st.integers(0, 10**6))
def test_decorrelated_jitter(policy: ModelEffectRetryPolicy, count: int, random: float, previous: int) -> None:
    """From the base to three times the delay before, under the cap."""
    delay = calculate_backoff(count, policy, rng=lambda: random, previous_ms=previous)

    assert policy.base_delay_ms <= delay <= min(_cap(policy), max(policy.base_delay_ms, 3 * previous))


@given(policy=_policies(), count=_counts)
def test_randomness_is_asked_once_and_only_from_the_caller(policy: ModelEffectRetryPolicy, count: int) -> None:
    """The same random number gives the same delay."""
    asked: list[float] = []

    def rng() -> float:
        asked.append(0.25)
        return 0.25

    assert calculate_backoff(count, policy, rng=rng) == calculate_backoff(count, policy, rng=lambda: 0.25)
    assert len(asked) == 1
