"""Services that a workflow needs: registered, well, and of a version that fits."""

import asyncio
import inspect
from collections.abc import Awaitable, Sequence
from typing import Final, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumDependencyType
from omnibase_core.errors.onex_error import DependencyResolutionError, ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.utils.workflow_plan import DependencyPlan

_LIMIT_SECONDS: Final = 5.0
_QUESTIONS: Final = ("health_check", "is_healthy", "ping")


async def check_dependencies(dependencies: Sequence[DependencyPlan], container: Container) -> list[str]:
    """Warnings of the optional ones. Raises DependencyResolutionError with every required one that fails."""
    if not dependencies:
        return []
    problems = await asyncio.gather(*(_problem(each, container) for each in dependencies))
    required: dict[str, str] = {}
    warnings: list[str] = []
    for each, problem in zip(dependencies, problems, strict=True):
        if problem is None:
            continue
        if each.kind is EnumDependencyType.REQUIRED:
            required[each.service] = problem
        else:
            warnings.append(f"optional service {each.service!r}: {problem}")
    if required:
        said = "; ".join(f"{name!r}: {problem}" for name, problem in required.items())
        raise DependencyResolutionError(
            f"the workflow needs what is not there: {said}. Register the services, or mend them",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
            {"failed": required, "warnings": warnings},
        )
    return warnings


async def _problem(dependency: DependencyPlan, container: Container) -> str | None:
    """What is wrong with a service, None for nothing."""
    try:
        service = container.get_service_optional(dependency.service)
        if service is None:
            return "it is not registered"
        wrong = _version_problem(dependency, service)
        if wrong is not None:
            return wrong
        async with asyncio.timeout(_LIMIT_SECONDS):
            return await _health_problem(service)
    except TimeoutError:
        return f"no answer to the health check within {_LIMIT_SECONDS:g} s"
    except ModelOnexError as error:
        return redact(error.message)
    except Exception as error:  # noqa: BLE001  # whatever a service raises is what is wrong with it
        return redact(f"{type(error).__name__}: {error}")


async def _health_problem(service: object) -> str | None:
    """By the first of `health_check`, `is_healthy`, `ping` that it has; one without any counts as well."""
    for name in _QUESTIONS:
        answer = getattr(service, name, None)
        if answer is None:
            continue
        if callable(answer):
            answer = answer()
        if inspect.isawaitable(answer):
            answer = await cast("Awaitable[object]", answer)  # isawaitable above
        well = getattr(answer, "is_healthy", answer)
        return None if name == "ping" and well is None else None if well else "it is not healthy"
    return None


def _version_problem(dependency: DependencyPlan, service: object) -> str | None:
    if dependency.version is None:
        return None
    found = getattr(service, "version", None)
    if callable(found):
        found = found()
    if found is None:
        return f"it has no version, wanted {dependency.version}"
    try:
        from packaging.specifiers import SpecifierSet
        from packaging.version import InvalidVersion, Version
    except ImportError:
        raise ModelOnexError(
            "versions of services are compared by the package `packaging`; pip install 'omnibase[workflow]'",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        ) from None
    try:
        fits = SpecifierSet(dependency.version).contains(Version(str(found)), prereleases=True)
    except InvalidVersion:
        return f"its version {str(found)!r} is none that can be compared, wanted {dependency.version}"
    return None if fits else f"its version is {found}, wanted {dependency.version}"
