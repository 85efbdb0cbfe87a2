"""Which keys of a log event, by their names, hold what must not be written down."""

import re
from functools import lru_cache
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ANYWHERE: Final = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "authorization",
    "authentication",
    "credential",
    "cookie",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "connectionstring",
)
"""Parts of a name without its separators: `X-Api-Key`, `apiKey` and `API_KEY` are one."""
_AS_WORDS: Final = frozenset(
    {"token", "tokens", "pwd", "pw", "auth", "jwt", "bearer", "otp", "pin", "dsn", "cvv", "cvc"}
)
_HARMLESS_ENDS: Final = frozenset(
    {"count", "counts", "limit", "type", "types", "name", "names", "ttl", "expires", "expiry", "usage", "seconds", "ms"}
)
"""`token_count` and `secret_name` tell no secret."""


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a value under this key is hidden whatever it is.

    Numbers of tokens (`max_tokens`) are none.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _HARMLESS_ENDS:
        return False
    if words[-1] == "tokens" and words[0] in {"max", "min", "total", "prompt", "completion", "input", "output", "used"}:
        return False
    joined = "".join(words)
    return not _AS_WORDS.isdisjoint(words) or any(part in joined for part in _ANYWHERE)
