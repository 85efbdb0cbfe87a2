"""The COMPUTE node."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self, cast
from uuid import UUID, uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.mixins.mixin_compute_execution import MixinComputeExecution
from omnibase_core.mixins.threads import in_thread
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeSubcontract
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_compute_output import ModelComputeOutput, ModelComputePipelineResult
from omnibase_core.utils.contract_findings import did_you_mean
from omnibase_core.utils.result_cache import ResultCache, content_key

if TYPE_CHECKING:
    from concurrent.futures import Executor

DEFAULT_COMPUTATION: Final = "default"
"""`computation_type` of inputs that name none; a contract answers to it, and so may a registered function."""
Computation = Callable[[object], object]


class NodeCompute(MixinComputeExecution):
    """Transforms and validates data: as a contract says, by registered functions, or as a subclass does.

    `NodeCompute.from_contract(container, contract)` runs a contract's pipeline. A subclass that overrides
    `async def compute(self, input_data)` is code-driven. `register_computation(name, function)` adds a pure function
    that inputs choose by `computation_type`. Work runs in the calling task and holds its event loop until it ends, save
    that a registered function runs in a thread for an input with `parallel_enabled`; only contracts have limits of
    time, and may run in a process for them.

    cache_ttl_seconds: how long a result is given back to inputs with `cache_enabled` and the same computation and data,
    and for a code-driven node the same metadata; what no JSON can hold is computed each time. purity: `enforce` fails
    code that touches files or sockets, or reads the clock or randomness, with a PurityError; a contract's steps do none
    of it.
    """

    container: ModelONEXContainer
    cache_ttl_seconds: float = 300.0
    purity: Literal["off", "enforce"] = "off"

    _is_code_driven: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_code_driven = cls.compute is not NodeCompute.compute

    def __init__(self, container: ModelONEXContainer | None = None) -> None:
        self.container = ModelONEXContainer() if container is None else container
        self.node_id: UUID = uuid4()
        self._computations: dict[str, Computation] = {}
        self._cache: ResultCache | None = None
        self._cached_contract: object = None

    @classmethod
    def from_contract(cls, container: ModelONEXContainer | None, contract: str | Path) -> Self:
        """A node that runs `contract`: YAML text as a `str`, or a file as a `Path`.

        Raises ContractError with every problem of the contract, and ModelOnexError VALIDATION_ERROR for a contract of
        another kind or a `str` that names a file.
        """
        from omnibase_core.utils.contract_loader import load_kind  # YAML: a node written in Python never needs it

        loaded = load_kind(contract, "compute", "NodeCompute")
        node = cls(container)
        node.compute_subcontract = cast("ModelComputeSubcontract", loaded.subcontract)  # of this kind
        node._compute_plan = loaded.compute_plan
        return node

    def register_computation(self, name: str, function: Computation) -> None:
        """Have inputs with this `computation_type` computed by `function(data)`, a pure function that does not wait.

        Raises VALIDATION_ERROR for a name that is taken, and for a coroutine function.
        """
        if iscoroutinefunction(function):
            raise ModelOnexError(
                f"computation {name!r} is a coroutine function, and a registered computation does not wait; give a "
                "plain function, or override async def compute(self, input_data)",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        if name in self._computations:
            raise ModelOnexError(
                f"computation {name!r} is registered already; choose another name", EnumCoreErrorCode.VALIDATION_ERROR
            )
        self._computations[name] = function

    async def compute(self, input_data: ModelComputeInput) -> object:
        """The computation of a code-driven node, and until it is overridden the registered function.

        Raises NOT_FOUND for a `computation_type` that nobody registered.
        """
        name = input_data.computation_type
        function = self._computations.get(name)
        if function is None:
            known = ", ".join(sorted(self._computations)) or "none"
            hint = did_you_mean(name, self._computations)
            raise ModelOnexError(
                f"{type(self).__name__}: no computation {name!r}; registered: {known}{'; ' if hint else ''}{hint}",
                EnumCoreErrorCode.NOT_FOUND,
                {"computation_type": name},
            )
        return function(input_data.data)

    async def process(self, input_data: ModelComputeInput) -> ModelComputeOutput:
        """Compute once.

        Raises ComputeFailedError for a pipeline that fails, with its partial result; ModelOnexError OPERATION_FAILED
        for what code raises, save that a ModelOnexError passes; CONFIGURATION_ERROR for a node that has nothing to run.
        """
        began = time.perf_counter()
        correlation_id = input_data.correlation_id or current_correlation_id.get() or uuid4()
        key = self._cache_key(input_data) if input_data.cache_enabled else None
        hit, result = self._cached(key)
        pipeline: ModelComputePipelineResult | None = None
        if not hit:
            result, pipeline = await self._run(input_data)
            if key is not None and self._cache is not None:
                self._cache.put(key, result, self.cache_ttl_seconds)
        return ModelComputeOutput(
            result=result,
            operation_id=input_data.operation_id,
            correlation_id=correlation_id,
            processing_time_ms=(time.perf_counter() - began) * 1e3,
            cache_hit=hit,
            parallel_execution_used=not hit and self._beside_the_loop(input_data),
            pipeline=pipeline,
        )

    def _beside_the_loop(self, input_data: ModelComputeInput) -> bool:
        if self._runs_in_thread(input_data):
            return True
        if self._runs_code(input_data):
            return False
        parallel = self.compute_subcontract.parallel
        return parallel is not None and parallel.chosen_backend != "serial"

    def _runs_code(self, input_data: ModelComputeInput) -> bool:
        chosen = input_data.computation_type
        return self._is_code_driven or chosen in self._computations or chosen != DEFAULT_COMPUTATION

    async def _run(self, input_data: ModelComputeInput) -> tuple[object, ModelComputePipelineResult | None]:
        if not self._runs_code(input_data):
            data = cast("JsonValue", input_data.data)  # steps judge what they are given
            pipeline = await self.compute_in_time(data, cluster=self._cluster)
            return pipeline.output, pipeline
        try:
            if self._runs_in_thread(input_data):
                return await in_thread(lambda: self._call(input_data)), None
            with self._guard(input_data):
                return await self.compute(input_data), None
        except ModelOnexError:
            raise
        except Exception as error:  # the boundary of a code-driven node
            raise ModelOnexError(
                f"{type(self).__name__}: computation {input_data.computation_type!r} failed with "
                f"{type(error).__name__}: {error}",
                EnumCoreErrorCode.OPERATION_FAILED,
                {"computation_type": input_data.computation_type},
            ) from error

    def _runs_in_thread(self, input_data: ModelComputeInput) -> bool:
        named = input_data.computation_type in self._computations
        return input_data.parallel_enabled and named and not self._is_code_driven

    def _call(self, input_data: ModelComputeInput) -> object:
        """A registered function, where nothing waits."""
        with self._guard(input_data):
            return self._computations[input_data.computation_type](input_data.data)

    def _guard(self, input_data: ModelComputeInput) -> AbstractContextManager[object]:
        if self.purity == "off":
            return nullcontext()
        from omnibase_core.mixins.purity_guard import PurityGuard  # for development

        return PurityGuard(f"{type(self).__name__}: computation {input_data.computation_type!r}")

    def _cluster(self) -> "Executor":
        from omnibase_core.protocols.protocol_services import ProtocolComputeCluster

        return self.container.get_service(ProtocolComputeCluster).executor()

    def _cached(self, key: str | None) -> tuple[bool, object]:
        if key is None:
            return False, None
        contract = getattr(self, "compute_subcontract", None)
        if self._cache is None or self._cached_contract is not contract:
            self._cache, self._cached_contract = ResultCache(), contract
        return self._cache.get(key)

    def _cache_key(self, input_data: ModelComputeInput) -> str | None:
        seen = (input_data.data, input_data.metadata) if self._is_code_driven else (input_data.data,)
        return content_key(input_data.computation_type, *seen)
