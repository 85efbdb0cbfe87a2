"""`@event_handler` marks, and does nothing else."""

import pytest
from pydantic import BaseModel

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.events.event_handler import event_handler, marked_handlers


class Paid(BaseModel):
    number: int


class Handlers:
    """Marks of all sorts."""

    @event_handler("A", "B")
    @event_handler("B", Paid)
    def several(self, event: object) -> object:
        return event

    @staticmethod
    @event_handler("Static")
    def static(event: object) -> object:
        return event

    @event_handler("Base")
    def inherited(self, event: object) -> object:
        return event

    @property
    def expensive(self) -> object:
        message = "properties are not evaluated"
        raise AssertionError(message)


class More(Handlers):
    """A subclass that marks anew what it overrides."""

    @event_handler("Override")
    def inherited(self, event: object) -> object:
        return event


def test_a_marked_function_stays_what_it_is() -> None:
    """It can be called as before."""

    def function(event: int) -> int:
        return event + 1

    marked = event_handler("A")(function)

    assert marked is function
    assert marked(1) == 2


def test_marks_are_found_once_each() -> None:
    """Repeated names count once; static methods and inherited ones are found; properties are left alone."""
    found = sorted((str(event), handler.__name__) for event, handler in marked_handlers(Handlers()))

    assert found == sorted(
        [("B", "several"), (str(Paid), "several"), ("A", "several"), ("Static", "static"), ("Base", "inherited")]
    )


def test_an_override_has_its_own_marks() -> None:
    """Those of what it overrides do not count."""
    events = [event for event, handler in marked_handlers(More()) if handler.__name__ == "inherited"]

    assert events == ["Override"]


@pytest.mark.parametrize("events", [(), ("",), (7,), ("A", int)])
def test_a_mark_needs_names(events: tuple[str, ...]) -> None:
    """VALIDATION_ERROR at the decorator, where the mistake is."""
    with pytest.raises(ModelOnexError) as caught:
        event_handler(*events)

    assert caught.value.error_code is Code.VALIDATION_ERROR
