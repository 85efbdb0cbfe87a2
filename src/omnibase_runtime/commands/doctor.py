"""`onex doctor`: is everything there that a run needs."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._options import Config, Json

if TYPE_CHECKING:
    from omnibase_runtime.commands._checks import Check
    from omnibase_runtime.settings import SettingRow

_MARKS: Final = {
    "ok": ("✓", "+", "green"),
    "warning": ("!", "!", "yellow"),
    "failed": ("✗", "x", "red"),
    "absent": ("○", "-", "dim"),
}


def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check versions, extras, directories, clock, TLS and connections, and show the settings with their sources.

    Every connection of the settings, and the database of workflows, is asked for an answer, for at most 3 seconds.
    Secrets are masked.

    [bold]Exit status[/]: 0, 3 when the settings are wrong, 4 when something that is configured cannot be used.

    [bold]Example[/]: onex doctor --config onex.toml
    """
    _console.mode.json = as_json
    loaded = _inputs.settings_of(config)

    from omnibase_runtime.app import compose
    from omnibase_runtime.commands import _checks
    from omnibase_runtime.settings import describe

    checks = [*_checks.installation(), *_checks.directories(loaded), *_checks.state(loaded)]
    asked = _checks.with_database(loaded)
    if asked.settings.connections:
        checks += asyncio.run(_checks.connections(compose(asked.settings), asked))
    healthy = all(check.status != _checks.FAILED for check in checks)
    settings = describe(loaded)
    if as_json:
        _console.say_json(
            {
                "healthy": healthy,
                "checks": [asdict(check) for check in checks],
                "settings_file": None if loaded.file is None else str(loaded.file),
                "settings": [asdict(row) for row in settings],
            }
        )
    else:
        _print(checks, settings)
    raise typer.Exit(0 if healthy else 4)


def _print(checks: "list[Check]", settings: "list[SettingRow]") -> None:
    from rich.text import Text

    from omnibase_runtime.commands._render import can_show, heading, rows

    screen = _console.console()
    for group in dict.fromkeys(check.group for check in checks):
        heading(screen, group)
        table = rows(("", "", ""), header=False)
        for check in (check for check in checks if check.group == group):
            fine, plain, style = _MARKS[check.status]
            detail = Text(_console.clean(check.detail))
            if check.fix:
                detail.append(f"\n{check.fix}", style="green")
            table.add_row(Text(f"  {fine if can_show(fine) else plain}", style=style), check.name, detail)
        screen.print(table)
        screen.print()
    heading(screen, "settings")
    table = rows(("", "", ""), header=False)
    for row in settings:
        table.add_row(f"  {row.key}", Text(_console.clean(row.value)), Text(row.source, style="dim"))
    screen.print(table)
