"""`@event_handler("Type")`: marks a function as the handler of an event type. `bus.subscribe_handlers` attaches it."""

import inspect
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from pydantic import BaseModel

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

F = TypeVar("F", bound=Callable[..., object])
EventName = str | type[BaseModel]
"""A topic or event type: by name, or the model whose class name it is and as which the payload is handed over."""

_MARK: Final = "__onex_events__"


def event_handler(*events: EventName) -> Callable[[F], F]:
    """Mark a function or method as the handler of these topics or event types. It stays an ordinary function.

    VALIDATION_ERROR without any, or for a name that is empty.
    """
    for event in events:
        event_name(event)
    if not events:
        message = '@event_handler needs the name of an event type: @event_handler("OrderPlaced")'
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)

    def mark(function: F) -> F:
        marked: tuple[EventName, ...] = getattr(function, _MARK, ())
        setattr(function, _MARK, (*marked, *(event for event in events if event not in marked)))
        return function

    return mark


def event_name(event: EventName) -> str:
    """The name that stands for a topic or event type; VALIDATION_ERROR when it is none."""
    if isinstance(event, str) and event:
        return event
    if inspect.isclass(event) and issubclass(event, BaseModel):
        return event.__name__
    message = f"a topic or event type is a name or a pydantic model class, found {event!r}"
    raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def marked_handlers(holder: object) -> Iterator[tuple[EventName, Callable[..., object]]]:
    """(event, handler) for every marked function in a module, or method of an object, in the order of their names.

    Properties are not evaluated. VALIDATION_ERROR when there is none, because then something was forgotten.
    """
    found = False
    for name in sorted(dir(holder)):
        function = inspect.getattr_static(holder, name, None)
        if isinstance(function, staticmethod | classmethod):
            function = function.__func__
        for event in getattr(function, _MARK, ()) if inspect.isroutine(function) else ():
            found = True
            yield event, getattr(holder, name)
    if not found:
        message = f"nothing in {_called(holder)} is marked; mark handlers with @event_handler('OrderPlaced')"
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def _called(holder: object) -> str:
    return f"module {holder.__name__}" if inspect.ismodule(holder) else f"an object of {type(holder).__name__}"
