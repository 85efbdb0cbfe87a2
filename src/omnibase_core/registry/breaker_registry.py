"""The breakers of one container: operations with one id share one (overview, ruling 9)."""

import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from omnibase_core.models.configuration.model_circuit_breaker import ModelCircuitBreaker
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectCircuitBreaker

_log = logging.getLogger("onex.breaker")


class BreakerRegistry:
    """Breaker id -> breaker, made from the settings with which it is first asked for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breakers: dict[UUID, tuple[ModelEffectCircuitBreaker, ModelCircuitBreaker]] = {}
        self._lock = threading.Lock()

    def breaker(self, key: UUID, settings: ModelEffectCircuitBreaker, name: str) -> ModelCircuitBreaker:
        """The breaker of `key`. With other settings than at first, the first ones win, and a warning says so."""
        with self._lock:
            known = self._breakers.get(key)
            if known is None:
                made = ModelCircuitBreaker(
                    failure_threshold=settings.failure_threshold,
                    success_threshold=settings.success_threshold,
                    timeout_seconds=settings.timeout_ms / 1000,
                    half_open_max_requests=settings.half_open_requests,
                    clock=self._clock,
                )
                self._breakers[key] = (settings, made)
                return made
        first, breaker = known
        if first.__dict__ != settings.__dict__:
            _log.warning("breaker %s is shared with other settings by %s; those it was made with stay", key, name)
        return breaker

    def all(self) -> dict[UUID, ModelCircuitBreaker]:
        """The breakers made so far."""
        with self._lock:
            return {key: breaker for key, (_, breaker) in self._breakers.items()}
