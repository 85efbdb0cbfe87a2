"""`onex leases`: who may write, what was done under which lease, and freeing one by force."""

import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._adapter import with_adapter
from omnibase_runtime.commands._options import Config, Json, PlainUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_lease import AuditEntry, LeaseRecord
    from omnibase_spi.lease_sql import SqlLeaseStore

T = TypeVar("T")

Connection = Annotated[
    str | None,
    typer.Option(
        "--connection",
        metavar="NAME",
        help="The named connection in which leases are kept; default: the setting state_connection, else `default`.",
        show_default=False,
    ),
]
Resource = Annotated[str, typer.Argument(metavar="RESOURCE", help="The workflow's id.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.", metavar="N")]

leases = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


@leases.callback()
def _leases() -> None:
    """See who may write a workflow's state, and free a lease by force.

    [bold]Example[/]: onex leases list --held
    """


@leases.command("list", cls=PlainUsage)
def list_leases(
    config: Config = None,
    connection: Connection = None,
    *,
    held: Annotated[bool, typer.Option("--held", metavar="", help="Only those that somebody has now.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List leases by resource: holder, time left, token and epoch. A free one keeps its token and its epoch.

    [bold]Exit status[/]: 0, or that of the error.

    [bold]Example[/]: onex leases list --held
    """
    _console.mode.json = as_json
    found = _with_store(config, connection, lambda store: store.leases(100_000 if held else limit))
    records = [record for record in found if record.remaining_ms or not held][:limit]
    if as_json:
        _console.say_json([_lease_document(record) for record in records])
        return
    from omnibase_runtime.commands._render import milliseconds, rows

    table = rows(("RESOURCE", "HOLDER", "LEFT", "TOKEN", "EPOCH", "RENEWALS"), header=True)
    for record in records:
        left = milliseconds(record.remaining_ms) if record.remaining_ms else "free"
        cells = (record.resource, record.holder, left, record.token, record.epoch, record.renewals)
        table.add_row(*(_console.clean(str(cell)) for cell in cells))
    _console.console().print(table)


@leases.command("show", cls=PlainUsage)
def show(
    resource: Resource,
    config: Config = None,
    connection: Connection = None,
    *,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Show the audit of a resource, newest last: who did what under which token and epoch, and what was refused.

    [bold]Exit status[/]: 0, 14 for a resource of which nobody ever had a lease.

    [bold]Example[/]: onex leases show nightly-backup --limit 20
    """
    _console.mode.json = as_json

    async def ask(store: "SqlLeaseStore") -> "list[AuditEntry]":
        from omnibase_core.models.model_action import identifier
        from omnibase_core.utils.lease_rules import no_lease

        entries = list(await store.audit(identifier(resource), limit))
        if not entries:
            raise no_lease(resource)
        return entries

    entries = _with_store(config, connection, ask)
    if as_json:
        _console.say_json([_audit_document(entry) for entry in entries])
        return
    from omnibase_runtime.commands._render import rows

    table = rows(("AT", "EVENT", "TOKEN", "EPOCH", "HOLDER", "ACTION"), header=True)
    for entry in entries:
        at = entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        action = "" if entry.action is None else f"{entry.action.action_type.value} {entry.action.action_id}"
        error = entry.detail.get("error") if isinstance(entry.detail, dict) else None
        text = f"{action}  {error}" if error else action
        cells = (at, entry.event.value, entry.token, entry.epoch, entry.holder, text)
        table.add_row(*(_console.clean(str(cell)) for cell in cells))
    _console.console().print(table)


@leases.command("release", cls=PlainUsage)
def release(
    resource: Resource,
    config: Config = None,
    connection: Connection = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
) -> None:
    """Free a lease by force. Whoever has it cannot write from then on; the audit names who freed it.

    [bold]Exit status[/]: 0, 2 without --yes where nobody can be asked, 10 when the answer is no, 14 for a resource of
    which nobody ever had a lease.

    [bold]Example[/]: onex leases release nightly-backup --yes
    """
    shown = _console.clean(resource)
    if not yes and not sys.stdin.isatty():
        raise _console.usage(f"onex leases release {shown}: nobody can be asked here; add --yes to free it")

    async def ask(store: "SqlLeaseStore") -> "LeaseRecord":
        from omnibase_core.models.model_action import identifier
        from omnibase_core.utils.lease_rules import no_lease

        standing = await store.lease(identifier(resource))
        if standing is None:
            raise no_lease(resource)
        if standing.remaining_ms and not yes:
            _confirm(standing)
        return await store.force_release(standing.resource, _who())

    record = _with_store(config, connection, ask)
    what = f"freed; {record.holder} had it under token {record.token}" if record.remaining_ms else "was free already"
    _console.console().print(_console.clean(f"{resource}: {what}"))


def _confirm(record: "LeaseRecord") -> None:
    from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
    from omnibase_core.errors.onex_error import ModelOnexError

    question = f"{record.resource}: {record.holder} has it and may be writing; from then on it is refused. Free it?"
    if not typer.confirm(_console.clean(question), err=True):
        raise ModelOnexError(f"lease of {record.resource!r}: left as it is", EnumCoreErrorCode.CANCELLED)


def _who() -> str:
    """A person on this machine, for the audit."""
    import getpass
    import platform

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = "somebody"
    return f"{user} on {platform.node()}, by hand"


def _with_store(
    config: "Path | None", connection: str | None, ask: "Callable[[SqlLeaseStore], Coroutine[object, object, T]]"
) -> T:
    """Ask the store of the settings once."""
    from omnibase_spi.lease_sql import SqlLeaseStore

    settings = _inputs.settings_of(config).settings
    name = connection or settings.state_connection or "default"
    return with_adapter(settings, lambda adapter: ask(SqlLeaseStore(adapter, name)))


def _lease_document(record: "LeaseRecord") -> "dict[str, JsonValue]":
    return {
        "resource": record.resource,
        "lease_id": record.lease_id,
        "holder": record.holder,
        "remaining_ms": record.remaining_ms,
        "token": record.token,
        "epoch": record.epoch,
        "renewals": record.renewals,
    }


def _audit_document(entry: "AuditEntry") -> "dict[str, JsonValue]":
    return {
        "number": entry.number,
        "at": entry.at.isoformat(),
        "event": entry.event.value,
        "holder": entry.holder,
        "lease_id": entry.lease_id,
        "token": entry.token,
        "epoch": entry.epoch,
        "action": None if entry.action is None else entry.action.model_dump(mode="json"),
        "detail": entry.detail,
    }
