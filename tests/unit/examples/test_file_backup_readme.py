"""The page of the example does what it shows."""

from pathlib import Path

import pytest

from tests.support.docs_pages import ROOT, PageRun


def test_every_block_of_the_page_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and programs, in a fresh directory."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    PageRun(ROOT / "examples" / "file_backup" / "README.md", tmp_path).carry_out()


def test_the_page_names_every_file_of_the_example() -> None:
    """A new file is explained."""
    folder = ROOT / "examples" / "file_backup"
    page = (folder / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in folder.iterdir() if path.suffix in {".py", ".yaml"} and path.name[:2] != "__"}

    assert {name for name in files if f"`{name}`" not in page} == set()
