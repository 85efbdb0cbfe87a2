"""Arguments and options that several commands share, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated

import typer

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
