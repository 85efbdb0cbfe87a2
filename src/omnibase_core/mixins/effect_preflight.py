"""What can be known before anything is done: an operation that cannot run at all ends an aborting call first.

A wrong connection name, a missing handler, variable or secret would else be met after the operations before it have
had their effects.
"""

from typing import cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.cut import Cut
from omnibase_core.mixins.effect_binding import BoundOperation, fetch_secrets
from omnibase_core.mixins.effect_operation import Call


async def first_hopeless(call: Call) -> tuple[int, ModelOnexError] | None:
    """The first operation that cannot run, and why; None when all can.

    A secrets store that does not answer is no reason: it may be back when its turn comes.
    """
    environ = call.scope.env
    for index, operation in enumerate(call.bound.operations):
        if operation.missing is not None:
            return index, operation.missing
        for name in sorted(operation.env_names):
            if name not in environ:
                return index, _lacks(
                    operation, f"environment variable {name}", "set it, or give a default: ${env.X:-...}"
                )
        names = operation.plan.io.secret_names
        known = cast("dict[str, str]", call.scope.secrets)
        if not names <= known.keys():
            try:
                fetching = fetch_secrets(names, call.bound.secrets, known)
                await Cut(fetching, call.deadline, call.loop, call.bound.keep_abandoned)
            except Exception:  # noqa: BLE001, S112  # whatever it is, the operation's own attempts will meet and judge it
                continue
            for name in sorted(names - known.keys()):
                fix = "put it into the secrets directory, or into the environment"
                return index, _lacks(operation, f"secret {name}", fix)
    return None


def _lacks(operation: BoundOperation, what: str, fix: str) -> ModelOnexError:
    return ModelOnexError(
        f"{what} is missing, so nothing was begun; {fix}",
        EnumCoreErrorCode.VALIDATION_ERROR,
        {"operation": operation.plan.name},
    )
