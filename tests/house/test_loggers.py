"""Where log lines come from."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def test_every_logger_is_below_onex() -> None:
    """One name switches everything of ONEX on or off; only the command line sets up the root logger, and the logger of
    dbos is quietened where dbos is begun.
    """
    names: dict[str, list[str]] = {}
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
                given = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "(root)"
                names.setdefault(str(given), []).append(file.relative_to(SOURCE).as_posix())

    assert set(names.pop("(root)")) == {"omnibase_runtime/cli.py", "omnibase_runtime/commands/worker.py"}
    assert names.pop("dbos") == ["omnibase_spi/engine_dbos_link.py"]
    assert {name.partition(".")[0] for name in names} == {"onex"}, names
