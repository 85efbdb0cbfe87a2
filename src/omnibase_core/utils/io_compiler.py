"""What all IO configs need to be compiled: reading their texts, collecting problems, building contexts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

from omnibase_core.grammar.template_text import Hole, Template, TemplateError, parse_template
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.models.contracts.subcontracts.effect_io_configs import HEADER_NAME
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedContext
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.json_templates import json_text, nearly_json_text
from omnibase_core.utils.templates import (
    Encoder,
    Late,
    Made,
    Part,
    Scope,
    Value,
    header_value,
    is_header_text,
    text_of,
)

MAX_PLACEHOLDERS: Final = 1_000
"""Placeholders of one text."""
MAX_URL_LENGTH: Final = 8_192
"""Characters of a URL template (RFC 9110, 4.1, asks everybody to support 8000 octets)."""

Resolved = tuple[ModelResolvedContext, str]
"""(resolved context, target whose retry budget an attempt draws on)."""
Resolver = Callable[[Scope], Resolved]
Build = Callable[[], Resolver]


class IoPlan:
    """An IO config that was judged.

    resolve: its closures are built at the first call, which puts the real resolver in its place (twice, when two
    threads come first: that is harmless). target: None when known only at run time. holes: every placeholder with the
    key path of the text that holds it. secret_names: what must be fetched before resolving.
    """

    __slots__ = ("holes", "resolve", "secret_names", "target")
    resolve: Resolver

    def __init__(self, build: Build, target: str | None, holes: list[tuple[KeyPath, Hole]]) -> None:
        def first_time(scope: Scope) -> Resolved:
            self.resolve = resolve = build()
            return resolve(scope)

        self.resolve = first_time
        self.target = target
        self.holes = holes
        self.secret_names = frozenset([hole.path[0] for _, hole in holes if hole.source == "secret"])


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


def mapping_value(parts: Mapping[str, object]) -> dict[str, object] | Late:
    """A map of constants and `Late`s as one value."""
    constant = not any(isinstance(part, Late) for part in parts.values())
    return dict(parts) if constant else Made(partial(_mapping_renderer, parts))


def list_value(parts: Sequence[object]) -> list[object] | Late:
    """A list of constants and `Late`s as one value."""
    constant = not any(isinstance(part, Late) for part in parts)
    return list(parts) if constant else Made(partial(_list_renderer, parts))


def _list_renderer(parts: Sequence[object]) -> Value:
    fixed = tuple([part.emit() if isinstance(part, Late) else _constant(part) for part in parts])
    return lambda scope: [get(scope) for get in fixed]


def _constant(value: object) -> Value:
    return lambda _scope: value


def _mapping_renderer(parts: Mapping[str, object]) -> Value:
    changing = tuple([(name, part.emit()) for name, part in parts.items() if isinstance(part, Late)])
    in_order = dict(parts)

    def render(scope: Scope) -> dict[str, object]:
        values = in_order.copy()
        for name, value in changing:
            values[name] = value(scope)
        return values

    return render


def builder(cls: type[ModelResolvedContext], fields: Mapping[str, object], target: str) -> Resolver:
    """The resolver of a context whose fields, constants or `Late`, are independent of each other."""
    ready, changing = prepare(cls, fields)
    fields_set = set(fields)

    def resolve(scope: Scope) -> Resolved:
        values = ready.copy()
        for name, value in changing:
            values[name] = value(scope)
        return trusted(cls, values, fields_set), target

    return resolve


def prepare(
    cls: type[ModelResolvedContext], fields: Mapping[str, object]
) -> tuple[dict[str, object], tuple[tuple[str, Value], ...]]:
    """(all fields of a context in the order of their declaration, how those are made that each context has anew).

    Constant lists and maps are copied for each context: a handler that changes its own changes no other.
    """
    ready = {**_defaults(cls), **fields}
    copies = [(name, _copier(value)) for name, value in ready.items() if isinstance(value, list | dict)]
    late = [(name, value.emit()) for name, value in fields.items() if isinstance(value, Late)]
    return ready, (*copies, *late)


@cache
def _defaults(cls: type[ModelResolvedContext]) -> dict[str, object]:
    """All fields of a context in the order of their declaration; None where a value is required."""
    fields = cls.model_fields.items()
    return {
        name: None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
        for name, info in fields
    }


def _copier(value: list[object] | dict[object, object]) -> Value:
    return lambda _scope: value.copy()


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
