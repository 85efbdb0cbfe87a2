"""Taking scalars out of a document."""

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_policy import EnumExtractionEngine
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectResponseExtract
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_core.utils.extraction import (
    MISSING,
    PathError,
    checked_scalar,
    compile_extract,
    compile_path,
    engine_of,
    extract_all,
)

DOCUMENT: JsonValue = {
    "a": {"b": [{"id": 1}, {"id": 2, "x": None}, {"id": 3}]},
    "größe": 5,
    "with space": 6,
    "it's": 7,
    'say "x"': 8,
    "": 9,
    "0": "zero",
    "a.b": "dotted",
    "t": True,
    "items": [10, 20, 30],
    "null": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.a.b[0].id", 1),
        ("$.a.b[-1].id", 3),
        ("$.a.b[-3].id", 1),
        ("$.a.b[-4].id", MISSING),
        ("$.a.b[3].id", MISSING),
        ("$.a.b[99999999999999].id", MISSING),
        ("$.a.b[9007199254740991]", MISSING),
        ("$['a']['b'][1][\"id\"]", 2),
        ("$.größe", 5),
        ("$['größe']", 5),
        ("$['with space']", 6),
        ('$["it\'s"]', 7),
        (r"$['it\'s']", 7),
        ("$['say \"x\"']", 8),
        (r'$["say \"x\""]', 8),
        (r"$['gr\u00f6\u00dfe']", 5),
        ("$['']", 9),
        ("$['0']", "zero"),
        ("$[0]", MISSING),
        ("$['a.b']", "dotted"),
        ("$ .a\t.b\n[ 0 ]\r.id", 1),
        ("$.a.b[1].x", None),
        ("$.a.nope", MISSING),
        ("$.items.id", MISSING),
        ("$.t.x", MISSING),
        ("$.null", None),
        ("$.null.x", MISSING),
        ("$.items[*]", 10),
        ("$.items[1:]", 20),
        ("$.items[::-1]", 30),
        ("$.a.b[?@.id > 1].id", 2),
        ("$.a.b[?@.id > 9].id", MISSING),
        ("$..id", 1),
        ("$.a.b[2, 0].id", 3),
        ("$.a.b[?length(@.nope) == 1].id", MISSING),
    ],
)
def test_the_first_match_of_a_jsonpath(path: str, value: object) -> None:
    """RFC 9535: names in every spelling, indexes from both ends, and the first match of what may have several."""
    assert compile_path(path)(DOCUMENT) == value
    assert type(compile_path(path)(DOCUMENT)) is type(value)


@pytest.mark.parametrize("document", [None, 5, "text", True, [], {}], ids=repr)
@pytest.mark.parametrize("path", ["$", "$.a", "$[0]", "$.*", "$..a", "$[?@.a]"])
def test_any_document_may_come(document: JsonValue, path: str) -> None:
    """A document that is no map has no fields; `$` is the document."""
    found = compile_path(path)(document)

    assert found is (document if path == "$" else MISSING)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "a.b",
        "$.",
        "$a",
        "$.a ",
        " $.a",
        "$\u00a0.a",
        "$\v.a",
        "$. a",
        "$[",
        "$[-0]",
        "$[01]",
        "$['a]",
        "$[a]",
        "$.a[",
        "$.1a",
        "$[9007199254740992]",
        "$[" + "9" * 5_000 + "]",
        "$[?" + "(" * 5_000 + "]",
        "$[?nope(@)]",
        "$['\n']",
    ],
    ids=range(22),
)
def test_a_malformed_jsonpath_is_refused(path: str) -> None:
    """What RFC 9535 does not know is a PathError of one line."""
    with pytest.raises(PathError) as caught:
        compile_path(path)

    assert "\n" not in str(caught.value)


def test_a_document_too_deep_for_a_descendant_is_an_extraction_error() -> None:
    """A search that would exhaust the stack ends as EXTRACTION_ERROR."""
    document: JsonValue = 1
    for _ in range(5_000):
        document = [document]

    with pytest.raises(ModelOnexError) as caught:
        compile_path("$..a")(document)

    assert caught.value.error_code is EnumCoreErrorCode.EXTRACTION_ERROR


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.größe", 5),
        ("$.a.b", [{"id": 1}, {"id": 2, "x": None}, {"id": 3}]),
        ("$.a.b.1.id", 2),
        ("$.a.b.9.id", MISSING),
        ("$.a.b.-1.id", MISSING),
        ("$.0", "zero"),
        ("$.with space", 6),
        ("$.t.x", MISSING),
        ("$.null", None),
    ],
)
def test_dotpath(path: str, value: object) -> None:
    """Keys between dots, and an index where a list stands."""
    assert compile_path(path, EnumExtractionEngine.DOTPATH)(DOCUMENT) == value


@pytest.mark.parametrize(
    ("path", "said"),
    [("a.b", "must start with '$.'"), ("$", "must start with"), ("$.", "empty step"), ("$.a..b", "empty step")],
)
def test_a_malformed_dotpath_is_refused(path: str, said: str) -> None:
    """A dotpath starts with `$.` and has no empty step."""
    with pytest.raises(PathError, match=said.replace("$", r"\$").replace(".'", r"\.'")):
        compile_path(path, "dotpath")


def test_simple_paths_need_no_library() -> None:
    """Names and indexes are walked without importing the JSONPath library."""
    import subprocess
    import sys

    code = (
        "import sys; from omnibase_core.utils.extraction import compile_path\n"
        "assert compile_path('$.a[0][\"b c\"]')({'a': [{'b c': 1}]}) == 1\n"
        "sys.exit('jsonpath_rfc9535' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


RESPONSE = EffectResponse({"id": 7}, 201, {"location": "/x/7", "x-n": "5"})


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"from": "status"}, 201),
        ({"from": "headers", "path": "Location"}, "/x/7"),
        ({"from": "headers", "path": "X-None"}, MISSING),
        ({"from": "body", "path": "$.id"}, 7),
    ],
)
def test_other_sources_than_the_document(spec: dict[str, str], value: object) -> None:
    """A field may come from the status or from a header of any case."""
    assert compile_extract(ModelEffectResponseExtract.model_validate(spec))(RESPONSE) == value


def test_a_handler_without_a_status_has_none() -> None:
    """A response without a status has no status to extract."""
    find = compile_extract(ModelEffectResponseExtract.model_validate({"from": "status"}))

    assert find(EffectResponse({})) is MISSING


@pytest.mark.parametrize("value", ["x", "", 0, 2**200, 1.5, True, None])
def test_scalars_may_be_extracted(value: str | float | None) -> None:
    """Text, numbers, booleans and null pass unchanged."""
    assert checked_scalar("f", value, fail_on_empty=True) is value


@pytest.mark.parametrize(
    ("value", "kind"),
    [([], "list"), ([1], "list"), ({}, "object"), ((1,), "tuple"), (b"x", "bytes"), (object(), "object")],
)
def test_nothing_else_may_be_extracted(value: object, kind: str) -> None:
    """A list, a map, or what a handler of somebody's own put there is EXTRACTION_ERROR naming field and type."""
    with pytest.raises(ModelOnexError) as caught:
        checked_scalar("f", value, fail_on_empty=False)  # type: ignore[arg-type]  # some are no JSON, on purpose

    assert caught.value.error_code is EnumCoreErrorCode.EXTRACTION_ERROR
    assert f"field 'f' is of non-primitive type {kind};" in caught.value.message
    assert caught.value.context == {"field": "f", "found_type": kind}


def test_what_is_missing_is_none_or_a_failure() -> None:
    """No match gives None, and EXTRACTION_ERROR under fail_on_empty; a null that is there is no miss."""
    assert checked_scalar("f", MISSING, fail_on_empty=False) is None
    assert checked_scalar("f", None, fail_on_empty=True) is None
    with pytest.raises(ModelOnexError, match="'f' was not found") as caught:
        checked_scalar("f", MISSING, fail_on_empty=True)
    assert caught.value.error_code is EnumCoreErrorCode.EXTRACTION_ERROR


def test_all_fields_in_order() -> None:
    """Fields come in order of declaration."""
    finders = {"b": compile_extract("$.id"), "a": compile_extract("$.nope")}

    assert list(extract_all(RESPONSE, finders, fail_on_empty=False).items()) == [("b", 7), ("a", None)]


def test_an_unknown_engine_is_named() -> None:
    """The error lists the engines that exist."""
    with pytest.raises(ModelOnexError, match="Unknown extraction_engine 'jq'; allowed: jsonpath, dotpath") as caught:
        engine_of("jq")

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert engine_of("dotpath") is EnumExtractionEngine.DOTPATH
