"""`onex intents`: what the ledger knows of idempotency keys, and a person's word about what nobody knows."""

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
    from omnibase_spi.ledger_sql import SqlIntentLedger

T = TypeVar("T")
_DEFAULT: Final = "default"

Connection = Annotated[
    str, typer.Option("--connection", metavar="NAME", help="The named connection in which the ledger is kept.")
]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The idempotency key.", show_default=False)]

intents = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


@intents.callback()
def _intents() -> None:
    """See and settle what the ledger of intents knows.

    [bold]Example[/]: onex intents list --unknown
    """


@intents.command("list", cls=PlainUsage)
def list_entries(
    config: Config = None,
    connection: Connection = _DEFAULT,
    *,
    unknown: Annotated[
        bool, typer.Option("--unknown", metavar="", help="Only what was begun and nobody knows the end of.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.", metavar="N")] = 100,
    as_json: Json = False,
) -> None:
    """List entries of the ledger of intents, oldest change first.

    [bold]Exit status[/]: 0, or that of the error.

    [bold]Example[/]: onex intents list --unknown
    """
    from omnibase_core.enums.enum_intent import EnumLedgerState

    _console.mode.json = as_json
    state = EnumLedgerState.UNKNOWN if unknown else None
    entries = _with_ledger(config, connection, lambda ledger: ledger.entries(state, limit))
    if as_json:
        _console.say_json([_document(entry) for entry in entries])
        return
    from omnibase_runtime.commands._render import rows

    table = rows(("KEY", "STATE", "TYPE", "TARGET", "CHANGED", "ERROR"), header=True)
    for entry in entries:
        table.add_row(*(_console.clean(str(text or "")) for text in _document(entry).values()))
    _console.console().print(table)


@intents.command("settle", cls=PlainUsage)
def settle(
    key: Key,
    config: Config = None,
    connection: Connection = _DEFAULT,
    *,
    completed: Annotated[bool, typer.Option("--completed", metavar="", help="It did happen.")] = False,
    failed: Annotated[bool, typer.Option("--failed", metavar="", help="It did not, and shall not.")] = False,
    retry: Annotated[bool, typer.Option("--retry", metavar="", help="It did not: let the key run again.")] = False,
) -> None:
    """Say what became of an intent that is unknown; or let a failed one run again.

    One of --completed, --failed and --retry.

    [bold]Exit status[/]: 0, 2 for no or several words, 11 for an entry that is not unknown, 14 for no such key.

    [bold]Example[/]: onex intents settle order-7-mail --completed
    """
    from omnibase_core.enums.enum_intent import EnumLedgerState
    from omnibase_core.protocols.protocol_intent_ledger import LedgerOutcome

    if completed + failed + retry != 1:
        raise _console.usage("onex intents settle: say one of --completed, --failed and --retry")
    if retry:
        _with_ledger(config, connection, lambda ledger: ledger.reopen(key))
    else:
        state = EnumLedgerState.COMPLETED if completed else EnumLedgerState.FAILED
        error = None if completed else "settled as failed by a person"
        _with_ledger(config, connection, lambda ledger: ledger.settle(key, LedgerOutcome(state, None, error)))
    _console.console().print(f"{_console.clean(key)}: {'runs again' if retry else 'settled'}")


def _with_ledger(
    config: "Path | None", connection: str, ask: "Callable[[SqlIntentLedger], Coroutine[object, object, T]]"
) -> T:
    """Ask the ledger of the settings once."""
    from omnibase_spi.ledger_sql import SqlIntentLedger

    settings = _inputs.settings_of(config).settings
    return with_adapter(settings, lambda adapter: ask(SqlIntentLedger(adapter, connection)))


def _document(entry: "LedgerEntry") -> "dict[str, JsonValue]":
    return {
        "idempotency_key": entry.key,
        "state": entry.outcome.state.value,
        "intent_type": str(entry.intent.intent_type),
        "target": entry.intent.target,
        "changed_at": entry.changed_at.isoformat(timespec="seconds"),
        "error": entry.outcome.error,
    }
