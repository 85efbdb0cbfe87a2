"""`onex test`: the examples of a contract hold, twice, without I/O and without a look at the clock."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._options import ContractFile, Json

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.utils.fsm_plan import FsmPlan

Examples = Annotated[
    Path | None,
    typer.Option(
        "--examples", "-e", metavar="FILE", help="Examples; default: CONTRACT.examples.yaml beside the contract."
    ),
]


def test(file: ContractFile, examples: Examples = None, as_json: Json = False) -> None:  # noqa: PT028  # a command
    """Run the examples of a compute contract or a state machine, and compare.

    A file of examples is a list: `examples: [{name, input, output}]`. In place of `output` may stand `error`, its code,
    and `step`, where it failed. The input of a state machine is a log of actions; its output names any of state,
    context, intents and events, and of each intent the keys that matter.

    Each example runs twice under a guard that fails it when it opens a file or a socket, or reads the clock or
    randomness; both runs must give the same.

    [bold]Exit status[/]: 0 when all hold, 1 when one does not, 2 when contract or examples are wrong.

    [bold]Example[/]: onex test normalise.yaml
    """
    _console.mode.json = as_json
    loaded = _inputs.load(file)

    from omnibase_runtime.commands import _examples

    if loaded.kind not in {"compute", "reducer"}:
        raise _console.usage(f"{file}: found {loaded.kind}_subcontract; only computations and state machines are pure")
    path = Path(file).with_suffix(".examples.yaml") if examples is None else examples
    verdicts = []
    for example in _examples.read_examples(path):
        if loaded.compute_plan is not None:
            run = _examples.compute_run(loaded.compute_plan)
        else:
            run = _examples.machine_run(cast("FsmPlan", loaded.plan), example.expected)  # the plan of this kind
        verdicts.append(_examples.judge(example, run))
    failed = _examples.failures(verdicts)
    if as_json:
        problems: list[JsonValue] = [{"name": one.name, "problem": one.problem} for one in failed]
        _console.say_json({"examples": len(verdicts), "failed": problems})
    else:
        for one in verdicts:
            _console.say(f"{'ok  ' if one.problem is None else 'FAIL'}  {one.name}")
            for line in (one.problem or "").splitlines():
                _console.say(f"      {line}")
        _console.say(f"{len(verdicts) - len(failed)} of {len(verdicts)} examples hold")
    if failed:
        raise typer.Exit(1)
