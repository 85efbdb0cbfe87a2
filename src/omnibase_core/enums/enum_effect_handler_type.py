"""The handler kinds that ONEX ships."""

from enum import StrEnum


class EnumEffectHandlerType(StrEnum):
    """Built-in handler kinds. A registry also takes names of one's own beside them."""

    HTTP = "http"
    DB = "db"
    KAFKA = "kafka"
    FILESYSTEM = "filesystem"

    @classmethod
    def values(cls) -> list[str]:
        """The kinds as plain strings, in order of declaration."""
        return [member.value for member in cls]
