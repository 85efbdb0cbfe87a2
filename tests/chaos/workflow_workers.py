"""Workers of the workflow engine that can be killed: a template process that has everything imported and forks.

Each line of the standard input is a command, answered by one line:
    spawn URL LOG TX_URL TTL_MS   -> the worker's process id once it has its lease, or `failed`

A worker carries out runs of `CASES` and tells what it does in the log, a line per event, each written at once:
    begun RUN STEP PID       a step's work begins
    recorded RUN STEP PID    its record has committed
    stopped RUN REASON PID   the run may not go on here
"""

import asyncio
import os
import sys
from pathlib import Path

import croniter  # noqa: F401  # workers are forked, and must not import
import dbos  # noqa: F401  # see above
import psycopg  # noqa: F401  # see above
import sqlalchemy.dialects.postgresql
import sqlalchemy.dialects.sqlite  # noqa: F401  # see above
from dbos import _sys_db_postgres, _sys_db_sqlite  # noqa: F401  # see above
from pydantic import JsonValue, SecretStr

from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    StepOutcome,
    WorkflowBundle,
    WorkflowStoppedError,
    position_of,
)
from omnibase_spi.db import postgres, sqlite  # noqa: F401  # see above
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.engine_dbos import DbosDriver
from tests.support.databases import CORRELATION

STEPS = 10
STEP_S = 0.004
EFFECTS = "CREATE TABLE IF NOT EXISTS effects (run VARCHAR(60) NOT NULL, step INTEGER NOT NULL)"


class Worker:
    """The cases, over one log and one database of effects."""

    def __init__(self, log: Path, tx_url: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._home = log.parent
        self.adapter = DbAdapter(ModelSettings(connections={"effects": ModelConnection(url=SecretStr(tx_url))}))

    def tell(self, *words: object) -> None:
        os.write(self._log, f"{' '.join(str(word) for word in (*words, os.getpid()))}\n".encode())

    async def run(self, context: DurableContext, _bundle: WorkflowBundle, data: JsonValue) -> JsonValue:
        assert isinstance(data, dict)
        try:
            return await (self.ten_steps(context) if data["case"] == "ten" else self.gate(context))
        except WorkflowStoppedError as stopped:
            self.tell("stopped", context.workflow_id, stopped.reason)
            raise

    async def ten_steps(self, context: DurableContext) -> JsonValue:
        """Ten steps: each third one writes a row with its record, two of them run at the same time."""
        total = 0
        for index in range(0, STEPS, 2):
            values = await asyncio.gather(self._step(context, index), self._step(context, index + 1))
            total += sum(values)
        return total

    async def _step(self, context: DurableContext, index: int) -> int:
        run = context.workflow_id

        async def work() -> StepOutcome:
            self.tell("begun", run, index)
            await asyncio.sleep(STEP_S)
            return StepOutcome(EnumStepStatus.COMPLETED, 2**index)

        async def writing() -> StepOutcome:
            self.tell("begun", run, index)
            statement = ModelResolvedDbContext(
                connection_name="effects",
                operation="raw",
                query="INSERT INTO effects (run, step) VALUES ($1, $2)",
                params=[run, index],
                timeout_ms=20_000,
            )
            await self.adapter.execute(statement, CORRELATION)
            await asyncio.sleep(STEP_S)
            return StepOutcome(EnumStepStatus.COMPLETED, 2**index)

        if index % 3 == 0:
            outcome = await context.tx_step(position_of(index), f"step_{index}", "effects", writing)
        else:
            outcome = await context.step(position_of(index), f"step_{index}", work)
        assert isinstance(outcome.value, int), outcome
        self.tell("recorded", run, index)
        return outcome.value

    async def gate(self, context: DurableContext) -> JsonValue:
        """One step that ends when a file named like the run is there, or at once in any process but the first."""
        run, first = context.workflow_id, self._home / f"{context.workflow_id}.first"

        async def work() -> StepOutcome:
            self.tell("begun", run, 0)
            if first.exists():
                return StepOutcome(EnumStepStatus.COMPLETED, os.getpid())
            first.write_text(str(os.getpid()), encoding="utf-8")
            while not (self._home / f"{run}.open").exists():  # noqa: ASYNC110  # the test is another process
                await asyncio.sleep(0.01)
            self.tell("through", run, 0)
            return StepOutcome(EnumStepStatus.COMPLETED, os.getpid())

        context.set_progress({"by": os.getpid()})
        value = (await context.step(position_of(0), "gate", work, preemptible=False)).value
        self.tell("recorded", run, 0)
        return value


async def serve(url: str, log: str, tx_url: str, ttl_ms: str, answer: int) -> None:
    worker = Worker(Path(log), tx_url)
    driver = await DbosDriver.create(url, worker.run, lease_ttl_ms=int(ttl_ms), db=worker.adapter)
    os.write(answer, f"{os.getpid()}\n".encode())
    try:
        await asyncio.Event().wait()
    finally:
        await driver.aclose()


def main() -> None:
    """Fork a worker per command; children that have ended are reaped by the next command and at the end."""
    for line in sys.stdin:
        words = line.split()
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            try:
                asyncio.run(serve(words[1], words[2], words[3], words[4], writing))
            finally:
                os._exit(1)
        os.close(writing)
        answer = os.read(reading, 100)
        os.close(reading)
        sys.stdout.write(answer.decode() or "failed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    main()
