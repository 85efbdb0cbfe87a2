"""Standard output and standard error as the commands use them, and how a failure is told.

Results go to standard output, everything about the running to standard error. Colour and symbols only where a terminal
can show them; in a pipe nothing is wrapped or cut. A reader that goes away does not change the exit status: by then the
effects have been done.
"""

import json
import os
import re
import sys
import traceback
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING, TextIO, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.contract_error import ContractError
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact, redact_value

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import Console

_UNWRAPPED = 100_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TRAILING = re.compile(r" +(?=\n)")


@dataclass(slots=True)
class Mode:
    """What the invocation asked for. `debug`: show tracebacks and log lines; `json`: failures are documents as well."""

    debug: bool = False
    json: bool = False


mode = Mode()


def leave_quietly(stream: TextIO) -> None:
    """The reader has gone: what is still to be written goes nowhere, also at the end of the process."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream without descriptor, as tests have
        return


@cache
def _console_class() -> "type[Console]":
    from rich.console import Console

    class QuietConsole(Console):
        """A console that outlives its reader."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            leave_quietly(sys.stderr if self.stderr else sys.stdout)

    return QuietConsole


def console(*, stderr: bool = False) -> "Console":
    """A rich console on one of the two streams, as it is now."""
    stream = sys.stderr if stderr else sys.stdout
    make = _console_class()
    if stream.isatty():
        return make(stderr=stderr, highlight=False, markup=False, emoji=False)
    return make(
        file=cast("IO[str]", _NoTrailingSpace(stream)),  # all that rich uses of a stream
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=_UNWRAPPED,
    )


class _NoTrailingSpace:
    """A pipe does not want the spaces that fill a table's cells."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        return self._stream.write(_TRAILING.sub("", text))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()


def is_terminal(*, stderr: bool = False) -> bool:
    """Whether a person looks at the stream, with more than a dumb terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def clean(text: str) -> str:
    """A text fit for a terminal: secrets taken out, control characters escaped but for line breaks and tabs."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", redact(text))


def say(text: str, *, stderr: bool = False) -> None:
    """Write a line."""
    stream = sys.stderr if stderr else sys.stdout
    try:
        stream.write(clean(text) + "\n")
    except BrokenPipeError:
        leave_quietly(stream)


def say_json(document: "JsonValue") -> None:
    """Write one JSON document to standard output, secrets taken out."""
    only_ascii = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    say(json.dumps(redact_value(document), indent=2, ensure_ascii=only_ascii))


def usage(message: str) -> ModelOnexError:
    """A mistake in what was typed."""
    return ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def error_document(error: ModelOnexError) -> "dict[str, JsonValue]":
    """An error as JSON; the partial output is not in it, because it stands beside it."""
    context = {name: value for name, value in error.context.items() if name not in {"partial_output", "diagnostics"}}
    document: dict[str, JsonValue] = {
        "code": error.error_code.value,
        "exit_status": error.error_code.exit_status,
        "message": error.message,
        "context": json.loads(json.dumps(context, default=str)),
        "correlation_id": None if error.correlation_id is None else str(error.correlation_id),
    }
    if isinstance(error, ContractError):
        document["diagnostics"] = json.loads(json.dumps(error.context["diagnostics"]))
    return document


def tell(error: BaseException) -> int:
    """Report what ended the invocation, and return its exit status."""
    if isinstance(error, KeyboardInterrupt):
        error = ModelOnexError("cancelled", EnumCoreErrorCode.CANCELLED)
    if not isinstance(error, ModelOnexError):
        return _tell_unexpected(error)
    if mode.json:
        say_json({"error": error_document(error)})
    elif isinstance(error, ContractError) and error.diagnostics:
        from omnibase_runtime.commands._diagnostics import print_diagnostics

        print_diagnostics(error.diagnostics, stderr=True)
    else:
        tell_line(error.error_code.value, error.message)
    if mode.debug:
        _tell_traceback(error)
    return error.error_code.exit_status


def tell_line(code: str, message: str) -> None:
    """`error CODE: message` on standard error."""
    if not is_terminal(stderr=True):
        say(f"error {code}: {message}", stderr=True)
        return
    from rich.text import Text

    line = Text.assemble(("error", "bold red"), " ", (code, "bold"), ": ", clean(message))
    console(stderr=True).print(line)


def _tell_unexpected(error: BaseException) -> int:
    """An OSError is about this machine, an ImportError about the installation, everything else is our mistake."""
    if isinstance(error, ImportError):
        text = f"a library cannot be imported: {error}; repair the installation: pip install --force-reinstall omnibase"
        broken = ModelOnexError(text, EnumCoreErrorCode.CONFIGURATION_ERROR)
        broken.__cause__ = error
        return tell(broken)
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        known = ModelOnexError(f"{where}{error.strerror or error}", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        known.__cause__ = error
        return tell(known)
    text = f"{type(error).__name__}: {error}; this is a defect of onex, --debug shows where"
    wrapped = ModelOnexError(text, EnumCoreErrorCode.INTERNAL_ERROR)
    wrapped.__cause__ = error
    return tell(wrapped)


def _tell_traceback(error: BaseException) -> None:
    say("".join(traceback.format_exception(error)).rstrip(), stderr=True)
