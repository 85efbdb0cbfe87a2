"""`onex intents`: what ledger and outbox know of idempotency keys, and a person's word about what is left to one."""

from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._adapter import with_adapter
from omnibase_runtime.commands._options import Config, Json, PlainUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry
    from omnibase_spi.db.adapter import DbAdapter
    from omnibase_spi.ledger_sql import SqlIntentLedger
    from omnibase_spi.outbox import GivenUp, SqlOutbox

T = TypeVar("T")
_DEFAULT: Final = "default"
_OUTBOX: Final = "onex_intent_outbox"

Connection = Annotated[
    str, typer.Option("--connection", metavar="NAME", help="The named connection in which the ledger is kept.")
]
OutboxConnection = Annotated[
    str | None,
    typer.Option(
        "--outbox-connection",
        metavar="NAME",
        help="The named connection in which the outbox is kept; that of the ledger by default.",
        show_default=False,
    ),
]
OutboxTable = Annotated[str, typer.Option("--outbox-table", metavar="TABLE", help="The table of the outbox.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The idempotency key.", show_default=False)]

intents = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


@intents.callback()
def _intents() -> None:
    """See and settle what the ledger and the outbox of intents know.

    [bold]Example[/]: onex intents list --unknown
    """


@intents.command("list", cls=PlainUsage)
def list_entries(
    config: Config = None,
    connection: Connection = _DEFAULT,
    outbox_connection: OutboxConnection = None,
    outbox_table: OutboxTable = _OUTBOX,
    *,
    unknown: Annotated[
        bool, typer.Option("--unknown", metavar="", help="What was begun and nobody knows the end of.")
    ] = False,
    given_up: Annotated[
        bool, typer.Option("--given-up", metavar="", help="What failed for good and waits for a person in the outbox.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.", metavar="N")] = 100,
    as_json: Json = False,
) -> None:
    """List entries of the ledger of intents, oldest change first, and after them what the outbox has given up.

    --unknown and --given-up: only these.

    [bold]Exit status[/]: 0, or that of the error.

    [bold]Example[/]: onex intents list --unknown --given-up
    """
    from omnibase_core.enums.enum_intent import EnumLedgerState

    _console.mode.json = as_json

    async def asked(ledger: "SqlIntentLedger", outbox: "SqlOutbox") -> "list[dict[str, JsonValue]]":
        everything = not (unknown or given_up)
        left = await outbox.given_up(limit) if given_up or everything else []
        state = None if everything else EnumLedgerState.UNKNOWN
        found = await ledger.entries(state, limit) if unknown or everything else []
        shown = {each.intent.idempotency_key for each in left}
        documents = [_document(entry) for entry in found if entry.key not in shown]
        return (documents + [_left_document(each) for each in left])[:limit]

    documents = _with_ledger(config, connection, outbox_connection, outbox_table, asked)
    if as_json:
        _console.say_json(list(documents))
        return
    from omnibase_runtime.commands._render import rows

    table = rows(("KEY", "STATE", "TYPE", "TARGET", "CHANGED", "ERROR"), header=True)
    for document in documents:
        table.add_row(*(_console.clean(str(text or "")) for text in document.values()))
    _console.console().print(table)


@intents.command("settle", cls=PlainUsage)
def settle(
    key: Key,
    config: Config = None,
    connection: Connection = _DEFAULT,
    outbox_connection: OutboxConnection = None,
    outbox_table: OutboxTable = _OUTBOX,
    *,
    completed: Annotated[bool, typer.Option("--completed", metavar="", help="It did happen.")] = False,
    failed: Annotated[bool, typer.Option("--failed", metavar="", help="It did not, and shall not.")] = False,
    retry: Annotated[bool, typer.Option("--retry", metavar="", help="It did not: let the key run again.")] = False,
) -> None:
    """Say what became of an intent that is unknown, failed, given up or waiting; or let it run again.

    One of --completed, --failed and --retry.

    [bold]Exit status[/]: 0, 2 for no or several words, 11 for one that runs or is completed, 14 for no such key.

    [bold]Example[/]: onex intents settle order-7-mail --completed
    """
    from omnibase_core.enums.enum_intent import EnumLedgerState
    from omnibase_core.protocols.protocol_intent_ledger import LedgerOutcome

    if completed + failed + retry != 1:
        raise _console.usage("onex intents settle: say one of --completed, --failed and --retry")
    word = LedgerOutcome(EnumLedgerState.COMPLETED)
    if failed:
        word = LedgerOutcome(EnumLedgerState.FAILED, None, "settled as failed by a person")

    async def said(ledger: "SqlIntentLedger", outbox: "SqlOutbox") -> bool:
        return await outbox.settle(ledger, key, None if retry else word)

    waits = _with_ledger(config, connection, outbox_connection, outbox_table, said)
    again = "runs again with the next relay" if waits else f"may run again; {outbox_table} does not hold it"
    _console.console().print(f"{_console.clean(key)}: {again if retry else 'settled'}")


def _with_ledger(
    config: "Path | None",
    connection: str,
    outbox_connection: str | None,
    outbox_table: str,
    ask: "Callable[[SqlIntentLedger, SqlOutbox], Coroutine[object, object, T]]",
) -> T:
    """Ask ledger and outbox of the settings once."""
    from omnibase_spi.ledger_sql import SqlIntentLedger
    from omnibase_spi.outbox import SqlOutbox

    settings = _inputs.settings_of(config).settings

    def asked(adapter: "DbAdapter") -> "Coroutine[object, object, T]":
        outbox = SqlOutbox(adapter, outbox_connection or connection, table=outbox_table)
        return ask(SqlIntentLedger(adapter, connection), outbox)

    return with_adapter(settings, asked)


def _document(entry: "LedgerEntry") -> "dict[str, JsonValue]":
    return {
        "idempotency_key": entry.key,
        "state": entry.outcome.state.value,
        "intent_type": str(entry.intent.intent_type),
        "target": entry.intent.target,
        "changed_at": entry.changed_at.isoformat(timespec="seconds"),
        "error": entry.outcome.error,
    }


def _left_document(left: "GivenUp") -> "dict[str, JsonValue]":
    return {
        "idempotency_key": left.intent.idempotency_key,
        "state": "given_up",
        "intent_type": str(left.intent.intent_type),
        "target": left.intent.target,
        "changed_at": left.since.isoformat(timespec="seconds"),
        "error": left.error,
    }
