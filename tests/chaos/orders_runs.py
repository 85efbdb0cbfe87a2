"""Runs the order example in children that are killed, and again to its end; writes a verdict per killed run.

Run as a process of its own with one thread, because it forks: `python -m tests.chaos.orders_runs HOME SHOP_URL
MAIL_URL KILLS SEED` kills at moments spread over the whole run, and with 0 KILLS once before and after each statement.
Forked children spare a second of imports each; what a SIGKILL does to them is the same.
"""

import asyncio
import contextlib
import gc
import importlib
import itertools
import json
import os
import random
import signal
import sqlite3
import sys
import time
import traceback
from collections import Counter
from contextlib import closing
from pathlib import Path

from examples.orders.desk import OrderDesk, container_for
from omnibase_core.models.configuration.model_settings import ModelSettings
from tests.chaos.dying_worker import DyingAdapter

_LAZY = "aiohttp cel_expr_python.cel regex smtplib sqlite3 omnibase_spi.http omnibase_spi.db.sqlite "
_LAZY += "omnibase_spi.intents omnibase_spi.notify omnibase_spi.db.writes omnibase_core.utils.contract_loader"
_LIMIT_S = 20.0
_GOLDEN = 0.618_033_988_749_895
"""Multiples of it, modulo 1, are spread evenly however many there are."""


def _work(directory: Path, shop_url: str, mail_url: str, dies_at: int) -> None:
    async def run() -> None:
        async with container_for(directory, shop_url, mail_url) as container:
            adapter = DyingAdapter(container.get_service(ModelSettings))
            adapter.moments_left = dies_at
            container.register_service("DbAdapter", adapter)
            tally = await OrderDesk(container).run()
        if tally.waiting or tally.given_up or tally.failed:
            message = f"{tally.waiting} intents wait, {tally.given_up} are given up: {tally.failed}"
            raise RuntimeError(message)

    asyncio.run(run())


def _child(directory: Path, shop_url: str, mail_url: str, dies_at: int = -1) -> int:
    directory.mkdir(exist_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        _work(directory, shop_url, mail_url, dies_at)
        status = 0
    except BaseException:  # the end of a forked child; it is told, and must not run on as the parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _ended(child: int, within_s: float) -> int | None:
    """The wait status of a child, None when it still runs."""
    deadline = time.monotonic() + within_s
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(left, 0.001))


def _kill(child: int) -> bool:
    """Whether it was still there to be killed."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _killed_at(moment_s: float, child: int) -> bool:
    return _ended(child, moment_s) is None and _kill(child)


def _whole(directory: Path, shop_url: str, mail_url: str) -> float:
    """Run to the end; how long it took, in seconds. Negative when it did not end well."""
    began = time.monotonic()
    child = _child(directory, shop_url, mail_url)
    status = _ended(child, _LIMIT_S)
    if status is None:
        _kill(child)
    return time.monotonic() - began if status == 0 else -1.0


def _standing(directory: Path) -> dict[str, int]:
    """What the ledger and the outbox say at this moment, by state."""
    counts: Counter[str] = Counter()
    with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(directory / "embedded.db")) as database:
        counts["outbox"] = database.execute("SELECT count(*) FROM onex_intent_outbox").fetchone()[0]
        for key, state in database.execute("SELECT idem_key, state FROM onex_intent_ledger"):
            counts[f"{key.rpartition(':')[2]} {state}"] += 1
    return dict(counts)


def _at_every_statement(home: Path, shop_url: str, mail_url: str) -> None:
    for number in itertools.count():
        directory, shop = home / f"s{number}", f"{shop_url}/s{number}"
        child = _child(directory, shop, mail_url, number)
        status = _ended(child, _LIMIT_S)
        if status is None:
            _kill(child)
        standing = _standing(directory)
        _tell(directory, status == signal.SIGKILL, number, standing, _whole(directory, shop, mail_url))
        if status != signal.SIGKILL:
            return


def _tell(directory: Path, killed: int, moment: float, standing: dict[str, int], ended_s: float) -> None:
    verdict = {"shop": directory.name, "killed": int(killed), "moment": moment, "standing": standing}
    print(json.dumps({**verdict, "ended_s": ended_s}), flush=True)


def _at_random_moments(home: Path, shop_url: str, mail_url: str, kills: int, seed: int) -> None:
    """Until so many kills have hit a living run; each third is killed once more while it makes good.

    How long a run takes is measured again and again: the machine has other things to do.
    """
    moments = random.Random(seed)
    part, hit, number, usual_s = moments.random(), 0, 0, 0.0
    while hit < kills and number < 3 * kills:
        if number % 8 == 0:
            name = f"w{number}"
            usual_s = _whole(home / name, f"{shop_url}/{name}", mail_url)
        directory, shop = home / f"k{number}", f"{shop_url}/k{number}"
        part = (part + _GOLDEN) % 1.0
        killed = _killed_at(usual_s * part, _child(directory, shop, mail_url))
        standing = _standing(directory)
        again = 0
        if killed and number % 3 == 0:
            again = _killed_at(usual_s * moments.random(), _child(directory, shop, mail_url))
        seconds = _whole(directory, shop, mail_url)
        _tell(directory, killed + again, usual_s * part, standing, seconds)
        hit += killed + again
        number += 1


def main(home: Path, shop_url: str, mail_url: str, kills: int, seed: int) -> None:
    for name in _LAZY.split():
        importlib.import_module(name)
    gc.freeze()
    if kills:
        _at_random_moments(home, shop_url, mail_url, kills, seed)
    else:
        _at_every_statement(home, shop_url, mail_url)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
