"""`reference/diagnostics.md`: every code of the loader, each shown by really judging a contract that is wrong."""

import inspect
import re
import tempfile
from pathlib import Path
from typing import Final

import omnibase_core
from docs.bad_contracts import BAD_CONTRACTS, BESIDE, MANY_MISTAKES, TWO_DOCUMENTS
from docs.field_tables import paragraph
from omnibase_core.errors import ContractError
from omnibase_core.utils.contract_files import files_of
from omnibase_core.utils.contract_loader import judge_text, load_contract
from omnibase_core.utils.yaml_document import MAX_PROBLEMS

FILE: Final = "example.yaml"
_INTRODUCTION: Final = paragraph("""
    All findings of a file come at once. `E-` codes are errors, with which nothing runs; `W-` codes are warnings,
    with which it does. A finding has a place (`file:line:column`), a code that does not change between versions,
    the key path, what was found, what is allowed, and a fix. `onex validate --json` and `--sarif` give the same to
    tools. Below, each code is shown with a contract that has it, and what the loader says.
""")
_CODE = re.compile(r'"([EW](?:-[A-Z]+){1,})"')
_PREFIXES = {"E-UNKNOWN"}
"""Texts in the source that look like codes, and with which codes only begin."""
_ON_FILES = {"E-FILE", "E-DOCUMENTS", "E-LIMIT"}


def diagnostics() -> str:
    """Every code with an example."""
    parts = [
        "# Diagnostics of the contract loader",
        _INTRODUCTION,
    ]
    _all_are_shown()
    for subject, contracts in BAD_CONTRACTS.items():
        parts.append(f"## {subject}")
        if subject == "Workflows":
            parts += [f"Beside these lies `{name}`:\n\n```yaml\n{text.rstrip()}\n```" for name, text in BESIDE.items()]
        parts += [_example(code, text) for code, text in contracts.items()]
    return "\n\n".join([*parts, _files()]) + "\n"


def _all_are_shown() -> None:
    source = Path(inspect.getfile(omnibase_core)).parent
    codes = {code for file in source.rglob("*.py") for code in _CODE.findall(file.read_text())} - _PREFIXES
    shown = {code for contracts in BAD_CONTRACTS.values() for code in contracts} | _ON_FILES
    if codes != shown:
        message = f"codes without an example: {sorted(codes - shown)}; examples without a code: {sorted(shown - codes)}"
        raise LookupError(message)


def findings(text: str | bytes) -> tuple[str, list[str]]:
    """What the loader says about a text, and the codes in it."""
    beside = files_of(BESIDE)
    found = [diagnostic for judged in judge_text(text, FILE, beside) for diagnostic in judged.diagnostics]
    return "\n".join(map(str, found)), [diagnostic.code for diagnostic in found]


def _example(code: str, text: str | bytes) -> str:
    said, codes = findings(text)
    if codes != [code]:
        message = f"the example of {code} has {codes}"
        raise LookupError(message)
    shown = text if isinstance(text, str) else text.decode("latin-1") + "# saved as Latin-1"
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in shown)
    exact = shown == text
    contract, answer = ("yaml judged", "findings") if exact else ("text", "text")
    return f"### {code}\n\n```{contract}\n{shown.rstrip()}\n```\n\n```{answer}\n{said}\n```"


def _files() -> str:
    if "E-LIMIT" not in findings(MANY_MISTAKES)[1]:
        message = "the example of E-LIMIT does not have it"
        raise LookupError(message)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / FILE
        missing = _refusal(path).replace(f"{directory}/", "")
        path.write_text(TWO_DOCUMENTS)
        several = _refusal(path).replace(f"{directory}/", "")
    return "\n\n".join(
        [
            "## The file as a whole",
            "### E-LIMIT",
            f"With more than {MAX_PROBLEMS} findings the loader stops, and one of them says so.",
            "### E-FILE",
            "A file that cannot be read, or a text that names a file where a text is wanted.",
            f"```text\n{missing}\n```",
            "### E-DOCUMENTS",
            "`run`, `plan` and `NodeEffect.from_contract` want one contract; `onex validate` judges every document.",
            f"```text\n{several}\n```",
        ]
    )


def _refusal(path: Path) -> str:
    try:
        load_contract(path)
    except ContractError as error:
        return "\n".join(map(str, error.diagnostics))
    message = f"{path} should have been refused"
    raise LookupError(message)
