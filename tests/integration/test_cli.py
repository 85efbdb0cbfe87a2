"""The console script as a process: signals, pipes, terminals, speed."""

import contextlib
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import BROKEN, GREETING
from tests.support.compute import contract, transformation

ONEX = [sys.executable, "-c", "from omnibase_runtime.cli import main; main()"]

FETCH = """\
effect_subcontract:
  subcontract_name: fetch
  operations:
    - operation_name: write
      io_config: {{handler_type: filesystem, operation: write, file_path_template: done.txt, content_template: x}}
    - operation_name: get
      retry_policy: {{max_retries: {retries}, base_delay_ms: 60000, max_delay_ms: 60000}}
      operation_timeout_ms: 600000
      io_config: {{handler_type: http, method: GET, url_template: "http://127.0.0.1:{port}/"}}
"""


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONEX_") and name != "NO_COLOR"}
    return {**kept, "PYTHONUTF8": "1", "TERM": "xterm-256color", **more}


def _run(directory: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ONEX, *args], cwd=directory, capture_output=True, text=True, timeout=20, check=False, env=_environment(**more)
    )


@pytest.fixture
def silent_port() -> Iterator[tuple[int, threading.Event]]:
    """A server that takes a connection and never answers; the event says that somebody came."""
    came = threading.Event()
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                held.append(server.accept()[0])
                held[-1].recv(65536)
                came.set()
                held[-1].recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()
        thread.join(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_the_account_says_what_was_in_flight(
    tmp_path: Path, silent_port: tuple[int, threading.Event], number: signal.Signals
) -> None:
    """Exit status 10; what was done before is in the document, what was in flight is unknown."""
    port, came = silent_port
    (tmp_path / "c.yaml").write_text(FETCH.format(port=port, retries=0))
    process = subprocess.Popen(
        [*ONEX, "run", "c.yaml", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    assert came.wait(15)

    process.send_signal(number)
    out, err = process.communicate(timeout=10)

    document = json.loads(out)
    assert process.returncode == 10
    assert "Traceback" not in err
    assert document["error"]["code"] == "CANCELLED"
    assert "get was in flight" in document["error"]["message"]
    assert [o["outcome"] for o in document["output"]["operations"]] == ["succeeded", "unknown"]


def test_a_reader_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    """The effect was done; the status says so, and nobody hears of a broken pipe."""
    (tmp_path / "c.yaml").write_text(GREETING)
    reading, writing = os.pipe()
    os.close(reading)

    ended = subprocess.run(
        [*ONEX, "run", "c.yaml", "-s", "name=a", "--json"],
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
        env=_environment(),
    )
    os.close(writing)

    assert ended.returncode == 0
    assert ended.stderr == b""
    assert (tmp_path / "out/a.txt").exists()


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A full disk is RESOURCE_UNAVAILABLE, not silence."""
    (tmp_path / "c.yaml").write_text(GREETING)
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*ONEX, "validate", "c.yaml"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=20,
            check=False,
            env=_environment(),
        )

    assert ended.returncode == 4
    assert b"No space left" in ended.stderr


def test_closed_streams_make_no_traceback(tmp_path: Path) -> None:
    """As a daemon's child may have it."""
    (tmp_path / "c.yaml").write_text(GREETING)

    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *ONEX, "run", "c.yaml", "-s", "name=a"],
        cwd=tmp_path,
        timeout=20,
        check=False,
        env=_environment(),
    )

    assert ended.returncode == 0


def _in_terminal(directory: Path, args: list[str], until: bytes, **more: str) -> tuple[bytes, int]:
    """What a terminal of 100 columns gets to see; after `until` has been seen the process is interrupted."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*ONEX, *args],
        cwd=directory,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=_environment(COLUMNS="100", **more),
        start_new_session=True,
    )
    os.close(follower)
    seen, deadline, interrupted = b"", time.monotonic() + 20, False
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 0.2)[0]:
            continue
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not chunk:
            break
        seen += chunk
        if until and until in seen and not interrupted:
            process.send_signal(signal.SIGINT)
            interrupted = True
    os.close(leader)
    return seen, process.wait(10)


def test_a_terminal_sees_progress_and_colour(tmp_path: Path) -> None:
    """While an operation waits for its next attempt, the reason and the time are shown; Ctrl-C ends it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (tmp_path / "c.yaml").write_text(FETCH.format(port=closed.getsockname()[1], retries=3))

        seen, status = _in_terminal(tmp_path, ["run", "c.yaml"], b"ECONNREFUSED, attempt 2 in")

    assert status == 10
    assert b"\x1b[32m" in seen
    assert "✓".encode() in seen
    assert b"cancelled: nothing was in flight" in seen


def test_a_terminal_sees_a_bar_over_many_items(tmp_path: Path) -> None:
    """With what is done; the bar is gone when the output comes. Elsewhere there is none."""
    slow = transformation("arithmetic", "slow", expression="[" + ", ".join(["value"] * 250) + "].map(x, x)[0]")
    text = contract([slow], parallel={"backend": "serial", "chunk_size": 10, "items": "$.all"})
    (tmp_path / "c.yaml").write_text(text)
    (tmp_path / "in.json").write_text(json.dumps({"all": list(range(400))}))
    call = ["run", "c.yaml", "--input", "@in.json"]

    seen, status = _in_terminal(tmp_path, call, b"")
    plain = subprocess.run(
        [*ONEX, *call], cwd=tmp_path, env=_environment(), capture_output=True, timeout=20, check=True
    )

    assert status == 0
    assert b"demo" in seen
    assert re.search(rb"[0-9]+/400", seen)
    assert json.loads(plain.stdout) == list(range(400))
    assert plain.stderr == b""


def test_a_terminal_sees_the_source_line_and_a_caret(tmp_path: Path) -> None:
    """Below the place of the finding."""
    (tmp_path / "b.yaml").write_text(BROKEN)

    seen, status = _in_terminal(tmp_path, ["validate", "b.yaml"], b"", NO_COLOR="1")

    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in seen.decode().splitlines()]
    at = next(index for index, line in enumerate(lines) if line.endswith("        metod: GET"))
    assert status == 2
    assert lines[at + 1].index("^") == lines[at].index("metod")


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_switched_off(tmp_path: Path, more: dict[str, str]) -> None:
    """By NO_COLOR, and by a terminal that has none."""
    (tmp_path / "c.yaml").write_text(GREETING)

    seen, status = _in_terminal(tmp_path, ["run", "c.yaml", "-s", "name=a"], b"", **more)

    assert status == 0
    assert b"\x1b[3" not in seen
    assert b"succeeded" in seen


def test_a_pipe_gets_plain_whole_lines(tmp_path: Path) -> None:
    """No escape codes, nothing wrapped or cut, no spaces at the end."""
    (tmp_path / "c.yaml").write_text(GREETING)

    ended = _run(tmp_path, "plan", "c.yaml", "-s", f"name={'n' * 300}")

    assert "\x1b" not in ended.stdout
    assert f"write out/{'n' * 300}.txt" in ended.stdout
    assert all(line == line.rstrip() for line in ended.stdout.splitlines())


def test_an_encoding_without_symbols_gets_plain_ones(tmp_path: Path) -> None:
    """ASCII output is no reason to fail."""
    (tmp_path / "c.yaml").write_text(GREETING)

    ended = _run(tmp_path, "run", "c.yaml", "-s", "name=ü", PYTHONUTF8="0", PYTHONIOENCODING="ascii")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.isascii()
    assert "+  write" in ended.stdout
    assert json.loads(_run(tmp_path, "run", "c.yaml", "-s", "name=ü", "--json", PYTHONIOENCODING="ascii").stdout)


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    """By typer's own protocol."""
    words = {"_ONEX_COMPLETE": "complete_bash"}

    commands = _run(tmp_path, COMP_WORDS="onex va", COMP_CWORD="1", **words)
    options = _run(tmp_path, COMP_WORDS="onex run --ti", COMP_CWORD="2", **words)

    assert commands.stdout.split() == ["validate"]
    assert options.stdout.split() == ["--timeout-ms"]


def test_version_and_unknown_options(tmp_path: Path) -> None:
    """--version prints one line; an unknown option is a mistake of the user."""
    version, unknown = _run(tmp_path, "--version"), _run(tmp_path, "run", "--nope")

    assert version.stdout.startswith("onex ")
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr


def test_debug_may_stand_anywhere(tmp_path: Path) -> None:
    """Also behind the command, where people put it."""
    (tmp_path / "c.yaml").write_text(GREETING)

    ended = _run(tmp_path, "run", "c.yaml", "-i", "nonsense", "--debug")

    assert ended.returncode == 2
    assert "Traceback" in ended.stderr


@pytest.mark.parametrize("args", [["run", "none.yaml"], ["validate", "b.yaml"], ["run", "c.yaml", "-i", "{"]])
def test_a_mistake_is_told_in_under_a_second(tmp_path: Path, args: list[str]) -> None:
    """Counted in CPU time, which other programs on the machine do not lengthen; best of three."""
    (tmp_path / "b.yaml").write_text(BROKEN)
    (tmp_path / "c.yaml").write_text(GREETING)
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert _run(tmp_path, *args).returncode == 2
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(spent) < 1.0
