"""The engine of the backend `cluster`: what the setting `compute_cluster` names."""

from concurrent.futures import Executor
from importlib import import_module

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError


class ConfiguredCluster:
    """`ProtocolComputeCluster` by the name of a function that makes an executor, looked up at each call."""

    def __init__(self, factory: str | None) -> None:
        self._factory = factory

    def executor(self) -> Executor:
        """A new executor, which the caller shuts down. Raises CONFIGURATION_ERROR, which says what is missing."""
        name = self._factory
        if name is None:
            raise _wrong("is not set, and a contract asks for the backend cluster")
        module, _, function = name.partition(":")
        try:
            make = getattr(import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise _wrong(f"names {name!r}, which cannot be imported ({type(error).__name__}: {error})") from error
        made = make()
        if not isinstance(made, Executor):
            raise _wrong(f"names {name!r}, which gave {type(made).__name__} and no concurrent.futures.Executor")
        return made


def _wrong(what: str) -> ModelOnexError:
    return ModelOnexError(
        f"setting compute_cluster {what}; set it to 'module:function', a function without arguments that gives an "
        "executor of your engine, such as the get_executor() of a Dask client",
        EnumCoreErrorCode.CONFIGURATION_ERROR,
    )
