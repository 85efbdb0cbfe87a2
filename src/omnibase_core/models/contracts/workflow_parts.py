"""Parts of workflows that contracts and programs share: services they need, and what follows when a step fails."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Final

from pydantic import Field

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumDependencyType
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, KeyPath, Rule
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

ServiceName = Annotated[StrictText, Field(min_length=1, max_length=200)]
_Condition = Annotated[StrictText, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


def _words(*words: str) -> str:
    """One of these words, whatever its letters; not by a flag, which patterns of JSON Schema do not have."""
    return "(" + "|".join("".join(f"[{letter}{letter.upper()}]" for letter in word) for word in words) + ")"


_RELEASE: Final = r"[vV]?([0-9]+!)?[0-9]+(\.[0-9]+)"
_SUFFIX: Final = (
    rf"([-_.]?{_words('alpha', 'beta', 'preview', 'pre', 'a', 'b', 'c', 'rc')}[-_.]?[0-9]*)?"
    rf"(-[0-9]+|[-_.]?{_words('post', 'rev', 'r')}[-_.]?[0-9]*)?([-_.]?{_words('dev')}[-_.]?[0-9]*)?"
)
_LOCAL: Final = r"(\+[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*)?"
_CLAUSE: Final = (
    rf"(===\s*[A-Za-z0-9.+!*_-]+|(==|!=)\s*{_RELEASE}*(\.\*|{_SUFFIX}{_LOCAL})|~=\s*{_RELEASE}+{_SUFFIX}"
    rf"|(<=|>=|<|>)\s*{_RELEASE}*{_SUFFIX})"
)
VERSION_SPECIFIER: Final = rf"^\s*({_CLAUSE}\s*(,\s*|$))+$"
"""PEP 440, section "Version specifiers"."""


class ModelDependency(ContractModel):
    """A service that a workflow needs.

    service_name: under which the container knows it. dependency_type: a required one that is missing, not healthy or
    of another version ends the run before its first step; an optional one is a warning. version_constraint: a PEP 440
    specifier such as `>=1.2,<2`, held against the service's `version`; null is any.
    """

    service_name: ServiceName
    dependency_type: EnumDependencyType = EnumDependencyType.REQUIRED
    version_constraint: Annotated[StrictText, Field(pattern=VERSION_SPECIFIER, max_length=200)] | None = None


def retry_fits(policy: ModelEffectRetryPolicy, path: str) -> Iterator[Breach]:
    """Settings of a retry policy that say nothing about steps; `path` is its key."""
    for name in ("retryable_status_codes", "respect_retry_after", "budget"):
        if name in policy.model_fields_set:
            yield Breach(
                "W-STEP-RETRY",
                f"{name} has no effect on a step: it is about one request, and a step may make many",
                (path, name),
                fix="remove it, or set it in the contract of the effect",
                severity="warning",
            )
    if "retryable_errors" in policy.model_fields_set:
        yield from _conditions_are_met(policy.retryable_errors, (path, "retryable_errors"))


def _conditions_exist(config: "ModelConflictResolutionConfig") -> Iterator[Breach]:
    yield from _conditions_are_met(config.retry_conditions or (), ("retry_conditions",))


def _conditions_are_met(names: Sequence[str], path: KeyPath) -> Iterator[Breach]:
    """A condition in capitals is meant as an error code; a wrong one would never be met, in silence."""
    codes = [code.value for code in EnumCoreErrorCode]
    for index, name in enumerate(names):
        if name.isupper() and name not in codes:
            yield Breach(
                "W-RETRY-CONDITION",
                f"{name!r} is no error code, so this condition is met only by an exception of this name",
                (*path, index),
                repr(name),
                ", ".join(codes),
                "write an error code, or the class name of an exception such as TimeoutError",
                "warning",
            )


def _retry_config_fits(config: "ModelConflictResolutionConfig") -> Iterator[Breach]:
    if config.retry_config is not None:
        yield from retry_fits(config.retry_config, "retry_config")


class ModelConflictResolutionConfig(ContractModel):
    """What follows when a step fails.

    retry_enabled: repeat a failed step. retry_conditions: error codes such as `TIMEOUT`, or class names of exceptions,
    that are repeated; null is every failure that may pass. max_retries: attempts after the first one. retry_config:
    the backoff, as that of effects (its max_retries and retryable_errors, where given, win over the two before).
    continue_on_error: a failed step ends only what depends on it, not the workflow.

    A workflow without this block makes one attempt of each step. A step that is not idempotent and of which nobody
    knows whether it took effect is never repeated: neither one that was cut off nor a service that raises TimeoutError
    itself; an `idempotency_key` of the step says that it may be.
    """

    retry_enabled: StrictFlag = True
    retry_conditions: Annotated[list[_Condition], Field(max_length=100)] | None = None
    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] = 3
    retry_config: ModelEffectRetryPolicy | None = None
    continue_on_error: StrictFlag = False

    rules: ClassVar = (
        Rule(("retry_conditions",), _conditions_exist),
        Rule(("retry_config",), _retry_config_fits),
    )
