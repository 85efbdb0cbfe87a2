"""The filesystem handler needs nothing but the standard library and lives in core; adapters find it here."""

from omnibase_core.handlers.filesystem_handler import FilesystemHandler

__all__ = ["FilesystemHandler"]
