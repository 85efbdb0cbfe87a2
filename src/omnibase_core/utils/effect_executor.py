"""The pure functions of effect execution, as users call them; the node runs the same code, compiled ahead."""

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_policy import EnumBackoffStrategy, EnumJitter
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import Hole, TemplateError, parse_template
from omnibase_core.models.contracts.contract_model import Breach
from omnibase_core.models.contracts.subcontracts.effect_io_configs import EffectIOConfig
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectResponseExtract
from omnibase_core.models.model_effect_output import ExtractedValue
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_core.utils.extraction import PathError, compile_extract, engine_of, extract_all
from omnibase_core.utils.faults import RetryLists, is_listed_anywhere
from omnibase_core.utils.io_plan import compile_io
from omnibase_core.utils.templates import Renderer, Scope, scalar_text, single_body, text_of

Context = Mapping[str, Mapping[str, object]]
"""Keys `input`, `output`, `secrets`, `env`; env and secrets not given are read from the process environment."""


def resolve_template(template: str, context: Context, *, environ: Mapping[str, str] | None = None) -> str:
    """The template with its placeholders filled in: always text, encoded for no place.

    Lists and maps are written as JSON where the template is one placeholder, and refused inside a text.
    Raises ModelOnexError VALIDATION_ERROR for a malformed template and for a missing value.
    """
    part = _compiled_text(template)
    return part if isinstance(part, str) else part(_scope(context, environ))


@lru_cache(maxsize=1024)
def _compiled_text(template: str) -> str | Renderer:
    try:
        parsed = parse_template(template)
    except TemplateError as error:
        raise ModelOnexError(f"template {template!r}: {error}", EnumCoreErrorCode.VALIDATION_ERROR) from None
    alone = len(parsed) == 1 and isinstance(parsed[0], Hole)
    part = text_of(parsed, single_body if alone else scalar_text)
    return part if isinstance(part, str) else part.emit()


def resolve_io_config(
    io_config: EffectIOConfig, context: Context, *, environ: Mapping[str, str] | None = None
) -> ResolvedIOContext:
    """The concrete values of an IO config, each encoded for the place it goes to.

    Raises ModelOnexError: VALIDATION_ERROR for templates that do not fit their place and for missing values,
    SECURITY_VIOLATION for values that would leave it (dot segments, hosts that are not allowed).
    """
    return cast(
        "ResolvedIOContext", compile_io(io_config, _raise).resolve(_scope(context, environ))[0]
    )  # the union's base


def _raise(breach: Breach) -> None:
    if breach.severity == "error":
        fix = f" ({breach.fix})" if breach.fix else ""
        raise ModelOnexError(breach.message + fix, EnumCoreErrorCode.VALIDATION_ERROR, {"rule": breach.code})


def _scope(context: Context, environ: Mapping[str, str] | None) -> Scope:
    scope = Scope(context.get("input", {}), dict(cast("Mapping[str, Mapping[str, object]]", context.get("output", {}))))
    if environ is not None:
        scope.env = scope.secrets = environ
    if context.get("env") is not None:
        scope.env = cast("Mapping[str, str]", context["env"])  # texts by the function's contract
    if context.get("secrets") is not None:
        scope.secrets = cast("Mapping[str, str]", context["secrets"])  # texts by the function's contract
    scope.meta = context.get("meta", {})
    return scope


def calculate_backoff(
    retry_count: int,
    policy: ModelEffectRetryPolicy,
    *,
    previous_ms: int = 0,
    rng: Callable[[], float] = random.random,
) -> int:
    """Milliseconds to wait before retry number `retry_count` (1-based); never negative.

    fixed b, linear b*n, exponential b*2^(n-1), capped at `max_delay_ms` (at least b) and then spread by `jitter`:
    proportional within +-`jitter_factor`, full over 0..delay, equal over delay/2..delay, decorrelated over
    b..3*`previous_ms` under the cap. `rng` gives numbers in [0, 1).
    """
    base = policy.base_delay_ms
    cap = max(policy.max_delay_ms, base)
    count = max(1, retry_count)
    if policy.backoff_strategy is EnumBackoffStrategy.EXPONENTIAL:
        delay = min(cap, base << min(count - 1, 40))
    elif policy.backoff_strategy is EnumBackoffStrategy.LINEAR:
        delay = min(cap, base * count)
    else:
        delay = base
    if policy.jitter is EnumJitter.PROPORTIONAL:
        return max(0, round(delay * (1 + policy.jitter_factor * (2 * rng() - 1))))
    if policy.jitter is EnumJitter.FULL:
        return round(delay * rng())
    if policy.jitter is EnumJitter.EQUAL:
        return round(delay / 2 * (1 + rng()))
    return min(cap, round(base + (max(base, previous_ms * 3) - base) * rng()))


def is_retryable_error(error: BaseException, policy: ModelEffectRetryPolicy) -> bool:
    """Whether the policy's lists hold the error's status or kind, or those of a cause (at most 10 deep, cycles end).

    Lists only: idempotency and phase decide besides (section 2.5).
    """
    return is_listed_anywhere(error, retry_lists(policy))


def retry_lists(policy: ModelEffectRetryPolicy) -> RetryLists:
    """The policy's lists, ready for look-up."""
    return RetryLists(frozenset(policy.retryable_status_codes), frozenset(policy.retryable_errors))


def extract_response_fields(
    response: JsonValue | EffectResponse,
    extract_fields: Mapping[str, str | ModelEffectResponseExtract],
    extraction_engine: str = "jsonpath",
    *,
    fail_on_empty: bool = False,
) -> dict[str, ExtractedValue]:
    """Scalars of a response by name: the first match of each path, None where there is none.

    Raises ModelOnexError: VALIDATION_ERROR for an unknown engine or a malformed path, EXTRACTION_ERROR for a list or an
    object, and for a path without a match when `fail_on_empty`.
    """
    engine = engine_of(extraction_engine)
    whole = response if isinstance(response, EffectResponse) else EffectResponse(response)
    finders = {}
    for name, spec in extract_fields.items():
        try:
            finders[name] = compile_extract(spec, engine)
        except PathError as error:
            raise ModelOnexError(f"field {name!r}: {error}", EnumCoreErrorCode.VALIDATION_ERROR) from None
    return extract_all(whole, finders, fail_on_empty=fail_on_empty)


def utc_now(clock: Callable[[], float] = time.time) -> datetime:
    """The wall clock, in UTC."""
    return datetime.fromtimestamp(clock(), UTC)
