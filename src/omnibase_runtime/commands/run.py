"""`onex run`: carry a contract out once."""

import asyncio
import json
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._engines import Database, close, settings_with
from omnibase_runtime.commands._options import Config, ContractFile, Input, Json, Set

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.errors.onex_error import ModelOnexError
    from omnibase_core.models.container.model_onex_container import ModelONEXContainer
    from omnibase_core.models.model_effect_input import ModelEffectInput
    from omnibase_core.models.model_effect_output import ModelEffectOutput
    from omnibase_core.nodes.node_effect import NodeEffect
    from omnibase_core.utils.fsm_plan import FsmPlan
    from omnibase_runtime.commands._progress import Progress

Timeout = Annotated[
    int | None,
    typer.Option("--timeout-ms", min=1, max=3_600_000, help="Shorten the contract's flow_timeout_ms.", metavar="MS"),
]

RunId = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="Of a workflow's run: the same id is the same run.", show_default=False),
]


def run(
    file: ContractFile,
    text: Input = None,
    assignments: Set = None,
    config: Config = None,
    *,
    timeout_ms: Timeout = None,
    database: Database = None,
    workflow_id: RunId = None,
    steps: Annotated[
        bool, typer.Option("--steps", metavar="", help="Of a workflow: a line for each step that ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Carry out a contract. A compute contract takes any JSON; its output goes to standard output, as JSON.

    Of a state machine the input is a log, {"actions": [{"action": "PLACE", "payload": {}}]}, and the output its state,
    its intents (nothing carries them out here) and the actions that it ignored.

    A workflow is run in memory, or where runs are kept if --database or a setting says so: then it goes on after a
    crash, by a worker or by the same command with the same --id. Ctrl-C cancels it.

    The summary, or with --json the output model, goes to standard output; progress and errors go to standard error.
    With --json a failure is one document too: [bold]error[/] and the partial [bold]output[/].

    [bold]Exit status[/]: 0 when everything succeeded, else that of the error: 2 contract or input, 3 configuration, 4
    unavailable, 5 failed, 6 timeout, 7 breaker open, 8 extraction, 9 rate limit, 10 cancelled (Ctrl-C), 11 conflict, 12
    outcome unknown, 13 policy, 14 not found, 70 defect. In the continuing modes it is that of the first operation that
    failed.

    [bold]Example[/]: onex run orders.yaml --input @order.json --set order.id=7
    """
    _console.mode.json = as_json
    loaded = _inputs.load(file)
    if loaded.workflow is not None:
        from omnibase_runtime.commands._workflow_run import run_workflow

        if timeout_ms is not None:
            raise _console.usage("--timeout-ms is for effects; a workflow has workflow_timeout_ms")
        data = _inputs.read_input(text, assignments or [], file)
        settings = settings_with(config, database)
        raise typer.Exit(run_workflow(loaded.workflow, data, settings, workflow_id, in_lines=steps))
    if database is not None or workflow_id is not None or steps:
        raise _console.usage(f"--database, --id and --steps are for workflows; {file} is another kind of contract")
    if loaded.kind == "reducer":
        from omnibase_runtime.commands._machine import run_log

        if timeout_ms is not None:
            raise _console.usage("--timeout-ms is for effects; a state machine waits for nothing")
        machine = cast("FsmPlan", loaded.plan)  # the plan of this kind
        raise typer.Exit(run_log(machine, _inputs.read_input(text, assignments or [], file)))
    if loaded.compute_plan is not None:
        from omnibase_runtime.commands._compute import run_pipeline

        if timeout_ms is not None:
            raise _console.usage("--timeout-ms is for effects; a compute contract has pipeline_timeout_ms")
        from omnibase_spi.compute_cluster import ConfiguredCluster

        raise typer.Exit(
            run_pipeline(
                loaded.compute_plan,
                _inputs.read_value(text, assignments or [], file),
                lambda: ConfiguredCluster(_inputs.settings_of(config).settings.compute_cluster).executor(),
            )
        )
    contract, plan = _inputs.effect_of(loaded)
    data = _inputs.read_input(text, assignments or [], file)

    from omnibase_core.models.model_effect_input import ModelEffectInput
    from omnibase_core.nodes.node_effect import NodeEffect
    from omnibase_runtime.commands._progress import Progress

    settings = _inputs.settings_of(config).settings
    fields: dict[str, object] = {"operation_data": data}
    if timeout_ms is not None:
        fields["timeout_ms"] = timeout_ms
    request = ModelEffectInput.model_validate(fields)
    progress = Progress(plan)
    from omnibase_runtime.app import compose

    container = compose(settings, watch=progress)
    node = NodeEffect(container)
    node.effect_subcontract = contract
    raise typer.Exit(_carry_out(_process(node, container, request, progress), progress))


def _carry_out(work: "Coroutine[object, object, ModelEffectOutput]", progress: "Progress") -> int:
    """Run, report, and give the exit status."""
    from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
    from omnibase_core.errors.onex_error import ModelOnexError
    from omnibase_core.models.model_effect_output import EffectFailedError

    try:
        return _report(None, asyncio.run(work), progress)
    except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
        error = ModelOnexError(f"cancelled: {progress.left_over()}", EnumCoreErrorCode.CANCELLED)
        error.__cause__ = interrupt
        return _report(error, progress.so_far(), progress)
    except EffectFailedError as failed:
        return _report(failed, failed.partial_output, progress)


async def _process(
    node: "NodeEffect", container: "ModelONEXContainer", request: "ModelEffectInput", progress: "Progress"
) -> "ModelEffectOutput":
    """Process, under SIGTERM as under Ctrl-C: what runs is cancelled and put in order, and the adapters are closed."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        with progress.shown(loop):
            return await node.process(request)
    finally:
        await close(container)


def _report(error: "ModelOnexError | None", output: "ModelEffectOutput | None", progress: "Progress") -> int:
    if _console.mode.json:
        document: JsonValue = None if output is None else json.loads(output.model_dump_json())
        if error is not None:
            document = {"error": _console.error_document(error), "output": document}
        _console.say_json(document)
    elif output is not None and output.operations:
        from omnibase_runtime.commands._summary import print_summary

        print_summary(output, progress.planned, in_transaction=progress.in_transaction)
    if error is not None:
        return error.error_code.exit_status if _console.mode.json else _console.tell(error)
    return _failures_passed_over(output)


def _failures_passed_over(output: "ModelEffectOutput | None") -> int:
    """What a continuing mode does not raise: told one by one; the status of the first."""
    from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode

    status = 0
    for result in [] if output is None else output.operations:
        if result.success or result.outcome == "skipped":
            continue
        code = result.error_code or EnumCoreErrorCode.OPERATION_FAILED
        status = status or code.exit_status
        if not _console.mode.json:
            _console.tell_line(code.value, f"operation {result.operation_name!r}: {result.error_message}")
    return status
