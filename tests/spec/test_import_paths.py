"""The import statements that users write (those of what has been built)."""

import subprocess
import sys
from pathlib import Path

import pytest

STATEMENTS = Path(__file__).with_name("import_paths.txt").read_text().splitlines()


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
