"""Wherever a path leads among directories and links, the handler goes where the system would, or nowhere."""

import asyncio
import itertools
import os
import tempfile
from pathlib import Path
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnibase_core.errors import EffectFault, EnumCoreErrorCode
from omnibase_core.handlers.confined_path import MAX_LINKS, FileRoots, Place
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext

NAMES = ("a", "b", "c")
# `HOME` becomes the directory that holds the roots and what lies outside them.
_PLACES = [
    f"{top}/{middle}" for top in ("one", "two", "outside") for middle in ("a", "b", "c", "a/a", "a/b", "b/a", "a/b/c")
]
_NOISY = st.lists(st.sampled_from((*NAMES, *NAMES, "..", ".", "")), min_size=1, max_size=6).map("/".join)
_SHORT = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
_PLACE = st.sampled_from(_PLACES)
_PATH = st.one_of(
    _SHORT, _SHORT, _NOISY, _PLACE.map("HOME/{}".format), _PLACE.map("../{}".format), _NOISY.map("HOME/two/{}".format)
)
_TARGET = st.one_of(
    st.sampled_from((*NAMES, "..", ".", "../a", "../b", "HOME/outside", "HOME/two")), _PLACE.map("../{}".format), _PATH
)
_ENTRY = st.one_of(st.sampled_from(("file", "file", "directory")), _TARGET.map("-> {}".format))
_TREE = st.fixed_dictionaries({place: st.one_of(_ENTRY, _ENTRY, st.none()) for place in _PLACES})


# Every short path is tried in every tree: a link to the outside is then found by many of them.
_ALL_SHORT = ["/".join(names) for length in (1, 2, 3) for names in itertools.product(NAMES, repeat=length)]


def _plant(home: Path, tree: dict[str, str | None]) -> None:
    for top in ("one", "two", "outside"):
        (home / top).mkdir()
    for place, entry in tree.items():
        path = home / place
        if (
            entry is None
            or path.parent.is_symlink()
            or not path.parent.is_dir()
            or path.parent.resolve() != path.parent
        ):
            continue
        if entry == "file":
            path.write_text(str(path))
        elif entry == "directory":
            path.mkdir()
        else:
            path.symlink_to(entry.removeprefix("-> ").replace("HOME", str(home)) or ".")


class _OutsideError(Exception):
    pass


def _oracle(home: Path, path: str) -> str | None:
    """Where the path leads, by looking at one name after another: a real path, or None if nothing can be there.

    Raises _OutsideError as soon as a step is neither in a root nor on the way to one.
    """
    roots = [str(home / "one"), str(home / "two")]
    here, todo, links = (("/" if path.startswith("/") else roots[0]), path.split("/"), 0)

    def judged(place: str) -> str:
        inside = any(place == root or place.startswith(root + "/") for root in roots)
        above = any(root == place or root.startswith(place.rstrip("/") + "/") for root in roots)
        if not inside and not above:
            raise _OutsideError
        return place

    while todo:
        step = todo.pop(0)
        if step in {"", "."}:
            if not Path(here).is_dir():
                return None
            continue
        if step == "..":
            here = judged(str(Path(here).parent))
            continue
        there = judged(f"{here.rstrip('/')}/{step}")
        if Path(there).is_symlink():
            links += 1
            if links > MAX_LINKS:
                return None
            target = os.readlink(there)  # Path would drop a trailing slash
            if target.startswith("/"):
                here = "/"
            todo = target.split("/") + todo
            continue
        if todo and not Path(there).is_dir():
            return None
        here = there
    return here


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=_TREE, paths=st.lists(_PATH, min_size=5, max_size=5))
def test_a_read_gives_what_the_oracle_finds_or_is_refused(tree: dict[str, str | None], paths: list[str]) -> None:
    """Inside the roots a path means what it means to the system; outside, nothing is found at all."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory).resolve()
        _plant(home, tree)
        roots = FileRoots([home / "one", home / "two"])
        for template in [*paths, *_ALL_SHORT]:
            path = template.replace("HOME", str(home))
            try:
                expected = _oracle(home, path)
                outside = False
            except _OutsideError:
                expected, outside = None, True
            content, fault = _read(roots, path)

            if content is not None:
                assert content == expected == os.path.realpath(content), path
                assert content.startswith((f"{home}/one/", f"{home}/two/")), path
            elif fault is not None and fault.error_code == EnumCoreErrorCode.SECURITY_VIOLATION:
                assert outside, path
            else:
                named_a_file = path.rpartition("/")[2] not in {"", ".", ".."}
                assert expected is None or not Path(expected).is_file() or not named_a_file, path


def _read(roots: FileRoots, path: str) -> tuple[str | None, EffectFault | None]:
    try:
        with Place(roots, path, "test") as place:
            descriptor, _ = place.open_file()
            try:
                return os.read(descriptor, 10_000).decode(), None
            finally:
                os.close(descriptor)
    except EffectFault as fault:
        return None, fault
    except OSError:
        return None, None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    tree=_TREE,
    paths=st.lists(
        st.tuples(st.sampled_from(("write", "copy", "move", "delete")), _PATH, _PATH), min_size=6, max_size=6
    ),
)
def test_nothing_outside_ever_changes(tree: dict[str, str | None], paths: list[tuple[str, str, str]]) -> None:
    """Whatever is written, copied, moved or deleted by any path, what lies outside the roots stays as it is."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory).resolve()
        _plant(home, tree)
        before = _snapshot(home / "outside")
        handler = FilesystemHandler([home / "one", home / "two"])

        async def run_all() -> None:
            for operation, first, second in paths:
                context = ModelResolvedFilesystemContext.model_validate(
                    {
                        "timeout_ms": 1000,
                        "operation": operation,
                        "file_path": first.replace("HOME", str(home)),
                        "destination_path": second.replace("HOME", str(home)),
                        "content": "written",
                        "atomic": operation == "write",
                    }
                )
                try:
                    await handler.execute(resolved_context=context, correlation_id=uuid4())
                except EffectFault:
                    continue

        asyncio.run(run_all())

        assert _snapshot(home / "outside") == before
        assert sorted(path.name for path in home.iterdir()) == ["one", "outside", "two"]
        assert not list(home.rglob("*.tmp"))


def _snapshot(directory: Path) -> dict[str, str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else "directory"
        for path in directory.rglob("*")
    }
