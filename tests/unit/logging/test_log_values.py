"""Any value in a log event: bounded, without secrets, and never an error."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from omnibase_core.logging.log_values import MAX_DEPTH, MAX_ITEMS, MAX_TEXT, clean, clean_mapping, clean_text, printable
from omnibase_core.logging.logging_structured import configure_logging, emit_log_event_sync
from omnibase_core.logging.redaction import register_secret
from omnibase_core.logging.secret_names import is_secret_name
from tests.unit.logging.conftest import Emitted

ZERO = UUID(int=0)


class Colour(Enum):
    """An enum."""

    RED = "red"


class Account(BaseModel):
    """A model."""

    name: str = "a"
    api_key: str = "k"
    pin_code: SecretStr = SecretStr("1234")


@dataclass
class Login:
    """A dataclass."""

    user: str = "u"
    password: str = "p"


class Hostile:
    """Everything that it does raises."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __getattr__(self, name: str) -> object:
        raise RuntimeError


class Odd:
    """It may be a key, and cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


class BadMapping(Mapping[str, object]):
    """A mapping that breaks while it is read."""

    def __getitem__(self, key: str) -> object:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        yield "key"

    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (12, 12),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (10**5000, "<int of 16610 bits>"),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("text", "text"),
        (b"\x00\xff", "<2 bytes>"),
        (Colour.RED, "red"),
        (ZERO, str(ZERO)),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (Path("a/b"), "a/b"),
        (ValueError("v"), "ValueError: v"),
        ([1, (2, "x")], [1, [2, "x"]]),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ({1: 2, None: 3}, {"1": 2, "None": 3}),
        (Account(), {"name": "a", "api_key": "***", "pin_code": "***"}),
        (Login(), {"user": "u", "password": "***"}),
        (Hostile(), "<Hostile: RuntimeError while it was shown>"),
        (BadMapping(), {"...": "<RuntimeError while it was read>"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value_has_a_json_form(value: object, shown: object) -> None:
    """What JSON has stays; what it has not is shown as text; models and dataclasses by their fields."""
    assert clean(value) == shown


def test_sets_are_lists() -> None:
    """A set has no order, so only its members are promised."""
    assert sorted(clean({3, 1, 2})) == [1, 2, 3]  # type: ignore[type-var, arg-type]  # a list of numbers, as put in


def test_long_deep_and_many_are_cut_with_a_note() -> None:
    """The size of an event is bounded, and what is missing is counted."""
    deep: list[object] = []
    deep.append(deep)

    assert clean("x" * (MAX_TEXT + 5)) == "x" * MAX_TEXT + "... (5 more)"
    assert clean(list(range(MAX_ITEMS + 7))) == [*range(MAX_ITEMS), "... (7 more)"]
    many = clean({str(n): n for n in range(MAX_ITEMS + 7)})
    assert isinstance(many, dict)
    assert (len(many), many["..."]) == (MAX_ITEMS + 1, "7 more")
    assert json.dumps(clean(deep)).count("[") == MAX_DEPTH
    assert len(clean_text("y" * 10_000_000)) < MAX_TEXT + 100


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Odd),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.builds(Odd), inner, max_size=2),
    )
)
def test_every_value_becomes_json(value: object) -> None:
    """Whatever it is, what comes out can be encoded strictly."""
    json.dumps(clean({"value": value}), allow_nan=False)


@given(st.text(st.characters()))
def test_what_is_printable_stays_and_the_rest_is_escaped(text: str) -> None:
    """No character that moves the cursor, ends the line, turns the direction or cannot be encoded is left."""
    out = printable(text)

    assert out.isprintable()
    assert not text.isprintable() or out is text


def test_escapes_are_those_of_python() -> None:
    """The usual short ones, and numbers."""
    assert printable("a\nb\r\t\x1b[31m\x7f\u202e\u2028\ud800\U000e0041ä☃") == (
        "a\\nb\\r\\t\\x1b[31m\\x7f\\u202e\\u2028\\ud800\\U000e0041ä☃"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "db_password", "userPassword", "passwd", "pwd", "passphrase", "old-password"),
        *("token", "access_token", "accessToken", "refresh-token", "csrfToken", "tokens", "token2"),
        *("secret", "client_secret", "secrets", "aws_secret_access_key", "SECRET_KEY", "secretKey"),
        *("authorization", "Authorization", "Proxy-Authorization", "auth", "X-Auth", "api_key", "apikey", "X-Api-Key"),
        *("apiKey", "APIKey", "private_key", "privateKey", "access_key", "credentials", "cookie", "Set-Cookie", "jwt"),
        *("connection_string", "dsn", "encryption_key", "signing_key"),
    ],
)
def test_names_that_hide_their_values(name: str) -> None:
    """However a name is spelt, a value under a name of secrets is not written down."""
    assert is_secret_name(name)
    assert clean_mapping({name: "v", "outer": [{name: 12345}]}) == {name: "***", "outer": [{name: "***"}]}


@pytest.mark.parametrize(
    "name",
    [
        *("path", "operation", "key", "keys", "primary_key", "author", "authors", "max_tokens", "token_count", "spin"),
        *("opinion", "tokenizer", "secret_name", "total_tokens", "compass", "passed", "bypass", "token_type", "", "--"),
    ],
)
def test_names_that_do_not(name: str) -> None:
    """Names that only look like it are shown."""
    assert clean_mapping({name: "v"}) == {name: "v"}


def test_a_secret_that_is_not_there_is_not_hidden() -> None:
    """None under a name of secrets says that there was none."""
    assert clean_mapping({"password": None}) == {"password": None}


def test_known_secrets_and_what_looks_like_one_are_masked() -> None:
    """In texts, keys, numbers, exceptions and objects; passwords in URLs and Authorization values too."""
    register_secret("hunter2-hunter2")
    register_secret("1234567890")

    class Speaks:
        def __str__(self) -> str:
            return "I know hunter2-hunter2"

    assert clean_mapping(
        {
            "a": "x hunter2-hunter2 y",
            "b hunter2-hunter2": 1,
            "c": ValueError("hunter2-hunter2"),
            "d": Speaks(),
            "e": 1234567890,
            "f": "postgres://ann:s3cret%2Fx@db:5432/x and http://bo:pw@h",
            "g": "Authorization: Bearer abcdefghij.klm-nop",
            "h": "GET with basic dXNlcjpwYXNz",
        }
    ) == {
        "a": "x *** y",
        "b ***": 1,
        "c": "ValueError: ***",
        "d": "I know ***",
        "e": "***",
        "f": "postgres://ann:***@db:5432/x and http://bo:***@h",
        "g": "Authorization: Bearer ***",
        "h": "GET with basic ***",
    }


def test_a_secret_at_the_place_of_the_cut_is_masked() -> None:
    """The text is cut after the secrets went, so that no part of one is left."""
    register_secret("hunter2-hunter2")

    for before in (MAX_TEXT - 7, 2 * MAX_TEXT - 7, (1 << 20) - 7):
        assert "hunter" not in clean_text("x" * before + "hunter2-hunter2" + "y" * 100_000)
    assert "hunter" not in clean_text("hunter2-hunter2" * 100_000)


def test_a_value_that_logs_while_it_is_shown_ends(emitted: Emitted) -> None:
    """Its own event shows it by its class, so that there is no recursion."""

    class Chatty:
        def __str__(self) -> str:
            emit_log_event_sync("debug", "shown", {"self": self})
            return "chatty"

    stream = StringIO()
    configure_logging("json", "debug", stream)
    emit_log_event_sync("info", "outer", {"value": Chatty()})

    inner, outer = map(json.loads, stream.getvalue().splitlines())
    assert (inner["self"], outer["value"]) == ("<Chatty>", "chatty")
    assert emitted("after", {"value": 1})["value"] == 1
