"""The REDUCER node."""

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal, Self, cast
from uuid import UUID, uuid4

from pydantic import ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.error_handling import of_validation
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelReducerSubcontract
from omnibase_core.models.fsm_state import FsmState
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.models.model_reducer_output import (
    ModelReducerOutput,
    ModelReducerStateMetadata,
    ModelReductionMetrics,
)
from omnibase_core.utils.fsm_executor import FsmAction, begin, step
from omnibase_core.utils.fsm_plan import FsmPlan, plan_of

STATE_MACHINE: Final = "state_machine"
"""`reduction_type` of inputs that are about an action."""
_log = logging.getLogger("onex.reducer")


class NodeReducer:
    """Folds actions into state: `(state, action) -> (new_state, intents)`, as a machine says or as a subclass does.

    `NodeReducer.from_contract(container, contract)` runs a state machine. A subclass that overrides
    `def reduce(self, state, action)` is code-driven: `process` hands it the input's state and an `FsmAction`. The node
    keeps no state: what it returns as `new_state` is the `state` of the next input. It does no I/O; intents are carried
    out by an effect node.

    purity: `enforce` fails a `reduce` that opens files or sockets, or reads the clock or randomness, by a PurityError.
    """

    container: Container
    reducer_subcontract: ModelReducerSubcontract
    purity: Literal["off", "enforce"] = "off"

    _is_code_driven: ClassVar[bool] = False
    _plan: FsmPlan | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_code_driven = cls.reduce is not NodeReducer.reduce

    def __init__(self, container: Container | None = None) -> None:
        self.container = ModelONEXContainer() if container is None else container
        self.node_id: UUID = uuid4()

    @classmethod
    def from_contract(cls, container: Container | None, contract: str | Path) -> Self:
        """A node that runs `contract`: YAML text as a `str`, or a file as a `Path`.

        Raises ContractError with every problem of the contract, ModelOnexError VALIDATION_ERROR for a contract of
        another kind, and CONFIGURATION_ERROR when it has expressions and the extra `cel` is not installed.
        """
        from omnibase_core.utils.contract_loader import load_kind  # YAML: a node written in Python never needs it

        loaded = load_kind(contract, "reducer", "NodeReducer")
        node = cls(container)
        node.reducer_subcontract = cast("ModelReducerSubcontract", loaded.subcontract)  # of this kind
        node._plan = cast("FsmPlan", loaded.plan)  # as above
        return node

    def reduce(self, state: object, action: FsmAction) -> tuple[object, Iterable[ModelIntent]]:
        """The state behind the action and what is to be done. Pure; raises what `fsm_executor.step` raises.

        state: None is the initial one; else a state of the machine, a snapshot, or the name of a state.
        """
        plan = self._compiled()
        done = step(plan, _machine_state(plan, state), action)
        return done.state, done.intents

    async def process(self, input_data: ModelReducerInput) -> ModelReducerOutput:
        """Reduce one action; or, when there is none, `data` by the aggregation method that `reduction_type` names, with
        the other fields of a `reduction_config` as `payload`.

        Raises ModelOnexError VALIDATION_ERROR for an input with neither and for data with a wrong method or payload,
        what the machine or `run_aggregation` raises, and OPERATION_FAILED for what a `reduce` of one's own raises, or
        returns beside intents, save that a ModelOnexError passes. An action that a machine ignores is in `events`, and
        a line of the logger `onex.reducer`.
        """
        started = time.perf_counter()
        correlation_id = input_data.correlation_id or current_correlation_id.get() or input_data.operation_id
        if input_data.action is None and input_data.reduction_type != STATE_MACHINE:
            return await self._aggregate(input_data, correlation_id)
        if input_data.action is None:
            raise ModelOnexError(
                f"{type(self).__name__}: the input has no action; give the name of one, or data and the name of an "
                "aggregation method as reduction_type",
                EnumCoreErrorCode.VALIDATION_ERROR,
                correlation_id=correlation_id,
            )
        action = FsmAction(
            input_data.action, input_data.operation_id, input_data.payload, input_data.timestamp, correlation_id
        )
        fields = self._by_code(input_data, action) if self._is_code_driven else self._by_machine(input_data, action)
        return ModelReducerOutput(
            correlation_id=correlation_id,
            operation_id=input_data.operation_id,
            processing_time_ms=(time.perf_counter() - started) * 1_000,
            **fields,
        )

    async def _aggregate(self, input_data: ModelReducerInput, correlation_id: UUID) -> ModelReducerOutput:
        from omnibase_core.mixins.aggregation_run import run_aggregation  # a machine never needs it
        from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer

        fields = {
            "correlation_id": correlation_id,
            "input_data": input_data.data,
            "reduction_config": {**input_data.payload, "aggregation_method": input_data.reduction_type},
            "streaming_config": {"enabled": input_data.streaming_mode != "batch", "chunk_size": input_data.batch_size},
            "transaction_config": {"enabled": input_data.transaction_enabled},
        }
        try:
            contract = ModelContractReducer.model_validate(fields)
        except ValidationError as error:
            what = f"data by reduction_type {input_data.reduction_type!r}, with the payload as reduction_config"
            failure = of_validation(error, f"{type(self).__name__}, {what}")
            failure.correlation_id = correlation_id
            raise failure from failure.__cause__
        output = await run_aggregation(contract, self.container)
        return output.model_copy(update={"operation_id": input_data.operation_id})

    def _by_machine(self, input_data: ModelReducerInput, action: FsmAction) -> dict[str, object]:
        plan = self._compiled()
        before = _machine_state(plan, input_data.state)
        done = step(plan, before, action)
        if done.event is not None:
            _log.info("%s ignored action %r in state %r", plan.title, action.trigger, before.state)
        return {
            "result": done.state,
            "new_state": done.state,
            "intents": done.intents,
            "events": [] if done.event is None else [done.event],
            "state_metadata": ModelReducerStateMetadata(
                previous_state=before.state,
                new_state=done.state.state,
                transition=done.transition,
                intents_emitted=len(done.intents),
            ),
            "reduction_metrics": ModelReductionMetrics(
                records_processed=1, reduction_ratio=1.0, state_size=len(done.state.context)
            ),
        }

    def _by_code(self, input_data: ModelReducerInput, action: FsmAction) -> dict[str, object]:
        run = self._guarded if self.purity == "enforce" else self._reduced
        state, intents = run(input_data.state, action)
        return {
            "result": state,
            "new_state": state,
            "intents": intents,
            "state_metadata": ModelReducerStateMetadata(
                previous_state=_name_of(input_data.state), new_state=_name_of(state), intents_emitted=len(intents)
            ),
            "reduction_metrics": ModelReductionMetrics(
                records_processed=1, reduction_ratio=1.0, state_size=len(state) if isinstance(state, Mapping) else 1
            ),
        }

    def _reduced(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
        try:
            new_state, intents = self.reduce(state, action)
            return new_state, [_intent(each) for each in intents]  # the code of a generator runs here
        except ModelOnexError:
            raise
        except Exception as error:  # the boundary of a code-driven node
            place = f"{type(self).__name__}.reduce failed for action {action.trigger!r} with {type(error).__name__}"
            told = of_validation(error, place).message if isinstance(error, ValidationError) else f"{place}: {error}"
            raise ModelOnexError(
                f"{told}; it takes a state and an action, and returns the new state and intents",
                EnumCoreErrorCode.OPERATION_FAILED,
                {"action_id": str(action.action_id)},
                action.correlation_id,
            ) from error

    def _guarded(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
        from omnibase_core.mixins.purity_guard import PurityGuard  # for development

        with PurityGuard(f"{type(self).__name__}.reduce"):
            return self._reduced(state, action)

    def _compiled(self) -> FsmPlan:
        subcontract = getattr(self, "reducer_subcontract", None)
        if subcontract is None:
            raise ModelOnexError(
                f"{type(self).__name__} has neither a contract nor a reduce of its own; use from_contract, or override "
                "def reduce(self, state, action)",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        if self._plan is None or self._plan.machine is not subcontract.state_machine:
            self._plan = plan_of(subcontract.state_machine)
        return self._plan


def _machine_state(plan: FsmPlan, state: object) -> FsmState:
    if isinstance(state, str):
        return begin(plan, {"state": state, "context": plan.initial.context})
    if state is None or isinstance(state, Mapping):
        return begin(plan, state)
    raise ModelOnexError(
        f"{plan.title}: a state is a snapshot or the name of a state, found {type(state).__name__}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def _intent(given: object) -> ModelIntent:
    return given if isinstance(given, ModelIntent) else ModelIntent.model_validate(given)


def _name_of(state: object) -> str | None:
    """The name that a state of a program's own has, where it is one or has one."""
    name = state.get("state") if isinstance(state, Mapping) else state
    return name if isinstance(name, str) else None
