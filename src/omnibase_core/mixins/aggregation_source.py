"""Where the items of an aggregation come from: lists, iterables and async iterables, of items or of lists of items."""

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, Literal, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.utils.algorithms import Items

Kind = Literal["auto", "items", "chunks"]
_CHUNKS: Final = (list, tuple)


def source_of(contract: ModelContractReducer, skip: int) -> Iterator[Items] | AsyncIterator[Items]:
    """Chunks of at most `chunk_size` items, those behind the first `skip`.

    VALIDATION_ERROR for input that is nothing to iterate, or a chunk that is no list. What the input itself raises
    becomes OPERATION_FAILED, with the cause; a ModelOnexError passes.
    """
    data, streaming = contract.items, contract.streaming_config
    if callable(data):
        data, skip = cast("Callable[[int], object]", data)(skip), 0  # by the contract's description
    kind: Kind = streaming.items_come_as if streaming.enabled else "items"
    if isinstance(data, AsyncIterable):
        return _skipped_async(_async_chunks(data, kind, streaming.chunk_size), skip)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        return _skipped(_chunks(data, kind, streaming.chunk_size), skip)
    raise ModelOnexError(
        f"input_data is a list, an iterable or an async iterable of items or of lists of items; found "
        f"{type(data).__name__}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def _chunks(data: Iterable[object], kind: Kind, size: int) -> Iterator[Items]:
    if isinstance(data, _CHUNKS) and kind == "items":
        for start in range(0, len(data), size):
            yield data[start : start + size]
        return
    items = _guarded(data)
    if kind == "auto":
        head = list(islice(items, 1))
        kind = "chunks" if head and isinstance(head[0], _CHUNKS) else "items"
        items = chain(head, items)
    if kind == "items":
        while chunk := list(islice(items, size)):
            yield chunk
        return
    for piece in items:
        yield from _pieces(piece, size)


def _pieces(chunk: object, size: int) -> Iterator[Items]:
    if not isinstance(chunk, _CHUNKS):
        raise ModelOnexError(
            f"input_data yields lists of items, found {type(chunk).__name__}; if these are the items, set "
            "streaming_config.items_come_as to 'items'",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    if len(chunk) <= size:
        yield chunk
        return
    for start in range(0, len(chunk), size):
        yield chunk[start : start + size]


def _guarded(data: Iterable[object]) -> Iterator[object]:
    try:
        yield from data
    except ModelOnexError:
        raise
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> ModelOnexError:
    return ModelOnexError(
        f"input_data raised {type(error).__name__}: {error}; nothing was stored but the progress, if the contract "
        "asks for that",
        EnumCoreErrorCode.OPERATION_FAILED,
    )


async def _async_chunks(data: AsyncIterable[object], kind: Kind, size: int) -> AsyncIterator[Items]:
    waiting: list[object] = []
    iterator = aiter(data)
    try:
        while True:
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                break
            except ModelOnexError:
                raise
            except Exception as error:
                raise _broken(error) from error
            if kind == "auto":
                kind = "chunks" if isinstance(item, _CHUNKS) else "items"
            if kind == "chunks":
                for piece in _pieces(item, size):
                    yield piece
                continue
            waiting.append(item)
            if len(waiting) == size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting
    finally:
        if inspect.isasyncgen(iterator):
            await iterator.aclose()


def _skipped(chunks: Iterator[Items], skip: int) -> Iterator[Items]:
    for chunk in chunks:
        if skip < len(chunk):
            yield chunk[skip:] if skip else chunk
        skip = max(0, skip - len(chunk))


async def _skipped_async(chunks: AsyncIterator[Items], skip: int) -> AsyncIterator[Items]:
    try:
        async for chunk in chunks:
            if skip < len(chunk):
                yield chunk[skip:] if skip else chunk
            skip = max(0, skip - len(chunk))
    finally:
        if inspect.isasyncgen(chunks):
            await chunks.aclose()
