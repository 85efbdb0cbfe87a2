"""Killed at any moment and started again, a program does what its intents say once."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from omnibase_core.enums.enum_intent import EnumLedgerState
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.ledger_sql import SqlIntentLedger
from tests.support.intents import container_in

ORDERS = 40
KILLS = 10


def test_killed_at_random_moments_each_intent_is_carried_out_once(tmp_path: Path) -> None:
    """One row, mail and event per order; what cannot be repeated happens at most once, and is listed when unknown."""
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    command = [sys.executable, "-m", "tests.chaos.intent_worker", str(tmp_path), str(ORDERS)]
    killed = 0
    for _ in range(KILLS):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.25))
            killed += worker.poll() is None
            worker.kill()

    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)

    assert killed, f"seed {seed}: the program was always faster than its killer"
    with sqlite3.connect(tmp_path / "embedded.db") as database:
        rows = Counter(number for (number,) in database.execute("SELECT number FROM orders"))
    database.close()
    mails = list((tmp_path / "mail" / "new").iterdir())
    lines = Counter((tmp_path / "lines").read_text(encoding="utf-8").splitlines())
    unknown = asyncio.run(_unknown(tmp_path))
    assert rows == dict.fromkeys(range(ORDERS), 1), f"seed {seed}"
    assert len(mails) == ORDERS, f"seed {seed}"
    assert {path.name for path in (tmp_path / "events").iterdir()} == {str(number) for number in range(ORDERS)}
    assert set(lines.values()) == {1}, f"seed {seed}"
    assert set(lines) | unknown == {f"line of order {number}" for number in range(ORDERS)}, f"seed {seed}"
    assert all(key.startswith("line") for key in unknown), f"seed {seed}"


async def _unknown(directory: Path) -> set[str]:
    async with container_in(directory) as container:
        adapter = container.get_service("DbAdapter")
        assert isinstance(adapter, DbAdapter)
        return {entry.key for entry in await SqlIntentLedger(adapter).entries(EnumLedgerState.UNKNOWN)}
