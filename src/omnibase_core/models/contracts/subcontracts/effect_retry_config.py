"""Retry policy of effects, and which operations may be repeated without harm."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from pydantic import Field

from omnibase_core.enums.enum_effect_policy import EnumBackoffStrategy, EnumJitter
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, Rule
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

IDEMPOTENCY_DEFAULTS: Final[dict[str, dict[str, bool]]] = {
    "http": {"GET": True, "HEAD": True, "OPTIONS": True, "PUT": True, "DELETE": True, "POST": False, "PATCH": False},
    "db": {"SELECT": True, "UPDATE": True, "DELETE": True, "UPSERT": True, "INSERT": False},
    "kafka": {"produce": False},
    "filesystem": {"read": True, "delete": True, "write": False, "move": False, "copy": False},
}
"""Handler kind -> operation -> whether doing it twice is as good as once (section 2.5; RFC 9110, 9.2.2 for HTTP).

A kind or an operation that is not listed counts as not idempotent; `raw` SQL is such a one, on purpose.
"""


def _delays_agree(policy: "ModelEffectRetryPolicy") -> Iterator[Breach]:
    explicit = {"base_delay_ms", "max_delay_ms"} <= policy.model_fields_set
    if explicit and policy.max_delay_ms < policy.base_delay_ms:
        yield Breach(
            "E-RETRY-DELAYS",
            f"max_delay_ms {policy.max_delay_ms} is less than base_delay_ms {policy.base_delay_ms}",
            ("max_delay_ms",),
            found=repr(policy.max_delay_ms),
            allowed=f">= {policy.base_delay_ms}",
            fix="raise max_delay_ms or leave it out, then it rises to base_delay_ms by itself",
        )


class ModelEffectRetryPolicy(ContractModel):
    """When and how an attempt is repeated; defaults and bounds are those of section 2.5.

    A policy of an operation overrides the inherited one field by field: a field that is not set is inherited.

    enabled: false makes one attempt. max_retries: attempts after the first one. backoff_strategy: with base b, the n-th
    delay is b (fixed), b times n (linear) or b times 2 to the power n-1 (exponential). base_delay_ms: b.
    max_delay_ms: cap of a delay before jitter, so that proportional jitter may exceed it by `jitter_factor`; when it is
    not set, it rises to the base. jitter_factor: how far proportional jitter goes, as a share of the delay.
    jitter: proportional spreads around the delay, full between 0 and the delay, equal over its upper half, decorrelated
    between the base and three times the delay before. retryable_status_codes: HTTP statuses that may be repeated.
    retryable_errors: fault kinds that may be repeated. respect_retry_after: a longer wait that the other side asks for
    is kept; a shorter one changes nothing. budget: false takes no part in the budget that all retries against one
    target share.
    """

    enabled: StrictFlag = True
    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] = 3
    backoff_strategy: EnumBackoffStrategy = EnumBackoffStrategy.EXPONENTIAL
    base_delay_ms: Annotated[int, Field(strict=True, ge=100, le=60_000)] = 1_000
    max_delay_ms: Annotated[int, Field(strict=True, ge=1_000, le=300_000)] = 30_000
    jitter_factor: Annotated[float, Field(strict=True, ge=0, le=0.5)] = 0.1
    jitter: EnumJitter = EnumJitter.PROPORTIONAL
    retryable_status_codes: list[Annotated[int, Field(strict=True, ge=100, le=599)]] = Field(
        default_factory=[429, 500, 502, 503, 504].copy
    )
    retryable_errors: list[StrictText] = Field(default_factory=["ECONNRESET", "ETIMEDOUT", "ECONNREFUSED"].copy)
    respect_retry_after: StrictFlag = True
    budget: StrictFlag = True

    rules: ClassVar = (Rule(("base_delay_ms", "max_delay_ms"), _delays_agree),)
