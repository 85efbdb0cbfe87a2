"""Findings as SARIF 2.1.0 (OASIS), which code hosts and editors read."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from omnibase_core.errors.contract_error import Diagnostic

if TYPE_CHECKING:
    from pydantic import JsonValue

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_log(diagnostics: Sequence[Diagnostic]) -> "JsonValue":
    """One run with a result per finding. Columns count characters; a finding without a place has no region."""
    rules = sorted({diagnostic.code for diagnostic in diagnostics})
    results: list[JsonValue] = [_result(diagnostic, rules.index(diagnostic.code)) for diagnostic in diagnostics]
    descriptors: list[JsonValue] = [{"id": rule} for rule in rules]
    driver: JsonValue = {"name": "onex", "version": version("omnibase"), "rules": descriptors}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _result(diagnostic: Diagnostic, rule_index: int) -> "JsonValue":
    details = [("found", diagnostic.found), ("allowed", diagnostic.allowed), ("fix", diagnostic.fix)]
    text = "\n".join([diagnostic.message, *(f"{label}: {value}" for label, value in details if value)])
    location: dict[str, JsonValue] = {"artifactLocation": {"uri": _uri(diagnostic.file)}}
    if diagnostic.line:
        location["region"] = {"startLine": diagnostic.line, "startColumn": max(1, diagnostic.column)}
    place: dict[str, JsonValue] = {"physicalLocation": location}
    if diagnostic.key_path:
        place["logicalLocations"] = [{"fullyQualifiedName": diagnostic.key_path}]
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rule_index,
        "level": "error" if diagnostic.severity == "error" else "warning",
        "message": {"text": text},
        "locations": [place],
    }


def _uri(file: str) -> str:
    """A relative reference for a relative name, a file URI for an absolute one (RFC 8089)."""
    return Path(file).as_uri() if Path(file).is_absolute() else quote(file)
