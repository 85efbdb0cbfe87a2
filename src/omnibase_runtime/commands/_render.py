"""How results look to a person: one vocabulary of symbols, colours, durations and tables for all commands.

Colour means something or is absent: green succeeded, red failed, yellow is in doubt or worth a look, dim is secondary.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome
from omnibase_runtime.commands._console import clean

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_SYMBOLS = {
    EnumOperationOutcome.SUCCEEDED: ("✓", "+", "green"),
    EnumOperationOutcome.FAILED: ("✗", "x", "red"),
    EnumOperationOutcome.UNKNOWN: ("?", "?", "yellow"),
    EnumOperationOutcome.SKIPPED: ("○", "-", "dim"),
    EnumOperationOutcome.COMPENSATED: ("↺", "~", "yellow"),
}
_MAX_VALUE = 60


def can_show(character: str, *, stderr: bool = False) -> bool:
    """Whether the stream's encoding has the character."""
    stream = sys.stderr if stderr else sys.stdout
    try:
        character.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def symbol(outcome: EnumOperationOutcome, *, stderr: bool = False) -> tuple[str, str]:
    """(symbol, style) of an outcome."""
    fine, plain, style = _SYMBOLS[outcome]
    return (fine if can_show(fine, stderr=stderr) else plain), style


def milliseconds(value: float) -> str:
    """A duration in the unit that a reader would choose."""
    if value < 1:
        return f"{value:.2f} ms"
    if value < 10:
        return f"{value:.1f} ms"
    if value < 1_000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1_000:.3g} s"
    minutes, seconds = divmod(round(value / 1_000), 60)
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"


def short(value: "JsonValue", limit: int = _MAX_VALUE) -> str:
    """A value on one line: texts as they are if they are plain, all else as JSON, cut at `limit` characters."""
    plain = isinstance(value, str) and value != "" and value.isprintable()
    text = clean(str(value) if plain else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= limit else text[: limit - 1] + ("…" if can_show("…") else "~")


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 operation`, `2 operations`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def heading(screen: "Console", title: str, *facts: str) -> None:
    """A bold title with facts after it."""
    from rich.text import Text

    dot = " · " if can_show("·", stderr=screen.stderr) else ", "
    line = Text(clean(title), style="bold")
    if facts:
        line.append(dot + dot.join(clean(fact) for fact in facts if fact), style="not bold")
    screen.print(line)


def rows(columns: Sequence[str], *, header: bool = True) -> "Table":
    """A table without lines; the last column folds, so that nothing is cut off in a narrow terminal."""
    from rich.table import Table

    table = Table(
        box=None, show_header=header, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False, show_edge=False
    )
    for index, name in enumerate(columns):
        table.add_column(name, overflow="fold", no_wrap=index == 0)
    return table


def pairs(items: Iterable[tuple[str, "str | Text"]], *, indent: int = 2) -> "Table":
    """Labels and values, aligned; values that are empty are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in items:
        if value:
            grid.add_row(" " * indent + label, Text(clean(value)) if isinstance(value, str) else value)
    return grid
