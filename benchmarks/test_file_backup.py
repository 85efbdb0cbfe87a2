"""A backup of 2 GiB: how long it takes, and how much memory; the bound of 64 MiB is held here."""

import asyncio
import resource
import time
from pathlib import Path

from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.node import FileBackupNode

_GIB = 1 << 30


def test_two_gib_in_less_than_64_mib(tmp_path: Path) -> None:
    """Verified, with a previous backup in place."""
    source, target = tmp_path / "source", tmp_path / "target"
    target.write_bytes(b"previous")
    block = bytes(range(256)) * 4096
    with source.open("wb") as file:
        for _ in range(2 * _GIB // len(block)):
            file.write(block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()

    request = ModelFileBackupInput(source_path=source, backup_path=target)
    output = asyncio.run(FileBackupNode().backup(request))

    took = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\nfile backup: 2 GiB in {took:.1f} s ({2048 / took:.0f} MiB/s, verified), {grown:.1f} MiB more memory")
    assert output.success, output.error_message
    assert output.checksum_match
    assert grown < 64
    source.unlink()
    target.unlink()
