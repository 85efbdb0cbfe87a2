"""Retired module paths: the same objects, one warning per statement on its line, clear failures."""

import importlib
import importlib.util
import pickle
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from omnibase_core import _moved
from omnibase_core._moved import MOVED, MovedFinder, RetiredImportError, install

OLD_CODES = "omnibase_core.errors.error_codes"
NEW_CODES = "omnibase_core.enums.enum_core_error_code"
BASES = "omnibase_core.core.infrastructure_service_bases"

# Each way to write an import of a retired module, the line it stands on, and an expression that is the old object.
STATEMENTS = [
    (f"\nfrom {OLD_CODES} import EnumCoreErrorCode", 2, "EnumCoreErrorCode"),
    (f"from {OLD_CODES} import (\n    EnumCoreErrorCode as One,\n    EnumCoreErrorCode as Two,\n)", 1, "Two"),
    (f"\n\nfrom {OLD_CODES} import *", 3, "EnumCoreErrorCode"),
    (f"import {OLD_CODES}", 1, f"{OLD_CODES}.EnumCoreErrorCode"),
    (f"\nimport {OLD_CODES} as old", 2, "old.EnumCoreErrorCode"),
    ("from omnibase_core.errors import error_codes", 1, "error_codes.EnumCoreErrorCode"),
    (f"import importlib\nold = importlib.import_module('{OLD_CODES}')", 2, "old.EnumCoreErrorCode"),
    (
        f"from importlib import import_module as load\n\nold = load('.error_codes', '{OLD_CODES[:20]}')",
        3,
        "old.EnumCoreErrorCode",
    ),
    (f"import pkgutil\nfound = pkgutil.resolve_name('{OLD_CODES}:EnumCoreErrorCode')", 2, "found"),
]


def run(code: str, namespace: dict[str, object] | None = None) -> list[warnings.WarningMessage]:
    """Execute `code` as a file of its own, and return what it warned of."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        exec(compile(code, "caller.py", "exec"), {"__name__": "caller"} if namespace is None else namespace)
    return records


@pytest.mark.parametrize(("statement", "line", "expression"), STATEMENTS)
def test_one_warning_on_the_line_of_each_executed_statement(statement: str, line: int, expression: str) -> None:
    """Executed for the first time or again, a statement warns once, where it stands, and gives the very same object."""
    for fresh in (True, False, False):
        if fresh:
            sys.modules.pop(OLD_CODES, None)
        namespace: dict[str, object] = {"__name__": "caller"}

        records = run(statement, namespace)

        assert [(r.category, r.filename, r.lineno) for r in records] == [(DeprecationWarning, "caller.py", line)]
        assert OLD_CODES in str(records[0].message)
        assert NEW_CODES in str(records[0].message)
        assert eval(expression, namespace) is importlib.import_module(NEW_CODES).EnumCoreErrorCode


def test_each_of_two_statements_warns() -> None:
    """Two lines of one file give two warnings."""
    line = f"from {OLD_CODES} import EnumCoreErrorCode\n"

    assert [record.lineno for record in run(line * 2)] == [1, 2]


def test_using_what_was_imported_does_not_warn() -> None:
    """Attributes, `dir`, `repr`, looking for the spec: only imports warn."""
    namespace: dict[str, object] = {"__name__": "caller"}
    run(f"import {OLD_CODES}\nimport {OLD_CODES} as old", namespace)

    records = run(
        "old.EnumCoreErrorCode, dir(old), repr(old), old.__spec__, old.__doc__, hasattr(old, 'none')\n"
        "omnibase_core.errors.error_codes.EnumCoreErrorCode",
        namespace,
    )

    assert records == []
    assert run(f"import importlib.util\nimportlib.util.find_spec('{OLD_CODES}')") == []
    assert "EnumCoreErrorCode" in dir(namespace["old"])


def test_a_default_filter_shows_it_once_per_line() -> None:
    """The warning is registered with the module that imports, so that Python's own filters work as for any other."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    code = compile(f"for _ in range(3):\n    from {OLD_CODES} import EnumCoreErrorCode", "caller.py", "exec")

    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("default")
        exec(code, namespace)

    assert len(records) == 1


def test_what_was_pickled_under_an_old_path_is_read() -> None:
    """A pickle that names the retired module gives the new object, and warns on the line of the loading."""
    sys.modules.pop(OLD_CODES, None)
    data = b"c" + OLD_CODES.encode() + b"\nEnumCoreErrorCode\n."
    namespace: dict[str, object] = {"__name__": "caller", "data": data}

    for loads in ("pickle.loads", "pickle._loads"):
        sys.modules.pop(OLD_CODES, None)
        records = run(f"import pickle\n\nfound = {loads}(data)", namespace)

        assert namespace["found"] is importlib.import_module(NEW_CODES).EnumCoreErrorCode
        assert [(r.filename, r.lineno) for r in records] == [("caller.py", 3)]
    assert pickle.loads(pickle.dumps(namespace["found"])) is namespace["found"]


def test_a_package_with_retired_modules_keeps_working() -> None:
    """The parent package is otherwise as it was: its names, its submodules, missing names, assignment."""
    run(f"import {OLD_CODES}")
    package = importlib.import_module("omnibase_core.errors")

    assert package.ModelOnexError is importlib.import_module("omnibase_core.errors.onex_error").ModelOnexError
    assert package.contract_error is importlib.import_module("omnibase_core.errors.contract_error")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing
    setattr(package, "nothing", 1)  # noqa: B010  # not a name of the module's for type checkers
    assert package.nothing == 1
    delattr(package, "nothing")  # as above


def test_a_parent_that_is_gone_is_served() -> None:
    """`omnibase_core.core` exists only for what was in it: importing it alone says nothing, and its children do."""
    assert run("import omnibase_core.core") == []
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        run("from omnibase_core.core import nothing")


def test_a_name_that_the_new_module_lacks_is_a_clear_import_error() -> None:
    """It names the old path, the new one and the name."""
    with pytest.raises(ImportError, match=rf"{OLD_CODES} is retired; {NEW_CODES}.* has no 'Nothing'"):
        run(f"from {OLD_CODES} import Nothing")

    assert not hasattr(sys.modules[OLD_CODES], "Nothing")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, dict[str, str]]]:
    """A copy of the table that may be added to."""
    table = {path: (new, dict(names)) for path, (new, names) in MOVED.items()}
    monkeypatch.setattr(_moved, "MOVED", table)
    return table


def test_a_row_to_a_module_that_is_not_there(rows: dict[str, tuple[str, dict[str, str]]]) -> None:
    """Using it is an ImportError that names both; it does not warn, and it may succeed later."""
    rows["omnibase_core.errors.gone"] = ("omnibase_core.errors.not_written", {})

    with pytest.raises(ImportError, match=r"errors\.gone is retired, and .*not_written.* is not in this version"):
        run("import omnibase_core.errors.gone")

    assert "omnibase_core.errors.gone" not in sys.modules
    assert run(f"import {OLD_CODES}")


def test_trouble_inside_the_new_module_is_not_hidden(
    rows: dict[str, tuple[str, dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new module that itself fails to import something fails with that error."""
    (tmp_path / "new_home_with_trouble.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    rows["omnibase_core.errors.gone"] = ("new_home_with_trouble", {})

    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        run("import omnibase_core.errors.gone")


def test_names_that_changed(
    rows: dict[str, tuple[str, dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renamed name is the new object, the message says both, and four names of one statement give one warning."""
    (tmp_path / "new_home_of_names.py").write_text("class New: ...\nclass Other: ...\n_hidden = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    rows["omnibase_core.errors.gone"] = ("new_home_of_names", {"Old": "New", "Missing": "NotWritten"})
    namespace: dict[str, object] = {"__name__": "caller"}

    records = run("from omnibase_core.errors.gone import Old, New, Other, Old as Again", namespace)

    assert len(records) == 1
    assert "Old as New" in str(records[0].message)
    assert namespace["Old"] is namespace["New"] is namespace["Again"] is sys.modules["new_home_of_names"].New
    with pytest.raises(ImportError, match="has no 'NotWritten'"):
        run("from omnibase_core.errors.gone import Missing")
    everything: dict[str, object] = {"__name__": "caller"}
    run("from omnibase_core.errors.gone import *", everything)
    assert everything.keys() & {"Old", "New", "Other", "Missing", "_hidden"} == {"Old", "New", "Other"}
    del sys.modules["omnibase_core.errors.gone"], sys.modules["new_home_of_names"]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("statement", [STATEMENTS[0][0], STATEMENTS[5][0], STATEMENTS[6][0]])
def test_where_warnings_are_errors_the_statement_fails(statement: str, cached: bool) -> None:
    """Each time, as an ImportError that is a DeprecationWarning too and says both paths, imported before or not."""
    sys.modules.pop(OLD_CODES, None)
    if cached:
        run(f"import {OLD_CODES}")

    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RetiredImportError, match=f"{OLD_CODES} .* {NEW_CODES}") as raised:
                exec(statement, {"__name__": "caller"})
        assert isinstance(raised.value, ImportError)
        assert isinstance(raised.value, DeprecationWarning)
    assert len(run(statement)) == 1


def test_a_program_run_with_warnings_as_errors_ends_on_its_own_line(tmp_path: Path) -> None:
    """`python -W error` shows the user's file and line, and both paths."""
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nfrom {OLD_CODES} import EnumCoreErrorCode\n")

    ended = subprocess.run([sys.executable, "-W", "error", str(program)], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert f'"{program}", line 2' in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("omnibase_core._moved.RetiredImportError: " + OLD_CODES)


def test_the_table_hides_no_file_and_its_rows_are_retired() -> None:
    """No row has the path of a real file, none leads to another row, and `install` adds the hook only once."""
    hooks = [finder for finder in sys.meta_path if isinstance(finder, MovedFinder)]
    finder_type: type = MovedFinder
    install()

    assert len(hooks) == 1
    assert [finder for finder in sys.meta_path if isinstance(finder, MovedFinder)] == hooks
    for path, (new, _names) in MOVED.items():
        spec = importlib.util.find_spec(path)
        assert spec is not None
        assert type(spec.loader) is finder_type
        assert new not in MOVED


def test_the_finder_leaves_other_names_alone() -> None:
    """A module that is not there stays not there, inside the package and elsewhere."""
    for name in ("omnibase_core.nothing", "omnibase_core.errors.nothing", "nothing_at_all"):
        with pytest.raises(ModuleNotFoundError, match=name):
            importlib.import_module(name)


def test_the_hook_costs_little() -> None:
    """`import omnibase_core` with the hook: below a millisecond, and no module that a bare interpreter has not."""
    code = (
        "import sys, types, time\nbefore = set(sys.modules)\nstart = time.process_time()\nimport omnibase_core\n"
        "print(time.process_time() - start, *sorted(set(sys.modules) - before))"
    )
    run_once = [sys.executable, "-c", code]

    results = [subprocess.run(run_once, capture_output=True, text=True, check=True).stdout.split() for _ in range(5)]

    assert results[0][1:] == ["omnibase_core", "omnibase_core._moved"]
    compiled = _compiled_seconds()
    assert compiled < 0.001, compiled


def _compiled_seconds() -> float:
    """What executing the compiled file takes; reading and compiling it is Python's cache's business."""
    source = Path(_moved.__file__).read_text()
    code = compile(source, _moved.__file__, "exec")
    times = []
    for _ in range(20):
        start = time.process_time()
        exec(code, {"__name__": "copy_of_moved"})
        times.append(time.process_time() - start)
    return min(times)
