"""`onex plan`: what a run would do; nothing is done."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._options import Config, ContractFile, Input, Json, Set

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
    from omnibase_core.utils.effect_plan import EffectPlan
    from omnibase_core.utils.fsm_plan import FsmPlan
    from omnibase_runtime.commands._dry_run import DryOperation
    from omnibase_runtime.commands._reach import Connection
    from omnibase_runtime.settings import LoadedSettings


def plan(
    file: ContractFile,
    text: Input = None,
    assignments: Set = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the requests, statements, messages and paths of a run, and do nothing.

    Secrets are masked. What is known only when it runs (outputs of earlier operations, ids) is shown as its
    placeholder. Policies are shown with the place that each value comes from. Of a workflow: the steps in their order,
    what they wait for, how often they are tried, and what is recorded. Of a state machine: what is tried in each state,
    in this order, and where the actions of the input would lead.

    [bold]Exit status[/]: 0, 2 when contract or input are wrong, 3 when the settings are.

    [bold]Example[/]: onex plan orders.yaml --input @order.json
    """
    _console.mode.json = as_json
    found = _inputs.load(file)
    if found.compute_subcontract is not None and found.compute_plan is not None:
        from omnibase_runtime.commands._compute import show_plan

        value = _inputs.read_value(text, assignments or [], file)
        show_plan(found.compute_subcontract, found.compute_plan, value)
        return
    data = _inputs.read_input(text, assignments or [], file)
    if found.workflow is not None:
        from omnibase_runtime.commands._workflow import show_workflow

        show_workflow(found.workflow, data)
        return
    if found.kind == "reducer":
        from omnibase_runtime.commands._machine_view import show_machine

        show_machine(cast("FsmPlan", found.plan), data)  # the plan of this kind
        return
    contract, compiled = _inputs.effect_of(found)
    loaded = _inputs.settings_of(config)
    if compiled.check_input is not None:
        compiled.check_input(data)

    from omnibase_runtime.commands._dry_run import dry_operation, dry_scope

    environ = _environment(loaded)
    scope = dry_scope(compiled, data, environ)
    dry = [
        dry_operation(operation, contract.operations[operation.index].io_config, scope)
        for operation in compiled.operations
    ]
    document = _document(contract, compiled, dry, loaded, environ)
    if as_json:
        _console.say_json(document)
    else:
        from omnibase_runtime.commands._plan_view import print_plan

        print_plan(document)


def _environment(loaded: "LoadedSettings") -> "Mapping[str, str]":
    """The variables that the operator's policy lets contracts read."""
    names = loaded.settings.policy.env_names
    return os.environ if names is None else {name: os.environ[name] for name in names if name in os.environ}


def _document(
    contract: "ModelEffectSubcontract",
    compiled: "EffectPlan",
    dry: "list[DryOperation]",
    loaded: "LoadedSettings",
    environ: "Mapping[str, str]",
) -> "dict[str, JsonValue]":
    """The plan as data, of which the readable form is a rendering."""
    from omnibase_runtime.commands import _reach

    connections = _reach.connections_of(compiled, loaded)
    urls = [str(one.fields["url"]) for one in dry if "url" in one.fields]
    touches_files = any(
        op.handler_kind == "filesystem" or "body_file" in one.fields
        for op, one in zip(compiled.operations, dry, strict=True)
    )
    return {
        "contract": {
            "name": contract.subcontract_name,
            "version": contract.version,
            "execution_mode": contract.execution_mode.value,
            "max_concurrency": contract.max_concurrency if contract.execution_mode.is_parallel else 1,
            "flow_timeout_ms": contract.flow_timeout_ms,
        },
        "transaction": _transaction(contract, compiled, connections),
        "operations": [_operation(contract, compiled, index, one, connections) for index, one in enumerate(dry)],
        "connections": [one.as_json() for one in connections],
        "hosts": list(_reach.hosts_of(compiled, urls)),
        "env": [{"name": name, "set": name in environ} for name in _reach.names_read(compiled, "env")],
        "secrets": list(_reach.names_read(compiled, "secret")),
        "file_roots": list(_reach.file_roots(loaded.settings)) if touches_files else [],
    }


def _transaction(
    contract: "ModelEffectSubcontract", compiled: "EffectPlan", connections: "list[Connection]"
) -> "JsonValue":
    from omnibase_runtime.commands._policies import schedule

    config = compiled.transaction
    if config is None:
        return None
    driver = next((one.driver for one in connections if one.name == compiled.connection_name), "")
    policy = compiled.transaction_policy
    retries = policy.max_retries if policy.enabled else 0
    return {
        "connection": compiled.connection_name,
        "isolation_level": config.isolation_level.value,
        "effective_isolation_level": "serializable" if driver == "sqlite" else config.isolation_level.value,
        "rollback_on_error": config.rollback_on_error,
        "timeout_ms": config.timeout_ms,
        "savepoint_per_operation": not contract.execution_mode.aborts,
        "attempts": [
            asdict(one) for one in schedule(policy, retries, min(config.timeout_ms, contract.flow_timeout_ms))
        ],
    }


def _operation(
    contract: "ModelEffectSubcontract",
    compiled: "EffectPlan",
    index: int,
    dry: "DryOperation",
    connections: "list[Connection]",
) -> "JsonValue":
    from omnibase_runtime.commands import _policies
    from omnibase_runtime.commands._reach import connection_used_by

    operation, steps = contract.operations[index], compiled.operations[index]
    used = connection_used_by(operation.io_config, connections)
    limit = _policies.limit_of(operation, contract)
    return {
        "name": operation.operation_name,
        "kind": operation.describe(),
        "depends_on": [compiled.operations[other].name for other in steps.depends_on],
        "sends": dry.fields,
        "connection": None if used is None else used.as_json(),
        "in_transaction": compiled.transaction is not None,
        "idempotent": steps.idempotent,
        "because": _policies.idempotency_reason(operation),
        "timeouts": [asdict(one) for one in _policies.timeouts(operation, contract)],
        "retry": [asdict(one) for one in _policies.retry_settings(contract, operation, steps)],
        "attempts": [asdict(one) for one in _policies.schedule(steps.policy, steps.max_retries, limit)],
        "breaker": [asdict(one) for one in _policies.breaker_settings(contract, operation, steps)],
        "notes": list(dry.notes),
    }
