"""The command line `onex`: the list of commands, and the boundary at which errors become messages and exit statuses.

A command lives in a module of its own and is imported when it is called: `onex --help` needs none of them.
"""

import importlib
import inspect
import io
import os
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:  # typer carries its own copy of click, under a private name; it is needed for annotations only
    from typer._click import Command, Context

_COMMANDS: Final = {
    "validate": "Find everything that is wrong with contracts.",
    "run": "Carry out a contract.",
    "plan": "Show what a run would do, and do nothing.",
    "explain": "Say what may be repeated, when, and why.",
    "test": "Check the examples of a computation or a state machine.",
    "graph": "Draw a contract as Mermaid or Graphviz.",
    "schema": "Print the JSON Schema of contracts for editors.",
    "new": "Begin a contract that works at once.",
    "intents": "See and settle what the ledger and the outbox of intents know.",
    "workflow": "Start, watch and steer runs of workflows.",
    "worker": "Carry out runs of workflows until told to stop.",
    "leases": "See who may write a workflow, and free a lease.",
    "doctor": "Check this installation and its connections.",
}
"""Name -> one line for the overview. The module `commands.<name>` has the function or the typer app of that name."""


class _Commands(TyperGroup):
    """Commands that are imported when they are called; until then a name and a line stand for each."""

    def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, Command | None, list[str]]":
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else _load(name), rest

    def invoke(self, ctx: "Context") -> object:
        from omnibase_core.errors.onex_error import ModelOnexError
        from omnibase_runtime.commands._console import tell

        try:
            return super().invoke(ctx)
        except (ModelOnexError, OSError, KeyboardInterrupt) as error:
            raise typer.Exit(tell(error)) from None
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise typer.Exit(tell(error)) from None  # a defect of ours; told as one, without a traceback


def _load(name: str) -> "Command":
    from omnibase_runtime.commands._options import PlainUsage

    found = getattr(importlib.import_module(f"omnibase_runtime.commands.{name}"), name)
    if isinstance(found, typer.Typer):
        command = get_command(found)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode="rich")
        single.command(name, cls=PlainUsage, help=_in_paragraphs(found.__doc__ or ""))(found)
        command = get_command(single)
    command.name = name
    return command


def _in_paragraphs(text: str) -> str:
    """A docstring whose paragraphs the terminal breaks into lines, not the source."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"onex {version('omnibase')}")
        raise typer.Exit


_app = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


@_app.callback(epilog="Example: onex new effect hello && onex run hello.yaml --set name=world")
def _onex(
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show log lines, and the traceback of an error.")
    ] = False,
    _version_wanted: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Typed contracts of effects, computations, reducers and workflows: checked, planned, run and explained."""
    from omnibase_runtime.commands import _console

    _console.mode = _console.Mode(debug=debug)
    _set_up_logging(debug=debug)


def _set_up_logging(*, debug: bool) -> None:
    import logging

    root = logging.getLogger()
    if not debug:
        if not root.handlers:
            root.addHandler(logging.NullHandler())  # what went wrong is told once, by the command
        return
    from omnibase_core.logging.redaction import redact

    class Redacted(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return redact(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)


def command_line() -> "Command":
    """The whole command line, as `main` runs it."""
    group = get_command(_app)
    if not isinstance(group, TyperGroup):
        message = "an app with a callback is a group"
        raise TypeError(message)
    for name, line in _COMMANDS.items():
        group.add_command(TyperCommand(name, help=line))
    return group


def main() -> None:
    """The console script. `--debug` may stand anywhere before `--`."""
    args = sys.argv[1:]
    end = args.index("--") if "--" in args else len(args)
    if "--debug" in args[:end]:
        args = ["--debug", *(arg for arg in args[:end] if arg != "--debug"), *args[end:]]
    _prepare_streams()
    status: int | str | None = 0
    try:
        command_line().main(args, prog_name="onex")
    except SystemExit as end_of_program:
        status = end_of_program.code
    except Exception as error:  # noqa: BLE001 - nothing leaves the command line as a traceback
        from omnibase_runtime.commands._console import tell

        status = tell(error)
    sys.exit(_flush() or status)


def _prepare_streams() -> None:
    """A stream that was closed at the start does not exist; one with a small alphabet must not end the program."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # stays open to the end
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> int:
    """Write out what is buffered, while it can still be told that it could not be written."""
    from omnibase_runtime.commands._console import leave_quietly, tell

    try:
        sys.stdout.flush()
    except BrokenPipeError:
        leave_quietly(sys.stdout)
    except OSError as error:
        leave_quietly(sys.stdout)
        return tell(OSError(error.errno, error.strerror, "standard output"))
    return 0
