"""`reference/command-line.md`: the help of every command."""

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from typer.core import TyperGroup

from docs.field_tables import paragraph, table
from omnibase_runtime.cli import command_line

if TYPE_CHECKING:  # typer carries its own copy of click, under a private name; it is needed for annotations only
    from typer._click import Command, Parameter

_MARKUP: Final = ((re.compile(r"\[bold\](.*?)\[/\]"), r"**\1**"), (re.compile(r"\[dim\](.*?)\[/\]"), r"`\1`"))


_INTRODUCTION: Final = paragraph("""
    Results go to standard output, everything about the running to standard error. In a pipe there is no colour and
    nothing is cut; `NO_COLOR` is respected. Exit statuses are in [errors](errors.md). This page is made of what
    `--help` shows.
""")


def commands() -> str:
    """Usage, arguments and options of every command, as `--help` has them."""
    parts = [
        "# Command line",
        _INTRODUCTION,
        *_help("onex", command_line()),
    ]
    return "\n\n".join(parts) + "\n"


def _help(name: str, command: "Command") -> list[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    parts = [f"## {name}", f"    {name} {' '.join(command.collect_usage_pieces(context))}", *_prose(command.help)]
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows:
        parts.append(table(("argument or option", "means"), rows))
    parts += _prose(command.epilog)
    if isinstance(command, TyperGroup):
        for sub in command.list_commands(context):
            found = command.resolve_command(context, [sub])[1]
            if found is not None:
                parts += _help(f"{name} {sub}", found)
    return parts


def _prose(text: str | None) -> list[str]:
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text or "")]
    for pattern, markdown in _MARKUP:
        paragraphs = [pattern.sub(markdown, paragraph) for paragraph in paragraphs]
    return [paragraph for paragraph in paragraphs if paragraph]


def _row(parameter: "Parameter") -> tuple[str, str]:
    means = " ".join(_prose(getattr(parameter, "help", None)))
    metavar = getattr(parameter, "metavar", None) or ""
    if isinstance(parameter.default, Enum):
        metavar = "|".join(str(choice.value) for choice in type(parameter.default))
        means += f" Default: {parameter.default.value}."
    if parameter.param_type_name == "argument":
        return f"`{metavar or parameter.name}`", means
    names = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    return f"{names} {f'`{metavar}`' if metavar else ''}".strip(), means
