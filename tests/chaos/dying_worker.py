"""Stores and relays orders; for each moment before and after a statement a process dies there.

Arguments: a directory, and the URL of a database or nothing for the embedded one. Process n puts order n - 1 right,
then stores and relays order n and kills itself at the n-th moment of that; the first one that has no n-th moment is the
last. It writes how many orders there were. It forks before it has a thread or a loop.
"""

import asyncio
import importlib
import os
import signal
import sys
from itertools import count
from pathlib import Path
from uuid import UUID

from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.driver import Document
from tests.chaos.intent_worker import work
from tests.support.intents import container_in

USED = ("omnibase_spi.intents", "omnibase_spi.notify", "omnibase_spi.db.writes", "omnibase_spi.metrics", "psycopg")
"""What every child would import by itself."""


class DyingAdapter(DbAdapter):
    """Counts two moments for each statement."""

    moments_left = -1

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> Document:
        self._moment()
        document = await super().execute(resolved_context, correlation_id)
        self._moment()
        return document

    def _moment(self) -> None:
        if self.moments_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments_left -= 1


async def child(directory: Path, url: str | None, order: int) -> None:
    urls = {"post": f"maildir://{directory}/mail"} | ({} if url is None else {"default": url})
    async with container_in(directory, None, **urls) as container:
        adapter = DyingAdapter(container.get_service(ModelSettings))
        container.register_service("DbAdapter", adapter)
        if order:
            await work(container, directory, [order - 1], by_actions=True)
        adapter.moments_left = order
        await work(container, directory, [order], by_actions=True)


def forked(directory: Path, url: str | None, order: int) -> int:
    """What became of a process: its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(child(directory, url, order))
        except BaseException as error:  # a fork must not run into the code of its parent
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(directory: Path, url: str | None) -> int:
    for module in USED[: -1 if url is None else None]:
        importlib.import_module(module)
    for order in count():
        ended = forked(directory, url, order)
        if ended != -signal.SIGKILL:
            return order + 1 if ended == 0 else -1
    return -1


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
