"""What may stand where in a contract, read off the models, for those who must say it in plain words.

A model says yes or no to a part as a whole. When it says no, this module goes down into the part, field by field, and
asks the same models about each: so every problem has its own finding, unions give one and not one per branch, and what
is well-formed is kept as a partial model by which the rules are judged all the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache, cached_property
from types import NoneType, UnionType
from typing import Annotated, Final, Literal, Union, cast, get_args, get_origin
from uuid import UUID

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BeforeValidator, JsonValue, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from omnibase_core.models.contracts.contract_model import LOADER, ContractModel, KeyPath
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectOperation
from omnibase_core.models.contracts.workflow_parts import VERSION_SPECIFIER
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.contract_findings import Findings, did_you_mean, kind_of, show


class _Bad:
    """Stands for a value that is not well-formed, and has been reported."""


_BAD: Final = _Bad()

_PATTERN_WORDS: Final = {
    r"^[0-9]+\.[0-9]+\.[0-9]+$": "a version of three numbers in quotes, such as '1.0.0'",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and _, not beginning with a digit",
    r"^[A-Za-z0-9._-]+$": "letters, digits, '.', '_' and '-' (literal, no placeholder)",
    r"^0?[0-7]{3,4}$": "permission bits as an octal text in quotes, such as '0644'",
    "^[A-Za-z_][A-Za-z0-9_-]*$": "letters, digits, '_' and '-', beginning with a letter or '_'",
    VERSION_SPECIFIER: "a version specifier such as '>=1.2,<2' (PEP 440)",
    "^[0-9a-f]{64}$": "64 hexadecimal digits in lower case",
}
_NOT_BUILT_VALUES: Final = {("response_format", "stream")}
_BOOLEAN_WORDS: Final = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


@dataclass(frozen=True)
class Shape:
    """What one field, entry or value takes: any of its branches."""

    annotation: object
    allowed: str
    vocabulary: tuple[str, ...] = ()
    scalars: frozenset[type] = frozenset()
    nullable: bool = False
    model: type[ContractModel] | None = None
    tag: str = ""
    tagged: Mapping[str, type[ContractModel]] | None = None
    items: "Shape | None" = None
    least: int = 0
    most: int | None = None
    keys: "Shape | None" = None
    values: "Shape | None" = None

    @cached_property
    def adapter(self) -> TypeAdapter[object]:
        """Pydantic's judgement of this value alone; made when first asked for, because it is dear."""
        return TypeAdapter(self.annotation)  # type: ignore[arg-type]  # an annotation that a model has


@dataclass(frozen=True, slots=True)
class FieldShape:
    """A field of a model; `key` is how contracts spell it."""

    name: str
    key: str
    info: FieldInfo
    shape: Shape


@cache
def fields_of(cls: type[ContractModel]) -> dict[str, FieldShape]:
    """The fields of a model by the key that contracts use."""
    fields = {}
    for name, info in cls.model_fields.items():
        key = info.alias or name
        fields[key] = FieldShape(name, key, info, _shape(_whole(info)))
    return fields


def _whole(info: FieldInfo) -> object:
    """The annotation of a field with all that the field adds to it."""
    extra = [*info.metadata]
    if info.discriminator is not None:
        extra.append(FieldInfo(annotation=None, discriminator=info.discriminator))
    return Annotated[(info.annotation, *extra)] if extra else info.annotation


def words_of(annotation: object) -> str:
    """What a value of this annotation may be, such as `a whole number from 1 to 10`."""
    return _shape(annotation).allowed


_Branch = tuple[object, tuple[object, ...]]


def _branches(annotation: object, metadata: tuple[object, ...] = ()) -> Iterator[_Branch]:
    if get_origin(annotation) is Annotated:
        base, *extra = get_args(annotation)
        flat: list[object] = []
        for item in extra:
            flat += [item, *item.metadata] if isinstance(item, FieldInfo) else [item]
        yield from _branches(base, (*metadata, *flat))
    elif get_origin(annotation) in {Union, UnionType} and not any(
        isinstance(item, FieldInfo) and item.discriminator for item in metadata
    ):
        for branch in get_args(annotation):
            yield from _branches(branch, metadata)
    else:
        yield annotation, metadata


def _shape(annotation: object) -> Shape:
    parts: dict[str, object] = {}
    words: list[str] = []
    scalars: set[type] = set()
    vocabulary: list[str] = []
    for base, metadata in _branches(annotation):
        tag = next(
            (item.discriminator for item in metadata if isinstance(item, FieldInfo) and item.discriminator), None
        )
        if base is NoneType:
            parts["nullable"] = True
        elif isinstance(tag, str):
            models = [cast("type[ContractModel]", model) for model in get_args(base)]  # a union of models, by its tag
            parts |= {"tag": tag, "tagged": {name: model for model in models for name in _tags(model, tag)}}
            words.append("a mapping")
        elif isinstance(base, type) and issubclass(base, ContractModel):
            parts["model"] = base
            if any(isinstance(item, BeforeValidator) for item in metadata):
                words.append("a text")
                scalars.add(str)
            words.append("a mapping")
        elif get_origin(base) is list:
            parts |= {"items": _shape(get_args(base)[0]), **_lengths(metadata)}
            words.append("a list")
        elif get_origin(base) is dict:
            keys, values = map(_shape, get_args(base))
            parts |= {"keys": keys, "values": values, **_lengths(metadata)}
            words.append("a mapping")
        elif get_origin(base) is Literal or (isinstance(base, type) and issubclass(base, Enum)):
            members = get_args(base) if get_origin(base) is Literal else cast("type[Enum]", base)  # one of the two
            vocabulary += [str(member.value if isinstance(member, Enum) else member) for member in members]
        else:
            scalars |= {base} if isinstance(base, type) else {str, int, float, bool}
            words += _scalar_words(base, metadata, vocabulary)
    if {str, bool, int, float} <= scalars and "any JSON value" not in words:
        words = [
            "a scalar (text, number, true, false or null)",
            *(word for word in words if word in {"a list", "a mapping"}),
        ]
        parts["nullable"] = True
    elif vocabulary:
        scalars.add(str)
        words.insert(0, ", ".join(vocabulary))
    if parts.get("nullable") and words and not words[0].startswith("a scalar"):
        words.append("null")
    return Shape(
        annotation,
        " or ".join(dict.fromkeys(words)),
        tuple(vocabulary),
        frozenset(scalars),
        **parts,  # type: ignore[arg-type]  # keyword parts of the dataclass, collected above
    )


def _tags(model: type[ContractModel], tag: str) -> list[str]:
    return [str(m.value if isinstance(m, Enum) else m) for m in get_args(model.model_fields[tag].annotation)]


def _lengths(metadata: tuple[object, ...]) -> dict[str, int]:
    lengths = {}
    for item in metadata:
        if isinstance(item, MinLen):
            lengths["least"] = item.min_length
        elif isinstance(item, MaxLen):
            lengths["most"] = item.max_length
    return lengths


def _scalar_words(base: object, metadata: tuple[object, ...], vocabulary: list[str]) -> list[str]:
    if base is bool:
        return ["true or false"]
    if base is UUID:
        return ["a UUID such as '6f4d1f0e-5f0b-4d53-9f0a-0e1c5a7d2b11'"]
    if base is datetime:
        return ["a date and time such as '2026-01-31T12:00:00Z'"]
    low = next((item.ge for item in metadata if isinstance(item, Ge)), None)
    high = next((item.le for item in metadata if isinstance(item, Le)), None)
    if base in {int, float}:
        word = "a whole number" if base is int else "a number"
        if low is not None and high is not None:
            return [f"{word} from {low} to {high}"]
        return [word + (f" of at least {low}" if low is not None else "")]
    if base is not str:
        return ["any JSON value"]
    pattern = next((found for item in metadata if isinstance(found := getattr(item, "pattern", None), str)), None)
    if pattern is not None and pattern.startswith("^(") and pattern.endswith(")$"):
        vocabulary += pattern[2:-2].split("|")
        return []
    lengths = _lengths(metadata)
    text = "a text" if pattern is None else _PATTERN_WORDS.get(pattern, f"a text that matches {pattern}")
    if "most" in lengths:
        return [f"{text}, {lengths.get('least', 0)} to {lengths['most']} characters"]
    return [f"{text} of at least {lengths['least']} character" if lengths.get("least") else text]


class PartJudge:
    """Goes down into what the models refused; `findings` gets one entry per problem."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def model(self, cls: type[ContractModel], data: Mapping[str, JsonValue], path: KeyPath) -> ContractModel:
        """The model of `data`; when something is wrong, one that holds the well-formed fields only."""
        try:
            return cls.model_validate(data, context=LOADER)
        except ValidationError:
            pass
        before = self.findings.count
        fields = fields_of(cls)
        values: dict[str, object] = {}
        for key, value in data.items():
            field = fields.get(key)
            if field is None:
                self._unknown(cls, key, (*path, key), data)
                continue
            judged = self.value(field.shape, value, (*path, key))
            if judged is not _BAD:
                values[field.name] = judged
        fields_set = set(values)
        for field in fields.values():
            if field.key in data:
                continue
            if field.info.is_required():
                self._missing(field, path)
            else:
                values[field.name] = field.info.get_default(call_default_factory=True, validated_data={})
        if self.findings.count == before:  # the models and this module disagree; the models are right
            self.findings.add("E-VALUE", f"{_spelled(path)} is not well-formed", path, found=show(dict(data)))
        if cls is ModelEffectOperation:
            _rescue(values, data, path)
        return trusted(cls, values, fields_set)

    def value(self, shape: Shape, value: JsonValue, path: KeyPath) -> object:
        """The value as the model would hold it, a partial model, or `_BAD`."""
        if isinstance(value, dict):
            if shape.tagged is not None:
                return self._tagged(shape, shape.tagged, value, path)
            if shape.model is not None:
                return self.model(shape.model, value, path)
            if shape.keys is not None and shape.values is not None:
                inner = shape.values
                self._count(shape, value, path)
                for key in value:
                    self._key(shape.keys, key, path)
                entries = {key: self.value(inner, entry, (*path, key)) for key, entry in value.items()}
                return _BAD if _BAD in entries.values() else entries
        if isinstance(value, list) and shape.items is not None:
            return self._list(shape, shape.items, value, path)
        try:
            return shape.adapter.validate_python(value, context=LOADER)
        except ValidationError:
            self._wrong(shape, value, path)
            return _BAD

    def _key(self, shape: Shape, key: str, path: KeyPath) -> None:
        try:
            shape.adapter.validate_python(key, context=LOADER)
        except ValidationError:
            self.findings.add(
                "E-TEXT",
                f"{_spelled(path)}: the key {show(key)} is not well-formed",
                (*path, key),
                at="key",
                found=show(key),
                allowed=shape.allowed,
                fix=f"write {shape.allowed}",
            )

    def _count(self, shape: Shape, value: list[JsonValue] | dict[str, JsonValue], path: KeyPath) -> None:
        count = len(value)
        if count < shape.least or (shape.most is not None and count > shape.most):
            self.findings.add(
                "E-LENGTH",
                f"{_spelled(path)} has {count} entries",
                path,
                at="key",
                found=show(value),
                allowed=f"{shape.least} to {shape.most} entries" if shape.most else f"at least {shape.least}",
                fix="split the contract" if count else "add an entry",
            )

    def _list(self, shape: Shape, inner: Shape, value: list[JsonValue], path: KeyPath) -> object:
        self._count(shape, value, path)
        judged = [self.value(inner, entry, (*path, index)) for index, entry in enumerate(value[: shape.most])]
        if inner.model is ModelEffectOperation:  # operations keep their places, because findings name them by index
            return [_nothing(index) if entry is _BAD else entry for index, entry in enumerate(judged)]
        if inner.tag == "step_type":  # and so do steps, to which others refer by name
            return [_no_step(value[index]) if entry is _BAD else entry for index, entry in enumerate(judged)]
        return _BAD if _BAD in judged else judged

    def _tagged(
        self, shape: Shape, models: Mapping[str, type[ContractModel]], value: dict[str, JsonValue], path: KeyPath
    ) -> object:
        tag = shape.tag
        given = value.get(tag)
        allowed = ", ".join(models)
        if tag not in value:
            self.findings.add(
                "E-MISSING-FIELD",
                f"{tag} is missing",
                (*path, tag),
                allowed=allowed,
                fix=f"add {tag}: one of {allowed}",
            )
            return _BAD
        if not isinstance(given, str) or given not in models:
            custom = tag == "handler_type" and isinstance(given, str) and "." in given
            self.findings.add(
                "E-NOT-BUILT" if custom else "E-VALUE",
                "handler kinds of one's own are part of the specification but not built yet"
                if custom
                else f"Unknown {tag} {show(given)}",
                (*path, tag),
                found=show(given),
                allowed=allowed,
                fix=did_you_mean(str(given), models) or f"choose one of {allowed}",
            )
            return _BAD
        return self.model(models[given], value, path)

    def _unknown(self, cls: type[ContractModel], key: str, path: KeyPath, data: Mapping[str, JsonValue]) -> None:
        if key in cls.not_built:
            self.findings.add(
                "E-NOT-BUILT",
                f"{key} is part of the specification but not built yet",
                path,
                at="key",
                found=show(data[key]),
                fix=f"remove {key}",
            )
            return
        fields = fields_of(cls)
        free = [name for name in fields if name not in data]
        suggestion = did_you_mean(key, free) or did_you_mean(key, fields)
        self.findings.add(
            "E-UNKNOWN-FIELD",
            f"unknown field {show(key)}",
            path,
            at="key",
            found=show(key),
            allowed=", ".join(fields),
            fix=suggestion or "remove it",
        )

    def _missing(self, field: FieldShape, path: KeyPath) -> None:
        vocabulary = field.shape.vocabulary
        self.findings.add(
            "E-MISSING-FIELD",
            f"{field.key} is missing",
            (*path, field.key),
            allowed=field.shape.allowed,
            fix=f"add {field.key}: " + (f"one of {', '.join(vocabulary)}" if vocabulary else field.shape.allowed),
        )

    def _wrong(self, shape: Shape, value: JsonValue, path: KeyPath) -> None:
        name = _spelled(path)
        code, message, fix = self._explain(shape, value, path, name)
        self.findings.add(code, message, path, found=show(value), allowed=shape.allowed, fix=fix)

    def _explain(self, shape: Shape, value: JsonValue, path: KeyPath, name: str) -> tuple[str, str, str]:
        if isinstance(value, str) and (name, value) in _NOT_BUILT_VALUES:
            return "E-NOT-BUILT", f"{name}: {value} is part of the specification but not built yet", "choose another"
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        numeric = bool(shape.scalars & {int, float})
        if shape.vocabulary and (isinstance(value, str) or (is_number and str(value) not in shape.vocabulary)):
            fix = did_you_mean(str(value), shape.vocabulary) or f"choose one of {', '.join(shape.vocabulary)}"
            return "E-VALUE", f"Unknown {name} {show(value)}", fix
        if str in shape.scalars and isinstance(value, int | float):
            token = self.findings.token(path) or str(value).lower()
            return "E-TYPE", f"{name} must be a text, found {kind_of(value)}", f"put it in quotes: '{token}'"
        if numeric and is_number:
            if isinstance(value, float) and float not in shape.scalars:
                return "E-TYPE", f"{name} must be a whole number, found {show(value)}", f"write {shape.allowed}"
            return "E-BOUNDS", f"{name} is out of bounds: {show(value)}", f"write {shape.allowed}"
        if isinstance(value, str):
            if numeric and value.strip().lstrip("+-").replace(".", "", 1).isdecimal():
                return "E-TYPE", f"{name} must be a number, found a text", f"remove the quotes: {value.strip()}"
            if bool in shape.scalars:
                word = _BOOLEAN_WORDS.get(value.lower())
                fix = f"write {word}" if word else "write true or false"
                return "E-TYPE", f"{name} must be true or false, found a text", fix
            if str in shape.scalars or shape.scalars & {UUID, datetime}:
                return "E-TEXT", f"{name} is not well-formed: {show(value)}", f"write {shape.allowed}"
        return "E-TYPE", f"{name} must be {shape.allowed}, found {kind_of(value)}", f"write {shape.allowed}"


def _spelled(path: KeyPath) -> str:
    """The last key of a path, with the indexes behind it."""
    indexes = ""
    for step in reversed(path):
        if isinstance(step, str):
            return step + indexes
        indexes = f"[{step}]{indexes}"
    return indexes or "the contract"


def _rescue(values: dict[str, object], data: Mapping[str, JsonValue], path: KeyPath) -> None:
    """Give an operation that is not well-formed a name all the same, so that references to it are judged rightly."""
    if "operation_name" not in values:
        given = data.get("operation_name")
        values["operation_name"] = given if isinstance(given, str) else f"operations[{path[-1]}]"
    values.setdefault("depends_on", [])


def _nothing(index: int) -> ModelEffectOperation:
    """An entry of `operations` that is no mapping."""
    return trusted(ModelEffectOperation, {"operation_name": f"operations[{index}]", "depends_on": []}, set())


def _no_step(data: JsonValue) -> ContractModel:
    """An entry of `pipeline` of which nobody knows what kind of step it is: one that says nothing further."""
    from omnibase_core.enums.enum_compute import EnumComputeStepType  # contracts of other kinds do not need them
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeMappingStep

    values: dict[str, object] = {"step_type": EnumComputeStepType.MAPPING, "enabled": True}
    name = data.get("step_name") if isinstance(data, dict) else None
    if isinstance(name, str):
        values["step_name"] = name
    return trusted(ModelComputeMappingStep, values, set())
