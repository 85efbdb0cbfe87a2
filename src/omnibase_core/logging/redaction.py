"""Keeps known secrets out of texts that people or machines keep: messages, logs, traces, records.

The register is one per process, because a secret that one part fetched may turn up in the error message of another. It
knows each secret in the forms in which it travels: as it is, as a JSON string and as Python's `repr`, percent-encoded,
and as base64, alone or inside something longer (a Basic header encodes `user:password`). Values below 8 characters are
not registered: replacing them everywhere would garble texts and so tell what they are.

Not promised: other encodings, a secret that is split, or one that was pushed out. The register forgets its oldest
values beyond 1,024 of them or 4 Mi characters of their forms; whoever fetches a secret registers it again.
"""

import json
import re
import threading
from base64 import b64encode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes, quote_plus

if TYPE_CHECKING:  # errors and logs import this file; they must not cost what pydantic costs
    from pydantic import JsonValue

MASK: Final = "***"
_MIN_CHARACTERS: Final = 8
_MAX_VALUES: Final = 1024
_MAX_FORM_CHARACTERS: Final = 4 * 1024 * 1024
_HEX: Final = re.compile(r"%[0-9A-F]{2}|\\u[0-9a-f]{4}")

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<slashes>//)?(?P<rest>[^?#]*)(?P<query>[?#].*)?", re.DOTALL
)

_lock = threading.Lock()
_known: OrderedDict[str, tuple[str, ...]] = OrderedDict()
_forms: tuple[str, ...] = ()  # of all known values; replaced as a whole, so that readers need no lock


def register_secret(value: str) -> None:
    """Have `value` replaced from now on, if it has 8 characters or more. Costs a look-up when it is known already."""
    global _forms  # noqa: PLW0603 # the register is the process's
    if value in _known or len(value) < _MIN_CHARACTERS:
        return
    forms = tuple({form: None for form in _forms_of(value) if len(form) >= _MIN_CHARACTERS})
    with _lock:
        _known[value] = forms
        size = sum(len(form) for each in _known.values() for form in each)
        while len(_known) > 1 and (len(_known) > _MAX_VALUES or size > _MAX_FORM_CHARACTERS):
            _value, gone = _known.popitem(last=False)
            size -= sum(map(len, gone))
        _forms = tuple(dict.fromkeys(chain.from_iterable(_known.values())))


def redact(text: str) -> str:
    """`text` with every form of every known secret replaced by `***`; forms that overlap become one."""
    while _forms:
        spans = [span for form in _forms if form in text for span in _places(form, text)]
        if not spans:
            return text
        text = MASK.join(_between(sorted(spans), text))  # shorter each time, so this ends
    return text


def redact_value(value: "JsonValue") -> "JsonValue":
    """A JSON tree with its texts, keys and numbers redacted; the same object when there is nothing to hide."""
    if not _forms:
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        pairs = {redact(key): redact_value(each) for key, each in value.items()}
        same = len(pairs) == len(value) and all(k in value and value[k] is each for k, each in pairs.items())
        return value if same else pairs
    if isinstance(value, list):
        items = [redact_value(each) for each in value]
        return value if all(map(_is, items, value)) else items
    if value is None or isinstance(value, bool):
        return value
    return value if redact(text := json.dumps(value)) == text else MASK


def masked_url(url: str) -> str:
    """A URL without what may be secret: user, password, query and fragment. What is no URL is masked as a whole."""
    match = _URL.fullmatch(url)
    if match is None:
        return MASK
    rest, query = match["rest"], match["query"] or ""
    at = rest.rfind("@")
    if at >= 0:
        rest = f"{MASK}@{rest[at + 1 :]}"
    elif "@" in query:  # a password may itself hold a "?" or "#"
        rest = MASK
    return f"{match['scheme']}:{match['slashes'] or ''}{rest}{'?' + MASK if query else ''}"


def shown_target(target: str) -> str:
    """A target of an intent for messages: a URL masked, every other text as it is."""
    return target if _URL.fullmatch(target) is None else masked_url(target)


def forget_secrets() -> None:
    """Empty the register; for tests, and for a program that dropped its secrets."""
    global _forms  # noqa: PLW0603 # the register is the process's
    with _lock:
        _known.clear()
        _forms = ()


def _is(one: object, other: object) -> bool:
    return one is other


def _places(form: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


def _between(spans: list[tuple[int, int]], text: str) -> Iterator[str]:
    """The pieces of `text` outside the spans, which are sorted and may overlap or touch."""
    kept_from = 0
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start > end:
            yield text[kept_from:start]
            kept_from, start = end, next_start
        end = max(end, next_end)
    yield text[kept_from:start]
    yield text[end:]


def _forms_of(value: str) -> Iterator[str]:
    yield value
    yield repr(value)[1:-1]
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        for form in (escaped, escaped.replace("/", r"\/")):
            yield form
            yield _HEX.sub(lambda match: match[0][:2] + match[0][2:].upper(), form)
    data = value.encode("utf-8", "surrogatepass")
    for encoded in (quote_from_bytes(data, safe=""), quote_from_bytes(data), quote_plus(data), quote_plus(data, "/")):
        yield encoded
        yield _HEX.sub(lambda match: match[0].lower(), encoded)
    yield from _base64_forms(data)
    if not value.isascii():  # Basic authentication without a charset is often Latin-1
        yield from _base64_forms(value.encode("latin-1", "ignore"))


def _base64_forms(data: bytes) -> Iterator[str]:
    for encode in (b64encode, urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        yield whole.rstrip("=")
        for shift in range(3):  # what comes before decides where in a group of three bytes the secret begins
            shifted = encode(bytes(shift) + data).decode()
            # Only the characters whose six bits all come from the secret; the outer ones depend on its neighbours.
            yield shifted[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
