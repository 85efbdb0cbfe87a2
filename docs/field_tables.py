"""Tables of a model's fields: what each takes, its default, and its meaning, read off the model and its docstring."""

import inspect
import json
import re
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

_LABEL: Final = re.compile(r"(?:^|(?<=[.;] ))([a-z_]+(?:, [a-z_]+)*): ")

_SECTION: Final = re.compile(r"(?: \(section [0-9. to]+\)|; defaults and bounds are those of section [0-9.]+)")
"""Docstrings name sections of the specification, which is no part of the documentation."""


def meanings(cls: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """(what the docstring says about the whole, field -> what it says about the field).

    In a docstring a field's text begins with its name and a colon, at the beginning of a paragraph or sentence; several
    names share a text when commas stand between them.
    """
    known = {info.alias or name for name, info in cls.model_fields.items()}
    whole: list[str] = []
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(cls) or ""):
        text = _SECTION.sub("", " ".join(paragraph.split()))
        labels = [match for match in _LABEL.finditer(text) if known.issuperset(match[1].split(", "))]
        before = text[: labels[0].start()] if labels else text
        if before.strip():
            whole.append(before.strip())
        ends = [*(match.start() for match in labels[1:]), len(text)]
        for match, end in zip(labels, ends, strict=False):  # without a label, the end stands alone
            for name in match[1].split(", "):
                found[name] = text[match.end() : end].strip().rstrip(".;")
    for base in cls.__mro__[1:]:  # what a model inherits is explained where it comes from
        if issubclass(base, BaseModel) and known - found.keys() and base.__doc__ and base.model_fields:
            inherited = meanings(base)[1]
            found |= {name: text for name, text in inherited.items() if name in known and name not in found}
    silent = sorted(known - found.keys())
    if silent:
        message = f"the docstring of {cls.__name__} says nothing about {', '.join(silent)}"
        raise LookupError(message)
    return "\n\n".join(whole), found


def default_of(cls: type[BaseModel], name: str) -> str:
    """The default as a contract or a settings file would write it."""
    info = cls.model_fields[name]
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel) or value is PydanticUndefined:
        return "its defaults"
    return f"`{json.dumps(to_jsonable_python(value))}`"


def paragraph(text: str) -> str:
    """Text of several lines as one."""
    return " ".join(text.split())


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
