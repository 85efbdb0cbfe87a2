"""The retry budget keeps a storm small."""

from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.models.configuration.model_settings import ModelRetryBudget
from omnibase_core.registry.budget_registry import RetryBudget

settings = st.builds(
    ModelRetryBudget,
    capacity=st.integers(1, 1000),
    retry_cost=st.integers(0, 50),
    timeout_retry_cost=st.integers(0, 50),
    success_gain=st.integers(0, 20),
)


@given(settings, st.lists(st.sampled_from(["retry", "timeout", "success"]), max_size=200))
def test_tokens_stay_between_nothing_and_the_capacity(config: ModelRetryBudget, events: list[str]) -> None:
    """The bucket follows its arithmetic exactly, never owes and never overflows."""
    budget, expected = RetryBudget(config), config.capacity

    for event in events:
        if event == "success":
            budget.succeed()
            expected = min(config.capacity, expected + config.success_gain)
            continue
        cost = config.timeout_retry_cost if event == "timeout" else config.retry_cost
        assert budget.try_spend(after_timeout=event == "timeout") == (cost <= expected)
        expected -= cost if cost <= expected else 0
        assert 0 <= budget.tokens <= config.capacity

    assert budget.tokens == expected


def test_a_storm_stays_below_three_tenths_above_the_originals() -> None:
    """When every call fails, 1,000 originals bring at most 300 retries with the default numbers (section 2.5)."""
    budget = RetryBudget(ModelRetryBudget())

    retries = sum(budget.try_spend(after_timeout=False) for _original in range(1000) for _attempt in range(3))

    assert 0 < retries < 300
