"""Aggregates with stored progress; for each moment before and after a statement a process dies there.

Argument: a directory, in which the states are in an SQLite file. Aggregation n is carried out by a process that kills
itself at its n-th moment, then by one that does not and is given the same input; the first whose process has no n-th
moment is the last. It writes the results of all. It forks before it has a thread or a loop.
"""

import asyncio
import json
import os
import signal
import sys
from itertools import count
from pathlib import Path

from omnibase_core.mixins.aggregation_run import run_aggregation
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_spi.bootstrap import register_effect_handlers
from omnibase_spi.store_sql import SqlStateManager
from tests.chaos.dying_worker import DyingAdapter
from tests.support.aggregations import contract, sales

ITEMS = sales(2_000)
ASKED: dict[str, object] = {
    "value_field": "amount", "group_by": "region", "enabled": True, "chunk_size": 100, "checkpoint_items": 500,
    "backup_config": {"enabled": True, "backup_location": "backups", "retention": 3},
}  # fmt: skip


async def once(directory: Path, number: int, dies_at: int) -> object:
    """Every other aggregation has a transaction around its last writes."""
    settings = ModelSettings(data_dir=directory)
    adapter = DyingAdapter(settings)
    adapter.moments_left = dies_at
    async with ModelONEXContainer() as container:
        register_effect_handlers(container, settings)
        container.register_service("DbAdapter", adapter)
        states = SqlStateManager(adapter)
        container.register_service("ProtocolStateManager", states)
        container.register_service("ProtocolTransactionManager", states)
        asked = {
            **ASKED,
            "state_key": f"run {number}",
            "run_id": "the only one",
            "transaction_config": {"enabled": number % 2 == 1},
        }
        return (await run_aggregation(contract(iter(ITEMS), "sum", **asked), container)).result


def forked(directory: Path, number: int, dies_at: int) -> tuple[int, bytes]:
    """(exit code, negative for a signal; the result as JSON)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(asyncio.run(once(directory, number, dies_at))).encode())
        except BaseException as error:  # a fork must not run into the code of its parent
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def main(directory: Path) -> list[object]:
    results: list[object] = []
    if forked(directory, -2, -1)[0] != 0:  # makes the tables
        return results
    for moment in count():
        for number in (2 * moment, 2 * moment + 1):
            ended, _ = forked(directory, number, moment)
            again, said = forked(directory, number, -1) if ended == -signal.SIGKILL else (0, b"")
            if again != 0 or ended not in {0, -signal.SIGKILL}:
                return results
            if ended == 0 and number % 2 == 1:
                return results
            if said:
                results.append(json.loads(said))
    return results


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
