"""`onex run` of a workflow: one run, step by step on the terminal, in memory or where runs are kept."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.commands import _console
from omnibase_runtime.commands._engines import close
from omnibase_runtime.commands._progress import Picture
from omnibase_runtime.commands._render import count, milliseconds
from omnibase_runtime.commands._times import length

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import Console, ConsoleOptions, RenderResult

    from omnibase_core.models.configuration.model_settings import ModelSettings
    from omnibase_core.models.container.model_onex_container import ModelONEXContainer
    from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunView, WorkflowBundle
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow
    from omnibase_runtime.commands._runs import Account
    from omnibase_runtime.workflow_watch import RunWatch

_END_SECONDS: Final = 5.0
"""A step that ignores its cancellation may not keep the terminal."""
_DRAIN_SECONDS: Final = 5.0


class WorkflowProgress(Picture):
    """The picture of one run (`RunWatch`): steps that began or ended, in the order of that.

    in_lines: instead of a picture, a line on standard error for each step that ends.
    """

    def __init__(self, workflow_id: str, total: int, *, in_lines: bool = False) -> None:
        self._workflow_id = workflow_id
        self._total = total
        self._in_lines = in_lines
        self._begun: dict[str, float] = {}
        self._ended: dict[str, tuple[str, float, int]] = {}
        self.interrupted = ""

    def run_begun(self, workflow_id: str, bundle: "WorkflowBundle") -> None: ...

    def step_begun(self, workflow_id: str, step: str) -> None:
        if workflow_id == self._workflow_id:
            self._begun.setdefault(step, monotonic())

    def step_ended(self, workflow_id: str, step: str, told: "Mapping[str, JsonValue]") -> None:
        if workflow_id == self._workflow_id:
            self._begun.setdefault(step, monotonic())
            started, ended = (float(str(told[name] or 0)) for name in ("started_at", "ended_at"))
            end = (str(told["status"]), max(0.0, ended - started), int(str(told["attempts"])))
            self._ended[step] = end
            if self._in_lines:
                place = f"{len(self._ended)} of {self._total}"
                _console.say(f"{place}: {step} {end[0]}, {count(end[2], 'attempt')}, {length(end[1])}", stderr=True)

    @contextlib.contextmanager
    def shown(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """See `Picture.shown`."""
        with contextlib.nullcontext() if self._in_lines else super().shown(loop):
            yield

    def run_ended(self, workflow_id: str, how: str, error: ModelOnexError | None) -> None: ...

    def left_over(self) -> str:
        """What was under way, in words."""
        flying = [step for step in self._begun if step not in self._ended]
        return f"{', '.join(flying)} was under way" if flying else "no step was under way"

    def __rich_console__(self, screen: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.table import Table
        from rich.text import Text

        from omnibase_runtime.commands._timeline_pictures import mark_of

        table = Table.grid(padding=(0, 2, 0, 0))
        for step, begun in list(self._begun.items())[-max(1, options.max_height - 2) :]:
            end = self._ended.get(step)
            mark, style = ("|/-\\"[int(monotonic() * 8) % 4], "cyan") if end is None else mark_of(end[0])
            tries = f", {end[2]} attempts" if end is not None and end[2] > 1 else ""
            passed = monotonic() - begun if end is None else end[1]
            status = "" if end is None else end[0]
            table.add_row(
                Text(mark, style=style),
                Text(step, style="bold"),
                Text(status, style=style),
                milliseconds(passed * 1_000) + tries,
            )
        yield table
        yield Text(f"  {len(self._ended)} of {self._total} steps", style="dim")


def run_workflow(
    loaded: "LoadedWorkflow",
    data: "dict[str, JsonValue]",
    settings: "ModelSettings",
    workflow_id: str | None,
    *,
    in_lines: bool = False,
) -> int:
    """Carry a workflow out once; report, and give the exit status."""
    from uuid import uuid4

    if loaded.schema is not None:
        loaded.schema(data)
    run_id = workflow_id or str(uuid4())
    progress = WorkflowProgress(run_id, len(loaded.plan.steps), in_lines=in_lines)
    try:
        account = asyncio.run(_process(loaded, data, settings, run_id, progress))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise ModelOnexError(f"cancelled: {progress.left_over()}", EnumCoreErrorCode.CANCELLED) from None
    return _report(account, progress)


def _is_kept(settings: "ModelSettings") -> bool:
    return settings.engine == "dbos" or (settings.database_url is not None and settings.engine != "memory")


async def _process(
    loaded: "LoadedWorkflow",
    data: "dict[str, JsonValue]",
    settings: "ModelSettings",
    run_id: str,
    progress: WorkflowProgress,
) -> "Account":
    """Start the run and wait for its end; SIGTERM and Ctrl-C cancel it, and what was done is told."""
    from omnibase_core.protocols.protocol_workflow_engine import StartRequest
    from omnibase_runtime.app import compose
    from omnibase_runtime.commands._runs import account_of
    from omnibase_runtime.engines import ONE_SHOT

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    container = compose(settings)
    try:
        engine = await _engine(container, settings, progress)
        try:
            if task is not None:
                loop.add_signal_handler(signal.SIGTERM, task.cancel)
            try:
                with progress.shown(loop):
                    await engine.start(StartRequest(run_id, loaded.bundle, data, ONE_SHOT))
                    await engine.wait(run_id)
            except asyncio.CancelledError:
                if task is not None:
                    task.uncancel()
                progress.interrupted = progress.left_over()
                await _cancel(engine, run_id)
            return await account_of(engine, run_id)
        finally:
            await _leave(engine)
    finally:
        await close(container)


async def _engine(container: "ModelONEXContainer", settings: "ModelSettings", watch: "RunWatch") -> "EngineDriver":
    from omnibase_core.mixins.workflow_runner import WorkflowRunner
    from omnibase_runtime.workflow_watch import WatchedRuns

    watched = WatchedRuns(WorkflowRunner(container).run, watch)
    if _is_kept(settings):
        from omnibase_runtime.engines import ONE_SHOT, open_engine

        return await open_engine(container, settings, watched.run, only=ONE_SHOT)
    container.register_service("WorkflowRunner", watched)
    return cast("EngineDriver", container.get_service("EngineDriver"))  # its key


async def _cancel(engine: "EngineDriver", run_id: str) -> None:
    """Cancel the run and wait until it has come to its end; a second signal ends the program."""
    try:
        async with asyncio.timeout(_END_SECONDS):
            await engine.cancel([run_id])
            await engine.wait(run_id)
    except TimeoutError:
        pass


async def _leave(engine: "EngineDriver") -> None:
    """Hand back what others have started and this process has taken up meanwhile."""
    from datetime import timedelta

    try:
        await engine.drain(timedelta(seconds=_DRAIN_SECONDS))
    finally:
        await engine.aclose()


def _report(account: "Account", progress: WorkflowProgress) -> int:
    from omnibase_runtime.commands._runs import error_of, exit_status, print_timeline, result_of

    view = account.view
    error = error_of(view)
    if progress.interrupted:
        error = ModelOnexError(f"cancelled: {progress.interrupted}", EnumCoreErrorCode.CANCELLED)
    if _console.mode.json:
        document = output_document(view)
        if error is not None:
            document = {"error": _console.error_document(error), "output": document}
        _console.say_json(document)
        return exit_status(view) if error is None else error.error_code.exit_status
    print_timeline(view, account.timeline())
    if error is not None:
        return _console.tell(error)
    output = result_of(view)
    if output not in ({}, None):
        _console.say(json.dumps(output, indent=2, ensure_ascii=False))
    return 0


def output_document(view: "RunView") -> "JsonValue":
    """The output model of a run (`ModelOrchestratorOutput`) as JSON; null where it ended before its first step."""
    from uuid import uuid4

    from omnibase_core.mixins.workflow_outcome import output_of
    from omnibase_core.models.model_orchestrator_input import ModelOrchestratorInput

    document = view.output
    if not isinstance(document, dict) or "steps" not in document:
        return None
    asked = ModelOrchestratorInput(workflow_id=view.workflow_id, input_data=view.input_data)
    made: JsonValue = json.loads(output_of(document, asked, uuid4()).model_dump_json())
    return made
