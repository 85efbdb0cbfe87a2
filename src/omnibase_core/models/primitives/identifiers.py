"""Random and named identifiers at a fifth of the cost of `uuid.uuid4`, which asks the kernel for each, and `uuid5`."""

import os
import random
from collections.abc import Callable
from importlib import import_module
from typing import Final, Protocol, cast
from uuid import UUID, SafeUUID

try:  # the interpreter's own: for a few bytes OpenSSL's takes longer to set up than to hash
    _hashes = import_module("_sha1")
except ImportError:  # an interpreter that was built without it
    import hashlib as _hashes

# Its own generator: a program that calls `random.seed` must not make ids repeat. Seeded by the kernel, and in a forked
# child once more, because parent and child would go on with the same numbers.
_random: Final = random.Random()  # noqa: S311  # identifiers, not secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


class _Hash(Protocol):
    def digest(self) -> bytes: ...


_sha1: Final = cast("Callable[[bytes], _Hash]", _hashes.sha1)  # a module without types, or with more of them
_bits: Final = _random.getrandbits
_new: Final = UUID.__new__
_write_int: Final = cast("Callable[[UUID, int], None]", UUID.__dict__["int"].__set__)  # a slot's descriptor
_write_is_safe: Final = cast("Callable[[UUID, SafeUUID], None]", UUID.__dict__["is_safe"].__set__)  # as above
_UNKNOWN: Final = SafeUUID.unknown
_KEPT_BITS: Final = ~((0xF000 << 64) | (0xC000 << 48))
_VERSION_4: Final = (4 << 76) | (0x8000 << 48)
_DIGITS: Final = tuple(b"%d" % digit for digit in range(10))
_from_bytes: Final = int.from_bytes
_VERSION_5: Final = (5 << 76) | (0x8000 << 48)


def new_id() -> UUID:
    """A UUID of version 4. Unique, but no secret: who has seen many of them can foretell the next."""
    value = _new(UUID)
    _write_int(value, _bits(128) & _KEPT_BITS | _VERSION_4)
    _write_is_safe(value, _UNKNOWN)
    return value


def named_ids(namespace: UUID, prefix: str, count: int) -> list[UUID]:
    """The UUIDs of version 5 of `<prefix>0`, `<prefix>1`, ... in `namespace`."""
    named = namespace.bytes + prefix.encode()
    ids: list[UUID] = []
    for index in range(count):
        digest = _sha1(named + (_DIGITS[index] if index < 10 else b"%d" % index)).digest()
        value = _new(UUID)
        _write_int(value, _from_bytes(digest, "big") >> 32 & _KEPT_BITS | _VERSION_5)
        _write_is_safe(value, _UNKNOWN)
        ids.append(value)
    return ids


class NamedIds:
    """The UUIDs of version 5 of names in one namespace."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: UUID) -> None:
        self._namespace = namespace.bytes

    def of(self, name: str) -> UUID:
        """The same id as `uuid.uuid5`."""
        value = _new(UUID)
        digest = _sha1(self._namespace + name.encode()).digest()
        _write_int(value, _from_bytes(digest, "big") >> 32 & _KEPT_BITS | _VERSION_5)
        _write_is_safe(value, _UNKNOWN)
        return value
