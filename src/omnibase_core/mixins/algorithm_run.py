"""A `ModelContractCompute` carried out: items checked, chunks worked on, partial states merged, the result shaped."""

import asyncio
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.chunk_worker import Failed, Work
from omnibase_core.mixins.compute_parallel import ChunksTimedOutError, OnProgress, chunk_error, run_chunks
from omnibase_core.mixins.purity_guard import PurityGuard
from omnibase_core.models.contracts.model_contract_compute import ModelContractCompute
from omnibase_core.models.model_compute_output import ModelComputeOutput
from omnibase_core.protocols.protocol_services import ProtocolAlgorithmRegistry
from omnibase_core.utils.algorithm_input import checked_items, in_format, require_format
from omnibase_core.utils.algorithm_registry import AlgorithmRegistry, require_methods, with_parameters
from omnibase_core.utils.algorithms import Algorithm, ItemFault
from omnibase_core.utils.chunking import Chunk, chunk_ranges, merge_all
from omnibase_core.utils.exact_sums import BeyondFloatsError
from omnibase_core.utils.result_cache import ResultCache, content_key


async def run_algorithm(
    contract: ModelContractCompute,
    registry: ProtocolAlgorithmRegistry,
    *,
    on_progress: OnProgress | None = None,
    cache: ResultCache | None = None,
    cluster: Callable[[], Executor] | None = None,
) -> ModelComputeOutput:
    """The result in the wanted shape, and how it was come by.

    `performance_metrics` has `execution_time` (seconds, 0 or next to it from the cache), `data_size` (items),
    `algorithm_type`, `items_per_second` and `workers` (that had something to do).

    cache: where results are looked for and kept, if the contract enables that. cluster: makes the executor of the
    backend `cluster`.

    Raises AlgorithmNotFoundError; ModelOnexError VALIDATION_ERROR for parameters, input and items (all problems of the
    input at once), CONFIGURATION_ERROR for a missing library, TIMEOUT, PurityError, and what `run_chunks` raises; each
    with the contract's correlation id.
    """
    try:
        return await _run(contract, registry, on_progress, cache, cluster)
    except ModelOnexError as error:
        if error.correlation_id is None:
            error.correlation_id = contract.correlation_id
        raise


async def _run(
    contract: ModelContractCompute,
    registry: ProtocolAlgorithmRegistry,
    on_progress: OnProgress | None,
    cache: ResultCache | None,
    cluster: Callable[[], Executor] | None,
) -> ModelComputeOutput:
    began = time.perf_counter()
    wanted, config = contract.output_transformation.format, contract.algorithm_config
    require_format(wanted)
    if isinstance(registry, AlgorithmRegistry):
        algorithm = registry.get_algorithm(config.algorithm_type, config.parameters)
    else:
        given = registry.get_algorithm(config.algorithm_type)
        require_methods(config.algorithm_type, given)
        algorithm = with_parameters(config.algorithm_type, given, config.parameters)
    items = checked_items(contract)
    key = _key(contract, algorithm, items) if cache is not None and contract.performance.cache_enabled else None
    hit, result = (False, None) if cache is None or key is None else cache.get(key)
    workers = 0
    if not hit:
        result, workers = await _computed(contract, algorithm, items, on_progress, cluster)
        if cache is not None and key is not None:
            cache.put(key, result, contract.performance.cache_ttl_seconds)
    seconds = time.perf_counter() - began
    return ModelComputeOutput(
        result=in_format(result, wanted),
        correlation_id=contract.correlation_id,
        processing_time_ms=seconds * 1000.0,
        cache_hit=hit,
        parallel_execution_used=workers > 1,
        performance_metrics={
            "execution_time": seconds,
            "data_size": len(items),
            "algorithm_type": config.algorithm_type,
            "items_per_second": len(items) / seconds if seconds else 0.0,
            "workers": workers,
        },
    )


async def _computed(
    contract: ModelContractCompute,
    algorithm: Algorithm[object],
    items: Sequence[object],
    on_progress: OnProgress | None,
    cluster: Callable[[], Executor] | None,
) -> tuple[object, int]:
    """(result, number of workers)."""
    parallel, enforce = contract.parallel_config, contract.purity == "enforce"
    name = f"algorithm {contract.algorithm_config.algorithm_type!r}"
    limit_ms = contract.performance.timeout_ms
    try:
        states: list[object] = await run_chunks(
            Work(algorithm.process_chunk, name, enforce),
            items,
            workers=parallel.worker_count,
            backend=parallel.chosen_backend,
            chunk_size=parallel.chunk_size,
            on_progress=on_progress,
            cluster=cluster,
            limit_seconds=None if limit_ms is None else limit_ms / 1000.0,
        )
    except ChunksTimedOutError:
        raise ModelOnexError(
            f"{name} was stopped: {len(items)} items took longer than performance.timeout_ms, {limit_ms} ms",
            EnumCoreErrorCode.TIMEOUT,
        ) from None
    serial = parallel.chosen_backend == "serial"
    workers = 1 if serial else max(1, min(parallel.worker_count, len(states)))
    places = chunk_ranges(len(items), 1 if serial else parallel.worker_count, parallel.chunk_size)
    if len(states) > 1:
        return await asyncio.to_thread(_finished, algorithm, states, places, name, enforce=enforce), workers
    return _finished(algorithm, states, places, name, enforce=enforce), workers


def _finished(
    algorithm: Algorithm[object], states: list[object], places: list[range], name: str, *, enforce: bool
) -> object:
    """places: the items of each state."""
    if enforce:
        with PurityGuard(name):
            return _finished(algorithm, states, places, name, enforce=False)
    try:
        state = merge_all(states or [algorithm.process_chunk(Chunk())], algorithm.merge)
        return algorithm.finish(state) if hasattr(algorithm, "finish") else state
    except ModelOnexError:
        raise
    except BeyondFloatsError as error:
        raise ModelOnexError(f"{name}: {error}", EnumCoreErrorCode.VALIDATION_ERROR) from None
    except Exception as error:
        code = EnumCoreErrorCode.OPERATION_FAILED
        if isinstance(error, ItemFault):
            for number, place in enumerate(places):
                if error.index in place:
                    raise chunk_error(name, number, place, Failed(error, error.index - place.start)) from error
        if isinstance(error, ItemFault | ValueError):
            code = EnumCoreErrorCode.VALIDATION_ERROR
        raise ModelOnexError(
            f"{name}: putting {len(states)} partial results together failed: {type(error).__name__}: {error}", code
        ) from error


def _key(contract: ModelContractCompute, algorithm: Algorithm[object], items: Sequence[object]) -> str | None:
    """None for what cannot be told apart: pickled, an algorithm is its class and all that an instance holds."""
    config = contract.algorithm_config
    try:
        held = pickle.dumps(algorithm).hex()
    except Exception:  # noqa: BLE001  # pickling runs the code of what it pickles
        return None
    return content_key(config.algorithm_type, config.parameters, held, list(items))
