"""Calls of the command line inside this process, and contracts for them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ended:
    """How a call ended, and what it wrote."""

    status: int
    out: str
    err: str


class Onex:
    """The command line with the streams of the test."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *args: str) -> Ended:
        from omnibase_runtime.cli import command_line  # a test that calls nothing imports nothing

        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line().main(list(args), prog_name="onex")
        code = ended.value.code
        out, err = self._capture.readouterr()
        return Ended(code if isinstance(code, int) else 0, out, err)


@pytest.fixture
def onex(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Onex]:
    """The command line, in an empty directory and without settings of the surroundings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONEX_CONFIG", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Onex(capsys)
    root.handlers[:] = handlers  # what `--debug` adds writes to the stream of this test, which is closed after it
    root.setLevel(level)
    logging.getLogger("dbos").handlers.clear()  # likewise


@pytest.fixture
def own_log_level() -> Iterator[None]:
    """For programs that are run in this process and quiet our loggers, which would stay quiet for the tests to come."""
    logger = logging.getLogger("onex")
    level = logger.level
    yield
    logger.setLevel(level)


GREETING = """\
effect_subcontract:
  subcontract_name: greeting
  input_schema: {required_fields: [name]}
  operations:
    - operation_name: write
      io_config:
        handler_type: filesystem
        operation: write
        file_path_template: out/${input.name}.txt
        content_template: Hello ${input.name}
      response_handling:
        extract_fields: {size: $.size_bytes}
    - operation_name: read
      io_config:
        handler_type: filesystem
        operation: read
        file_path_template: out/${input.name}.txt
      response_handling:
        extract_fields: {content: $.content}
"""

BROKEN = """\
effect_subcontract:
  subcontract_name: broken
  operations:
    - operation_name: get
      io_config:
        handler_type: http
        metod: GET
        url_template: http://127.0.0.1/x
        timeout_ms: 5
"""

ORDERS = """\
effect_subcontract:
  subcontract_name: orders
  default_retry_policy: {max_retries: 5, base_delay_ms: 200}
  operations:
    - operation_name: create
      io_config:
        handler_type: http
        method: POST
        url_template: ${secret.BASE}/v1/orders/${input.id}
        auth: {type: basic, username: me, password: "${secret.PASSWORD}"}
        body_json: {id: "${input.id}"}
        idempotency_key: auto
      response_handling: {extract_fields: {order: $.id}}
    - operation_name: fetch
      retry_policy: {max_retries: 2}
      circuit_breaker: {enabled: true}
      io_config:
        handler_type: http
        method: GET
        url_template: https://${env.ONEX_TEST_HOST}/v1/${output.create.order}?key=${secret.KEY}
    - operation_name: store
      io_config:
        handler_type: db
        operation: update
        connection_name: primary
        query_template: UPDATE t SET n = n + $1 WHERE id = $2
        query_params: ["${input.n:-1}", "${output.create.order}"]
    - operation_name: tell
      io_config:
        handler_type: kafka
        topic: orders
        payload_template: '{"id": ${output.create.order}}'
"""
