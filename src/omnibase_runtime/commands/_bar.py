"""A bar for work over many items, on standard error, if a person looks there and it takes a while."""

from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

from omnibase_runtime.commands._console import console, is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUIET_SECONDS: Final = 0.15
"""Work that is over by then shows no bar."""


class Bar:
    """Is called with the number of items that are done, and of all (`OnProgress`)."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._wanted = is_terminal(stderr=True)
        self._began = monotonic()
        self._shown: tuple[Progress, TaskID] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int) -> None:
        if not self._wanted or (self._shown is None and monotonic() - self._began < _QUIET_SECONDS):
            return
        if self._shown is None:
            self._shown = self._begun(total)
        progress, task = self._shown
        progress.update(task, completed=done)

    def _begun(self, total: int) -> "tuple[Progress, TaskID]":
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stack.enter_context(progress)
        return progress, progress.add_task(self._what, total=total)
