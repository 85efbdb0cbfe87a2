"""Child processes of the test, as the kernel lists them."""

import os
from pathlib import Path


def children(word: str, parent: int | None = None) -> set[int]:
    """Ids of the living children of a process, by default this one, with a word in their command line."""
    parent = os.getpid() if parent is None else parent
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            line = (stat.parent / "cmdline").read_bytes().decode()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if fields[0] != "Z" and int(fields[1]) == parent and word in line:
            found.add(int(stat.parent.name))
    return found
