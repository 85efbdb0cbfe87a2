"""Workflows for the command line: contracts, a server whose answers can be held back, processes of `onex`."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

ORDER = """\
orchestrator_subcontract:
  workflow_name: order
  version: 1.2.0
  input_schema: {type: object, required: [id], properties: {id: {type: integer}}}
  steps:
    - step_id: price
      step_type: compute
      node: price.yaml
      input: {id: "${input.id}"}
    - step_id: pay
      step_type: approval
      depends_on: [price]
      approval: {prompt: "Pay ${input.id}?", approvers: [ada, bob]}
    - step_id: paid
      step_type: wait
      depends_on: [pay]
      wait: {signal: paid}
    - step_id: note
      step_type: effect
      node: note.yaml
      depends_on: [paid]
      when: steps.pay.approved
      input: {id: "${input.id}"}
  output: {approved: "${steps.pay.approved}", by: "${steps.pay.by}", amount: "${steps.paid.amount}"}
"""
PRICE = """\
compute_subcontract:
  operation_name: price
  pipeline:
    - {step_name: same, step_type: transformation, transformation_type: identity}
"""
NOTE = """\
effect_subcontract:
  subcontract_name: note
  operations:
    - operation_name: write
      io_config:
        handler_type: filesystem
        operation: write
        file_path_template: notes/${input.id}.txt
        content_template: paid
"""
DOORS = """\
orchestrator_subcontract:
  workflow_name: doors
  version: 1.0.0
  steps:
    - {step_id: one, step_type: effect, node: door.yaml, input: {door: "one"}}
    - {step_id: two, step_type: effect, node: door.yaml, input: {door: "two"}}
    - {step_id: three, step_type: effect, node: door.yaml, input: {door: "three"}}
  output: {last: "${steps.three}"}
"""
DOOR = """\
effect_subcontract:
  subcontract_name: door
  input_schema: {required_fields: [door]}
  operations:
    - operation_name: go
      operation_timeout_ms: 60000
      io_config:
        handler_type: http
        method: POST
        url_template: http://127.0.0.1:PORT/${input.door}
        body_json: {}
        timeout_ms: 60000
        idempotency_key: auto
"""


def write_order(directory: Path) -> str:
    """The order workflow in a directory; the name of its file."""
    for name, text in {"order.yaml": ORDER, "price.yaml": PRICE, "note.yaml": NOTE}.items():
        (directory / name).write_text(text, encoding="utf-8")
    return "order.yaml"


class Doors:
    """A server at which each path is a door: requests are counted, and answered when the door is open."""

    def __init__(self, *closed: str) -> None:
        self.counts: Counter[str] = Counter()
        self._came: dict[str, threading.Event] = {}
        self._closed = {name: threading.Event() for name in closed}
        self._lock = threading.Lock()
        doors = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that the library calls
                doors.enter(self.path.strip("/"))
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def enter(self, name: str) -> None:
        """A request, for as long as the door is closed."""
        with self._lock:
            self.counts[name] += 1
            self._came.setdefault(name, threading.Event()).set()
        door = self._closed.get(name)
        if door is not None:
            door.wait(30)

    def wait_for(self, name: str) -> None:
        """Until somebody has come to a door; AssertionError after half a minute."""
        with self._lock:
            came = self._came.setdefault(name, threading.Event())
        assert came.wait(30), f"nobody came to {name}"

    def open(self) -> None:
        """All doors, for those who wait too."""
        closed, self._closed = self._closed, {}
        for door in closed.values():
            door.set()

    def close(self) -> None:
        self.open()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def doors(directory: Path, *closed: str) -> Iterator[Doors]:
    """A server, and a workflow of three steps in the directory that goes through its doors."""
    server = Doors(*closed)
    (directory / "doors.yaml").write_text(DOORS, encoding="utf-8")
    (directory / "door.yaml").write_text(DOOR.replace("PORT", str(server.port)), encoding="utf-8")
    try:
        yield server
    finally:
        server.close()


class Process:
    """An `onex` of its own, whose lines can be waited for."""

    def __init__(self, directory: Path, *args: str, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ONEX_")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from omnibase_runtime.cli import main; main()", *args],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**kept, "PYTHONUTF8": "1", **environment},
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def wait_for(self, text: str) -> str:
        """The first line that has the text; AssertionError after half a minute."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None, 30), "\n".join(self.lines)
            return found() or ""

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit status; what was written is in `lines`."""
        try:
            status = self._process.wait(30)
        finally:
            self.close()
        return status

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
