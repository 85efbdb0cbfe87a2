"""`onex workflow schedule`: runs by the clock, started by whatever worker looks first."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._engines import Database, with_engine
from omnibase_runtime.commands._options import Config, ContractFile, Input, Json, PlainUsage, Set
from omnibase_runtime.commands._run_options import Yes, confirm, load_workflow
from omnibase_runtime.commands._times import moment_of, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunView, Schedule
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow
    from omnibase_core.utils.workflow_plan import WorkflowPlan

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", show_default=False)]

_MUCH: Final = 1_000

schedule = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


@schedule.callback()
def _schedule() -> None:
    """Run workflows by the clock. Each due time has one run, NAME-TIME, however many workers there are.

    [bold]Example[/]: onex workflow schedule put backup.yaml --cron "0 3 * * *" --timezone Europe/Berlin
    """


@schedule.command("list", cls=PlainUsage)
def list_schedules(config: Config = None, database: Database = None, *, as_json: Json = False) -> None:
    """List schedules by name, each with its next time in UTC.

    [bold]Example[/]: onex workflow schedule list
    """
    _console.mode.json = as_json
    found = with_engine(config, database, lambda engine: engine.schedules())
    if as_json:
        _console.say_json([_document(each) for each in found])
        return
    from omnibase_runtime.commands._render import rows

    table = rows(("SCHEDULE", "CRON", "TIME ZONE", "NEXT", "WORKFLOW"), header=True)
    for each in found:
        following = "paused" if each.paused else stamp(each.next_at)
        cells = (each.name, each.cron, each.timezone, following, each.bundle.root)
        table.add_row(*(_console.clean(cell) for cell in cells))
    _console.console().print(table)


@schedule.command("put", cls=PlainUsage)
def put(
    file: ContractFile,
    text: Input = None,
    assignments: Set = None,
    config: Config = None,
    database: Database = None,
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the schedule; default: the workflow's name.")
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="CRON", help="Five or six fields; default: the contract's only schedule."),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", metavar="ZONE", help="Such as Europe/Berlin; default: UTC.")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", metavar="", help="Start nothing until resume.")] = False,
) -> None:
    """Keep a schedule, in place of one of the same name. Its runs have the contract as it is now.

    Without --cron the trigger of the contract is taken, with its input.

    [bold]Exit status[/]: 0, 2 for a schedule that is none, or an input that does not fit.

    [bold]Example[/]: onex workflow schedule put backup.yaml --cron "0 3 * * *" --timezone Europe/Berlin
    """
    from omnibase_core.protocols.protocol_workflow_engine import Schedule

    loaded = load_workflow(file)
    data: JsonValue = _inputs.read_input(text, assignments or [], file)
    if cron is None:
        cron, zone, given = _trigger(loaded.plan, file)
        timezone = timezone or zone
        data = given if text is None and not assignments else data
    if loaded.schema is not None:
        loaded.schema(data)
    made = Schedule(name or loaded.plan.name, cron, loaded.bundle, timezone or "UTC", data, paused)

    async def ask(engine: "EngineDriver") -> "Schedule":
        await engine.put_schedule(made)
        return next(each for each in await engine.schedules() if each.name == made.name)

    kept = with_engine(config, database, ask)
    _console.say(f"{kept.name}: {'paused' if kept.paused else f'next run at {stamp(kept.next_at)}'}")


def _trigger(plan: "WorkflowPlan", file: str) -> "tuple[str, str, JsonValue]":
    """Cron, zone and input of the one schedule among a contract's triggers."""
    from omnibase_core.utils.workflow_plan import WorkflowScope

    if len(plan.schedules) != 1:
        found = f"{len(plan.schedules)} schedules" if plan.schedules else "no schedule"
        raise _console.usage(f"{file}: its triggers have {found}; say --cron")
    only = plan.schedules[0]
    return only.cron, only.timezone, only.make_input(WorkflowScope({}, {}, {}))


@schedule.command("pause", cls=PlainUsage)
def pause(name: ScheduleName, config: Config = None, database: Database = None) -> None:
    """Start nothing until resume; what falls due meanwhile is left out.

    [bold]Example[/]: onex workflow schedule pause backup
    """
    _put_again(name, config, database, paused=True)
    _console.say(f"{name}: paused")


@schedule.command("resume", cls=PlainUsage)
def resume(name: ScheduleName, config: Config = None, database: Database = None) -> None:
    """Go on with the next time that falls due.

    [bold]Example[/]: onex workflow schedule resume backup
    """
    kept = _put_again(name, config, database, paused=False)
    _console.say(f"{name}: next run at {stamp(kept.next_at)}")


@schedule.command("delete", cls=PlainUsage)
def delete(name: ScheduleName, config: Config = None, database: Database = None, *, yes: Yes = False) -> None:
    """Forget a schedule; runs that it started go on.

    [bold]Example[/]: onex workflow schedule delete backup --yes
    """
    confirm(f"Forget the schedule {name}?", yes=yes, what="onex workflow schedule delete")
    with_engine(config, database, lambda engine: engine.delete_schedule(name))
    _console.say(f"{name}: deleted")


@schedule.command("trigger", cls=PlainUsage)
def trigger(name: ScheduleName, config: Config = None, database: Database = None) -> None:
    """Start a run of a schedule now, also of one that is paused.

    [bold]Example[/]: onex workflow schedule trigger backup
    """
    view = with_engine(config, database, lambda engine: engine.trigger_schedule(name))
    _console.say(f"{view.workflow_id}: {view.status.value}")


@schedule.command("backfill", cls=PlainUsage)
def backfill(
    name: ScheduleName,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="A time, or 7d for seven days ago.")],
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Default: now.")] = None,
    config: Config = None,
    database: Database = None,
    *,
    yes: Yes = False,
) -> None:
    """Start the runs of a past time that have not been started. More than a thousand are started after a question.

    [bold]Example[/]: onex workflow schedule backfill backup --from 7d
    """
    begin = moment_of(start, "--from")
    until = datetime.now(UTC) if end is None else moment_of(end, "--to")
    if until <= begin:
        raise _console.usage(f"onex workflow schedule backfill: {stamp(until)} is not after {stamp(begin)}")

    async def ask(engine: "EngineDriver") -> "Sequence[RunView]":
        if _is_much(await _one(engine, name), begin, until):
            confirm(f"Start more than {_MUCH} runs of {name}?", yes=yes, what="onex workflow schedule backfill")
        return await engine.backfill_schedule(name, begin, until)

    views = with_engine(config, database, ask)
    for view in views:
        _console.say(f"{view.workflow_id}: {view.status.value}")
    if not views:
        _console.say(f"{name}: nothing fell due between {stamp(begin)} and {stamp(until)}", stderr=True)


def _is_much(kept: "Schedule", begin: datetime, until: datetime) -> bool:
    """Whether more than a thousand times lie in between."""
    from omnibase_spi.workflow_cron import next_time

    after = begin.timestamp()
    for _ in range(_MUCH + 1):
        due = next_time(kept, after)
        if due is None or due > until:
            return False
        after = due.timestamp()
    return True


async def keep_schedules(engine: "EngineDriver", workflow: "LoadedWorkflow") -> None:
    """Put the schedules among a workflow's triggers, named like it.

    What is kept as it is stays, with its next time, which may have passed: nothing that fell due is lost by a restart.
    """
    from omnibase_core.protocols.protocol_workflow_engine import Schedule
    from omnibase_core.utils.workflow_plan import WorkflowScope

    plan = workflow.plan
    kept = {each.name: each for each in await engine.schedules()}
    for number, trigger in enumerate(plan.schedules, 1):
        name = plan.name if len(plan.schedules) == 1 else f"{plan.name}-{number}"
        data = trigger.make_input(WorkflowScope({}, {}, {}))
        made = Schedule(name, trigger.cron, workflow.bundle, trigger.timezone, data)
        known = kept.get(name)
        if known is None or replace(known, paused=False, next_at=None) != made:
            await engine.put_schedule(replace(made, paused=known is not None and known.paused))


def _put_again(name: str, config: Config, database: Database, *, paused: bool) -> "Schedule":
    async def ask(engine: "EngineDriver") -> "Schedule":
        changed = replace(await _one(engine, name), paused=paused)
        await engine.put_schedule(changed)
        return await _one(engine, name)

    return with_engine(config, database, ask)


async def _one(engine: "EngineDriver", name: str) -> "Schedule":
    from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
    from omnibase_core.errors.onex_error import ModelOnexError

    found = {each.name: each for each in await engine.schedules()}
    if name not in found:
        known = f"; there are {', '.join(found)}" if found else "; there is none"
        raise ModelOnexError(f"no schedule {name!r}{known}", EnumCoreErrorCode.NOT_FOUND)
    return found[name]


def _document(each: "Schedule") -> "dict[str, JsonValue]":
    return {
        "name": each.name,
        "cron": each.cron,
        "timezone": each.timezone,
        "paused": each.paused,
        "next_at": None if each.next_at is None else each.next_at.isoformat(),
        "input": each.input_data,
        "contract": each.bundle.root,
        "contract_digest": each.bundle.digest,
    }
