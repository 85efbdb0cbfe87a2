"""The files beside a contract: schemas, and the contracts that a workflow names.

A contract says `schemas/order.json`; whether that lies in a folder or in the bundle of a run is decided here. What is
read is recorded, so that a workflow knows the texts it is made of.
"""

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from omnibase_core.utils.yaml_document import MAX_BYTES, read_documents

_SCHEMA_ENDINGS: Final = (".json", ".yaml", ".yml")


class FileRefusedError(Exception):
    """A file that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class ContractFiles:
    """What lies beside one contract.

    read_path: text of a path relative to the root's folder, which may have to lie in a folder of it, links followed;
    raises FileRefusedError. base: folder of the contract, relative to the root's. shown: how messages spell the root's
    folder. trail: workflows that are being loaded, the last one inside of the others. kept: what has been loaded
    already, by path. records: each gets what is read.
    """

    read_path: Callable[[str, str | None], str]
    base: str = ""
    shown: str = ""
    trail: tuple[str, ...] = ()
    kept: dict[str, object] = field(default_factory=dict)
    records: tuple[dict[str, str], ...] = ()

    def path(self, name: str) -> str:
        """Where a file lies, relative to the root's folder. Raises FileRefusedError for an absolute one."""
        if "\0" in name:
            raise FileRefusedError("the name holds a null byte")
        if name.startswith("/") or "\\" in name:
            raise FileRefusedError("a path is relative to this file, with '/' between folders")
        return posixpath.normpath(posixpath.join(self.base, name))

    def spelled(self, path: str) -> str:
        """A path for messages."""
        return posixpath.normpath(posixpath.join(self.shown, path))

    def read(self, name: str, *, inside: bool = False) -> str:
        """The text of a file; inside: it must lie in the contract's folder or below. Raises FileRefusedError."""
        path = self.path(name)
        text = self.read_path(path, self.base if inside else None)
        self.record({path: text})
        return text

    def record(self, texts: Mapping[str, str]) -> None:
        """Note what is being used."""
        for record in self.records:
            record.update(texts)

    def of(self, path: str) -> "ContractFiles":
        """What lies beside the contract at this path."""
        return replace(self, base=posixpath.dirname(path))

    def recorded(self, record: dict[str, str]) -> "ContractFiles":
        """The same, which also notes in `record` what is read."""
        return replace(self, records=(*self.records, record))


def files_beside(file: Path) -> ContractFiles:
    """What lies in the folder of a contract."""
    folder = file.parent

    def read_path(path: str, inside: str | None) -> str:
        try:
            if inside is not None and not (folder / path).resolve().is_relative_to((folder / inside).resolve()):
                raise FileRefusedError("the file lies outside of the contract's directory")
            with (folder / path).open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise FileRefusedError(f"the file cannot be read: {error.strerror}") from None
        if len(raw) > MAX_BYTES:
            raise FileRefusedError(f"the file has more than {MAX_BYTES} bytes")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FileRefusedError(f"the file is no UTF-8 at byte {error.start}") from None

    return ContractFiles(read_path, shown=str(folder))


def files_of(texts: Mapping[str, str]) -> ContractFiles:
    """What lies in a bundle."""

    def read_path(path: str, _inside: str | None) -> str:
        if path not in texts:
            raise FileRefusedError("the bundle has no such file")
        return texts[path]

    return ContractFiles(read_path)


def read_schema(files: ContractFiles | None, name: str) -> Mapping[str, JsonValue]:
    """The schema in a file beside a contract, or below it; reading it is part of reading the contract.

    files: None for a contract that is no file. Raises FileRefusedError.
    """
    if files is None:
        raise FileRefusedError("this contract is no file, so nothing lies beside it")
    if not name.endswith(_SCHEMA_ENDINGS):
        raise FileRefusedError(f"a schema's file ends in {', '.join(_SCHEMA_ENDINGS)}")
    if posixpath.normpath(name).startswith("..") or name.startswith("/"):
        raise FileRefusedError("the file lies outside of the contract's directory")
    return _parse(files.read(name, inside=True), name)


def _parse(text: str, name: str) -> Mapping[str, JsonValue]:
    document: JsonValue = None
    if name.endswith(".json"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileRefusedError(f"no valid JSON: {error}") from None
    else:
        documents, problems = read_documents(text, name)
        if problems:
            raise FileRefusedError(f"no valid YAML: {problems[0].message} (line {problems[0].line})")
        if len(documents) != 1:
            raise FileRefusedError(f"one document is wanted, the file has {len(documents)}")
        document = documents[0].data
    if not isinstance(document, dict):
        raise FileRefusedError("a schema is a mapping")
    return document
