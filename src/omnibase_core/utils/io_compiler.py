"""What all IO configs need to be compiled: reading their texts, collecting problems, building contexts."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from omnibase_core.grammar.template_text import Hole, Template, TemplateError, parse_template
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.models.contracts.subcontracts.effect_io_configs import HEADER_NAME
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedContext
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.json_templates import json_text, nearly_json_text
from omnibase_core.utils.templates import (
    Encoder,
    Part,
    Renderer,
    Scope,
    header_value,
    is_header_text,
    text_of,
)

MAX_PLACEHOLDERS: Final = 1_000
"""Placeholders of one text."""
MAX_URL_LENGTH: Final = 8_192
"""Characters of a URL template (RFC 9110, 4.1, asks everybody to support 8000 octets)."""

Value = Callable[[Scope], object]
Resolver = Callable[[Scope], tuple[ModelResolvedContext, str]]
"""Scope -> (resolved context, target whose retry budget an attempt draws on)."""


@dataclass(slots=True)
class IoPlan:
    """A compiled IO config.

    holes: every placeholder with the key path of the text that holds it. target: None when known only at run time.
    secret_names: what must be fetched before resolving.
    """

    resolve: Resolver
    target: str | None
    holes: list[tuple[KeyPath, Hole]]
    secret_names: frozenset[str] = frozenset()


@dataclass(slots=True)
class Compiler:
    """Collects the placeholders and the problems of one IO config while its fields are compiled."""

    report: Callable[[Breach], None]
    operation_name: str
    holes: list[tuple[KeyPath, Hole]] = field(default_factory=list)

    def parse(self, text: str, *path: str | int) -> Template:
        """The parsed template; after a problem an empty one, so that the other fields are judged as well."""
        if len(text) > 2 * MAX_PLACEHOLDERS and text.count("${") > MAX_PLACEHOLDERS:
            self.report(
                Breach(
                    "E-LIMIT",
                    f"{path[-1]} has more than {MAX_PLACEHOLDERS} placeholders",
                    path,
                    found=str(text.count("${")),
                    allowed=f"at most {MAX_PLACEHOLDERS}",
                    fix="pass the data as one value: ${input.<name>}",
                )
            )
            return ()
        try:
            template = parse_template(text)
        except TemplateError as error:
            self.problem(error, *path)
            return ()
        for part in template:
            if type(part) is Hole:
                self.holes.append((path, part))
        return template

    def problem(self, error: TemplateError, *path: str | int) -> None:
        for problem in error.problems:
            self.report(Breach(problem.code, problem.message, (*path, Offset(problem.offset)), fix=problem.fix))

    def literal(self, text: str, *path: str | int) -> str:
        """A text that takes no placeholder."""
        if "${" in text.replace("$${", ""):
            name = path[-1]
            self.report(
                Breach(
                    "E-LITERAL",
                    f"{name} is literal: found a placeholder",
                    path,
                    found=repr(text),
                    fix="write the value",
                )
            )
        return text

    def text(self, text: str, encode: Encoder, *path: str | int) -> Part:
        return text_of(self.parse(text, *path), encode)

    def header(self, text: str, *path: str | int) -> Part:
        """A header value; what the contract itself writes is held to the same letters as what is put in."""
        template = self.parse(text, *path)
        for part in template:
            if isinstance(part, str) and not is_header_text(part):
                self.report(
                    Breach(
                        "E-HEADER-VALUE",
                        "a header value holds visible ASCII, space and tab only",
                        path,
                        found=repr(part),
                        fix="write it on one line (a YAML block '|' ends with a line break)",
                    )
                )
        return text_of(template, header_value)

    def headers(self, texts: Mapping[str, str]) -> dict[str, Part]:
        """Header values by name; names differ in more than case."""
        seen: set[str] = set()
        for name in texts:
            if name.lower() in seen:
                self.report(
                    Breach("E-HEADER-TWICE", f"{name} is given twice", ("headers", name), fix="keep one of them")
                )
            seen.add(name.lower())
        return {name: self.header(text, "headers", name) for name, text in texts.items()}

    def header_name(self, name: str, *path: str | int) -> None:
        if not HEADER_NAME.fullmatch(name):
            self.report(Breach("E-HEADER-NAME", f"header name {name!r} is not a token", path, found=repr(name)))

    def names(self, texts: Iterable[str], *path: str | int) -> None:
        """Names are the contract's own; only values take placeholders."""
        for name in texts:
            self.literal(name, *path, name)


def _dynamic(parts: Mapping[str, Part]) -> tuple[dict[str, str], tuple[tuple[str, Renderer], ...]]:
    """Constants and closures of a map of texts, apart."""
    constants = {name: part for name, part in parts.items() if isinstance(part, str)}
    return constants, tuple((name, part) for name, part in parts.items() if not isinstance(part, str))


def mapping_value(parts: Mapping[str, Part]) -> tuple[dict[str, str], Value | None]:
    constants, dynamic = _dynamic(parts)
    if not dynamic:
        return constants, None
    in_order = {name: constants.get(name, "") for name in parts}

    def render(scope: Scope) -> dict[str, str]:
        values = in_order.copy()
        for name, part in dynamic:
            values[name] = part(scope)
        return values

    return constants, render


def builder(
    cls: type[ModelResolvedContext], constants: dict[str, object], dynamic: dict[str, Value], target: str
) -> Resolver:
    """The resolver of a context whose fields are independent of each other."""
    ready = ready_values(cls, constants)
    fields_set = set(constants) | set(dynamic)
    changing = tuple((own_copies(ready, dynamic) | dynamic).items())

    def resolve(scope: Scope) -> tuple[ModelResolvedContext, str]:
        values = ready.copy()
        for name, value in changing:
            values[name] = value(scope)
        return trusted(cls, values, fields_set), target

    return resolve


def ready_values(cls: type[ModelResolvedContext], constants: Mapping[str, object]) -> dict[str, object]:
    """All fields of a context in the order of their declaration, defaults where nothing is given."""
    ready = {**_defaults(cls), **constants}
    for name, value in ready.items():
        if name not in constants and type(value) in {list, dict}:
            ready[name] = copy(value)
    return ready


@cache
def _defaults(cls: type[ModelResolvedContext]) -> dict[str, object]:
    """All fields of a context in the order of their declaration; None where a value is required."""
    fields = cls.model_fields.items()
    return {
        name: None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
        for name, info in fields
    }


def own_copies(ready: Mapping[str, object], dynamic: Mapping[str, Value]) -> dict[str, Value]:
    """Constant lists and maps are copied for each context: a handler that changes its own changes no other."""
    return {
        name: _copier(value) for name, value in ready.items() if name not in dynamic and isinstance(value, list | dict)
    }


def _copier(value: list[object] | dict[object, object]) -> Value:
    return lambda _scope: value.copy()


def split_parts(parts: Mapping[str, Part | Value | None]) -> tuple[dict[str, object], dict[str, Value]]:
    constants: dict[str, object] = {}
    dynamic: dict[str, Value] = {}
    for name, part in parts.items():
        if part is None or isinstance(part, str):
            constants[name] = part
        else:
            dynamic[name] = part
    return constants, dynamic


def judge_text(text: str, headers: Mapping[str, str]) -> tuple[bool, bool]:
    """(whether a text is JSON, whether its Content-Type says so). One that is known only at run time says nothing."""
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    if content_type is None or "${" in content_type:
        return text.lstrip()[:1] in {"{", "["}, False
    declared = _is_json(content_type)
    return declared, declared


def json_or_nearly(template: Template, compiler: Compiler, name: str, *, must_parse: bool) -> Part:
    try:
        return json_text(template)
    except TemplateError as error:
        if must_parse or any(problem.code != "E-JSON" for problem in error.problems):
            compiler.problem(error, name)
            return ""
        for problem in error.problems:
            compiler.report(Breach("W-JSON", problem.message, (name,), fix=problem.fix, severity="warning"))
    return nearly_json_text(template)


def _is_json(content_type: str) -> bool:
    kind = content_type.split(";", 1)[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")
