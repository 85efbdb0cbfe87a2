"""Findings about contracts: for a person with the source line and a caret, for a pipe like a compiler's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnibase_core.errors.contract_error import Diagnostic
from omnibase_runtime.commands._console import clean, console, is_terminal, say

if TYPE_CHECKING:
    from rich.console import Console

_MAX_LINE = 1 << 20


def print_diagnostics(
    diagnostics: Sequence[Diagnostic], *, stderr: bool = False, texts: Mapping[str, str] | None = None
) -> None:
    """Print all findings. `texts`: contents by file name, where they are at hand; other files are read again."""
    if not is_terminal(stderr=stderr):
        for diagnostic in diagnostics:
            say(str(diagnostic), stderr=stderr)
        return
    screen = console(stderr=stderr)
    lines: dict[str, list[str]] = {name: text.splitlines() for name, text in (texts or {}).items()}
    for diagnostic in diagnostics:
        if diagnostic.file not in lines:
            lines[diagnostic.file] = _read(diagnostic.file)
        _print_one(screen, diagnostic, lines[diagnostic.file])


def _read(file: str) -> list[str]:
    try:
        with Path(file).open("rb") as stream:
            return stream.read(_MAX_LINE).decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return []


def _print_one(screen: "Console", diagnostic: Diagnostic, lines: Sequence[str]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    colour = "red" if diagnostic.severity == "error" else "yellow"
    place = f"{diagnostic.file}:{diagnostic.line}:{diagnostic.column}" if diagnostic.line else diagnostic.file
    screen.print(
        Text.assemble(
            (clean(place), "bold"), "  ", (diagnostic.severity, f"bold {colour}"), "  ", (diagnostic.code, "dim")
        )
    )
    screen.print(Padding(Text(clean(diagnostic.message)), (0, 0, 0, 2), expand=False))
    if 0 < diagnostic.line <= len(lines):
        _print_source(screen, diagnostic, lines[diagnostic.line - 1], colour)
    details = (
        ("at", diagnostic.key_path),
        ("found", diagnostic.found),
        ("allowed", diagnostic.allowed),
        ("fix", diagnostic.fix),
    )
    for label, text in details:
        if text:
            _print_detail(screen, label, clean(text))
    screen.print()


def _print_source(screen: "Console", diagnostic: Diagnostic, line: str, colour: str) -> None:
    """The line, shortened around the place where it is too long, and a caret below it."""
    from rich.text import Text

    number = str(diagnostic.line)
    room = max(20, screen.width - len(number) - 7)
    at = min(max(diagnostic.column - 1, 0), len(line))
    start = max(0, min(at - room // 2, len(line) - room))
    shown = clean(line[start : start + room].replace("\t", " "))
    gutter = " " * len(number)
    screen.print(Text.assemble("  ", (f"{number} │ ", "dim"), shown), no_wrap=True, crop=True)
    screen.print(
        Text.assemble("  ", (f"{gutter} │ ", "dim"), " " * (at - start), ("^", f"bold {colour}")), no_wrap=True
    )


def _print_detail(screen: "Console", label: str, text: str) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=9, style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(f"  {label}", Text(text, style="green" if label == "fix" else ""))
    screen.print(grid)
