"""Models built without validation are the same as validated ones, for the pydantic that is installed."""

import copy
import pickle

import pytest
from pydantic import ValidationError

from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedContext,
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
    ModelResolvedHttpContext,
    ModelResolvedKafkaContext,
    ModelResolvedOAuth2,
)
from omnibase_core.models.primitives.trusted import trusted

CASES: list[tuple[type[ModelResolvedContext], dict[str, object]]] = [
    (
        ModelResolvedHttpContext,
        {
            "url": "http://h/",
            "timeout_ms": 5,
            "headers": {"A": "hidden-value"},
            "body": "hidden-value",
            "query_params": {"q": ["hidden-value"]},
            "oauth2": ModelResolvedOAuth2(token_url="http://h", client_id="hidden-value", client_secret="hidden-value"),
        },
    ),
    (ModelResolvedDbContext, {"connection_name": "c", "timeout_ms": 5, "params": ["hidden-value", 1, None]}),
    (ModelResolvedKafkaContext, {"topic": "t", "timeout_ms": 5, "payload": "hidden-value"}),
    (ModelResolvedFilesystemContext, {"file_path": "hidden-value", "timeout_ms": 5, "content": "hidden-value"}),
]


def _both(
    cls: type[ModelResolvedContext], given: dict[str, object]
) -> tuple[ModelResolvedContext, ModelResolvedContext]:
    validated = cls.model_validate(given)
    return validated, trusted(cls, dict(validated.__dict__), set(given))


@pytest.mark.parametrize(("cls", "given"), CASES)
def test_a_trusted_model_equals_a_validated_one(cls: type[ModelResolvedContext], given: dict[str, object]) -> None:
    """Equality both ways, set fields, dumps, JSON and schema-driven round trips agree."""
    validated, made = _both(cls, given)

    assert made == validated
    assert validated == made
    assert made.model_fields_set == validated.model_fields_set
    assert made.model_dump() == validated.model_dump()
    assert made.model_dump(exclude_unset=True) == validated.model_dump(exclude_unset=True)
    assert made.model_dump_json() == validated.model_dump_json()
    assert cls.model_validate_json(made.model_dump_json()) == validated
    assert cls.model_validate(made) is made


@pytest.mark.parametrize(("cls", "given"), CASES)
def test_a_trusted_model_copies_and_pickles(cls: type[ModelResolvedContext], given: dict[str, object]) -> None:
    """Copy, deep copy, model_copy and pickle give equal models of the same type."""
    validated, made = _both(cls, given)

    for other in (
        copy.copy(made),
        copy.deepcopy(made),
        made.model_copy(),
        made.model_copy(deep=True),
        pickle.loads(pickle.dumps(made)),
    ):
        assert type(other) is cls
        assert other == validated
        assert other.model_fields_set == validated.model_fields_set


def test_a_trusted_model_hashes_like_a_validated_one() -> None:
    """Frozen models of hashable values have the same hash."""
    validated, made = _both(ModelResolvedFilesystemContext, {"file_path": "a", "timeout_ms": 5})

    assert hash(made) == hash(validated)
    assert len({made, validated}) == 1


@pytest.mark.parametrize(("cls", "given"), CASES)
def test_a_trusted_model_is_frozen(cls: type[ModelResolvedContext], given: dict[str, object]) -> None:
    """Assignment is refused as for any frozen model."""
    _, made = _both(cls, given)

    with pytest.raises(ValidationError):
        made.timeout_ms = 7  # type: ignore[misc]  # that is the test
    with pytest.raises(ValidationError):
        del made.timeout_ms


@pytest.mark.parametrize(("cls", "given"), CASES)
def test_no_text_of_a_context_shows_a_value(cls: type[ModelResolvedContext], given: dict[str, object]) -> None:
    """`repr`, `str` and formatting hide everything, because anything may have come from a secret."""
    _, made = _both(cls, given)

    for text in (repr(made), str(made), f"{made}", f"{made!r}", f"{[made]}"):
        assert "hidden-value" not in text
        assert cls.__name__ in text
