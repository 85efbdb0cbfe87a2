"""Carries out the blocks of a documentation page, in order and in one fresh directory, and compares what they show.

The info string of a block says what is done with it; one that is not listed here fails the page.

- `yaml file=NAME`, and likewise `toml`, `json`, `python`: written to NAME. A contract must load without
  an error, settings must be valid.
- `yaml`: a contract that must load without an error. `yaml judged`, followed by `findings`: what the loader says.
- `python`: run as a program; `output` after it is what it writes to standard output.
- `console`: lines that begin with `$ ` are run by the shell, the lines below are what they write to both streams; a
  command that ends with ` &` is a server, and goes on until the page ends. `$ echo $?` gives the status of the one
  before. `make` and `pip install` are not run: their targets and extras must exist.
- `mermaid`: every transition must be one of the circuit breaker's table.
- `text`: a picture or a tree, and a text of a generated page, which is compared as a whole.

What no two runs share is replaced on both sides: measured times (`1.5 ms`) and UTC timestamps by TIME, UUIDs by UUID,
runs of spaces by two. The directory is `/home/ada/work` on a page, and port 8123 stands for a free one.
"""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from docs.bad_contracts import BESIDE
from omnibase_core.models.configuration.model_circuit_breaker import transitions_mermaid
from omnibase_core.utils.contract_files import files_beside, files_of
from omnibase_core.utils.contract_loader import judge_text
from omnibase_runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_TIME = re.compile(r"\b\d+(?:\.\d+)? (?:ms|µs)\b|\b\d+\.\d+ s\b|\bin \d+\.\d+s\b|\b\d{4}-\d\d-\d\dT[\d:.]+Z")
_PORT = "8123"
_HOME = "/home/ada/work"
_LIMIT_S = 60


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its text, and the line at which it begins."""

    info: str
    text: str
    line: int

    @property
    def kind(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def file(self) -> str | None:
        match = re.search(r"file=(\S+)", self.info)
        return match[1] if match else None


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page. Raises AssertionError for a fence that is left open."""
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1].strip(), m[2], text.count("\n", 0, m.start()) + 1) for m in _BLOCK.finditer(text)]
    assert text.count("\n```") + text.startswith("```") == 2 * len(found), f"{page}: a fence is left open"
    return found


@dataclass
class PageRun:
    """One page in one directory."""

    page: Path
    directory: Path
    port: str = ""
    status: int = 0
    servers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def carry_out(self) -> None:
        """Carry out every block. Raises AssertionError, with the place, at the first that does not hold."""
        self.port = _free_port()
        blocks = blocks_of(self.page)
        try:
            for block, after in pairwise([*blocks, Block("", "", 0)]):
                self._carry_out(block, after)
        finally:
            for server in self.servers:
                server.terminate()
                server.wait()

    def _carry_out(self, block: Block, after: Block) -> None:
        place = f"{self.page.name}:{block.line} ({block.info or 'no info string'})"
        if block.file is not None:
            self._write(block, place)
        elif block.kind == "yaml":
            self._judge(block, after, place)
        elif block.kind == "python":
            said = self._run([sys.executable, "-c", block.text.replace(_PORT, self.port)], stderr=subprocess.PIPE)
            self._compare(said, after.text if after.kind == "output" else "", place)
        elif block.kind == "console":
            self._console(block, place)
        elif block.kind == "mermaid":
            table = transitions_mermaid().splitlines()
            unknown = [line for line in block.text.splitlines() if line not in table]
            assert not unknown, f"{place}: not in the breaker's table: {unknown}"
        else:
            assert block.info in {"text", "findings", "output"}, f"{place}: nobody knows what to do with this block"

    def _write(self, block: Block, place: str) -> None:
        path = self.directory / str(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.replace(_PORT, self.port), encoding="utf-8")
        if block.kind == "yaml":
            errors = [str(d) for j in judge_text(block.text, str(path)) for d in j.diagnostics if d.severity == "error"]
            assert not errors, f"{place}: {errors}"
        elif block.kind == "toml":
            load_settings(path, {})

    def _judge(self, block: Block, after: Block, place: str) -> None:
        beside = files_of(BESIDE) if block.info == "yaml judged" else files_beside(self.directory / "example.yaml")
        judged = judge_text(block.text, "example.yaml", beside)
        found = [diagnostic for one in judged for diagnostic in one.diagnostics]
        if block.info == "yaml judged":
            assert after.kind == "findings", f"{place}: no findings are shown"
            assert "\n".join(map(str, found)) == after.text.rstrip("\n"), place
        else:
            assert not any(diagnostic.severity == "error" for diagnostic in found), f"{place}: {found}"

    def _console(self, block: Block, place: str) -> None:
        assert block.text.startswith("$ "), f"{place}: a console block begins with a command"
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command = f"{command[:-1]}{more.removeprefix('>')}"
            where = f"{place}: $ {command}"
            command = command.partition("  #")[0].strip()
            if _is_about_the_repository(command, where):
                assert not shown.strip(), f"{where}: what this writes cannot be compared"
            elif command.endswith(" &"):
                self._serve(command.removesuffix(" &"))
            elif command == "echo $?":
                assert shown.strip() == str(self.status), f"{where}: {self.status}"
            else:
                self._compare(self._run(["bash", "-c", command.replace(_PORT, self.port)]), shown, where)

    def _run(self, command: list[str], *, stderr: int = subprocess.STDOUT) -> str:
        """What it writes; a program whose errors are kept apart has to end well."""
        ended = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            timeout=_LIMIT_S,
            check=False,
        )
        self.status = ended.returncode
        assert stderr == subprocess.STDOUT or self.status == 0, ended.stderr
        return ended.stdout

    def _environment(self) -> dict[str, str]:
        surroundings = ("ONEX_", "COV_", "PYTEST", "FORCE_COLOR", "LC_", "LANG")
        own = {name: value for name, value in os.environ.items() if not name.startswith(surroundings)}
        own["PYTHONUTF8"] = "1"
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        own["PYTHONWARNINGS"] = "error::ResourceWarning"
        return own

    def _serve(self, command: str) -> None:
        server = subprocess.Popen(
            command.replace(_PORT, self.port).split(),
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.servers.append(server)
        if _PORT not in command:
            return  # a worker, whose runs are waited for
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(self.port)), 0.2).close()
            except OSError:
                time.sleep(0.02)  # another process; nothing here can be awaited
            else:
                return
        message = f"{self.page}: {command} does not listen"
        raise AssertionError(message)

    def _compare(self, said: str, shown: str, place: str) -> None:
        real = self._normal(said.replace(str(self.directory), _HOME).replace(self.port, _PORT))
        assert real == self._normal(shown), f"{place}\n--- really\n{said}\n--- on the page\n{shown}"

    def _normal(self, text: str) -> list[str]:
        text = _TIME.sub("TIME", _UUID.sub("UUID", text))
        return [re.sub(r" {2,}", "  ", line).rstrip() for line in text.strip("\n").splitlines()]


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def _is_about_the_repository(command: str, place: str) -> bool:
    """Commands that set up a machine: what they name must exist."""
    words = command.split()
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"{place}: no such target"
        return True
    if words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = re.fullmatch(rf"'?{project['name']}(?:\[([a-z,]+)\])?'?", words[2])
        assert wanted, f"{place}: another package"
        extras = set(filter(None, (wanted[1] or "").split(",")))
        assert extras <= set(project["optional-dependencies"]), f"{place}: no such extra"
        return True
    return False
