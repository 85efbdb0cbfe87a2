"""All problems of a contract, each with its place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about a contract.

    code: stable name of the rule, such as `E-UNKNOWN-FIELD`, by which tools filter.
    severity: `error` (the contract is refused) or `warning` (it runs).
    line, column: 1-based; 0 when the finding belongs to no place in the text.
    key_path: where in the document, such as `effect_subcontract.operations[0].io_config.method`.
    found: `repr` of what stands there, or empty. Never a secret: contracts hold none, only names of secrets.
    allowed: what may stand there, or empty.
    fix: what to do next, or empty.
    """

    code: str
    severity: str
    message: str
    key_path: str = ""
    file: str = "<text>"
    line: int = 0
    column: int = 0
    found: str = ""
    allowed: str = ""
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = [f"{place}: {self.severity} {self.code}: {self.key_path + ': ' if self.key_path else ''}{self.message}"]
        parts += [f"    {label}: {text}" for label, text in self._details() if text]
        return "\n".join(parts)

    def _details(self) -> tuple[tuple[str, str], ...]:
        return ("found", self.found), ("allowed", self.allowed), ("fix", self.fix)


class ContractError(ModelOnexError):
    """A contract was refused. `diagnostics` holds *all* findings of the file, warnings included, in order of place."""

    default_code = EnumCoreErrorCode.VALIDATION_ERROR

    def __init__(self, message: str = "", diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message)
        self.diagnostics = tuple(diagnostics)
        self.context["diagnostics"] = [asdict(diagnostic) for diagnostic in self.diagnostics]
