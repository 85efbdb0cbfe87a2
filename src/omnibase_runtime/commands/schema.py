"""`onex schema`: the JSON Schema of contracts."""

from typing import Annotated

import typer

from omnibase_runtime.commands import _console


def schema(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="effect, compute, reducer or orchestrator; default: every kind there is.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the JSON Schema (2020-12) of contract files, for editors and other tools.

    An editor with the YAML language server checks a contract whose first line is
    [dim]# yaml-language-server: $schema=./onex-effect.schema.json[/]

    [bold]Example[/]: onex schema effect > onex-effect.schema.json
    """
    from omnibase_core.utils.contract_schema import contract_schema

    _console.say_json(contract_schema(kind))
