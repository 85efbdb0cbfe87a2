"""Looks on while a contract runs: a moving picture for a person, and the account of a run that was cancelled."""

import asyncio
import contextlib
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome, EnumStopReason
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.models.model_effect_output import ModelEffectOperationResult, ModelEffectOutput
from omnibase_runtime.commands._console import console, is_terminal
from omnibase_runtime.commands._render import milliseconds, symbol

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

    from omnibase_core.utils.effect_plan import EffectPlan

_QUIET_SECONDS: Final = 0.15
"""A run that is over by then shows no moving picture."""
_PICTURES_PER_SECOND: Final = 10


class Picture:
    """What moves on standard error while something goes on; a subclass draws it (`__rich_console__`)."""

    @contextlib.contextmanager
    def shown(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """While inside: the picture on standard error, if a person looks there and the run takes a while."""
        if not is_terminal(stderr=True):
            yield
            return
        live: list[Live] = []

        def begin() -> None:
            from rich.live import Live

            picture = Live(
                self,
                console=console(stderr=True),
                refresh_per_second=_PICTURES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            picture.start()
            live.append(picture)

        timer = loop.call_later(_QUIET_SECONDS, begin)
        try:
            yield
        finally:
            timer.cancel()
            for picture in live:
                picture.stop()

    def __rich_console__(self, screen: "Console", options: "ConsoleOptions") -> "RenderResult":
        """The picture as it is now."""
        raise NotImplementedError


class Progress(Picture):
    """The watch of one run (`ProtocolEffectWatch`)."""

    def __init__(self, plan: "EffectPlan") -> None:
        self._plan = plan
        self._rows = {operation.name: Row(operation.name, operation.label) for operation in plan.operations}

    @property
    def planned(self) -> int:
        return len(self._rows)

    @property
    def in_transaction(self) -> bool:
        return self._plan.transaction is not None

    def operation_watch(self, contract: str, operation: str) -> "Row":  # noqa: ARG002  # the seam's signature
        return self._rows[operation]

    def __rich_console__(self, screen: "Console", options: "ConsoleOptions") -> "RenderResult":
        """The operations that have begun, at most as many as fit."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        begun = [row for row in self._rows.values() if row.begun is not None]
        waiting = len(self._rows) - len(begun)
        for row in begun[-max(1, options.max_height - 2) :]:
            mark, style = row.mark()
            table.add_row(
                Text(mark, style=style), Text(row.name, style="bold"), Text(row.label, style="dim"), row.state()
            )
        yield table
        if waiting:
            yield Text(f"  {waiting} to come", style="dim")

    def left_over(self) -> str:
        """What a cancellation cut off, in words."""
        flying = [row.name for row in self._rows.values() if row.in_flight]
        if not flying:
            return "nothing was in flight"
        return f"{', '.join(flying)} was in flight, and may or may not have been done"

    def so_far(self) -> ModelEffectOutput:
        """The output of a run that was cancelled, as far as it is known."""
        results = []
        for row in self._rows.values():
            if row.result is not None:
                results.append(self._unless_undone(row.result))
            elif row.begun is not None:
                results.append(row.cut_off())
        state = EnumTransactionState.NONE
        if results:
            state = EnumTransactionState.FAILED if self._plan.transaction is None else EnumTransactionState.UNKNOWN
        begun = [row.begun for row in self._rows.values() if row.begun is not None]
        return ModelEffectOutput(
            operations=results,
            failed_operation=next((r.operation_name for r in results if not r.success), None),
            total_retry_count=sum(r.retries for r in results),
            total_duration_ms=(monotonic() - min(begun)) * 1_000 if begun else 0.0,
            transaction_state=state,
            execution_mode=self._plan.mode,
            subcontract_name=self._plan.name,
            subcontract_version=self._plan.version,
            result={r.operation_name: r.extracted_fields for r in results if r.success},
        )

    def _unless_undone(self, result: ModelEffectOperationResult) -> ModelEffectOperationResult:
        """What was done inside a transaction that did not end is no success."""
        if self._plan.transaction is None or not result.success:
            return result
        return result.model_copy(
            update={
                "success": False,
                "outcome": EnumOperationOutcome.UNKNOWN,
                "error_code": EnumCoreErrorCode.CANCELLED,
                "error_message": "the transaction was cancelled: rolled back, unless its COMMIT was already on its way",
            }
        )


class Row:
    """What is known about one operation (`ProtocolOperationWatch`)."""

    def __init__(self, name: str, label: str) -> None:
        self.name = name
        self.label = label
        self.begun: float | None = None
        self.result: ModelEffectOperationResult | None = None
        self._failed = 0
        self._reason = ""
        self._next = 0.0

    def started(self) -> None:
        self.begun = self.begun or monotonic()
        self.result = None
        self._failed = 0

    def attempt_failed(self, number: int, reason: str, delay_ms: float) -> None:
        self._failed = number
        self._reason = reason
        self._next = monotonic() + delay_ms / 1_000

    def finished(self, result: ModelEffectOperationResult) -> None:
        self.result = result

    @property
    def in_flight(self) -> bool:
        """An attempt is under way."""
        return self.begun is not None and self.result is None and not (self._failed and monotonic() < self._next)

    def mark(self) -> tuple[str, str]:
        """(symbol, style)."""
        if self.result is not None:
            return symbol(self.result.outcome, stderr=True)
        return "|/-\\"[int(monotonic() * 8) % 4], "cyan"

    def state(self) -> str:
        """Where it stands, in a few words."""
        if self.result is not None:
            return milliseconds(self.result.duration_ms)
        passed = milliseconds((monotonic() - (self.begun or 0.0)) * 1_000)
        if not self._failed:
            return passed
        if self.in_flight:
            return f"attempt {self._failed + 1} after {self._reason}, {passed}"
        return f"{self._reason}, attempt {self._failed + 1} in {max(0.0, self._next - monotonic()):.1f} s"

    def cut_off(self) -> ModelEffectOperationResult:
        """The result of an operation that was cancelled."""
        flying = self.in_flight
        return ModelEffectOperationResult(
            operation_name=self.name,
            success=False,
            duration_ms=(monotonic() - (self.begun or 0.0)) * 1_000,
            outcome=EnumOperationOutcome.UNKNOWN if flying else EnumOperationOutcome.FAILED,
            retries=self._failed,
            error_code=EnumCoreErrorCode.CANCELLED,
            error_message="cancelled while an attempt was in flight"
            if flying
            else f"cancelled while waiting for attempt {self._failed + 1} (the last one failed: {self._reason})",
            stop_reason=EnumStopReason.CANCELLED,
        )
