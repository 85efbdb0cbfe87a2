"""A read and an atomic write of 1 KiB beside the same system calls in a thread of asyncio's own.

What the bare calls leave out: confinement to the roots by directory descriptors, and a digest of the content.
"""

import asyncio
import os
import tempfile
from pathlib import Path

from benchmarks.measure import Table, Times, one_by_one, paired
from benchmarks.nodes import calling, container_of, node_of
from omnibase_core.models.configuration.model_settings import ModelPolicy, ModelSettings

CONTENT = "x" * 1024


def test_files(tmp_path: Path, table: Table) -> None:
    """Writing means: a temporary file, fsync, rename, fsync of the directory, on both sides."""
    found = asyncio.run(_measure(tmp_path))

    for kind in ("read", "write"):
        table.add_comparison("files", f"{kind} 1 KiB, 1 per call", found.compare(f"{kind} alone", f"{kind} bare"))
        table.add_comparison("files", f"{kind} 1 KiB, 10 per call", found.compare(f"{kind} ten", f"{kind} bare"))


async def _measure(directory: Path) -> Times:
    container = container_of(ModelSettings(policy=ModelPolicy(file_roots=(directory,))))
    source, target = directory / "source.txt", directory / "target.txt"
    source.write_text(CONTENT, encoding="utf-8")
    read: dict[str, object] = {
        "handler_type": "filesystem",
        "operation": "read",
        "file_path_template": f"{directory}/${{input.name}}.txt",
    }
    write: dict[str, object] = {
        **read,
        "operation": "write",
        "content_template": "${input.content}",
    }
    data = {"content": CONTENT}
    times = await paired(
        {
            "read bare": one_by_one(lambda: asyncio.to_thread(_read, source)),
            "read alone": one_by_one(calling(node_of(container, read), name="source")),
            "read ten": one_by_one(calling(node_of(container, read, 10), name="source"), 10),
            "write bare": one_by_one(lambda: asyncio.to_thread(_write_whole, target, CONTENT)),
            "write alone": one_by_one(calling(node_of(container, write), name="target", **data)),
            "write ten": one_by_one(calling(node_of(container, write, 10), name="target", **data), 10),
        },
        operations=50,
    )
    await container.aclose()
    return times


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write_whole(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Path(name).replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
