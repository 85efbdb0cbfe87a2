"""Calls of the filesystem handler, and looks at what they left, for its tests."""

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from omnibase_core.errors import EffectFault
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext

Document = dict[str, JsonValue]
Run = Callable[..., Coroutine[Any, Any, Document]]


def context_of(operation: str, path: str | Path, **more: object) -> ModelResolvedFilesystemContext:
    return ModelResolvedFilesystemContext.model_validate(
        {"timeout_ms": 30_000, "operation": operation, "file_path": str(path), **more}
    )


async def fault_from(pending: Coroutine[Any, Any, Document]) -> EffectFault:
    with pytest.raises(EffectFault) as caught:
        await pending
    return caught.value


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def descriptors() -> set[str]:
    """The open descriptors of this process."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
