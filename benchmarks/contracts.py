"""Contracts of a realistic mix for the benchmarks, and how long loading one takes.

Run as `python benchmarks/contracts.py [operations]`: CPU milliseconds, best of many, the garbage collector enabled.
"""

import sys
import time
from collections.abc import Callable

_HEAD = """\
name: order-desk
version: "1.2.0"
effect_subcontract:
  subcontract_name: order_desk
  version: "1.2.0"
  description: Takes orders, stores them, tells the others and keeps a copy.
  execution_mode: sequential_abort
  input_schema:
    required_fields: [order_id, customer.id, items]
  default_retry_policy:
    max_retries: 2
    base_delay_ms: 200
  default_circuit_breaker:
    enabled: true
    failure_threshold: 5
  operations:
"""

_HTTP = """\
    - operation_name: submit_order_{i}
      description: Send the order to the warehouse.
      io_config:
        handler_type: http
        method: POST
        url_template: "${{env.API_BASE}}/v1/customers/${{input.customer.id}}/orders"
        headers:
          Authorization: "Bearer ${{secret.API_TOKEN}}"
          X-Request-Id: "${{meta.correlation_id}}"
        body_template: |
          {{"order": "${{input.order_id}}", "items": ${{input.items}}, "note": "${{input.note:-none}}"}}
        timeout_ms: 5000
      response_handling:
        success_codes: [200, 201]
        extract_fields:
          id: $.data.id
          status: $.data.status
"""

_DB = """\
    - operation_name: store_order_{i}
      io_config:
        handler_type: db
        operation: insert
        connection_name: orders_{i}
        query_template: >-
          INSERT INTO orders (id, customer, status, total, created_at)
          VALUES ($1, $2, $3, $4, NOW()) ON CONFLICT (id) DO NOTHING RETURNING id
        query_params:
          - ${{input.order_id}}
          - ${{input.customer.id}}
          - new
          - ${{input.total:-0}}
        timeout_ms: 10000
      response_handling:
        extract_fields:
          row: $.rows[0].id
"""

_KAFKA = """\
    - operation_name: announce_order_{i}
      description: Tell the other services that there is a new order.
      io_config:
        handler_type: kafka
        topic: orders.created.v1
        partition_key_template: ${{input.order_id}}
        headers:
          trace: ${{meta.correlation_id}}
        payload_template: |
          {{"event": "order.created", "id": "${{input.order_id}}", "customer": ${{input.customer}}}}
        acks: all
        compression: zstd
      circuit_breaker:
        failure_threshold: 10
        timeout_ms: 30000
"""

_FILE = """\
    - operation_name: keep_copy_{i}
      idempotent: true
      io_config:
        handler_type: filesystem
        operation: write
        file_path_template: /var/lib/orders/${{input.customer.id}}/${{input.order_id}}.json
        content_template: |
          {{"id": "${{input.order_id}}", "items": ${{input.items}}}}
        mode: "0640"
        create_dirs: true
        timeout_ms: 2000
      retry_policy:
        max_retries: 3
        backoff_strategy: fixed
        base_delay_ms: 100
"""

_KINDS = (_HTTP, _DB, _KAFKA, _FILE)


def contract_text(operations: int) -> str:
    """A contract of that many operations: HTTP, SQL, Kafka and files in turn, about 500 bytes each."""
    return _HEAD + "".join(_KINDS[i % len(_KINDS)].format(i=i) for i in range(operations))


def best_ms(function: Callable[[], object], rounds: int = 60) -> float:
    """CPU milliseconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time_ns()
        function()
        best = min(best, (time.process_time_ns() - begin) / 1e6)
    return best


def main() -> None:
    """Print the split of a load."""
    import logging

    from omnibase_core.models.contracts.contract_model import LOADER
    from omnibase_core.models.contracts.model_contract_file import ModelContractFile
    from omnibase_core.utils.contract_hash import contract_hash
    from omnibase_core.utils.contract_loader import load_contract
    from omnibase_core.utils.contract_rules import judge_rules
    from omnibase_core.utils.effect_plan import compile_plan
    from omnibase_core.utils.yaml_document import read_documents

    logging.getLogger("onex.contract").setLevel(logging.ERROR)
    text = contract_text(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
    data = read_documents(text)[0][0].data
    root = ModelContractFile.model_validate(data, context=LOADER)
    contract = root.effect_subcontract
    parts: dict[str, Callable[[], object]] = {
        "load_contract": lambda: load_contract(text),
        "  yaml": lambda: read_documents(text),
        "  models": lambda: ModelContractFile.model_validate(data, context=LOADER),
        "  rules": lambda: judge_rules(contract, (), lambda _path: lambda _breach: None),
        "  plan": lambda: compile_plan(contract, lambda _breach: None),
        "  hash": lambda: contract_hash(contract),
    }
    print(f"{len(text)} bytes, {len(contract.operations)} operations; CPU ms, best of 60")
    for name, function in parts.items():
        print(f"{name:16}{best_ms(function):8.2f}")


if __name__ == "__main__":
    main()
