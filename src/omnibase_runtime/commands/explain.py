"""`onex explain`: what may be repeated, when, and why."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._options import ContractFile, Json

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
    from omnibase_core.utils.effect_plan import EffectPlan
    from omnibase_core.utils.fsm_plan import FsmPlan

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="OPERATION",
        help="Only this operation, this step of a pipeline or workflow, or this transition.",
        show_default=False,
    ),
]


def explain(file: ContractFile, operation: Name = None, as_json: Json = False) -> None:
    """Say of each operation whether it is idempotent and why, what is repeated in which phase, and under which limits.

    Of each step of a workflow: what a crash means for it, how often it is tried, and what follows when it fails.
    Of each step of a compute contract: what it takes and gives, under which limit, and what makes it fail.
    Of each transition of a state machine: when it is taken, what it sets and emits, and what makes it fail.

    [bold]Exit status[/]: 0, or 2.

    [bold]Example[/]: onex explain orders.yaml create_order
    """
    _console.mode.json = as_json
    loaded = _inputs.load(file)
    if loaded.workflow is not None:
        from omnibase_runtime.commands._workflow import explain_workflow

        explain_workflow(loaded.workflow, operation, file)
        return
    if loaded.kind == "reducer":
        from omnibase_runtime.commands._machine_view import explain_machine

        explain_machine(cast("FsmPlan", loaded.plan), operation, file)  # the plan of this kind
        return
    if loaded.compute_subcontract is not None:
        from omnibase_runtime.commands._compute_view import explain_pipeline

        explain_pipeline(loaded.compute_subcontract, operation, file)
        return
    contract, compiled = _inputs.effect_of(loaded)
    names = [one.name for one in compiled.operations]
    if operation is not None and operation not in names:
        raise _console.usage(f"{file}: there is no operation {operation!r}; there are {', '.join(names)}")
    chosen = [index for index, name in enumerate(names) if operation in {None, name}]
    found = [_explained(contract, compiled, index) for index in chosen]
    if as_json:
        _console.say_json({"contract": contract.subcontract_name, "operations": [*found]})
        return
    _print(contract, found)


def _explained(contract: "ModelEffectSubcontract", compiled: "EffectPlan", index: int) -> "dict[str, JsonValue]":
    from omnibase_runtime.commands import _policies

    operation, steps = contract.operations[index], compiled.operations[index]
    in_transaction = compiled.transaction is not None
    limit = _policies.limit_of(operation, contract)
    phases = _policies.phase_rows(operation, steps, in_transaction=in_transaction)
    http = operation.handler_type == "http"
    return {
        "name": operation.operation_name,
        "kind": operation.describe(),
        "in_transaction": in_transaction,
        "idempotent": steps.idempotent,
        "because": _policies.idempotency_reason(operation),
        "phases": [{"phase": phase, "action": action} for phase, action in phases],
        "success_codes": [*sorted(steps.success_codes)] if http else [],
        "repeated_status_codes": [*sorted(steps.lists.status_codes)] if http else [],
        "repeated_errors": [*sorted(steps.lists.errors)],
        "retry": [asdict(one) for one in _policies.retry_settings(contract, operation, steps)],
        "attempts": [asdict(one) for one in _policies.schedule(steps.policy, steps.max_retries, limit)],
        "breaker_key": str(steps.breaker_key),
        "breaker_key_source": "operation"
        if "correlation_id" in operation.model_fields_set
        else "derived from the names",
        "breaker": [asdict(one) for one in _policies.breaker_settings(contract, operation, steps)],
        "timeouts": [asdict(one) for one in _policies.timeouts(operation, contract)],
    }


def _print(contract: "ModelEffectSubcontract", found: "list[dict[str, JsonValue]]") -> None:
    from rich.text import Text

    from omnibase_runtime.commands import _plan_view as view
    from omnibase_runtime.commands._render import heading, milliseconds, pairs

    screen = _console.console()
    for index, one in enumerate(found):
        if index:
            screen.print()
        heading(screen, str(one["name"]), str(one["kind"]), contract.subcontract_name)
        verdict = ("idempotent", "green") if one["idempotent"] else ("not idempotent", "yellow")
        limits = [
            f"{limit['name']} {milliseconds(float(str(limit['value'])))} ({limit['source']})"
            for limit in view.each(one, "timeouts")
        ]
        codes = one["success_codes"]
        screen.print(
            pairs(
                [
                    ("verdict", Text.assemble(verdict, f": {one['because']}")),
                    *((str(row["phase"]), str(row["action"])) for row in view.each(one, "phases")),
                    ("success", ", ".join(map(str, codes)) if isinstance(codes, list) else ""),
                    ("attempts", view.attempts_line(one)),
                    ("retry", view.settings_line(list(view.each(one, "retry")))),
                    (
                        "breaker",
                        view.settings_line(list(view.each(one, "breaker"))) if view.has_breaker(one) else "off",
                    ),
                    ("breaker key", f"{one['breaker_key']} ({one['breaker_key_source']})"),
                    ("limits", ", ".join(limits)),
                ]
            )
        )
