"""The import statements that users write (those of what has been built)."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from omnibase_core._moved import MOVED

STATEMENTS = Path(__file__).with_name("import_paths.txt").read_text().splitlines()
WARNS = "from omnibase_core.legacy.node_effect_v1 import NodeEffectLegacy"


RETIRED = Path(__file__).with_name("import_paths_retired.txt").read_text().splitlines()


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_import_statement_works_as_written(statement: str) -> None:
    """In this process: each name is there, and none of them warns."""
    namespace: dict[str, object] = {}

    exec(statement, namespace)

    names = statement.partition(" import ")[2].split(", ")
    assert all(namespace[name] is not None for name in names)


def test_all_statements_work_in_a_fresh_interpreter_with_warnings_as_errors() -> None:
    """No order among them is needed, and nothing warns at import."""
    for statements in (STATEMENTS, STATEMENTS[::-1]):
        code = "\n".join(statements)
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _executed(statement: str) -> tuple[dict[str, object], list[warnings.WarningMessage]]:
    """The names that a statement on line 3 of a file gives, and what it warned of."""
    namespace: dict[str, object] = {"__name__": "caller"}
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        exec(compile(f"\n\n{statement}", "caller.py", "exec"), namespace)
    return namespace, records


@pytest.mark.parametrize("statement", [*RETIRED, WARNS])
def test_a_retired_statement_warns_once_on_the_line_of_the_caller(statement: str) -> None:
    """Each time that it is executed; every name is the very object of its new place."""
    for _ in range(3):
        namespace, records = _executed(statement)

        assert [(r.category, r.filename, r.lineno) for r in records] == [(DeprecationWarning, "caller.py", 3)]
        module, _, names = statement.removeprefix("from ").partition(" import ")
        new, renamed = MOVED.get(module, (module, {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = importlib.import_module(new)
        for name in names.split(", "):
            assert namespace[name] is getattr(target, renamed.get(name, name))


def test_all_retired_statements_work_in_a_fresh_interpreter_and_warn_once_each(tmp_path: Path) -> None:
    """No order among them is needed; the warnings are on their lines, and there is no other."""
    statements = [*RETIRED, WARNS]
    for number, order in enumerate((statements, statements[::-1])):
        program = tmp_path / f"program_{number}.py"
        program.write_text("\n".join(order) + "\n")

        done = subprocess.run([sys.executable, "-W", "always", program], capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        found = [line.split(": ")[0:2] for line in done.stderr.splitlines() if not line.startswith("  ")]
        assert found == [[f"{program}:{line}", "DeprecationWarning"] for line in range(1, len(order) + 1)], done.stderr


def test_every_row_of_the_table_is_a_retired_statement() -> None:
    """The table and the list of statements say the same."""
    listed = {line.split(" ")[1] for line in RETIRED}

    assert listed == set(MOVED)
