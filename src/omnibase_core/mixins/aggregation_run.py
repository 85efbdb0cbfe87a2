"""A `ModelContractReducer` carried out: items drawn, partial states kept and stored, the result made.

The work is done in a thread, a slice of some milliseconds after the other, so that the event loop goes on and a
cancelled call ends soon: with the slice, or when a synchronous input that blocks gives its next item. An async input is
awaited on the loop.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.aggregation_files import SpillDirectory
from omnibase_core.mixins.aggregation_source import source_of
from omnibase_core.mixins.aggregation_store import AggregationStore, Begun
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.threads import in_thread
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.models.model_reducer_output import ModelReducerOutput, ModelReductionMetrics
from omnibase_core.protocols.protocol_state import ProtocolStateManager, ProtocolTransactionManager
from omnibase_core.utils.aggregation import Aggregation
from omnibase_core.utils.algorithms import Items

T = TypeVar("T")
OnProgress = Callable[[int], None]
"""Called on the event loop with the number of items that are done."""
_SLICE_SECONDS: Final = 0.05
_INLINE_ITEMS: Final = 1_000
"""So few items are not worth a thread, and hold the event loop for a moment only."""


async def run_aggregation(
    contract: ModelContractReducer,
    container: Container,
    *,
    on_progress: OnProgress | None = None,
) -> ModelReducerOutput:
    """The result, and how it was come by.

    `metadata` has `late_items`, and where it applies `spilled_bytes`, `resumed_at` (items that an earlier run had done)
    and `state_version`. With late_data_policy `side_output` the late items are in `events`.

    Raises ModelOnexError with the contract's correlation id: VALIDATION_ERROR for input and items that do not fit,
    OPERATION_FAILED with the cause for what the input or a custom reducer raises, RESOURCE_UNAVAILABLE when there is no
    room, AlgorithmNotFoundError, StateConsistencyError, ConcurrentModificationError, and what the store raises. The
    stored state is as it was then.
    """
    try:
        with SpillDirectory(contract.memory_management.spill_directory) as files:
            return await _Run(contract, container, files, on_progress).carry_out()
    except ModelOnexError as error:
        if error.correlation_id is None:
            error.correlation_id = contract.correlation_id
        raise


class _Run:
    """One call."""

    def __init__(
        self,
        contract: ModelContractReducer,
        container: Container,
        files: SpillDirectory,
        on_progress: OnProgress | None,
    ) -> None:
        self._contract = contract
        self._files = files
        self._on_progress = on_progress
        self._began = time.perf_counter()
        self._every = contract.streaming_config.checkpoint_items
        self._done = 0
        self._stored_at = 0
        self._store: AggregationStore | None = None
        if contract.reduction_config.state_key is not None:
            states = cast("ProtocolStateManager", container.get_service("ProtocolStateManager"))  # its key
            transactions = cast(
                "ProtocolTransactionManager", container.get_service("ProtocolTransactionManager")
            )  # same
            self._store = AggregationStore(contract, states, transactions)

    async def carry_out(self) -> ModelReducerOutput:
        begun = Begun(Aggregation(self._contract, self._files), 0)
        if self._store is not None:
            begun = await self._store.begin()
        aggregation = begun.aggregation
        if begun.done is not None:
            self._done = self._stored_at = begun.done
            try:
                await self._draw(aggregation)
            except ModelOnexError as error:
                if self._store is not None and error.error_code is EnumCoreErrorCode.VALIDATION_ERROR:
                    await self._store.forget_progress()
                raise
            if self._store is not None:
                aggregation = await self._store.end(aggregation)
        return await self._output(aggregation, begun.done)

    # items

    async def _draw(self, aggregation: Aggregation) -> None:
        source = source_of(self._contract, self._done)
        if isinstance(source, AsyncIterator):
            try:
                async for chunk in source:
                    await self._work(lambda items=chunk: self._add(aggregation, items), len(chunk))  # type: ignore[misc]  # bound now
                    await self._note(aggregation)
            finally:
                with contextlib.suppress(AttributeError):
                    await source.aclose()  # type: ignore[attr-defined]  # it is a generator
            return
        data = self._contract.items
        few = (
            isinstance(data, list | tuple)
            and len(data) <= _INLINE_ITEMS
            and not self._contract.streaming_config.enabled
        )
        ended = False
        while not ended:
            ended = await self._work(lambda: self._slice(aggregation, source), 0 if few else _INLINE_ITEMS)
            await self._note(aggregation)

    def _slice(self, aggregation: Aggregation, source: Iterator[Items]) -> bool:
        """Add chunks for a while. True when there are no more."""
        until = time.perf_counter() + _SLICE_SECONDS
        for chunk in source:
            self._add(aggregation, chunk)
            if time.perf_counter() > until or (self._every and self._done - self._stored_at >= self._every):
                return False
        return True

    def _add(self, aggregation: Aggregation, chunk: Items) -> None:
        aggregation.add(chunk)
        self._done += len(chunk)

    async def _note(self, aggregation: Aggregation) -> None:
        if self._on_progress is not None:
            self._on_progress(self._done)
        if self._store is not None and self._every and self._done - self._stored_at >= self._every:
            await self._store.note_progress(aggregation, self._done)
            self._stored_at = self._done

    async def _work(self, call: Callable[[], T], items: int) -> T:
        """Do it in a thread, unless there is little to do."""
        if items < _INLINE_ITEMS:
            return call()
        return await in_thread(call, self._stop)

    def _stop(self) -> None:
        self._files.stopped = True

    # the result

    async def _output(self, aggregation: Aggregation, resumed_at: int | None) -> ModelReducerOutput:
        has_rows = bool(self._contract.reduction_config.group_by or self._contract.streaming_config.window)
        spilled = aggregation.spilled
        if has_rows and spilled:
            result: object = await self._work(lambda: self._files.keep(aggregation.rows()), _INLINE_ITEMS)
        else:
            result = await self._work(aggregation.result, self._done)
        size = len(result) if has_rows else 1  # type: ignore[arg-type]  # a list, or what keep gives
        records = self._done - (resumed_at or 0)
        metadata = {"late_items": str(aggregation.late)}
        if spilled:
            metadata["spilled_bytes"] = str(self._files.written_bytes)
        if resumed_at is None or resumed_at:
            metadata["resumed_at"] = "end" if resumed_at is None else str(resumed_at)
        if self._store is not None:
            metadata["state_version"] = str(self._store.version)
        return ModelReducerOutput(
            correlation_id=self._contract.correlation_id,
            result=result,
            events=aggregation.late_items,
            reduction_metrics=ModelReductionMetrics(
                records_processed=records, reduction_ratio=size / records if records else 0.0, state_size=size
            ),
            processing_time_ms=(time.perf_counter() - self._began) * 1_000,
            metadata=metadata,
        )
