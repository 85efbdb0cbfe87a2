"""Fixtures of the handlers' tests."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from tests.support import backends
from tests.unit.handlers.filesystem_calls import Document, Run, context_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs one operation below `tmp_path`."""
    handler = FilesystemHandler([tmp_path])

    async def call(operation: str, path: str | Path, **more: object) -> Document:
        return await handler.execute(resolved_context=context_of(operation, path, **more), correlation_id=uuid4())

    return call


@pytest.fixture
def far() -> Iterator[Path]:
    """A directory on another file system than the temporary one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        backends.not_run("move across file systems", "no second file system that can be written")
        pytest.skip("no second file system that can be written")
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)
