"""Whether the owner of an entry may still be at work."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnibase_spi.ledger_owner import LEASE_SECONDS, is_alive, this_owner

_CHILD = "from omnibase_spi.ledger_owner import this_owner; print(this_owner(), flush=True); input()"


def test_this_process_is_alive() -> None:
    """However long ago it wrote."""
    assert is_alive(this_owner(), 0.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of a process is read from /proc")
def test_a_killed_process_is_dead_also_while_nobody_has_waited_for_it() -> None:
    """A zombie keeps its number: for ever in a container whose first process waits for nobody."""
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        owner = child.stdout.readline().decode().strip()
        alive = is_alive(owner, time.time())

        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        while_zombie = is_alive(owner, time.time())
        child.wait()

    assert alive
    assert not while_zombie
    assert not is_alive(owner, time.time())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the start of a process is read from /proc")
def test_a_later_process_of_the_same_number_is_not_the_owner() -> None:
    """They started at different times."""
    host, number, started = this_owner().rsplit("/", 2)

    assert not is_alive(f"{host}/{number}/{int(started) - 1}", time.time())


def test_an_owner_on_another_machine_is_believed_for_the_length_of_a_lease() -> None:
    """Nobody can look there."""
    assert is_alive("elsewhere/1/0", time.time())
    assert not is_alive("elsewhere/1/0", time.time() - LEASE_SECONDS - 1)
