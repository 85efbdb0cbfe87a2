"""The full configuration of a circuit breaker."""

from typing import Annotated

from pydantic import Field

from omnibase_core.models.primitives.strict_types import FrozenModel, StrictFlag

_Count = Annotated[int, Field(strict=True, ge=1, le=100)]
_Few = Annotated[int, Field(strict=True, ge=1, le=10)]
_Seconds = Annotated[float, Field(strict=True, gt=0, le=3600, allow_inf_nan=False)]
_Rate = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]


class ModelCircuitBreakerSubcontract(FrozenModel):
    """When a breaker opens, for how long, and what closes it again.

    enabled: false makes a breaker that lets everything pass and counts nothing.
    failure_threshold: failures one after another that open it; not looked at when `failure_rate_threshold` is given.
    success_threshold: successful probes, possibly one after another, that close it.
    timeout_seconds: how long it stays open before it lets probes through.
    half_open_max_requests: probes under way at the same time.
    window_size_seconds: length of the sliding window over which rates are taken; it moves in tenths.
    failure_rate_threshold, slow_call_rate_threshold: share (0..1] of the calls in the window that opens the breaker,
        once there are at least `minimum_request_threshold` of them. None: that rate is not looked at.
    slow_call_duration_threshold_ms: from how many milliseconds on a call counts as slow. None: the caller knows.
    lease_seconds: after this long a probe that nobody reported on counts as a failure.
    """

    enabled: StrictFlag = True
    failure_threshold: _Count = 5
    success_threshold: _Few = 2
    timeout_seconds: _Seconds = 60.0
    half_open_max_requests: _Few = 3
    window_size_seconds: _Seconds = 60.0
    failure_rate_threshold: _Rate | None = None
    minimum_request_threshold: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 10
    slow_call_duration_threshold_ms: Annotated[float, Field(strict=True, gt=0, le=3_600_000)] | None = None
    slow_call_rate_threshold: _Rate | None = None
    lease_seconds: _Seconds = 600.0
