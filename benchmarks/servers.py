"""Servers in processes of their own, so that their CPU time is not ours. They end when their standard input does."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Served:
    """line: the first that a server printed. last_words: what it printed as JSON when it ended."""

    line: str
    last_words: dict[str, float] = field(default_factory=dict)


@contextmanager
def served(module: str, *arguments: str) -> Iterator[Served]:
    """Run `python -m module` until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            server = Served(process.stdout.readline().strip())
            if not server.line:
                raise RuntimeError(f"{module} ended before it said where it listens")
            yield server
        finally:
            process.stdin.close()
            words = process.stdout.read()
            process.wait(10)
        if words:
            server.last_words = json.loads(words)


def printed_by(module: str, *arguments: str) -> dict[str, float]:
    """What `python -m module`, a program of its own, prints as JSON."""
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(run.stdout)
    return found


@contextmanager
def http_server() -> Iterator[str]:
    """The base URL of the tests' HTTP server, which answers every GET with a small JSON body."""
    with served("tests.support.http_server") as server:
        yield f"http://127.0.0.1:{server.line}"


@contextmanager
def kafka_mock() -> Iterator[str]:
    """Bootstrap servers of librdkafka's mock cluster."""
    with served("benchmarks.kafka_mock") as cluster:
        yield cluster.line
