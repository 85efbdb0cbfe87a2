"""`onex workflow`: runs of workflows where they are kept, from start to end; workers carry them out."""

import json
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._engines import Database, with_engine
from omnibase_runtime.commands._options import Config, ContractFile, Input, Json, PlainUsage, Set
from omnibase_runtime.commands._run_options import (
    Attributes,
    Name,
    Run,
    Since,
    Status,
    Until,
    Yes,
    attributes_of,
    confirm,
    filter_of,
    load_workflow,
    value_of,
)
from omnibase_runtime.commands._schedules import schedule

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunView
    from omnibase_runtime.commands._runs import Account

_MOST: int = 100_000

Limit = Annotated[int, typer.Option("--limit", min=1, max=_MOST, help="At most so many.", metavar="N")]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="Why; a part of the step's output.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="In whose name; default: yours on this machine.")]
Approval = Annotated[
    str | None, typer.Argument(metavar="STEP", help="Which approval; default: the one that waits.", show_default=False)
]
TimeoutMs = Annotated[
    int | None, typer.Option("--timeout-ms", min=1, max=2_000_000_000, help="Wait no longer.", metavar="MS")
]


class ExportFormat(StrEnum):
    """What a run is exported as."""

    JSON = "json"
    MERMAID = "mermaid"
    SVG = "svg"


workflow = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")
workflow.add_typer(schedule, name="schedule")


@workflow.callback()
def _workflow() -> None:
    """Start, watch and steer runs of workflows; onex worker carries them out.

    Runs are kept in a database: the setting database_url, else the file workflows.db in the setting data_dir.

    [bold]Exit status[/]: 0, 2 for what was typed, 4 when the database is away, 11 for what the run's status does not
    allow, 14 for an unknown run.

    [bold]Example[/]: onex workflow start order.yaml --id order-7 --input @order.json
    """


@workflow.command("start", cls=PlainUsage)
def start(
    file: ContractFile,
    text: Input = None,
    assignments: Set = None,
    config: Config = None,
    database: Database = None,
    *,
    workflow_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Of the run; the same id is the same run.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="A queue of the workers.")] = None,
    priority: Annotated[
        int, typer.Option("--priority", min=1, max=1_000_000, metavar="N", help="1 is served first.")
    ] = 100,
    not_before: Annotated[
        str | None, typer.Option("--not-before", metavar="TIME", help="A time, or 2h for in two hours.")
    ] = None,
    attributes: Attributes = None,
    dedup_key: Annotated[
        str | None, typer.Option("--dedup-key", metavar="KEY", help="While a run with it goes on, refuse another.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", metavar="", help="Wait for the end of the run.")] = False,
    as_json: Json = False,
) -> None:
    """Start a run; a worker carries it out. It keeps the contract as it is now, whatever becomes of the file.

    Starting again with the same id and the same input changes nothing and is no error.

    [bold]Exit status[/]: 0 when it is started, and with --wait that of the run; 11 for an id that was used with another
    input or contract, or a deduplication key that another run has.

    [bold]Example[/]: onex workflow start order.yaml --id order-7 --input @order.json --attribute customer=c-2
    """
    from uuid import uuid4

    from omnibase_core.protocols.protocol_workflow_engine import StartRequest
    from omnibase_runtime.commands._times import moment_of

    _console.mode.json = as_json
    loaded = load_workflow(file)
    data = _inputs.read_input(text, assignments or [], file)
    if loaded.schema is not None:
        loaded.schema(data)
    request = StartRequest(
        str(uuid4()) if workflow_id is None else workflow_id,
        loaded.bundle,
        data,
        queue,
        priority,
        None if not_before is None else moment_of(not_before, "--not-before", ahead=True),
        attributes_of(attributes),
        dedup_key,
    )

    async def ask(engine: "EngineDriver") -> "RunView":
        view = await engine.start(request)
        return await engine.wait(view.workflow_id) if wait else view

    view = with_engine(config, database, ask)
    raise typer.Exit(_tell_run(view, ended=wait))


@workflow.command("list", cls=PlainUsage)
def list_runs(
    config: Config = None,
    database: Database = None,
    *,
    name: Name = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
    attributes: Attributes = None,
    parent: Annotated[str | None, typer.Option("--parent", metavar="RUN", help="Started by this run.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List runs, newest first. Times are in UTC.

    [bold]Example[/]: onex workflow list --status failed --since 1d --attribute customer=c-2
    """
    from omnibase_runtime.commands._runs import brief, print_list

    _console.mode.json = as_json
    which = filter_of(name, status, since, until, attributes, parent, limit)
    views = with_engine(config, database, lambda engine: engine.list(which))
    if as_json:
        _console.say_json([brief(view) for view in views])
    else:
        print_list(views)


@workflow.command("show", cls=PlainUsage)
def show(run: Run, config: Config = None, database: Database = None, *, as_json: Json = False) -> None:
    """Show where a run stands: its facts, and a timeline of its steps with their attempts.

    [bold]Example[/]: onex workflow show order-7
    """
    from omnibase_runtime.commands._runs import bars_json, print_account, whole

    _console.mode.json = as_json
    account = _account(run, config, database)
    if as_json:
        _console.say_json({**whole(account.view), "steps": bars_json(account.timeline())})
    else:
        print_account(account)


@workflow.command("logs", cls=PlainUsage)
def logs(
    run: Run,
    config: Config = None,
    database: Database = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Each line is a JSON document.")] = False,
) -> None:
    """Write the history of a run in the order of time, a line for each thing that happened. Times are in UTC.

    [bold]Example[/]: onex workflow logs order-7
    """
    from omnibase_runtime.commands._run_log import log_of

    _console.mode.json = as_json
    for line in log_of(_account(run, config, database)):
        _console.say(json.dumps(line.document()) if as_json else f"{line.when} {line.text}")


@workflow.command("signal", cls=PlainUsage)
def signal(
    run: Run,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="What the step waits for.", show_default=False)],
    config: Config = None,
    database: Database = None,
    *,
    payload: Annotated[
        str | None, typer.Option("--payload", "-p", metavar="JSON", help="A value, or a text; default: null.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Sent twice with the same key is sent once.")
    ] = None,
    sender: Annotated[str | None, typer.Option("--sender", metavar="NAME", help="Who sends it.")] = None,
    event: Annotated[
        bool, typer.Option("--event", metavar="", help="TOPIC is the type of an event, --key the event's key.")
    ] = False,
) -> None:
    """Send a signal to a run, or an event that it waits for. It is kept until the step asks for it.

    [bold]Exit status[/]: 0, 11 for a run that has ended, 14 when no step of its contract waits for that.

    [bold]Example[/]: onex workflow signal order-7 paid --payload '{"amount": 12}' --key payment-99
    """
    from uuid import uuid4

    from omnibase_core.protocols.protocol_workflow_engine import Signal
    from omnibase_runtime.commands._signals import send, send_event

    value = None if payload is None else value_of(payload, "--payload")

    async def ask(engine: "EngineDriver") -> str:
        if event:
            steps = await send_event(engine, run, topic, value, key, str(uuid4()))
            return f"event {topic} sent to {', '.join(steps)}"
        await send(engine, run, Signal(topic, value, key, sender))
        return f"signal {topic} sent"

    _tell(run, with_engine(config, database, ask))


@workflow.command("approve", cls=PlainUsage)
def approve(
    run: Run,
    step: Approval = None,
    config: Config = None,
    database: Database = None,
    *,
    by: By = None,
    comment: Comment = None,
) -> None:
    """Say yes to an approval.

    [bold]Exit status[/]: 0, 11 for a run that has ended, 13 for somebody who is not asked, 14 for no such approval.

    [bold]Example[/]: onex workflow approve order-7 --by ada --comment "checked"
    """
    _decide(run, step, config, database, by, comment, approved=True)


@workflow.command("reject", cls=PlainUsage)
def reject(
    run: Run,
    step: Approval = None,
    config: Config = None,
    database: Database = None,
    *,
    by: By = None,
    comment: Comment = None,
) -> None:
    """Say no to an approval.

    [bold]Exit status[/]: that of approve.

    [bold]Example[/]: onex workflow reject order-7 pay --by ada
    """
    _decide(run, step, config, database, by, comment, approved=False)


def _decide(
    run: str,
    step: str | None,
    config: Config,
    database: Database,
    by: str | None,
    comment: str | None,
    *,
    approved: bool,
) -> None:
    from omnibase_runtime.commands._signals import decide

    name, sender = with_engine(
        config, database, lambda engine: decide(engine, run, step, by, comment, approved=approved)
    )
    _tell(run, f"{name} {'approved' if approved else 'rejected'} by {sender}")


@workflow.command("cancel", cls=PlainUsage)
def cancel(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids; else the options say which.")
    ] = None,
    config: Config = None,
    database: Database = None,
    *,
    name: Name = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
    attributes: Attributes = None,
    yes: Yes = False,
) -> None:
    """Cancel runs and their child runs: by their ids, or all that the options choose and that go on, after a question.

    [bold]Exit status[/]: 0, 2 without --yes where nobody can be asked, 10 when the answer is no, 11 for an id whose run
    has ended, 14 for an unknown id.

    [bold]Example[/]: onex workflow cancel --name nightly --since 1h
    """
    chosen = any(option is not None for option in (name, status, since, until, attributes))
    if bool(runs) == chosen:
        raise _console.usage(
            "onex workflow cancel: give ids of runs, or options that choose them (--name, --since, ...)"
        )
    which = filter_of(name, status, since, until, attributes, limit=_MOST)

    async def ask(engine: "EngineDriver") -> int:
        if runs:
            for run in runs:
                _must_go_on(await engine.query(run))
            return await engine.cancel(runs)
        found = [view for view in await engine.list(which) if not view.status.ended]
        if not found:
            return 0
        names = ", ".join(view.workflow_id for view in found[:5]) + (", ..." if len(found) > 5 else "")
        confirm(f"Cancel {_count(len(found))} ({names})?", yes=yes, what="onex workflow cancel")
        return await engine.cancel([view.workflow_id for view in found])

    _console.say(f"cancelled {_count(with_engine(config, database, ask))}")


def _count(number: int) -> str:
    from omnibase_runtime.commands._render import count

    return count(number, "run")


def _must_go_on(view: "RunView") -> None:
    from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
    from omnibase_core.errors.onex_error import ModelOnexError

    if view.status.ended:
        raise ModelOnexError(
            f"run {view.workflow_id!r} of {view.name} is {view.status.value} already; nothing is cancelled",
            EnumCoreErrorCode.CONFLICT,
        )


@workflow.command("pause", cls=PlainUsage)
def pause(run: Run, config: Config = None, database: Database = None) -> None:
    """Stop a run at the end of the step that it is at, until resume.

    [bold]Example[/]: onex workflow pause order-7
    """

    async def ask(engine: "EngineDriver") -> "RunView":
        await engine.pause(run)
        return await engine.query(run)

    view = with_engine(config, database, ask)
    if view.status.ended:
        _tell(run, f"{view.status.value} before it could be paused")
    else:
        _tell(run, "paused" if view.status is EnumRunStatus.PAUSED else "will be paused at the end of its step")


@workflow.command("resume", cls=PlainUsage)
def resume(run: Run, config: Config = None, database: Database = None) -> None:
    """Go on with a run that was paused, cancelled or has failed; what ended well is not repeated.

    [bold]Example[/]: onex workflow resume order-7
    """
    with_engine(config, database, lambda engine: engine.resume(run))
    _tell(run, "goes on")


@workflow.command("fork", cls=PlainUsage)
def fork(
    run: Run,
    step: Annotated[str, typer.Option("--from", metavar="STEP", help="The first step that is done anew.")],
    config: Config = None,
    database: Database = None,
    *,
    new_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Of the new run.")] = None,
) -> None:
    """Start a new run with the records that another one made before a step; the contract is that of the other one.

    [bold]Example[/]: onex workflow fork order-7 --from ship --id order-7-again
    """
    view = with_engine(config, database, lambda engine: engine.fork(run, step, new_id))
    _tell(view.workflow_id, f"begins at {step}, with what {run} did before")


@workflow.command("rewind", cls=PlainUsage)
def rewind(
    run: Run,
    step: Annotated[str, typer.Option("--to", metavar="STEP", help="The first step that is done again.")],
    config: Config = None,
    database: Database = None,
    *,
    yes: Yes = False,
) -> None:
    """Do a run again from a step on; what is recorded from there on is forgotten.

    [bold]Example[/]: onex workflow rewind order-7 --to ship --yes
    """

    async def ask(engine: "EngineDriver") -> None:
        await engine.query(run)
        confirm(
            f"{run}: forget what is recorded from {step} on, and do it again?", yes=yes, what="onex workflow rewind"
        )
        await engine.rewind(run, step)

    with_engine(config, database, ask)
    _tell(run, f"goes on at {step}")


@workflow.command("wait", cls=PlainUsage)
def wait(
    run: Run, config: Config = None, database: Database = None, *, timeout_ms: TimeoutMs = None, as_json: Json = False
) -> None:
    """Wait for the end of a run. Its output goes to standard output, as JSON. Ctrl-C ends the waiting, not the run.

    [bold]Exit status[/]: that of the run: 0 when it completed, else that of its error; 6 when the time is over.

    [bold]Example[/]: onex workflow wait order-7 --timeout-ms 60000
    """
    _console.mode.json = as_json
    limit = None if timeout_ms is None else timedelta(milliseconds=timeout_ms)
    raise typer.Exit(_tell_run(with_engine(config, database, lambda engine: engine.wait(run, limit)), ended=True))


@workflow.command("export", cls=PlainUsage)
def export(
    run: Run,
    config: Config = None,
    database: Database = None,
    *,
    picture: Annotated[ExportFormat, typer.Option("--format", "-f", help="What is written.")] = ExportFormat.JSON,
) -> None:
    """Write out a run: its whole history as JSON, or the timeline of its steps as a picture.

    [bold]Example[/]: onex workflow export order-7 --format svg > order-7.svg
    """
    from omnibase_runtime.commands._runs import history
    from omnibase_runtime.commands._timeline_pictures import mermaid, svg

    account = _account(run, config, database)
    if picture is ExportFormat.JSON:
        _console.say_json(history(account))
        return
    draw = mermaid if picture is ExportFormat.MERMAID else svg
    for line in draw(account.view, account.timeline()):
        _console.say(line)


@workflow.command("delete", cls=PlainUsage)
def delete(
    before: Annotated[
        str, typer.Option("--before", metavar="TIME", help="Ended before: a time, or 30d for thirty days ago.")
    ],
    config: Config = None,
    database: Database = None,
    *,
    yes: Yes = False,
) -> None:
    """Forget runs that ended before a time, with all that is recorded of them.

    [bold]Example[/]: onex workflow delete --before 30d --yes
    """
    from omnibase_runtime.commands._times import moment_of, stamp

    moment = moment_of(before, "--before")
    confirm(f"Forget all runs that ended before {stamp(moment)}?", yes=yes, what="onex workflow delete")
    number = with_engine(config, database, lambda engine: engine.delete_before(moment))
    _console.say(f"forgot {_count(number)} that ended before {stamp(moment)}")


def _account(run: str, config: Config, database: Database) -> "Account":
    from omnibase_runtime.commands._runs import account_of

    return with_engine(config, database, lambda engine: account_of(engine, run))


def _tell(run: str, what: str) -> None:
    _console.say(f"{run}: {what}")


def _tell_run(view: "RunView", *, ended: bool) -> int:
    """A run that was started or waited for; returns the exit status."""
    from omnibase_runtime.commands._runs import error_of, exit_status, result_of, whole

    status = exit_status(view) if ended else 0
    error = error_of(view) if ended else None
    if _console.mode.json:
        document: JsonValue = whole(view)
        if error is not None:
            document = {"error": _console.error_document(error), "run": document}
        _console.say_json(document)
    elif error is not None:
        return _console.tell(error)
    elif ended:
        _console.say(json.dumps(result_of(view), indent=2, ensure_ascii=False))
    else:
        _tell(view.workflow_id, view.status.value)
    return status
