"""The timeline of a run as a picture: in the terminal, as Mermaid, as SVG."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from omnibase_runtime.commands._console import clean
from omnibase_runtime.commands._pictures import mermaid_text
from omnibase_runtime.commands._render import can_show
from omnibase_runtime.commands._timeline import TO_COME, UNDER_WAY, WAITING, Bar, Timeline
from omnibase_runtime.commands._times import length, stamp

if TYPE_CHECKING:
    from rich.table import Table

    from omnibase_core.protocols.protocol_workflow_engine import RunView

_MARKS: Final = {
    "completed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "unknown": ("?", "?", "yellow"),
    "skipped": ("○", "-", "dim"),
    "cancelled": ("✗", "x", "yellow"),
    "compensated": ("↺", "~", "yellow"),
    UNDER_WAY: ("▸", ">", "cyan"),
    WAITING: ("…", ".", "cyan"),
    TO_COME: ("·", " ", "dim"),
}
_FILLS: Final = {WAITING: ("░", "."), UNDER_WAY: ("▒", "=")}
_FULL: Final = ("█", "#")
_NARROW: Final = 80
_LEAST_CELLS: Final = 10
"""However long names are."""
_MOST_NAME: Final = 24
_COLOURS: Final = {
    "completed": "#2e7d32",
    "failed": "#c62828",
    "unknown": "#f9a825",
    "cancelled": "#f9a825",
    "compensated": "#f9a825",
    UNDER_WAY: "#0277bd",
    WAITING: "#90a4ae",
}


def mark_of(status: str) -> tuple[str, str]:
    """(symbol, style) of a step's status."""
    fine, plain, style = _MARKS.get(status, ("·", " ", ""))
    return (fine if can_show(fine) else plain), style


def gantt(timeline: Timeline, width: int | None) -> "Table":
    """A line for each step, its bar at the end. width: of the terminal; None is 80."""
    from rich.table import Table
    from rich.text import Text

    name_width = min(_MOST_NAME, max([4, *(len(bar.name) for bar in timeline.bars)]))
    status_width = max([6, *(len(bar.status) for bar in timeline.bars)])
    times = [length(bar.ended - bar.began) if bar.began and bar.ended else "" for bar in timeline.bars]
    time_width = max([4, *map(len, times)])
    cells = max(_LEAST_CELLS, (width or _NARROW) - 16 - name_width - status_width - time_width)
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", width=1)
    table.add_column("STEP", width=name_width, no_wrap=True, overflow="ellipsis")
    table.add_column("STATUS", width=status_width, no_wrap=True)
    table.add_column("TRIES", width=5, justify="right", no_wrap=True)
    table.add_column("TIME", width=time_width, justify="right", no_wrap=True)
    table.add_column(_axis(timeline, cells), width=cells, no_wrap=True)
    for bar, time in zip(timeline.bars, times, strict=True):
        mark, style = mark_of(bar.status)
        table.add_row(
            Text(mark, style=style),
            Text(_fit(bar.name, name_width), style="bold"),
            Text(bar.status, style=style),
            str(bar.attempts or ""),
            time,
            Text(_cells(bar, timeline, cells), style=style),
        )
    return table


def _fit(name: str, width: int) -> str:
    name = clean(name)
    return name if len(name) <= width else name[: width - 1] + ("…" if can_show("…") else "~")


def _axis(timeline: Timeline, cells: int) -> str:
    end = length(timeline.end - timeline.start)
    return "0" + end.rjust(cells - 1) if timeline.end > timeline.start else "0"


def _cells(bar: Bar, timeline: Timeline, cells: int) -> str:
    """The bar at its place, one cell at least."""
    if bar.began is None or bar.ended is None:
        return ""
    span = (timeline.end - timeline.start) or 1.0
    first = min(cells - 1, max(0, int((bar.began - timeline.start) / span * cells)))
    last = min(cells, max(first + 1, round((bar.ended - timeline.start) / span * cells)))
    fine, plain = _FILLS.get(bar.status, _FULL)
    return " " * first + (fine if can_show(fine) else plain) * (last - first)


def notes(timeline: Timeline) -> Iterator[tuple[str, str]]:
    """What there is to say of steps, by name."""
    yield from ((bar.name, bar.note) for bar in timeline.bars if bar.note)


def _title(view: "RunView") -> str:
    return f"{view.name} {view.version}, run {view.workflow_id}, {view.status.value}"


def mermaid(view: "RunView", timeline: Timeline) -> Iterator[str]:
    """A Gantt chart; steps that have not begun are not in it."""
    styles = {
        "completed": "done, ",
        "failed": "crit, ",
        "unknown": "crit, ",
        UNDER_WAY: "active, ",
        WAITING: "active, ",
    }
    yield "gantt"
    yield f"  title {_plain(_title(view))}"
    yield "  dateFormat x"
    yield "  axisFormat %H:%M:%S"
    yield "  section steps"
    for bar in timeline.bars:
        if bar.began is None or bar.ended is None:
            continue
        tries = f" ({bar.attempts} attempts)" if bar.attempts > 1 else ""
        begin, end = round(bar.began * 1_000), max(round(bar.ended * 1_000), round(bar.began * 1_000) + 1)
        yield f"  {_plain(bar.name + tries)} :{styles.get(bar.status, '')}{begin}, {end}"


def _plain(text: str) -> str:
    return mermaid_text(clean(text))


_LEFT: Final = 220
_PIXELS: Final = 640
_RIGHT: Final = 190
_ROW: Final = 26
_TOP: Final = 70
_TICKS: Final = 4


def svg(view: "RunView", timeline: Timeline) -> Iterator[str]:
    """A picture of its own: a row for each step, its bar under a line of times; details under the pointer."""
    bars = timeline.bars
    width, height = _LEFT + _PIXELS + _RIGHT, _TOP + len(bars) * _ROW + 20
    span = (timeline.end - timeline.start) or 1.0
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, sans-serif" font-size="13" role="img">'
    )
    yield f"  <title>{_text(_title(view))}</title>"
    yield f'  <rect width="{width}" height="{height}" fill="#fff"/>'
    yield f'  <text x="16" y="26" font-size="16" font-weight="bold">{_text(_title(view))}</text>'
    for tick in range(_TICKS + 1):
        x = _LEFT + _PIXELS * tick // _TICKS
        yield f'  <path d="M{x} {_TOP - 12}V{height - 14}" stroke="#ddd"/>'
        label = stamp(timeline.start) if tick == 0 else f"+{length(span * tick / _TICKS)}"
        yield f'  <text x="{x}" y="{_TOP - 18}" text-anchor="middle" font-size="10" fill="#555">{_text(label)}</text>'
    for row, bar in enumerate(bars):
        yield from _svg_row(bar, _TOP + row * _ROW, timeline.start, span)
    yield "</svg>"


def _svg_row(bar: Bar, y: int, start: float, span: float) -> Iterator[str]:
    time = length(bar.ended - bar.began) if bar.began and bar.ended else ""
    tries = f"{bar.attempts} attempts" if bar.attempts > 1 else ""
    facts = ", ".join(fact for fact in (bar.status, time, tries) if fact)
    yield f"  <g><title>{_text(': '.join(fact for fact in (bar.name, facts, bar.note) if fact))}</title>"
    yield f'  <text x="{_LEFT - 12}" y="{y + 16}" text-anchor="end">{_text(_fit(bar.name, 30))}</text>'
    if bar.began is not None and bar.ended is not None:
        x = _LEFT + (bar.began - start) / span * _PIXELS
        wide = max(2.0, (bar.ended - bar.began) / span * _PIXELS)
        colour = _COLOURS.get(bar.status, "#90a4ae")
        yield f'  <rect x="{x:.1f}" y="{y + 4}" width="{wide:.1f}" height="{_ROW - 10}" rx="3" fill="{colour}"/>'
    yield f'  <text x="{_LEFT + _PIXELS + 12}" y="{y + 16}" font-size="11" fill="#555">{_text(facts)}</text></g>'


def _text(text: str) -> str:
    return html.escape(clean(text))
