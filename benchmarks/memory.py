"""The memory of this process."""

import resource
from pathlib import Path


def peak_mib() -> float:
    """The most that was resident. `ru_maxrss` goes on over an exec, and would name the peak of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
