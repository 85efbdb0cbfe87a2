"""No form of a known secret survives redaction."""

import json
import re
import threading
import urllib.parse
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.logging.redaction import MASK, forget_secrets, redact, redact_value, register_secret

# Without surrogates, which no encoder of a wire takes.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=60)
json_trees: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(autouse=True, scope="module")
def _empty_register() -> Iterator[None]:
    forget_secrets()
    yield
    forget_secrets()


def known(*values: str) -> None:
    forget_secrets()
    for value in values:
        register_secret(value)


@given(secrets, texts, texts)
def test_the_value_itself_goes(secret: str, before: str, after: str) -> None:
    """Wherever the value stands, it is replaced."""
    known(secret)

    assert secret not in redact(before + secret + after)


@given(secrets, texts, texts, st.booleans())
def test_the_json_form_goes(secret: str, before: str, after: str, ascii_only: bool) -> None:
    """The value inside a JSON document is replaced, escaped or not, and so it is inside a Python literal."""
    known(secret)

    document = redact(json.dumps([before, secret, after], ensure_ascii=ascii_only))
    literal = redact(repr({"k": secret}))

    assert json.dumps(secret, ensure_ascii=ascii_only)[1:-1] not in document
    assert repr(secret)[1:-1] not in literal


@given(secrets, texts, texts)
def test_the_percent_encoded_forms_go(secret: str, before: str, after: str) -> None:
    """The value in a path, a query or a form is replaced, with capital and with small hexadecimal digits."""
    known(secret)

    for encode in (urllib.parse.quote, urllib.parse.quote_plus, lambda text: urllib.parse.quote(text, safe="")):
        for spell in (str, lambda text: re.sub("%..", lambda match: match[0].lower(), text)):
            assert spell(encode(secret)) not in redact(spell(encode(before) + encode(secret) + encode(after)))


@given(secrets, st.binary(max_size=7), st.binary(max_size=7), st.sampled_from([b64encode, urlsafe_b64encode]))
def test_base64_goes_at_every_alignment(secret: str, before: bytes, after: bytes, encode: object) -> None:
    """Of base64 over something that contains the value, no character that speaks only of the value stays."""
    known(secret)
    data = secret.encode()
    function = urlsafe_b64encode if encode is urlsafe_b64encode else b64encode
    encoded = function(before + data + after).decode()
    first, last = -(-len(before) * 8 // 6), (len(before) + len(data)) * 8 // 6

    out = redact(f"Basic {encoded}")

    assert encoded[first:last] not in out
    assert len(out) <= len("Basic ") + len(MASK) + len(encoded) - (last - first)


@given(st.lists(secrets, min_size=2, max_size=4), texts)
def test_secrets_that_overlap_all_go(values: list[str], between: str) -> None:
    """Values that contain or overlap one another leave nothing of the longest behind."""
    longer = [*values, values[0] + values[1], values[0][4:] + values[1][:4]]
    known(*longer)

    out = redact(between.join([*longer, *reversed(longer)]))

    assert all(value not in out for value in longer)


@given(secrets, json_trees)
def test_a_tree_has_no_secret_anywhere(secret: str, tree: JsonValue) -> None:
    """Texts, keys and nested values of a JSON tree are redacted; a tree without a secret is the same object."""
    known(secret)

    out = redact_value({"plain": tree, f"key {secret}": [secret, {"deep": f"x{secret}"}]})

    assert secret not in json.dumps(out, ensure_ascii=False)
    assert json.dumps(secret)[1:-1] not in json.dumps(out)
    forget_secrets()
    register_secret("not in any of these trees \u2603 at all")
    assert redact_value(tree) is tree


@given(texts)
def test_a_text_without_a_secret_stays(text: str) -> None:
    """Redaction changes nothing but secrets, and returns the same object."""
    known("\u2603 a secret that is in none \u2603")

    assert redact(text) is text


def test_a_number_that_is_a_secret_goes() -> None:
    """A secret of digits does not survive as a number."""
    known("123456789012")

    assert redact_value({"id": 123456789012, "other": 12.5, "flag": True}) == {"id": MASK, "other": 12.5, "flag": True}


def test_short_values_are_left_alone() -> None:
    """Values below 8 characters are not looked for."""
    known("1234567")

    assert redact("1234567 stays") == "1234567 stays"


def test_a_basic_header_does_not_show_the_password() -> None:
    """What decodes to `user:password` decodes to neither afterwards."""
    known("pässword-äöü")

    for charset in ("utf-8", "latin-1"):
        header = b64encode(f"user:{'pässword-äöü'}".encode(charset)).decode()
        out = redact(f"Authorization: Basic {header}")
        assert MASK in out
        for piece in out.removeprefix("Authorization: Basic ").split(MASK):
            assert b"ssword" not in b64decode(piece[: len(piece) // 4 * 4])


def test_the_register_is_bounded_and_forgets_the_oldest() -> None:
    """After more values than it keeps the first is forgotten, and known again once it is registered again."""
    known(*(f"secret-number-{number:06}" for number in range(1100)))

    forgotten = redact("secret-number-000000")
    kept = redact("secret-number-001099")
    register_secret("secret-number-000000")

    assert (forgotten, kept, redact("secret-number-000000")) == ("secret-number-000000", MASK, MASK)


def test_huge_secrets_do_not_fill_the_memory() -> None:
    """The forms of all values together are bounded too; the newest value always stays."""
    known(*(str(number) * 65_536 for number in range(1, 10)))

    assert redact("9" * 65_536) == MASK
    assert redact("1" * 65_536) != MASK


def test_threads_may_register_and_redact_at_once() -> None:
    """A value that was registered is redacted from then on, whatever other threads do."""
    forget_secrets()
    missed: list[str] = []

    def work(name: str) -> None:
        for number in range(100):
            value = f"{name}-secret-{number}"
            register_secret(value)
            if value in redact(f"<{value}>"):
                missed.append(value)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not missed
