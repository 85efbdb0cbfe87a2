"""Which handler for which kind, which breaker for which id, which budget for which target."""

import logging
from uuid import uuid4

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelRetryBudget
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectCircuitBreaker
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_core.registry.budget_registry import BudgetRegistry
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry


def test_a_kind_resolves_to_its_service_name() -> None:
    """Built-in kinds and own ones alike."""
    registry = EffectHandlerRegistry({"http": "Http"})
    registry.register("vendor.kind", "Mine")

    assert registry.resolve("vendor.kind") == "Mine"
    assert registry.is_registered("http")
    assert registry.list_registered() == ["http", "vendor.kind"]
    assert registry.handlers == {"http": "Http", "vendor.kind": "Mine"}


def test_a_second_registration_names_both() -> None:
    """VALIDATION_ERROR, and the first one stays."""
    registry = EffectHandlerRegistry({"http": "First"})

    with pytest.raises(ModelOnexError, match="already registered: 'First' has it, 'Second' wants it") as caught:
        registry.register("http", "Second")

    assert caught.value.error_code is Code.VALIDATION_ERROR
    assert registry.resolve("http") == "First"


def test_a_missing_kind_lists_what_is_there() -> None:
    """RESOURCE_UNAVAILABLE."""
    with pytest.raises(ModelOnexError, match="No handler registered for 'ftp'; registered: db, http") as caught:
        EffectHandlerRegistry({"http": "H", "db": "D"}).resolve("ftp")

    assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE


def test_a_frozen_registry_takes_nothing_more() -> None:
    """After the start of the service."""
    registry = EffectHandlerRegistry()
    registry.freeze()

    with pytest.raises(ModelOnexError, match="frozen"):
        registry.register("http", "H")


def test_operations_with_one_id_share_a_breaker_and_the_first_settings_win(caplog: pytest.LogCaptureFixture) -> None:
    """Other settings under the same id are a warning."""
    registry = BreakerRegistry()
    key = uuid4()
    first = registry.breaker(key, ModelEffectCircuitBreaker(failure_threshold=2), "a/x")

    with caplog.at_level(logging.WARNING, "onex.breaker"):
        second = registry.breaker(key, ModelEffectCircuitBreaker(failure_threshold=3), "b/y")

    assert second is first
    assert registry.all() == {key: first}
    assert "b/y" in caplog.text
    assert registry.breaker(uuid4(), ModelEffectCircuitBreaker(), "c/z") is not first


def test_a_target_has_one_budget_and_the_number_of_targets_is_bounded() -> None:
    """Data may choose hosts: the least recently used target is forgotten."""
    registry = BudgetRegistry(ModelRetryBudget(capacity=10))
    first = registry.budget("http://a:80")
    assert registry.budget("http://a:80") is first

    for number in range(5000):
        registry.budget(f"http://h{number}:80")

    assert registry.budget("http://a:80") is not first


def test_a_budget_pays_for_retries_and_is_refilled_by_successes() -> None:
    """A retry costs 5, one after a timeout 10, a success gives 1 back, never beyond the capacity."""
    budget = BudgetRegistry(ModelRetryBudget(capacity=20)).budget("t")

    assert budget.try_spend(after_timeout=True)
    assert budget.try_spend(after_timeout=False)
    assert budget.try_spend(after_timeout=False)
    assert not budget.try_spend(after_timeout=False)
    for _ in range(30):
        budget.succeed()
    assert budget.tokens == 20
