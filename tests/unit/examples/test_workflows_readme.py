"""The page of the workflows does what it shows."""

import os
from pathlib import Path

import pytest

from tests.support.docs_pages import ROOT, PageRun

FOLDER = ROOT / "examples" / "workflows"


def test_every_block_of_the_page_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and programs, in a fresh directory."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    os.symlink(ROOT / "examples", tmp_path / "examples")

    PageRun(FOLDER / "README.md", tmp_path).carry_out()


def test_the_page_names_every_file_of_the_example() -> None:
    """A new file is explained; contracts are named with their folder."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    names = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in FOLDER.iterdir()
        if path.name[:2] != "__" and path.name != "README.md"
    }

    assert {name for name in names if f"`{name}`" not in page} == set()
