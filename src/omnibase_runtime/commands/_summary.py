"""What a run did, for a person."""

from typing import TYPE_CHECKING

from omnibase_runtime.commands._console import clean, console
from omnibase_runtime.commands._render import count, heading, milliseconds, rows, short, symbol

if TYPE_CHECKING:
    from rich.text import Text

    from omnibase_core.models.model_effect_output import ModelEffectOperationResult, ModelEffectOutput

_STATE_STYLES = {"committed": "green", "rolled_back": "yellow", "failed": "red", "unknown": "yellow"}


def print_summary(output: "ModelEffectOutput", planned: int, *, in_transaction: bool) -> None:
    """Heading, one line per operation that had its turn, and the transaction's fate where there is one.

    planned: number of operations in the contract.
    """
    from rich.text import Text

    screen = console()
    heading(
        screen,
        f"{output.subcontract_name} {output.subcontract_version}",
        f"{sum(result.success for result in output.operations)} of {count(planned, 'operation')} succeeded",
        milliseconds(output.total_duration_ms),
        count(output.total_retry_count, "retry", "retries") if output.total_retry_count else "",
    )
    table = rows(("", "operation", "outcome", "attempts", "time", "extracted"))
    for result in output.operations:
        mark, style = symbol(result.outcome)
        attempts = len(result.attempts) or result.retries + (result.outcome != "skipped")
        table.add_row(
            Text(mark, style=style),
            Text(result.operation_name, style="bold"),
            Text(result.outcome.value, style=style),
            str(attempts) if attempts else "",
            "" if result.outcome == "skipped" else milliseconds(result.duration_ms),
            _detail(result),
        )
    screen.print(table)
    if in_transaction:
        state = output.transaction_state.value
        screen.print(Text.assemble(("transaction ", "dim"), (state.replace("_", " "), _STATE_STYLES.get(state, ""))))


def _detail(result: "ModelEffectOperationResult") -> "Text":
    """The extracted fields of a success, code and stop reason of a failure; its message goes to standard error."""
    from rich.text import Text

    if result.outcome == "skipped" or (result.stop_reason == "success" and not result.success):  # undone by a rollback
        return Text(clean(result.error_message or ""), style="dim")
    if not result.success:
        reasons = [result.error_code, result.status_code and f"status {result.status_code}", result.stop_reason]
        return Text(", ".join(str(reason) for reason in reasons if reason))
    line = Text()
    for name, value in result.extracted_fields.items():
        line.append(f"{name}=", style="dim")
        line.append(short(value) + "  ")
    line.rstrip()
    return line
