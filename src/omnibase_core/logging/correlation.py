"""The correlation id of the current call, for logs and for calls made inside it."""

from contextvars import ContextVar
from uuid import UUID

current_correlation_id: ContextVar[UUID | None] = ContextVar("onex_correlation_id", default=None)
