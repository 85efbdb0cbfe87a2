"""The event buses that the contract suite runs over."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_spi.events_memory import MemoryEventBus
from tests.support.backends import ran_against

MakeBus = Callable[..., AbstractAsyncContextManager[ProtocolEventBus]]
"""Called with `buffer` (default 1,000) and `max_attempts` (default 3); delays between attempts are short."""


@asynccontextmanager
async def memory_bus(*, buffer: int = 1_000, max_attempts: int = 3) -> AsyncIterator[ProtocolEventBus]:
    """The bus of one process."""
    ran_against("event bus (memory)", "the process itself")
    bus = MemoryEventBus(buffer=buffer, max_attempts=max_attempts, base_delay_s=0.001, max_delay_s=0.004)
    try:
        yield bus
    finally:
        await bus.aclose(1.0)


BUSES: Final[dict[str, MakeBus]] = {"memory": memory_bus}
