"""The transformations of compute pipelines: a typed config becomes a closure, once; no closure changes its input.

A value of the wrong type is a VALIDATION_ERROR that says what was expected and what was found, never the value.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import isfinite
from typing import Final, Literal, TypeVar, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import Hole, TemplateError, holes, parse_template
from omnibase_core.models.contracts.contract_model import Breach, Offset
from omnibase_core.models.contracts.subcontracts import compute_transformations as configs
from omnibase_core.utils.cel_expressions import CelError, CelProgram, compile_cel, keys_read
from omnibase_core.utils.compute_run import ComputeRun
from omnibase_core.utils.contract_findings import kind_of
from omnibase_core.utils.contract_hash import canonical_json
from omnibase_core.utils.extraction import Missing, PathError
from omnibase_core.utils.json_queries import Query, compile_query
from omnibase_core.utils.templates import Scope, scalar_text, text_of
from omnibase_core.utils.timed_regex import PatternError, check_replacement, compile_timed

Report = Callable[[Breach], None]
Transform = Callable[[JsonValue, ComputeRun], JsonValue]
C = TypeVar("C")
M = TypeVar("M")

_DIGITS: Final = re.compile(r"-?[0-9]{1,4300}")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
VALUE_NAMES: Final = ("value", "input", "steps")
ITEM_NAMES: Final = ("item", "input", "steps")


def wrong(expected: str, found: JsonValue, *, what: str = "the input") -> ModelOnexError:
    """The error of a value of the wrong type."""
    kind = kind_of(found)
    return ModelOnexError(
        f"{what} must be {expected}, found {kind}",
        EnumCoreErrorCode.VALIDATION_ERROR,
        {"expected": expected, "found": kind},
    )


def _failed(message: str) -> ModelOnexError:
    return ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def identity(value: JsonValue, _run: ComputeRun) -> JsonValue:
    return value


def compile_transformation(config: configs.TransformationConfig, visible: frozenset[str], report: Report) -> Transform:
    """The closure of a config. Breaches are relative to the config; where there is one, the closure is of no use.

    visible: names of the steps whose outputs may be read.
    """
    match config:
        case configs.ModelRegexConfig():
            return _regex(config, report)
        case configs.ModelCaseConversionConfig():
            return _on_text({"uppercase": str.upper, "lowercase": str.lower, "titlecase": str.title}[config.mode])
        case configs.ModelTrimConfig():
            return _on_text({"both": str.strip, "left": str.lstrip, "right": str.rstrip}[config.mode])
        case configs.ModelNormalizeUnicodeConfig():
            form = cast("Literal['NFC', 'NFD', 'NFKC', 'NFKD']", config.form)  # its pattern allows no other
            return _on_text(partial(unicodedata.normalize, form))
        case configs.ModelJsonPathConfig():
            return _json_path(config.path, report)
        case configs.ModelSplitConfig():
            return _split(config)
        case configs.ModelJoinConfig():
            return _join(config.separator)
        case configs.ModelTemplateConfig():
            return _template(config.template, visible, report)
        case configs.ModelTypeConversionConfig():
            return _CONVERSIONS[config.target_type]
        case configs.ModelFilterConfig():
            return _filter(config.expression, visible, report)
        case configs.ModelMapConfig():
            return _map(config.expression, visible, report)
        case configs.ModelSortConfig():
            return _sort(config, report)
        case configs.ModelGroupByConfig():
            return _group_by(config.key, report)
        case configs.ModelFlattenConfig():
            return _flatten(config.depth)
        case configs.ModelUniqueConfig():
            return _unique(config.key, report)
        case configs.ModelLimitConfig():
            return _limit(config.offset, config.offset + config.count)
        case configs.ModelArithmeticConfig():
            return _arithmetic(config.expression, visible, report)


# texts


def _on_text(change: Callable[[str], str]) -> Transform:
    def transform(value: JsonValue, _run: ComputeRun) -> JsonValue:
        if not isinstance(value, str):
            raise wrong("a text", value)
        return change(value)

    return transform


def _regex(config: configs.ModelRegexConfig, report: Report) -> Transform:
    replacement = config.replacement
    try:
        pattern = compile_timed(config.pattern, *config.flags)
    except PatternError as error:
        place = ("pattern", Offset(error.offset))
        report(Breach("E-REGEX", f"pattern cannot be read: {error} (at {error.offset})", place, fix="mend the pattern"))
        return identity
    try:
        check_replacement(pattern, replacement)
    except PatternError as error:
        report(
            Breach(
                "E-REGEX",
                f"replacement does not fit the pattern: {error}",
                ("replacement",),
                repr(replacement),
                "\\1 and \\g<name> of groups that the pattern has",
                "write \\\\ for a backslash",
            )
        )
        return identity

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        if not isinstance(value, str):
            raise wrong("a text", value)
        seconds = run.search_seconds()
        try:
            return pattern.sub(replacement, value, timeout=seconds)
        except TimeoutError:
            raise TimeoutError(f"the regular expression searched for {seconds * 1_000:.0f} ms") from None

    return transform


def _split(config: configs.ModelSplitConfig) -> Transform:
    separator, most = config.separator, -1 if config.max_splits is None else config.max_splits

    def transform(value: JsonValue, _run: ComputeRun) -> JsonValue:
        if not isinstance(value, str):
            raise wrong("a text", value)
        return cast("JsonValue", value.split(separator, most))  # lists are invariant

    return transform


def _join(separator: str) -> Transform:
    def transform(value: JsonValue, _run: ComputeRun) -> JsonValue:
        for index, item in enumerate(_items(value)):
            if not isinstance(item, str):
                raise wrong("a text", item, what=f"item {index}")
        return separator.join(cast("list[str]", value))  # looked at above

    return transform


def _template(text: str, visible: frozenset[str], report: Report) -> Transform:
    try:
        template = parse_template(text)
    except TemplateError as error:
        for problem in error.problems:
            report(Breach(problem.code, problem.message, ("template", Offset(problem.offset)), fix=problem.fix))
        return identity
    for hole in holes(template):
        if hole.source not in {"input", "output", "item"}:
            report(
                Breach(
                    "E-PURE",
                    f"{hole.text}: a computation reads nothing from outside",
                    ("template", Offset(hole.offset)),
                    found=hole.source,
                    allowed="input, output, item",
                    fix="pass the value in the input",
                )
            )
        elif hole.source == "output" and (not hole.path or hole.path[0] not in visible):
            report(unknown_step(hole.path[0] if hole.path else "", visible, ("template", Offset(hole.offset))))
    part = text_of(tuple(piece if isinstance(piece, str) else _below_output(piece) for piece in template), scalar_text)
    if isinstance(part, str):
        constant = part
        return lambda _value, _run: constant
    render = part.emit()

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        scope = Scope(
            cast("Mapping[str, object]", run.input),  # a getter copes with an input that is no mapping
            cast("dict[str, Mapping[str, object]]", run.outputs),  # and with any output
            _NOTHING,
            _NOTHING,
            item=value,
        )
        return render(scope)

    return transform


_NOTHING: Final[Mapping[str, str]] = {}


def _below_output(hole: Hole) -> Hole:
    """`${output.<step>.output...}` is the step's output; a field of it may also follow the step's name."""
    if hole.source == "output" and hole.path[1:2] == ("output",):
        return hole._replace(path=(hole.path[0], *hole.path[2:]))
    return hole


def unknown_step(name: str, visible: frozenset[str], path: tuple[str | int, ...]) -> Breach:
    """The breach of a reference to a step whose output is not there yet, or not at all."""
    return Breach(
        "E-UNKNOWN-STEP",
        f"there is no earlier step {name!r}",
        path,
        repr(name),
        ", ".join(sorted(visible)) or "no step stands before this one",
        "refer to an enabled step that stands before this one, outside of other branches",
    )


# scalars


def _to_text(value: JsonValue, _run: ComputeRun) -> JsonValue:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float):
        raise wrong("a text, a number or a boolean", value)
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:  # NaN, or more digits than the interpreter writes
        raise _failed(f"the number has no text: {error}") from None


def _to_integer(value: JsonValue, _run: ComputeRun) -> JsonValue:
    if isinstance(value, bool):
        raise wrong("a text of digits or a number without a fraction", value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not value.is_integer():
            raise _failed("the number has a fraction, and nothing is rounded")
        return int(value)
    if not isinstance(value, str):
        raise wrong("a text of digits or a number without a fraction", value)
    if not _DIGITS.fullmatch(value):
        raise _failed("the text is no whole number: digits, with a minus sign at most")
    return int(value)


def _to_number(value: JsonValue, _run: ComputeRun) -> JsonValue:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise wrong("a number or the text of one", value)
    if not _NUMBER.fullmatch(value):
        raise _failed("the text is no number as JSON writes it")
    if _DIGITS.fullmatch(value):
        return int(value)
    number = float(value)
    if not isfinite(number):
        raise _failed("the text is a number beyond the range of a double")
    return number


def _to_boolean(value: JsonValue, _run: ComputeRun) -> JsonValue:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise wrong("a boolean or a text", value)
    if value not in {"true", "false"}:
        raise _failed("the text is neither true nor false")
    return value == "true"


_CONVERSIONS: Final[Mapping[str, Transform]] = {
    "text": _to_text,
    "integer": _to_integer,
    "number": _to_number,
    "boolean": _to_boolean,
}


# lists and documents


def _items(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise wrong("a list", value)
    return value


def query_of(path: str, place: tuple[str | int, ...], report: Report) -> Query:
    """The query of a path in a contract."""
    try:
        return compile_query(path)
    except PathError as error:
        report(Breach("E-PATH", f"path cannot be read: {error}", place, repr(path), "a JSONPath (RFC 9535)", "mend it"))
        return lambda document, _deadline: document


def _json_path(path: str, report: Report) -> Transform:
    find = query_of(path, ("path",), report)

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        found = find(value, run.deadline)
        if isinstance(found, Missing):
            raise nothing_at(path)
        return found

    return transform


def nothing_at(path: str, what: str = "the input") -> ModelOnexError:
    return ModelOnexError(f"there is nothing at {path} in {what}", EnumCoreErrorCode.EXTRACTION_ERROR, {"path": path})


Key = Callable[[int, JsonValue, ComputeRun], JsonValue]


def _key_of(path: str | None, report: Report) -> Key:
    """What an item is sorted, grouped or compared by."""
    if path is None:
        return lambda _index, item, _run: item
    find = query_of(path, ("key",), report)

    def key(index: int, item: JsonValue, run: ComputeRun) -> JsonValue:
        found = find(item, run.deadline)
        if isinstance(found, Missing):
            raise nothing_at(path, f"item {index}")
        return found

    return key


def _sort(config: configs.ModelSortConfig, report: Report) -> Transform:
    key_of, backwards = _key_of(config.key, report), config.order == "descending"

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        items = _items(value)
        keys = [key_of(index, item, run) for index, item in enumerate(items)]
        texts = bool(keys) and isinstance(keys[0], str)
        for index, key in enumerate(keys):
            what = f"item {index}" if config.key is None else f"{config.key} of item {index}"
            if isinstance(key, bool) or not isinstance(key, str if texts else int | float):
                raise wrong(("a text" if texts else "a number") if index else "a text or a number", key, what=what)
            if key != key:  # noqa: PLR0124  # NaN has no place in an order
                raise _failed(f"{what} is not a number (NaN), which has no place in an order")
        run.check_time()
        order = sorted(range(len(items)), key=cast("list[int]", keys).__getitem__, reverse=backwards)  # all of a kind
        return [items[index] for index in order]

    return transform


def _group_by(path: str, report: Report) -> Transform:
    key_of = _key_of(path, report)

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        groups: dict[str, list[JsonValue]] = {}
        kinds: dict[str, type] = {}
        for index, item in enumerate(_items(value)):
            key = key_of(index, item, run)
            if not isinstance(key, str | int):
                raise wrong("a text, a whole number or a boolean", key, what=f"{path} of item {index}")
            name = key if isinstance(key, str) else json.dumps(key)
            if kinds.setdefault(name, type(key)) is not type(key):
                raise _failed(f"{path} of item {index}: the key {name} is a text in one item and not in another")
            groups.setdefault(name, []).append(item)
        return cast("JsonValue", groups)  # dicts are invariant

    return transform


def _flatten(depth: int) -> Transform:
    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        flat = _items(value)
        for _ in range(depth):
            if not any(isinstance(item, list) for item in flat):
                break
            deeper: list[JsonValue] = []
            for item in flat:
                if isinstance(item, list):
                    run.check_time()
                    deeper.extend(item)
                else:
                    deeper.append(item)
            flat = deeper
        return flat

    return transform


def _unique(path: str | None, report: Report) -> Transform:
    key_of = _key_of(path, report)

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        kept: dict[object, JsonValue] = {}
        for index, item in enumerate(_items(value)):
            kept.setdefault(_comparable(key_of(index, item, run)), item)
        return list(kept.values())

    return transform


def _comparable(value: JsonValue) -> object:
    """Equal for values that are equal in JSON, and hashable. A text stands for itself, what is none never for one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict) or value is None:
        return (canonical_json(value),)
    return (value,)


def _limit(start: int, end: int) -> Transform:
    def transform(value: JsonValue, _run: ComputeRun) -> JsonValue:
        return _items(value)[start:end]

    return transform


# expressions


def program_of(
    text: str, names: tuple[str, ...], visible: frozenset[str], place: str, report: Report, *, condition: bool = False
) -> CelProgram | None:
    """The program of an expression in a contract; None when it was refused.

    visible: names of the steps whose outputs it may read.
    """
    try:
        program = compile_cel(text, names, condition=condition)
    except CelError as error:
        report(Breach("E-CEL", error.message, (place, Offset(error.offset)), repr(text), ", ".join(names), error.fix))
        return None
    unknown = [(name, offset) for name, offset in keys_read(text, "steps") if name not in visible]
    for name, offset in unknown:
        report(unknown_step(name, visible, (place, Offset(offset))))
    return None if unknown else program


def _filter(text: str, visible: frozenset[str], report: Report) -> Transform:
    program = program_of(text, ITEM_NAMES, visible, "expression", report, condition=True)
    if program is None:
        return identity
    judged = _each(program.holds)
    return lambda value, run: [item for item, holds in judged(value, run) if holds]


def _map(text: str, visible: frozenset[str], report: Report) -> Transform:
    program = program_of(text, ITEM_NAMES, visible, "expression", report)
    if program is None:
        return identity
    evaluated = _each(program.evaluate)
    return lambda value, run: [made for _, made in evaluated(value, run)]


def _each(
    evaluate: Callable[[dict[str, JsonValue]], M],
) -> Callable[[JsonValue, ComputeRun], Iterator[tuple[JsonValue, M]]]:
    """Every item with what an expression makes of it; time is checked, and an error names the item."""

    def pairs(value: JsonValue, run: ComputeRun) -> Iterator[tuple[JsonValue, M]]:
        roots: dict[str, JsonValue] = {"input": run.input, "steps": run.outputs}
        for index, item in enumerate(_items(value)):
            run.check_time()
            roots["item"] = item
            try:
                made = evaluate(roots)
            except ModelOnexError as error:
                raise _at_item(index, error) from error
            yield item, made

    return pairs


def _at_item(index: int, error: ModelOnexError) -> ModelOnexError:
    return ModelOnexError(f"item {index}: {error.message}", error.error_code, {**error.context, "item": index})


def _arithmetic(text: str, visible: frozenset[str], report: Report) -> Transform:
    program = program_of(text, VALUE_NAMES, visible, "expression", report)
    if program is None:
        return identity
    evaluate = program.evaluate

    def transform(value: JsonValue, run: ComputeRun) -> JsonValue:
        return evaluate({"value": value, "input": run.input, "steps": run.outputs})

    return transform
