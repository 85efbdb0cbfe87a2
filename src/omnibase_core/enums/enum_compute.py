"""Closed vocabularies of compute contracts."""

from enum import StrEnum


class EnumComputeStepType(StrEnum):
    """What a step of a pipeline does."""

    TRANSFORMATION = "transformation"
    MAPPING = "mapping"
    VALIDATION = "validation"
    CONDITIONAL = "conditional"
    PARALLEL = "parallel"


class EnumTransformationType(StrEnum):
    """How a transformation step makes its output from its input."""

    IDENTITY = "identity"
    REGEX = "regex"
    CASE_CONVERSION = "case_conversion"
    TRIM = "trim"
    NORMALIZE_UNICODE = "normalize_unicode"
    JSON_PATH = "json_path"
    SPLIT = "split"
    JOIN = "join"
    TEMPLATE = "template"
    TYPE_CONVERSION = "type_conversion"
    FILTER = "filter"
    MAP = "map"
    SORT = "sort"
    GROUP_BY = "group_by"
    FLATTEN = "flatten"
    UNIQUE = "unique"
    LIMIT = "limit"
    ARITHMETIC = "arithmetic"


class EnumRegexFlag(StrEnum):
    """Flags of a regular expression."""

    IGNORECASE = "IGNORECASE"
    MULTILINE = "MULTILINE"
    DOTALL = "DOTALL"
