"""Random and named identifiers at a fifth of the cost of `uuid.uuid4`, which asks the kernel for each, and `uuid5`."""

import hashlib
import os
import random
from collections.abc import Callable
from typing import Final, cast
from uuid import UUID, SafeUUID

# Its own generator: a program that calls `random.seed` must not make ids repeat. Seeded by the kernel, and in a forked
# child once more, because parent and child would go on with the same numbers.
_random: Final = random.Random()  # noqa: S311  # identifiers, not secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_bits: Final = _random.getrandbits
_new: Final = UUID.__new__
_write_int: Final = cast("Callable[[UUID, int], None]", UUID.__dict__["int"].__set__)  # a slot's descriptor
_write_is_safe: Final = cast("Callable[[UUID, SafeUUID], None]", UUID.__dict__["is_safe"].__set__)  # as above
_UNKNOWN: Final = SafeUUID.unknown
_KEPT_BITS: Final = ~((0xF000 << 64) | (0xC000 << 48))
_VERSION_4: Final = (4 << 76) | (0x8000 << 48)
_DIGITS: Final = tuple(b"%d" % digit for digit in range(10))
_VERSION_5: Final = (5 << 76) | (0x8000 << 48)


def new_id() -> UUID:
    """A UUID of version 4. Unique, but no secret: who has seen many of them can foretell the next."""
    value = _new(UUID)
    _write_int(value, _bits(128) & _KEPT_BITS | _VERSION_4)
    _write_is_safe(value, _UNKNOWN)
    return value


def named_ids(namespace: UUID, prefix: str, count: int) -> list[UUID]:
    """The UUIDs of version 5 of `<prefix>0`, `<prefix>1`, ... in `namespace`; the prefix is hashed once."""
    hashed = hashlib.sha1(namespace.bytes + prefix.encode(), usedforsecurity=False)  # the hash of version 5
    ids: list[UUID] = []
    for index in range(count):
        one = hashed.copy()
        one.update(_DIGITS[index] if index < 10 else b"%d" % index)
        value = _new(UUID)
        _write_int(value, int.from_bytes(one.digest()[:16], "big") & _KEPT_BITS | _VERSION_5)
        _write_is_safe(value, _UNKNOWN)
        ids.append(value)
    return ids
