"""Options and arguments that the commands around runs of workflows share, and what they mean."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.commands import _console
from omnibase_runtime.commands._times import moment_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.protocols.protocol_workflow_engine import RunFilter
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow

Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of this workflow.", show_default=False)]
Status = Annotated[EnumRunStatus | None, typer.Option("--status", help="That stand there.", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Created after: a time, or 2h for two hours ago.", show_default=False),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Created before: a time, or a length of time.", show_default=False),
]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", "-a", metavar="KEY=VALUE", help="With this attribute; may be given several times."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]


def attributes_of(pairs: "list[str] | None") -> "dict[str, JsonValue]":
    """`key=value`, a value in JSON where it is some, else a text."""
    found: dict[str, JsonValue] = {}
    for pair in pairs or []:
        key, equals, raw = pair.partition("=")
        if not key or not equals:
            raise _console.usage(f"--attribute {pair!r}: write key=value")
        found[key] = value_of(raw, f"--attribute {pair!a}")
    return found


def value_of(raw: str, what: str) -> "JsonValue":
    """A value in JSON where the text is some, else the text. Raises VALIDATION_ERROR for what JSON cannot have."""
    from omnibase_spi.workflow_checks import json_of

    try:
        value: JsonValue = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = raw
    json_of(value, what)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def filter_of(
    name: str | None,
    status: "EnumRunStatus | None",
    since: str | None,
    until: str | None,
    attributes: "list[str] | None",
    parent: str | None = None,
    limit: int = 100,
) -> "RunFilter":
    """Which runs the options ask for."""
    from omnibase_core.protocols.protocol_workflow_engine import RunFilter

    return RunFilter(
        name,
        status,
        None if since is None else moment_of(since, "--since"),
        None if until is None else moment_of(until, "--until"),
        attributes_of(attributes),
        parent,
        limit,
    )


def load_workflow(file: str) -> "LoadedWorkflow":
    """The workflow of a file. Raises VALIDATION_ERROR for another kind, ContractError for a contract with errors."""
    from omnibase_runtime.commands import _inputs

    loaded = _inputs.load(file)
    if loaded.workflow is None:
        raise _console.usage(f"{loaded.source}: found {loaded.kind}_subcontract; this command takes a workflow")
    return loaded.workflow


def confirm(question: str, *, yes: bool, what: str) -> None:
    """Ask before what cannot be taken back. Raises VALIDATION_ERROR where nobody can answer, CANCELLED after a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise _console.usage(f"{what}: nobody can be asked here; add --yes")
    if not typer.confirm(_console.clean(question), err=True):
        raise ModelOnexError(f"{what}: nothing was done", EnumCoreErrorCode.CANCELLED)
