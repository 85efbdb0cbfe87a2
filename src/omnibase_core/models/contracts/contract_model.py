"""The base of everything that a contract holds, and the rules that one field alone cannot state.

Types, bounds and vocabularies are pydantic's business. A rule over several fields or over the content of a text is a
`Rule`: a generator of `Breach`es over a model. Building a model in Python raises the first breach as `ModelOnexError`;
the contract loader judges the same rules itself, on every part whose needed fields are well-formed, and collects all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Generic, Self, TypeVar

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, ValidationInfo, model_serializer, model_validator

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictText

KeyPath = tuple[str | int, ...]


class Offset(int):
    """Last element of a breach's path: characters into the text there, by which the loader refines the place."""


LOADER = object()
"""Validation context of the contract loader, which runs the rules itself and so does not want them to raise."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that a contract breaks. `path` is relative to the model that was judged."""

    code: str
    message: str
    path: KeyPath = ()
    found: str = ""
    allowed: str = ""
    fix: str = ""
    severity: str = "error"


M_contra = TypeVar("M_contra", bound="ContractModel", contravariant=True)


@dataclass(frozen=True, slots=True)
class Rule(Generic[M_contra]):
    """A check of one model. It is judged when all fields that it `needs` are well-formed.

    in_python: only where a model is built in Python; in a contract a rule of the whole knows better.
    """

    needs: tuple[str, ...]
    check: Callable[[M_contra], Iterator[Breach]]
    in_python: bool = False


class ContractModel(FrozenModel):
    """Frozen data of a contract. Equality, hash and dump use the fields that were set, as inheritance of policies
    does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: ClassVar[tuple[Rule[Self], ...]] = ()
    not_built: ClassVar[tuple[str, ...]] = ()
    """Fields of the specification that are refused, because nothing carries them out yet."""

    @model_validator(mode="after")
    def _raise_first_breach(self, info: ValidationInfo) -> Self:
        loading = info.context is LOADER
        self._complete(loading=loading)
        if not loading and self.rules:
            for rule in self.rules:
                for breach in rule.check(self):
                    if breach.severity == "error":
                        raise ModelOnexError(
                            breach.message + (f" ({breach.fix})" if breach.fix else ""),
                            EnumCoreErrorCode.VALIDATION_ERROR,
                            {
                                "rule": breach.code,
                                "path": ".".join(str(key) for key in breach.path if not isinstance(key, Offset)),
                                "found": breach.found,
                            },
                        )
        return self

    def _complete(self, *, loading: bool) -> None:
        """Fill in defaults that depend on other fields; they still count as unset.

        loading: the loader builds the model, so that nobody else holds its parts.
        """

    @model_serializer(mode="wrap")
    def _dump_what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        dumped: dict[str, object] = handler(self)
        kept = self.model_fields_set
        return {name: value for name, value in dumped.items() if name in kept or name == "handler_type"}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, ContractModel):
            return NotImplemented
        names = self.model_fields_set
        return names == other.model_fields_set and all(getattr(self, n) == getattr(other, n) for n in names)

    def __hash__(self) -> int:
        return hash((type(self), self.model_dump_json()))


CONTRACT_KINDS: Final = ("effect_subcontract", "compute_subcontract", "reducer_subcontract", "orchestrator_subcontract")
"""Keys of which a contract file has exactly one."""


class ContractFile(ContractModel):
    """The root of a contract file: how the file as a whole is called, beside the contract itself.

    name: what tools call the file. description: for the reader. version: of the file, apart from the contract's own.
    """

    name: Annotated[StrictText, Field(min_length=1, max_length=100)] | None = None
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    version: Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] | None = None
