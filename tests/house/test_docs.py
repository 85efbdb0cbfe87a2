"""The documentation tells the truth: generated pages are up to date, blocks do what they show, names exist."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from docs.generate import NOTE, PAGES, REFERENCE
from omnibase_core.errors import ModelOnexError
from tests.support.docs_pages import ROOT, PageRun, blocks_of

PAGES_WRITTEN = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "requirements").glob("*.md"))
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
_IN_REPOSITORY = re.compile(r"`((?:tests|docs|examples|src)/[\w./-]+)`")
_PATH = re.compile(r"`([\w./-]+\.(?:py|md|toml|yaml))`")


def test_the_pages_are_those_that_one_expects() -> None:
    """The list of pages was not emptied by a change of directories."""
    assert {"README.md", "ARCHITECTURE.md", "docs/reference/effect-contract.md"} <= set(PAGES_WRITTEN)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_what_its_source_says(name: str) -> None:
    """`make docs` changes nothing."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == NOTE + PAGES[name](), "run make docs, and read the change"


def test_no_page_of_the_reference_is_left_over() -> None:
    """Every file of the reference is generated."""
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES_WRITTEN)
def test_every_block_does_what_it_shows(name: str, tmp_path: Path) -> None:
    """Contracts load, programs run, commands write what the page says."""
    PageRun(ROOT / name, tmp_path).carry_out()


@pytest.mark.parametrize(
    "block",
    [
        "```\nno info string\n```",
        "```bash\ntrue\n```",
        "```yaml\neffect_subcontract: {}\n```",
        "```yaml file=a.yaml\neffect_subcontract: {}\n```",
        "```toml file=a.toml\n[polices]\n```",
        "```python\nprint(1)\n```\n\n```output\n2\n```",
        "```python\nprint(1)\n```",
        "```python\nraise SystemExit(1)\n```",
        "```console\n$ echo 1\n2\n```",
        "```console\n$ false\n$ echo $?\n0\n```",
        "```console\n$ make nothing\n```",
        "```console\n$ pip install 'omnibase[nothing]'\n```",
        "```console\nno command\n```",
        "```mermaid\n    closed --> half_open: hope\n```",
        "```text\nleft open\n",
    ],
)
def test_a_block_that_does_not_hold_fails_its_page(block: str, tmp_path: Path) -> None:
    """What is wrong on a page is found, whatever kind of block it is in."""
    page = tmp_path / "page.md"
    page.write_text(block, encoding="utf-8")

    with pytest.raises((AssertionError, ModelOnexError)):
        PageRun(page, tmp_path).carry_out()


@pytest.mark.parametrize("name", PAGES_WRITTEN)
def test_every_link_leads_somewhere(name: str) -> None:
    """Files exist, and so do headings in them."""
    page = ROOT / name
    for target, anchor in _LINK.findall(_prose(page)):
        if target.startswith(("http:", "https:")):
            continue
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in _anchors(other), f"{name}: {target}#{anchor}"


def test_the_architecture_names_files_that_exist() -> None:
    """A file that is moved or renamed is moved on the page as well."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    known = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if ".venv" not in path.parts]
    for name in _PATH.findall(text):
        assert any(path == name or path.endswith(f"/{name}") for path in known), name


@pytest.mark.parametrize("name", PAGES_WRITTEN)
def test_files_of_the_repository_that_a_page_names_exist(name: str) -> None:
    """A proof or an example that a page points at is there."""
    for path in _IN_REPOSITORY.findall(_prose(ROOT / name)):
        assert (ROOT / path).exists(), f"{name}: {path}"


def test_the_architecture_names_the_storeys_in_their_order() -> None:
    """The storeys of the page are those that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == "the storeys of the core")
    block = next(b for b in blocks_of(ROOT / "ARCHITECTURE.md") if "enums" in b.text)
    shown = re.findall(r"^ {4}(\w+)", block.text, re.MULTILINE)
    held = [word for layer in layers for word in re.findall(r"\w+", layer)]
    assert [word for word in shown if word in held] == held


def test_every_source_file_is_in_a_room_of_the_architecture() -> None:
    """The table of rooms has a place for each file, and no room is empty."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## What is where")[2]
    cells = re.findall(r"^\| (`omnibase_.*?) \|", text, re.MULTILINE)
    rooms = [room for cell in cells for room in re.findall(r"`([^`]+)`", cell)]
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if path.name != "__init__.py"}

    assert [room for room in rooms if not fnmatch.filter(files, room)] == []
    assert sorted(file for file in files if not any(fnmatch.fnmatch(file, room) for room in rooms)) == []


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {"".join(c for c in h.lower() if c.isalnum() or c in " _-").replace(" ", "-") for h in headings}
