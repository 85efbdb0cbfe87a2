"""Identifiers that are made for each call."""

import os
import random
from uuid import RFC_4122, UUID

import pytest

from omnibase_core.models.primitives.identifiers import new_id


def test_an_id_is_a_uuid_of_version_4_like_any_other() -> None:
    """It equals, hashes, prints and is read back like one that the standard library made."""
    for _ in range(100):
        made = new_id()
        same = UUID(str(made))

        assert (made.version, made.variant, made.is_safe) == (4, RFC_4122, same.is_safe)
        assert made == same
        assert hash(made) == hash(same)


def test_ids_differ_also_when_the_program_seeds_its_randomness() -> None:
    """A program that calls `random.seed` does not make ids repeat."""
    ids = set()
    for _ in range(100):
        random.seed(5)
        ids |= {new_id() for _ in range(10)}

    assert len(ids) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    """Both would go on with the same numbers otherwise."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_id().bytes)
        os._exit(0)
    os.close(write)
    mine = new_id()
    with os.fdopen(read, "rb") as pipe:
        theirs = UUID(bytes=pipe.read(16))
    os.waitpid(child, 0)

    assert mine != theirs
