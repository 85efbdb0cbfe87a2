"""What a transformation step needs to know: one model per transformation type, told apart by `config_type` (3.1)."""

from typing import Annotated, Literal

from pydantic import Field

from omnibase_core.enums.enum_compute import EnumRegexFlag, EnumTransformationType
from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.primitives.strict_types import StrictText

_Nonempty = Annotated[StrictText, Field(min_length=1)]
_Expression = Annotated[StrictText, Field(min_length=1, max_length=10_000)]
_Path = Annotated[StrictText, Field(min_length=1, max_length=1_000)]


class ModelRegexConfig(ContractModel):
    r"""Replace every match in a text.

    pattern: a regular expression of the package `regex`. replacement: `\1` and `\g<name>` are groups. flags: as in
    Python. A search ends after the step's time limit, or after a second where there is none.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.REGEX]
    pattern: Annotated[StrictText, Field(min_length=1, max_length=1_000)]
    replacement: StrictText = ""
    flags: list[EnumRegexFlag] = Field(default_factory=list)


class ModelCaseConversionConfig(ContractModel):
    """Change the case of a text.

    mode: uppercase, lowercase or titlecase, where each run of letters begins with a capital.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.CASE_CONVERSION]
    mode: Annotated[StrictText, Field(pattern="^(uppercase|lowercase|titlecase)$")]


class ModelTrimConfig(ContractModel):
    """Remove white space of a text.

    mode: at which end.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.TRIM]
    mode: Annotated[StrictText, Field(pattern="^(both|left|right)$")] = "both"


class ModelNormalizeUnicodeConfig(ContractModel):
    """Bring a text into a normal form of Unicode.

    form: which.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.NORMALIZE_UNICODE]
    form: Annotated[StrictText, Field(pattern="^(NFC|NFD|NFKC|NFKD)$")] = "NFC"


class ModelJsonPathConfig(ContractModel):
    """Take values out of a document.

    path: RFC 9535. One of names and indexes gives the value there, and nothing there is an error; any other gives the
    list of all matches, which may be empty.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.JSON_PATH]
    path: _Path


class ModelSplitConfig(ContractModel):
    """Cut a text into a list.

    separator: where; it is left out. max_splits: the rest stays in the last piece; null is no limit.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.SPLIT]
    separator: _Nonempty = ","
    max_splits: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None


class ModelJoinConfig(ContractModel):
    """Join a list of texts.

    separator: what stands between two of them.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.JOIN]
    separator: StrictText = ","


class ModelTemplateConfig(ContractModel):
    """Write a text.

    template: `${item}` is what the step receives, `${input...}` the pipeline's input, `${output.<step>.output}` the
    output of an earlier step, `${output.<step>.<field>}` a field of it. Lists and mappings have no text of their own.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.TEMPLATE]
    template: StrictText


class ModelTypeConversionConfig(ContractModel):
    """Turn a scalar into another type.

    target_type: text from text, number and boolean (`true`, `false`); integer from a text of digits, and from a number
    without a fraction; number from its JSON text; boolean from the texts `true` and `false`. Nothing is rounded.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.TYPE_CONVERSION]
    target_type: Annotated[StrictText, Field(pattern="^(text|integer|number|boolean)$")]


class ModelFilterConfig(ContractModel):
    """Keep some items of a list.

    expression: condition in CEL over `item`, `input` and `steps`; those for which it is true stay.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.FILTER]
    expression: _Expression


class ModelMapConfig(ContractModel):
    """Replace each item of a list.

    expression: what stands in its place, in CEL over `item`, `input` and `steps`.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.MAP]
    expression: _Expression


class ModelSortConfig(ContractModel):
    """Sort a list of texts or of numbers, or of items by such a value; equal ones keep their order.

    key: path below an item (RFC 9535); null is the item itself. order: of the values.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.SORT]
    key: _Path | None = None
    order: Annotated[StrictText, Field(pattern="^(ascending|descending)$")] = "ascending"


class ModelGroupByConfig(ContractModel):
    """Turn a list into a mapping of lists.

    key: path below an item (RFC 9535) to what it is grouped by, a text, whole number or boolean.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.GROUP_BY]
    key: _Path


class ModelFlattenConfig(ContractModel):
    """Put the items of inner lists in their place.

    depth: levels of lists that go.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.FLATTEN]
    depth: Annotated[int, Field(strict=True, ge=1, le=100)] = 1


class ModelUniqueConfig(ContractModel):
    """Keep the first of equal items, as JSON has it: 1 is 1.0 and is not true.

    key: path below an item whose values are compared; null is the item itself.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.UNIQUE]
    key: _Path | None = None


class ModelLimitConfig(ContractModel):
    """Keep some items of a list.

    count: how many at most. offset: how many are left out before them.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.LIMIT]
    count: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
    offset: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] = 0


class ModelArithmeticConfig(ContractModel):
    """Calculate a value.

    expression: in CEL over `value` (what the step receives), `input` and `steps`.
    config_type: the name of the transformation.
    """

    config_type: Literal[EnumTransformationType.ARITHMETIC]
    expression: _Expression


TransformationConfig = Annotated[
    ModelRegexConfig
    | ModelCaseConversionConfig
    | ModelTrimConfig
    | ModelNormalizeUnicodeConfig
    | ModelJsonPathConfig
    | ModelSplitConfig
    | ModelJoinConfig
    | ModelTemplateConfig
    | ModelTypeConversionConfig
    | ModelFilterConfig
    | ModelMapConfig
    | ModelSortConfig
    | ModelGroupByConfig
    | ModelFlattenConfig
    | ModelUniqueConfig
    | ModelLimitConfig
    | ModelArithmeticConfig,
    Field(discriminator="config_type"),
]
