"""The workflows of the example: each end to end in memory and on SQLite, and what takes days in virtual time."""

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, cast

import pytest
from pydantic import JsonValue

from examples.workflows.desk import FILES, HERE, bundle_of, runs_url
from examples.workflows.shown import Engines, Heard, events, in_memory, nights, orders, readings, readings_of, streamed
from examples.workflows.takeover import LEASE_MS, ORDERS, take_over
from examples.workflows.world import UNSHIPPABLE, order_of
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
    ModelResolvedHttpContext,
    ResolvedIOContext,
)
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunFilter, RunView, Schedule, StartRequest
from omnibase_core.utils.workflow_bundle import bundle_of as bundle_of_texts
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.engine_dbos import DbosDriver
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import ScriptedHandler, container_with, run_virtual
from tests.support.cli import Onex

T = TypeVar("T")
DAY_S = 86_400
REPOSITORY = Path(__file__).parents[2]
WORKFLOWS = ("nightly", "order", "events", "readings")


def on_sqlite(directory: Path) -> Engines:
    """Engines on dbos that keep their runs in a file of the directory."""

    @asynccontextmanager
    async def engines(container: ModelONEXContainer) -> AsyncIterator[EngineDriver]:
        engine = await DbosDriver.create(
            runs_url(directory),
            WorkflowRunner(container).run,
            bus=cast("MemoryEventBus", container.get_service("ProtocolEventBus")),  # its key
            db=cast("DbAdapter", container.get_service("DbAdapter")),  # its key
        )
        try:
            yield engine
        finally:
            await engine.aclose()

    return engines


@pytest.fixture(params=["memory", "sqlite"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Engines:
    """How engines are opened."""
    return in_memory if request.param == "memory" else on_sqlite(tmp_path)


def _virtually(
    drive: Callable[[MemoryEngine], Coroutine[object, object, T]],
    bus: MemoryEventBus | None = None,
    **handlers: ScriptedHandler,
) -> T:
    """What `drive` gives, in virtual time, on an engine in memory whose effects are scripted."""

    async def main() -> T:
        async with container_with(**handlers) as container:
            container.register_service("Environment", {"WORLD_URL": "http://world.test"})
            run = WorkflowRunner(container).run
            engine = MemoryEngine(run, events=None if bus is None else RunEvents(lambda: bus))
            try:
                return await drive(engine)
            finally:
                await engine.aclose()

    return run_virtual(main())


class TestContracts:
    """What the command line says of the files."""

    def test_every_contract_is_valid(self, onex: Onex) -> None:
        """Without an error and without a warning."""
        files = sorted(map(str, HERE.rglob("*.yaml")))

        said = onex("validate", *files)

        assert said.status == 0
        assert said.out.count("✓") == len(files) > 20
        assert "warning" not in said.out + said.err

    @pytest.mark.parametrize("name", WORKFLOWS)
    def test_every_workflow_can_be_drawn(self, onex: Onex, name: str) -> None:
        """A box for each of its steps."""
        said = onex("graph", str(HERE / name / "workflow.yaml"))

        assert said.status == 0
        assert said.out.startswith("flowchart")
        assert said.out.count('["') >= (HERE / name / "workflow.yaml").read_text(encoding="utf-8").count("- step_id")


class TestNightly:
    """Backups."""

    async def test_a_damaged_file_leaves_the_backup_of_the_night_before(self, tmp_path: Path, engines: Engines) -> None:
        """The first night is verified and told; the second one is undone, and somebody is told."""
        first, second = await nights(tmp_path, engines=engines)

        assert first == (
            "completed",
            ("1", "1", "1"),
            0,
            (_BEGUN, "backup: done, customers.db and others are verified"),
        )
        assert second == ("failed", ("1", "1", "1"), 0, (_BEGUN, "backup: FAILED, the one of the night before stays"))

    def test_it_runs_each_night_at_two_in_berlin(self) -> None:
        """A month of the schedule: also in the nights in which the clocks are changed, each once."""
        copied: list[str] = []

        def files(context: ResolvedIOContext) -> Mapping[str, JsonValue]:
            assert isinstance(context, ModelResolvedFilesystemContext)
            digest = hashlib.sha256(b"same").hexdigest()
            if context.operation == "copy":
                copied.append(context.file_path)
            return {"sha256": digest, "content": digest}

        http = ScriptedHandler({"id": "m"})

        async def month(engine: MemoryEngine) -> list[RunView]:
            contract = bundle_of("nightly")
            await engine.put_schedule(Schedule("nightly", "0 2 * * *", contract, "Europe/Berlin", {"files": [*FILES]}))
            await asyncio.sleep(30 * DAY_S)
            return [*await engine.list(RunFilter(limit=200, name="nightly_backup"))]

        runs = _virtually(month, http=http, filesystem=ScriptedHandler(files))

        assert len(runs) == 30
        assert {run.status for run in runs} == {EnumRunStatus.COMPLETED}
        assert len(copied) == 30 * 2 * len(FILES)
        assert http.calls == 30 * 2


_BEGUN = "backup of customers.db and others: begun"


class TestOrder:
    """Orders."""

    async def test_people_and_carriers_decide(self, tmp_path: Path, engines: Engines) -> None:
        """A yes goes through; a no and a refusal are undone, in the database and at the bank."""
        approved, rejected, refused = await orders(tmp_path, engines)

        assert approved == ("o-43", "completed", "shipped", 1, 0, ())
        assert rejected == ("o-47", "failed", "cancelled", 0, 0, ("place",))
        assert refused == (UNSHIPPABLE, "failed", "cancelled", 1, 1, ("pay", "place"))

    def test_nobody_answers(self) -> None:
        """After a day somebody is reminded, after two it is a no, and the row is cancelled."""
        statements: list[str] = []
        requests: list[tuple[float, str]] = []

        def http(context: ResolvedIOContext) -> Mapping[str, JsonValue]:
            assert isinstance(context, ModelResolvedHttpContext)
            path = context.url.partition("/")[2].partition("/")[2].partition("/")[2]
            requests.append((asyncio.get_running_loop().time(), path))
            return order_of("o-43") if path.startswith("orders") else {"id": "x"}

        def db(context: ResolvedIOContext) -> Mapping[str, JsonValue]:
            assert isinstance(context, ModelResolvedDbContext)
            statements.append(context.query.partition(" ")[0])
            return {"rows": [], "row_count": 1}

        async def wait(engine: MemoryEngine) -> RunView:
            await engine.start(StartRequest("o-43", bundle_of("order"), {"order": "o-43"}))
            return await engine.wait("o-43")

        view = _virtually(wait, http=ScriptedHandler(http), db=ScriptedHandler(db))

        assert view.status is EnumRunStatus.FAILED
        assert [path for _, path in requests] == ["orders/o-43", "messages"]
        assert requests[1][0] - requests[0][0] == pytest.approx(DAY_S, abs=1)
        assert (view.updated_at - view.created_at).total_seconds() == pytest.approx(2 * DAY_S, abs=1)
        assert statements == ["INSERT", "UPDATE"]


class TestEvents:
    """Events."""

    async def test_two_are_joined_and_a_burst_is_one(self, tmp_path: Path, engines: Engines) -> None:
        """One label, for the payment of this order; the last address."""
        heard = await events(tmp_path, engines=engines)

        assert heard == Heard("completed", 7, 1, ("3 High Street",))

    def test_goods_that_nobody_pays_are_not_labelled(self) -> None:
        """A day after the first of the two events the run has failed."""
        http = ScriptedHandler({"id": "x"})
        bus = MemoryEventBus()

        async def day(engine: MemoryEngine) -> RunView:
            await engine.start(StartRequest("p", bundle_of("events"), {"order": "o-5"}))
            await asyncio.sleep(1)  # by then it listens: the time is virtual
            picked: ModelEventEnvelope[object] = ModelEventEnvelope(
                event_type="goods.picked", payload={"order": "o-5", "shelf": "s"}
            )
            await bus.publish(picked)
            view = await engine.wait("p")
            await bus.aclose()
            return view

        view = _virtually(day, bus, http=http)

        assert view.status is EnumRunStatus.FAILED
        assert view.error is not None
        assert "the events of step 'label'" in view.error.message
        assert (view.updated_at - view.created_at).total_seconds() == pytest.approx(DAY_S, abs=5)
        assert http.calls == 0


class TestReadings:
    """The pipeline."""

    async def test_ten_thousand_readings_go_through_five_steps(self, tmp_path: Path) -> None:
        """In order, without those that cannot be right."""
        seen = await readings(tmp_path)

        assert seen[:4] == ("completed", 10_000, 100, True)

    async def test_in_sqlite_they_are_the_same(self, tmp_path: Path) -> None:
        """Fewer here; ten thousand go through in `test_a_pipeline_needs_no_more_memory_for_more_items`."""
        seen = await readings(tmp_path, 1_000, on_sqlite(tmp_path))

        assert seen[:4] == ("completed", 1_000, 10, True)

    async def test_nothing_need_be_recorded(self) -> None:
        """At durability `run` the output is the same."""
        bundle = bundle_of("readings")
        files = {name: text.replace("durability: level", "durability: run") for name, text in bundle.files.items()}
        engine = MemoryEngine(WorkflowRunner(ModelONEXContainer()).run)

        await engine.start(StartRequest("r", bundle_of_texts(bundle.root, files), {"readings": readings_of(1_000)}))
        view = await engine.wait("r")

        assert streamed(view, 1_000, 0.0)[:4] == ("completed", 1_000, 10, True)
        assert await engine.steps("r") == []
        await engine.aclose()


async def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """The other one has its orders within the lease and a second; each has one row, one payment, one parcel."""
    seen = await take_over(tmp_path)

    assert seen.runs
    assert 0 < seen.taken_over_s <= LEASE_MS / 1000 + 1
    assert seen.completed == seen.rows == seen.shipped_rows == seen.payments == seen.parcels == ORDERS
    assert seen.asked >= 2 * ORDERS


_TAKE_OVER = """\
import asyncio, pathlib, sys
from examples.workflows.takeover import take_over
asyncio.run(take_over(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_workers_end_with_the_program(tmp_path: Path, number: signal.Signals) -> None:
    """However it ends: what they have of its standard error is closed."""
    engine = await DbosDriver.create(runs_url(tmp_path))
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _TAKE_OVER, str(tmp_path)),
        cwd=REPOSITORY,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while not await engine.list(RunFilter(status=EnumRunStatus.RUNNING)):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.05)
            program.send_signal(number)
            await program.communicate()
    finally:
        await engine.aclose()
        if program.returncode is None:
            program.kill()
            await program.communicate()

    assert program.returncode != 0


@pytest.mark.parametrize(("engine", "durability"), [("memory", "run"), ("sqlite", "level")])
async def test_a_pipeline_needs_no_more_memory_for_more_items(tmp_path: Path, engine: str, durability: str) -> None:
    """Ten thousand items, each of which is a text of 2,000 characters between four of its five steps."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.pipeline_memory", engine, durability, "10000", str(tmp_path)),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    seen = json.loads(said)

    assert seen["status"] == "completed"
    assert seen["in_order"]
    assert seen["records"] <= 1_000
    assert seen["grown_kib"] < 20_000  # the texts of all seven thousand more are 55,000
