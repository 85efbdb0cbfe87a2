"""Where users look for the base error; it lives one storey below, with the other errors."""

from omnibase_core.errors.onex_error import ModelOnexError

__all__ = ["ModelOnexError"]
