"""Bounds of CPU time that hold while coverage traces every line."""

import sys


def cpu_bound(seconds: float) -> float:
    """The bound, four times as wide under a tracer."""
    return seconds * 4 if sys.gettrace() is not None else seconds
