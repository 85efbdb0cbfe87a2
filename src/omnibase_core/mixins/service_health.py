"""What a service base knows of its own health: a minute of outcomes, its resources, its dependencies."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.logging.redaction import redact
from omnibase_core.models.model_health import NodeHealthStatus

ERROR_RATE_LIMIT: Final = 0.1
RESOURCE_LIMIT: Final = 0.9
WINDOW_SECONDS: Final = 60
PING_SECONDS: Final = 2.0

Ping = Callable[[], object]
"""Asks a dependency how it is: raises, or gives False, when it is down; may be asynchronous."""


class OutcomeWindow:
    """Successes and failures of the last minute, in one bucket per second; memory is fixed."""

    __slots__ = ("_buckets", "_clock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets = [(-1, 0, 0)] * WINDOW_SECONDS

    def record(self, *, success: bool) -> None:
        second = int(self._clock())
        index = second % WINDOW_SECONDS
        at, good, bad = self._buckets[index]
        if at != second:
            good = bad = 0
        self._buckets[index] = (second, good + success, bad + (not success))

    def error_rate(self) -> float:
        """Failures among all outcomes of the last 60 seconds; 0.0 of none."""
        oldest = int(self._clock()) - WINDOW_SECONDS
        recent = [(good, bad) for at, good, bad in self._buckets if at > oldest]
        failed = sum(bad for _, bad in recent)
        total = failed + sum(good for good, _ in recent)
        return failed / total if total else 0.0


def resource_usage() -> dict[str, float]:
    """Share of what this process may use: open descriptors, and memory where a limit is set. 0..1 each."""
    usage: dict[str, float] = {}
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit not in {0, resource.RLIM_INFINITY}:
            usage["descriptors"] = min(1.0, sum(1 for _ in Path("/proc/self/fd").iterdir()) / limit)
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text().strip())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text().strip())
        usage["memory"] = min(1.0, used / limit)
    return usage


async def ask(dependencies: Mapping[str, Ping]) -> dict[str, str | None]:
    """Name -> None when it is well, else what is wrong; all are asked at once, each for at most two seconds."""
    answers = await asyncio.gather(*(_ask_one(ping) for ping in dependencies.values()))
    return dict(zip(dependencies, answers, strict=True))


async def _ask_one(ping: Ping) -> str | None:
    try:
        async with asyncio.timeout(PING_SECONDS):
            answer = ping()
            if inspect.isawaitable(answer):
                answer = await cast("Awaitable[object]", answer)  # isawaitable above
    except TimeoutError:
        return f"no answer within {PING_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001  # whatever a ping raises is what is wrong
        return redact(f"{type(error).__name__}: {error}")
    return "not well" if answer is False else None


def judge_health(
    dependencies: Mapping[str, str | None], usage: Mapping[str, float], error_rate: float
) -> NodeHealthStatus:
    """Degraded when a dependency is down, a resource is used to 0.9 or more, or 0.1 or more of the calls failed."""
    down = any(problem is not None for problem in dependencies.values())
    scarce = any(share >= RESOURCE_LIMIT for share in usage.values())
    details: dict[str, JsonValue] = {
        "dependencies": {name: True if problem is None else problem for name, problem in dependencies.items()},
        "resource_usage": {name: round(share, 4) for name, share in usage.items()},
        "error_rate": error_rate,
    }
    degraded = down or scarce or error_rate >= ERROR_RATE_LIMIT
    return NodeHealthStatus(status=EnumHealthStatus.DEGRADED if degraded else EnumHealthStatus.HEALTHY, details=details)
