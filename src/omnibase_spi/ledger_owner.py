"""Whose run an entry of a ledger is, and whether that one is still alive."""

import os
import socket
import time
from pathlib import Path
from typing import Final

LEASE_SECONDS: Final = 900.0
"""How long an owner on another machine is believed to be alive, since nobody can look."""
_ENDED: Final = frozenset("ZXx")
"""States of a process in /proc: a zombie, and dead."""


def _started(pid: int) -> str:
    """Tells a process from an earlier one of the same number, where the system says when it started.

    One that has ended and was not waited for yet has the number still, for ever where nobody waits; it gives "ended".
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        state, *rest = text.rpartition(")")[2].split()
        return "ended" if state in _ENDED else rest[18]
    except (OSError, IndexError, ValueError):
        return "0"


def this_owner() -> str:
    """Host, process, and when the process started."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{pid}/{_started(pid)}"


def is_alive(owner: str, changed_at: float) -> bool:
    """Whether the owner may still be at it. `changed_at`: seconds since the epoch."""
    host, _, rest = owner.rpartition("/")[0].rpartition("/")
    started = owner.rpartition("/")[2]
    if host != socket.gethostname() or not rest.isdigit():
        return time.time() - changed_at < LEASE_SECONDS
    pid = int(rest)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(pid) == started
