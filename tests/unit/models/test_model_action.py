"""Actions as data."""

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from omnibase_core.models.model_action import (
    EnumActionStatus,
    EnumActionTarget,
    EnumActionType,
    ModelAction,
    fence_headers,
    identifier,
)

LEASE = uuid4()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ZONES = st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


def _action(**fields: object) -> ModelAction:
    given: dict[str, object] = {
        "action_type": "update_state",
        "lease_id": LEASE,
        "epoch": 0,
        "target_node": "reducer",
    }
    return ModelAction.model_validate(given | fields)


def test_what_is_not_said_has_a_default() -> None:
    """Ids are new, the time is now in UTC, and a workflow without an id of its own is the correlation."""
    first, second = _action(), _action()

    assert first.action_id != second.action_id
    assert (first.status, first.workflow_id, first.expires_at) == (EnumActionStatus.PENDING, None, None)
    assert (first.parent_action_id, first.command_payload, first.metadata) == (None, {}, {})
    assert first.issued_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - first.issued_at) < timedelta(minutes=1)
    assert first.resource == str(first.correlation_id)
    assert _action(workflow_id="nightly").resource == "nightly"


@given(
    st.sampled_from(EnumActionType),
    st.sampled_from(EnumActionTarget),
    st.sampled_from(EnumActionStatus),
    st.dictionaries(st.text(), JSON, max_size=3),
    st.uuids() | st.text(min_size=1, max_size=200),
    st.datetimes(timezones=ZONES, min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001  # the strategy adds the zone
    st.integers(0, 2**62 - 1),
)
def test_an_action_comes_back_from_its_json_as_it_was(
    kind: EnumActionType,
    target: EnumActionTarget,
    status: EnumActionStatus,
    payload: dict[str, JsonValue],
    workflow: UUID | str,
    moment: datetime,
    epoch: int,
) -> None:
    """Word by word, whatever it holds."""
    action = _action(
        action_type=kind,
        target_node=target,
        status=status,
        command_payload=payload,
        metadata=payload,
        workflow_id=workflow,
        issued_at=moment,
        expires_at=moment,
        epoch=epoch,
    )

    again = ModelAction.model_validate_json(action.model_dump_json())

    assert again == action
    assert again.model_dump_json() == action.model_dump_json()
    assert again.resource == action.resource


def test_an_action_is_frozen() -> None:
    """What happened to it is a row of the log."""
    with pytest.raises(ValidationError, match="frozen"):
        _action().status = EnumActionStatus.COMPLETED  # type: ignore[misc]  # that is the rule


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": -1},
        {"epoch": True},
        {"epoch": "1"},
        {"action_type": "explode"},
        {"target_node": "EFFECT"},
        {"lease_id": ""},
        {"workflow_id": ""},
        {"workflow_id": "w" * 201},
        {"expires_at": "2026-01-01T00:00:00"},
        {"command_payload": [1]},
        {"command_payload": {"x": float("nan")}},
        {"metadata": {"x": float("inf")}},
        {"surprise": 1},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    """By pydantic, as for every contract."""
    with pytest.raises(ValidationError):
        _action(**wrong)


def test_every_spelling_of_a_uuid_is_one_resource() -> None:
    """A name stays as it is."""
    assert identifier(LEASE) == identifier(str(LEASE).upper()) == identifier(LEASE.hex) == str(LEASE)
    assert identifier("Nightly") == "Nightly"
    assert _action(workflow_id=LEASE.hex).workflow_id == LEASE


def test_a_target_is_given_what_it_needs_to_refuse() -> None:
    """The action's id as idempotency key, and the token where the action carries one."""
    plain, fenced = _action(), _action(metadata={"lease_token": 7})

    assert fence_headers(plain) == {"Idempotency-Key": str(plain.action_id)}
    assert fence_headers(fenced) == {"Idempotency-Key": str(fenced.action_id), "X-Onex-Fencing-Token": "7"}


@pytest.mark.parametrize("value", ["7", True, 0, -1, None, 1.5])
def test_a_token_that_is_none_does_not_count(value: JsonValue) -> None:
    """It is a positive number."""
    assert _action(metadata={"lease_token": value}).token is None


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.update(x=1),
        lambda payload: payload.pop("to"),
        lambda payload: payload.__setitem__("to", 1),
        lambda payload: payload["to"].append("eve"),
        lambda payload: payload["to"].sort(),
        lambda payload: payload["to"][0].clear(),
    ],
)
def test_what_an_action_carries_cannot_be_changed(change: Callable[[dict[str, JsonValue]], object]) -> None:
    """Neither by its fields nor by what it was made of."""
    given: dict[str, JsonValue] = {"to": [{"name": "ada"}]}
    action = ModelAction(
        action_type=EnumActionType.DELEGATE_TASK,
        lease_id=LEASE,
        epoch=0,
        target_node=EnumActionTarget.EFFECT,
        command_payload=given,
        metadata=given,
    )
    same = action.model_copy(deep=True)

    for carried in (action.command_payload, action.metadata, same.command_payload):
        with pytest.raises(TypeError, match="cannot be changed; change a copy"):
            change(carried)
    given["to"] = None

    assert action.command_payload == action.metadata == {"to": [{"name": "ada"}]}
    assert ModelAction.model_validate_json(action.model_dump_json()) == action == same
    assert pickle.loads(pickle.dumps(action)) == copy.deepcopy(action) == action
    assert type(action.model_dump()["command_payload"]) is dict
