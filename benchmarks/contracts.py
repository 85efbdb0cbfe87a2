"""Contracts of a realistic mix for the benchmarks, and how long loading one takes.

Run as `python benchmarks/contracts.py [operations]`: CPU milliseconds, best of many, the garbage collector enabled.
Every load reads a text with names of its own, because templates that were seen before are not parsed again.
"""

import sys
import time
from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import TypeVar

T = TypeVar("T")

_HEAD = """\
name: order-desk
version: "1.2.0"
effect_subcontract:
  subcontract_name: order_desk
  version: "1.2.0"
  description: Takes orders, stores them, tells the others and keeps a copy.
  execution_mode: sequential_abort
  input_schema:
    required_fields: [order{v}, customer{v}.id, items{v}]
  default_retry_policy:
    max_retries: 2
    base_delay_ms: 200
  default_circuit_breaker:
    enabled: true
    failure_threshold: 5
  operations:
"""

_HTTP = """\
    - operation_name: submit{v}_{i}
      description: Send the order to the warehouse.
      io_config:
        handler_type: http
        method: POST
        url_template: "${{env.API_BASE}}/v1/customers/${{input.customer{v}.id}}/orders"
        headers:
          Authorization: "Bearer ${{secret.API_TOKEN}}"
          X-Request-Id: "${{meta.correlation_id}}"
        body_template: |
          {{"order": "${{input.order{v}}}", "items": ${{input.items{v}}}, "note": "${{input.note{v}_{i}:-none}}"}}
        timeout_ms: 5000
      response_handling:
        success_codes: [200, 201]
        extract_fields:
          id: $.data.id{v}_{i}
          status: $.data.status{v}_{i}
"""

_DB = """\
    - operation_name: store{v}_{i}
      io_config:
        handler_type: db
        operation: insert
        connection_name: orders_{i}
        query_template: >-
          INSERT INTO orders (id, customer, status, total, created_at)
          VALUES ($1, $2, $3, $4, NOW()) ON CONFLICT (id) DO NOTHING RETURNING id
        query_params:
          - ${{input.order{v}}}
          - ${{input.customer{v}.id}}
          - new
          - ${{input.total{v}_{i}:-0}}
        timeout_ms: 10000
      response_handling:
        extract_fields:
          row: $.rows[0].id{v}_{i}
"""

_KAFKA = """\
    - operation_name: announce{v}_{i}
      description: Tell the other services that there is a new order.
      io_config:
        handler_type: kafka
        topic: orders.created.v1
        partition_key_template: ${{input.order{v}}}
        headers:
          trace: ${{meta.correlation_id}}
        payload_template: |
          {{"event": "order.created", "id": "${{input.order{v}}}", "customer": ${{input.customer{v}}}}}
        acks: all
        compression: zstd
      circuit_breaker:
        failure_threshold: 10
        timeout_ms: 30000
"""

_FILE = """\
    - operation_name: keep{v}_{i}
      idempotent: true
      io_config:
        handler_type: filesystem
        operation: write
        file_path_template: /var/lib/orders/${{input.customer{v}.id}}/${{input.order{v}}}.json
        content_template: |
          {{"id": "${{input.order{v}}}", "items": ${{input.items{v}}}}}
        mode: "0640"
        create_dirs: true
        timeout_ms: 2000
      retry_policy:
        max_retries: 3
        backoff_strategy: fixed
        base_delay_ms: 100
"""

_KINDS = (_HTTP, _DB, _KAFKA, _FILE)


def contract_text(operations: int, variant: int = 0) -> str:
    """A contract of that many operations: HTTP, SQL, Kafka and files in turn, about 560 bytes each.

    Operations, input fields and extracted fields of another variant have other names.
    """
    v = f"{variant:04}"
    kinds = (_KINDS[i % len(_KINDS)].format(i=i, v=v) for i in range(operations))
    return _HEAD.format(v=v) + "".join(kinds)


def cold_texts(operations: int) -> Iterable[str]:
    """Endlessly many contracts of which no two share their names."""
    return (contract_text(operations, variant) for variant in count(1))


def best_ms(function: Callable[[T], object], given: Iterable[T], rounds: int = 60) -> float:
    """CPU milliseconds of the fastest of some calls, each with another argument."""
    best = float("inf")
    for argument in islice(given, rounds):
        begin = time.process_time_ns()
        function(argument)
        best = min(best, (time.process_time_ns() - begin) / 1e6)
    return best


def main() -> None:
    """Print the split of a load."""
    import logging

    from omnibase_core.models.contracts.contract_model import LOADER
    from omnibase_core.models.contracts.model_contract_file import ModelContractFile
    from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
    from omnibase_core.utils.contract_hash import contract_hash
    from omnibase_core.utils.contract_loader import load_contract
    from omnibase_core.utils.contract_rules import judge_rules
    from omnibase_core.utils.effect_plan import compile_plan
    from omnibase_core.utils.yaml_document import read_documents

    logging.getLogger("onex.contract").setLevel(logging.ERROR)
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    texts = cold_texts(operations)

    def data() -> Iterable[object]:
        return (read_documents(text)[0][0].data for text in texts)

    def contracts() -> Iterable[ModelEffectSubcontract]:
        return (ModelContractFile.model_validate(tree, context=LOADER).effect_subcontract for tree in data())

    first = best_ms(load_contract, texts, rounds=1)
    rows = {
        "load_contract": best_ms(load_contract, texts),
        "  yaml": best_ms(read_documents, texts),
        "  models": best_ms(lambda tree: ModelContractFile.model_validate(tree, context=LOADER), data()),
        "  rules": best_ms(lambda contract: judge_rules(contract, (), lambda _path: lambda _breach: None), contracts()),
        "  plan": best_ms(lambda contract: compile_plan(contract, lambda _breach: None), contracts()),
        "hash, when read": best_ms(contract_hash, contracts()),
        "first load of the process": first,
    }
    size = len(contract_text(operations, 1))
    print(f"{size} bytes, {operations} operations; CPU ms, best of 60")
    for name, milliseconds in rows.items():
        print(f"{name:28}{milliseconds:8.2f}")
    print(f"{'load_contract, per 25 kB':28}{rows['load_contract'] / size * 25_000:8.2f}")


if __name__ == "__main__":
    main()
