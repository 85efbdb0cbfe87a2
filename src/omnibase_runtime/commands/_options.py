"""Arguments and options that several commands share, so that they are called and explained alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:  # typer carries its own copy of click, under a private name; it is needed for annotations only
    from typer._click import Context

ContractFile = Annotated[
    str, typer.Argument(metavar="FILE", help="Contract file, or - for standard input.", show_default=False)
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", "-i", metavar="JSON|@FILE|-", help="Input document: JSON text, @file, or - for standard input."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Put a value into the input; dotted keys, JSON values or text."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings file; default: $ONEX_CONFIG, else onex.toml if there."
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="One JSON document on standard output.")]


class PlainUsage(TyperCommand):
    """A command whose usage line has no braces around what must be there, which nobody else writes."""

    def collect_usage_pieces(self, ctx: "Context") -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]
