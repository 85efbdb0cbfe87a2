"""The schemas of a compute contract: inline, or in files beside it, compiled to checks (section 3.1)."""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
    SCHEMA_NAMES,
    ModelComputeSubcontract,
)
from omnibase_core.utils.contract_files import ContractFiles, FileRefusedError, read_schema
from omnibase_core.utils.input_check import compile_schema_check

Report = Callable[[Breach], None]
Check = Callable[[object], None]


Documents = Mapping[str, tuple[KeyPath, Mapping[str, JsonValue]]]
"""By the name of a schema its place in the contract, and itself."""


def read_schemas(contract: ModelComputeSubcontract, files: ContractFiles | None, report: Report) -> Documents:
    """All schemas of a contract, those in files too; one that was refused is empty.

    files: what lies beside the contract, None for one that is no file. A contract with holes has fewer.
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
                document = read_schema(files, schema)
            except FileRefusedError as error:
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


def compile_schemas(contract: ModelComputeSubcontract, documents: Documents, report: Report) -> dict[str, Check]:
    """The checks of schemas, by name; one that is no schema has a check of no use."""
    return {
        name: compile_schema_check(
            document, _SUBJECTS.get(name, "the value"), path, report, inline=not _is_of_a_file(contract, path)
        )
        for name, (path, document) in documents.items()
    }


def _is_of_a_file(contract: ModelComputeSubcontract, path: KeyPath) -> bool:
    given = contract.__dict__[str(path[0])]
    return isinstance(given if len(path) == 1 else given[path[1]], str)


_SUBJECTS: Final = {"input_schema": "the input", "output_schema": "the output"}
