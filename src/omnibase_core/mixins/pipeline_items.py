"""A pipeline over the items of a list, on workers: `parallel` of a compute contract (3.1, 3.3).

Each worker compiles the contract once, says that it is ready, and takes chunks. A limit of the whole call counts from
then, and kills the processes; a limit of a step is held by an alarm in the worker, whose process the kernel ends when
the step goes on behind it. The contract's own schemas judge the whole input and the whole output, here.
"""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from math import inf
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.chunk_worker import Work
from omnibase_core.mixins.compute_parallel import Backend, ChunksTimedOutError, OnProgress, run_chunks
from omnibase_core.mixins.pipeline_worker import Alarm
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
    ModelComputeParallelConfig,
    ModelComputeSubcontract,
)
from omnibase_core.models.model_compute_output import ModelComputePipelineResult
from omnibase_core.utils.chunking import Chunk
from omnibase_core.utils.compute_executor import note_failure, pipeline_result
from omnibase_core.utils.compute_items import ItemsDone, gather, run_items
from omnibase_core.utils.compute_plan import ComputePlan, compile_again
from omnibase_core.utils.compute_run import ComputeRun, now
from omnibase_core.utils.compute_schemas import Documents

GRACE_SECONDS: Final = 0.1
"""What the pipeline has beyond its limit to stop by itself."""
_ALARM_SECONDS: Final = 0.2
"""What a step has beyond its limit: more, because behind that of the pipeline its caller says more than an alarm."""


class ItemsWork:
    """The pipeline of a contract for the items of a chunk. Pickles as the contract, and is compiled where it works.

    The limit of the pipeline counts from when that is done.
    """

    def __init__(self, plan: ComputePlan, *, alarmed: bool) -> None:
        self._plan = plan
        self._alarmed = alarmed
        self._deadline = self._limit()

    def __getstate__(self) -> tuple[ModelComputeSubcontract, Documents, bool]:
        return self._plan.subcontract, self._plan.documents, self._alarmed

    def __setstate__(self, state: tuple[ModelComputeSubcontract, Documents, bool]) -> None:
        subcontract, documents, self._alarmed = state
        self._plan = compile_again(subcontract, documents)
        self._deadline = self._limit()

    def _limit(self) -> float:
        seconds = self._plan.limit_seconds
        return inf if seconds is None else now() + seconds

    def __call__(self, chunk: Chunk) -> ItemsDone:
        items = cast("list[JsonValue]", chunk)  # of an input of JSON
        if not self._alarmed:
            return run_items(self._plan.steps, items, self._deadline)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        alarm = Alarm(self._deadline, _ALARM_SECONDS)
        try:
            return run_items(self._plan.steps, items, self._deadline, alarm)
        finally:
            alarm.off()


async def run_over_items(
    plan: ComputePlan,
    data: JsonValue,
    *,
    on_progress: OnProgress | None = None,
    cluster: Callable[[], Executor] | None = None,
) -> tuple[ModelComputePipelineResult, ModelOnexError | None]:
    """Run the pipeline of a contract with `parallel` for each item: the result, and its failure if it is one.

    The failure names chunk and item. cluster: makes the executor of the backend `cluster`, which is shut down here.
    """
    began = now()
    run = ComputeRun(data)
    output: JsonValue = None
    error: ModelOnexError | None = None
    try:
        if plan.check_input is not None:
            plan.check_input(data)
        items = [] if plan.find_items is None else plan.find_items(data)
        output = gather(await _parts(plan, items, on_progress, cluster), run)
        if plan.check_output is not None:
            plan.check_output(output)
    except ModelOnexError as failed:
        error = failed
        note_failure(failed, run)
    return pipeline_result(output, error, run, began), error


async def _parts(
    plan: ComputePlan,
    items: list[JsonValue],
    on_progress: OnProgress | None,
    cluster: Callable[[], Executor] | None,
) -> Sequence[ItemsDone]:
    parallel = plan.subcontract.parallel or ModelComputeParallelConfig()
    backend = cast("Backend", parallel.chosen_backend)  # its pattern allows no other
    limit = plan.limit_seconds
    alarmed = plan.small_input is not None and backend == "processes" and hasattr(signal, "setitimer")
    try:
        return await run_chunks(
            Work(ItemsWork(plan, alarmed=alarmed), "parallel"),
            items,
            workers=parallel.worker_count,
            backend=backend,
            chunk_size=parallel.chunk_size,
            on_progress=on_progress,
            cluster=cluster,
            limit_seconds=None if limit is None else limit + GRACE_SECONDS,
        )
    except ChunksTimedOutError:
        raise ModelOnexError(
            f"the pipeline: stopped, its limit is {(limit or 0.0) * 1e3:.0f} ms, for {len(items)} items",
            EnumCoreErrorCode.TIMEOUT,
        ) from None
