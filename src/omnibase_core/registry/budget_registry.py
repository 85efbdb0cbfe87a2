"""Retry budgets: one token bucket per target, shared by all that talk to it; the least recently used are forgotten."""

from collections import OrderedDict
from typing import Final

from omnibase_core.models.configuration.model_settings import ModelRetryBudget

_MAX_TARGETS: Final = 4096


class RetryBudget:
    """A token bucket: retries take tokens out, successes put some back, so that retries cannot become the storm.

    Full at first. A race between threads can lose a single token, never more, which is why there is no lock.
    """

    __slots__ = ("_capacity", "_gain", "_retry_cost", "_timeout_cost", "tokens")

    def __init__(self, settings: ModelRetryBudget) -> None:
        self._capacity = settings.capacity
        self._gain = settings.success_gain
        self._retry_cost = settings.retry_cost
        self._timeout_cost = settings.timeout_retry_cost
        self.tokens = settings.capacity

    def try_spend(self, *, after_timeout: bool) -> bool:
        """Pay for one retry; False, and nothing is paid, when the bucket holds too little."""
        left = self.tokens - (self._timeout_cost if after_timeout else self._retry_cost)
        if left < 0:
            return False
        self.tokens = left
        return True

    def succeed(self) -> None:
        """A success puts its gain back, up to the capacity."""
        tokens = self.tokens + self._gain
        self.tokens = min(self._capacity, tokens)


class BudgetRegistry:
    """Target (scheme://host:port, connection, cluster, roots) -> retry budget. Bounded, because data may choose
    hosts.
    """

    def __init__(self, settings: ModelRetryBudget | None = None) -> None:
        self._settings = settings or ModelRetryBudget()
        self._budgets: OrderedDict[str, RetryBudget] = OrderedDict()

    def budget(self, target: str) -> RetryBudget:
        """The budget that all attempts against `target` share."""
        budget = self._budgets.get(target)
        if budget is None:
            budget = self._budgets.setdefault(target, RetryBudget(self._settings))
            if len(self._budgets) > _MAX_TARGETS:
                self._budgets.popitem(last=False)
        else:
            self._budgets.move_to_end(target)
        return budget
