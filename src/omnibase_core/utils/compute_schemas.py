"""The schemas of a compute contract: inline, or in files beside it, compiled to checks (section 3.1)."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
    SCHEMA_NAMES,
    ModelComputeSubcontract,
)
from omnibase_core.utils.input_check import compile_schema_check
from omnibase_core.utils.yaml_document import MAX_BYTES, read_documents

Report = Callable[[Breach], None]
Check = Callable[[object], None]
_ENDINGS: Final = (".json", ".yaml", ".yml")


class _RefusedError(Exception):
    """A reference that leads to no schema; the text says why."""


Documents = Mapping[str, tuple[KeyPath, Mapping[str, JsonValue]]]
"""By the name of a schema its place in the contract, and itself."""


def read_schemas(contract: ModelComputeSubcontract, folder: Path | None, report: Report) -> Documents:
    """All schemas of a contract, those in files too; one that was refused is empty.

    folder: where the contract's file lies, None for a contract that is no file. A contract with holes has fewer.
    """
    given: dict[str, tuple[KeyPath, Mapping[str, JsonValue] | str]] = {}
    there = contract.__dict__
    for name in SCHEMA_NAMES:
        for key in (f"{name}_ref", name):
            if there.get(key) is not None:
                given[name] = ((key,), there[key])
    for name, schema in there.get("schemas", {}).items():
        given.setdefault(name, (("schemas", name), schema))
    documents: dict[str, tuple[KeyPath, Mapping[str, JsonValue]]] = {}
    for name, (path, schema) in given.items():
        document: Mapping[str, JsonValue] = {}
        if isinstance(schema, str):
            try:
                document = _read(schema, folder)
            except _RefusedError as error:
                report(
                    Breach(
                        "E-SCHEMA-FILE",
                        f"{path[-1]}: {error}",
                        path,
                        repr(schema),
                        "the name of a JSON or YAML file beside the contract, or below it",
                        "name such a file, or write the schema here",
                    )
                )
        else:
            document = schema
        documents[name] = (path, document)
    return documents


def compile_schemas(documents: Documents, report: Report) -> dict[str, Check]:
    """The checks of schemas, by name; one that is no schema has a check of no use."""
    return {
        name: compile_schema_check(document, _SUBJECTS.get(name, "the value"), path, report)
        for name, (path, document) in documents.items()
    }


_SUBJECTS: Final = {"input_schema": "the input", "output_schema": "the output"}


def _read(name: str, folder: Path | None) -> Mapping[str, JsonValue]:
    """The schema in a file; reading it is part of reading the contract."""
    if folder is None:
        raise _RefusedError("this contract is no file, so nothing lies beside it")
    if not name.endswith(_ENDINGS):
        raise _RefusedError(f"a schema's file ends in {', '.join(_ENDINGS)}")
    try:
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise _RefusedError("the file lies outside of the contract's directory")
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _RefusedError(f"the file cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise _RefusedError(str(error)) from None
    if len(raw) > MAX_BYTES:
        raise _RefusedError(f"the file has more than {MAX_BYTES} bytes")
    return _parse(raw, name)


def _parse(raw: bytes, name: str) -> Mapping[str, JsonValue]:
    document: JsonValue = None
    if name.endswith(".json"):
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _RefusedError(f"no valid JSON: {error}") from None
    else:
        documents, problems = read_documents(raw, name)
        if problems:
            raise _RefusedError(f"no valid YAML: {problems[0].message} (line {problems[0].line})")
        if len(documents) != 1:
            raise _RefusedError(f"one document is wanted, the file has {len(documents)}")
        document = documents[0].data
    if not isinstance(document, dict):
        raise _RefusedError("a schema is a mapping")
    return document
