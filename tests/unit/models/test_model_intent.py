"""Intents as data."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.model_intent import EnumIntentPriority, EnumIntentType, ModelIntent

JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from([*EnumIntentType, "database_write", "acme.print_label"]),
    JSON,
    st.sampled_from(EnumIntentPriority),
    st.dictionaries(st.text(), JSON, max_size=3),
    st.none() | st.just(ModelEffectRetryPolicy(max_retries=1)),
)
def test_an_intent_comes_back_from_its_json_as_it_was(
    kind: str,
    payload: JsonValue,
    priority: EnumIntentPriority,
    metadata: dict[str, JsonValue],
    policy: ModelEffectRetryPolicy | None,
) -> None:
    """Reading what was written gives an equal intent that writes the same text."""
    intent = ModelIntent(
        intent_type=kind, target="orders", payload=payload, priority=priority, metadata=metadata, retry_policy=policy
    )

    text = intent.model_dump_json()
    read = ModelIntent.model_validate_json(text)

    assert read == intent
    assert type(read.intent_type) is type(intent.intent_type)
    assert read.model_dump_json() == text


@pytest.mark.parametrize("member", EnumIntentType)
def test_the_string_of_a_known_type_becomes_the_member(member: EnumIntentType) -> None:
    """Whoever compares by identity may do so."""
    assert ModelIntent(intent_type=str(member.value), target="t").intent_type is member


def test_a_free_type_stays_a_string() -> None:
    """Extensions need no change of the vocabulary."""
    intent = ModelIntent(intent_type="acme.print_label", target="t")

    assert type(intent.intent_type) is str
    assert intent.intent_type == "acme.print_label"


def test_defaults_are_those_of_the_specification() -> None:
    """Only type and target are required."""
    first, second = ModelIntent(intent_type="x", target="t"), ModelIntent(intent_type="x", target="t")

    assert first.priority is EnumIntentPriority.NORMAL
    assert (first.payload, first.metadata, first.idempotency_key, first.retry_policy) == ({}, {}, None, None)
    assert first.intent_id != second.intent_id


@pytest.mark.parametrize(
    "wrong",
    [
        {"intent_type": ""},
        {"target": ""},
        {"priority": "urgent"},
        {"payload": float("nan")},
        {"payload": {"a": [float("inf")]}},
        {"metadata": {"a": float("-inf")}},
        {"payload": {"a": {1, 2}}},
        {"idempotency_key": ""},
        {"schema_version": "one"},
        {"colour": "red"},
    ],
)
def test_what_is_no_intent_is_refused(wrong: dict[str, object]) -> None:
    """Unknown fields, empty names and what JSON cannot hold are found when the intent is made."""
    with pytest.raises(ValidationError):
        ModelIntent.model_validate({"intent_type": "x", "target": "t", **wrong})


def test_an_intent_is_frozen_pickles_and_copies() -> None:
    """It crosses processes, and nobody changes it on the way."""
    intent = ModelIntent(intent_type="cache_update", target="t", payload={"a": 1})

    assert pickle.loads(pickle.dumps(intent)) == intent  # made on the same line
    assert copy.deepcopy(intent) == intent
    with pytest.raises(ValidationError, match="frozen"):
        intent.target = "other"  # type: ignore[misc]  # that is what is tested


def test_priorities_are_ranked_in_the_order_of_their_declaration() -> None:
    """The first rank is the first to be carried out."""
    assert [p.value for p in sorted(EnumIntentPriority, key=lambda p: p.rank)] == [
        "critical",
        "high",
        "normal",
        "low",
        "background",
    ]
