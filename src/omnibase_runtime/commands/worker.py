"""`onex worker`: carries runs of workflows out, until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from omnibase_runtime.commands import _console
from omnibase_runtime.commands._engines import Database, close, settings_with
from omnibase_runtime.commands._options import Config
from omnibase_runtime.commands._run_options import load_workflow
from omnibase_runtime.commands._schedules import keep_schedules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from omnibase_core.errors.onex_error import ModelOnexError
    from omnibase_core.models.configuration.model_settings import ModelSettings
    from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
    from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, WorkflowBundle
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow
    from omnibase_spi.engine_dbos_link import QueueLimits

_IDLE_LOOKS: Final = 3
_IDLE_SECONDS: Final = 0.3
_SAID_SECONDS: Final = 60.0
_MOST_SAID: Final = 100
_LET_GO: Final = {
    "cancelled": "cancelled",
    "paused": "paused",
    "drained": "handed back",
    "cut": "handed back in the middle of a step, which is done again",
    "lease": "let go: the lease of this worker has run out",
    "moved": "let go: another worker has it",
    "continued": "goes on afresh",
    "interrupted": "interrupted",
}

Triggered = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Workflows whose triggers start runs: events and schedules."),
]
Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        metavar="NAME[:CONCURRENCY[:RATE]]",
        help="A queue besides the common one: how many of its runs go on at once on all workers, and how many start "
        "within a second; may be given several times.",
    ),
]


def worker(
    files: Triggered = None,
    config: Config = None,
    database: Database = None,
    *,
    queues: Queues = None,
    steps: Annotated[bool, typer.Option("--steps", metavar="", help="A line for each step as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Each line is a JSON document.")] = False,
    health_s: Annotated[
        int, typer.Option("--health-s", min=1, max=86_400, metavar="S", help="A line about its health so often.")
    ] = 60,
    drain_s: Annotated[
        int,
        typer.Option("--drain-s", min=0, max=86_400, metavar="S", help="After SIGTERM let steps end for so long."),
    ] = 30,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", metavar="", help="End as soon as no run is queued or under way.")
    ] = False,
) -> None:
    """Carry out runs of workflows, also those that another worker has left behind, until SIGTERM or Ctrl-C.

    Any number of workers may share a database; SQLite serves those of one machine. A worker that dies is found out
    after the setting worker_lease_ms, and others take over. On SIGTERM runs come to the end of the step that they are
    at, within --drain-s, and are handed back; a second signal ends at once.

    Of a FILE the triggers count from then on: schedules are kept, as by onex workflow schedule put, and events that the
    runs of this worker publish start runs.

    A line for each event of a run goes to standard output, everything else to standard error.

    [bold]Exit status[/]: 0 when it was told to stop, else that of the error: 3 configuration, 4 database away.

    [bold]Example[/]: onex worker --queue mail:2 --queue api:10:5
    """
    _console.mode.json = as_json
    settings = settings_with(config, database)
    limits = [_limits_of(text) for text in queues or []]
    triggered = [load_workflow(file) for file in files or []]
    report = Report(as_json=as_json, steps=steps)
    warnings = _Warnings()
    logging.getLogger().addHandler(warnings)
    try:
        asyncio.run(_serve(settings, limits, triggered, report, health_s, drain_s, until_idle=until_idle))
    finally:
        logging.getLogger().removeHandler(warnings)


def _limits_of(text: str) -> "QueueLimits":
    """`name`, `name:concurrency` or `name:concurrency:rate`; what is left empty has no limit."""
    from omnibase_spi.engine_dbos_link import QueueLimits

    name, *numbers = text.split(":")
    fine = all(number == "" or (number.isascii() and number.isdigit() and int(number) > 0) for number in numbers)
    if not name or len(numbers) > 2 or not fine:
        raise _console.usage(
            f"--queue {text!r}: write name, name:concurrency or name:concurrency:rate, such as mail:2 or api:10:5"
        )
    concurrency, rate, *_ = [*(int(number) if number else None for number in numbers), None, None]
    return QueueLimits(name, concurrency, None, rate)


class Report:
    """A line for each event of a run (`RunWatch`), and the numbers of this worker."""

    def __init__(self, *, as_json: bool, steps: bool) -> None:
        self._as_json = as_json
        self._steps = steps
        self._begun_here: set[tuple[str, str]] = set()
        self._names: dict[str, str] = {}
        self.ended = {"completed": 0, "failed": 0}

    @property
    def active(self) -> int:
        """Runs that are under way here."""
        return len(self._names)

    def say(self, event: str, text: str, **facts: "JsonValue") -> None:
        """A line to standard output, at once."""
        now = _now()
        if self._as_json:
            import json

            _console.say(json.dumps({"at": now, "event": event, **facts, "message": text}))
        else:
            _console.say(f"{now} {text}")
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _console.leave_quietly(sys.stdout)

    def run_begun(self, workflow_id: str, bundle: "WorkflowBundle") -> None:
        from omnibase_spi.workflow_names import names_of

        name, version = names_of(bundle)
        self._names[workflow_id] = f"{name} {version}"
        self.say("run_taken", f"run {workflow_id} of {name} {version} taken up", run=workflow_id, workflow=name)

    def step_begun(self, workflow_id: str, step: str) -> None:
        self._begun_here.add((workflow_id, step))

    def step_ended(self, workflow_id: str, step: str, told: "Mapping[str, JsonValue]") -> None:
        if (workflow_id, step) not in self._begun_here:
            return
        self._begun_here.discard((workflow_id, step))
        if not self._steps:
            return
        from omnibase_runtime.commands._render import count
        from omnibase_runtime.commands._times import length

        took = float(str(told["ended_at"])) - float(str(told["started_at"]))
        tries = count(int(str(told["attempts"])), "attempt")
        error = told.get("error")
        why = f": {error['code']}: {error['message']}" if isinstance(error, dict) else ""
        text = f"run {workflow_id} step {step} {told['status']}, {tries}, {length(took)}{why}"
        self.say("step_ended", text, run=workflow_id, step=step, status=told["status"])

    def run_ended(self, workflow_id: str, how: str, error: "ModelOnexError | None") -> None:
        name = self._names.pop(workflow_id, "a workflow")
        self._begun_here = {key for key in self._begun_here if key[0] != workflow_id}
        if how in self.ended:
            self.ended[how] += 1
        why = "" if error is None else f": {error.error_code.value}: {error.message}"
        text = f"run {workflow_id} of {name} {_LET_GO.get(how, how)}{why}"
        self.say("run_ended", text, run=workflow_id, how=how)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Warnings(logging.Handler):
    """What goes wrong beside the runs, such as a database that is away, as lines on standard error.

    What was said is not said again for a minute.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("dbos"):  # it tells in its own words what we tell in ours
            return
        text, now = record.getMessage(), monotonic()
        if now < self._said.get(text, 0.0):
            return
        if len(self._said) >= _MOST_SAID:
            self._said.clear()
        self._said[text] = now + _SAID_SECONDS
        _console.say(f"{_now()} warning: {text}", stderr=True)


async def _serve(
    settings: "ModelSettings",
    queues: "Sequence[QueueLimits]",
    triggered: "Sequence[LoadedWorkflow]",
    report: Report,
    health_s: int,
    drain_s: int,
    *,
    until_idle: bool,
) -> None:
    from omnibase_core.logging.redaction import masked_url
    from omnibase_core.mixins.workflow_runner import WorkflowRunner
    from omnibase_runtime.app import compose
    from omnibase_runtime.engines import open_engine, url_where_kept
    from omnibase_runtime.workflow_watch import WatchedRuns
    from omnibase_spi.workflow_starts import EventStarts

    stop = _stop_on_signals()
    container = compose(settings)
    try:
        runs = WatchedRuns(WorkflowRunner(container).run, report)
        engine = await open_engine(container, settings, runs.run, queues)
        try:
            where = masked_url(url_where_kept(settings))
            starts = EventStarts(engine, cast("ProtocolEventBus", container.get_service("ProtocolEventBus")))  # its key
            for workflow in triggered:
                starts.listen(workflow.bundle)
                await keep_schedules(engine, workflow)
            await starts.ready()
            report.say("worker_started", f"worker {os.getpid()} carries out the runs of {where}", pid=os.getpid())
            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(_tell_health(engine, report, health_s))
                if until_idle:
                    tasks.create_task(_stop_when_idle(engine, report, stop))
                await stop.wait()
                looking.cancel()
            report.say("worker_drains", f"worker {os.getpid()} stops: no new runs, steps may end for {drain_s} s")
            await starts.aclose()
            handed = await engine.drain(timedelta(seconds=drain_s))
            report.say("worker_ended", f"worker {os.getpid()} ended, {handed} handed back", handed_back=handed)
        finally:
            await engine.aclose()
    finally:
        await close(container)


def _stop_on_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the program where it stands, as a crash would."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _tell_health(engine: "EngineDriver", report: Report, every_s: int) -> None:
    from omnibase_core.errors.onex_error import ModelOnexError
    from omnibase_core.protocols.protocol_workflow_engine import RunFilter
    from omnibase_runtime.commands._times import length

    began = monotonic()
    while True:
        await asyncio.sleep(every_s)
        try:
            await engine.list(RunFilter(limit=1))
            database = "ok"
        except ModelOnexError as error:
            database = f"away ({error.error_code.value})"
        numbers = {"under_way": report.active, **report.ended}
        text = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in numbers.items())
        up = length(monotonic() - began)
        report.say("health", f"health: database {database}, {text}, up {up}", database=database, **numbers)


async def _stop_when_idle(engine: "EngineDriver", report: Report, stop: asyncio.Event) -> None:
    """Stop once several looks in a row have found nothing to do."""
    from omnibase_core.enums.enum_workflow import EnumRunStatus
    from omnibase_core.errors.onex_error import ModelOnexError
    from omnibase_core.protocols.protocol_workflow_engine import RunFilter

    quiet = 0
    while quiet < _IDLE_LOOKS and not stop.is_set():
        await asyncio.sleep(_IDLE_SECONDS)
        busy = report.active > 0
        try:
            for status in (EnumRunStatus.QUEUED, EnumRunStatus.RUNNING):
                busy = busy or bool(await engine.list(RunFilter(status=status, limit=1)))
        except ModelOnexError:  # the database is away: nobody knows
            busy = True
        quiet = 0 if busy else quiet + 1
    stop.set()
