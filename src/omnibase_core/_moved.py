"""Where retired module paths went: one table, and the import hook that serves them.

A retired path imports as a module whose names are those of the new one, the very same objects. Every executed import
statement of it gives one DeprecationWarning on the line of the statement; where warnings are errors, it fails there
with RetiredImportError.

How a statement is noticed although modules are cached: the import system reads `__spec__` of a module that it finds in
`sys.modules`, once for each statement, so a class of modules that looks at who reads it sees them all. An attribute of
the parent package would hide `from package import retired` from it; therefore such a parent keeps none, and finds it
when asked.

This file is imported by `import omnibase_core`, so it imports nothing that costs.
"""

import sys
from types import FrameType, ModuleType

TYPE_CHECKING = False  # type checkers take the name for typing's, whose import would cost more than all of this
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec

MOVED: "Mapping[str, tuple[str, Mapping[str, str]]]" = {
    "omnibase_core.errors.model_onex_error": ("omnibase_core.errors", {}),
    "omnibase_core.errors.error_codes": ("omnibase_core.enums.enum_core_error_code", {}),
    "omnibase_core.logging.structured": ("omnibase_core.logging.logging_structured", {}),
    "omnibase_core.nodes.enum_effect_types": ("omnibase_core.enums.enum_effect_types", {}),
    "omnibase_core.nodes.model_effect_input": ("omnibase_core.models.model_effect_input", {}),
    "omnibase_core.nodes.model_effect_output": ("omnibase_core.models.model_effect_output", {}),
    "omnibase_core.core.infrastructure_service_bases": (
        "omnibase_core.infrastructure.infra_bases",
        {
            "NodeEffectService": "ModelServiceEffect",
            "NodeComputeService": "ModelServiceCompute",
            "NodeReducerService": "ModelServiceReducer",
            "NodeOrchestratorService": "ModelServiceOrchestrator",
        },
    ),
}
"""Retired path -> (new path, names that changed: old -> new). Other names are the same in the new module.

A row may point at what does not exist yet; using it is an ImportError that says so.
"""

_PARENTS = frozenset(path.rpartition(".")[0] for path in MOVED)
_MACHINERY = frozenset(
    {
        __name__,
        "importlib",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "pickle",
        "pkgutil",
    }
)
"""Modules that import on behalf of somebody: a warning points behind them."""

_FUNCTIONS_THAT_IMPORT = {"_find_and_load": "import_module", "_call_with_frames_removed": "from"}
"""Functions of importlib in which `__spec__` is read for an import that is no plain statement."""

_LOSES_ERRORS = sys.version_info < (3, 13)
"""The interpreter drops an exception that reading `__spec__` raises in an import statement; the first name asked for
then raises it. (`import retired.path` alone asks for none, and passes this once when it had been imported before.)
"""


class RetiredImportError(ImportError, DeprecationWarning):
    """An import of a retired path while its DeprecationWarning is an error."""


def install() -> None:
    """Serve the table from now on. Real files win, because the hook is asked last; a second call changes nothing."""
    if not any(type(finder).__qualname__ == MovedFinder.__qualname__ for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())


def warn_at_imports(module: str, message: str) -> None:
    """Called by a module while it is imported: warn there, and again at each later import statement of it.

    message: the text of the DeprecationWarning.
    """
    itself = sys.modules[module]
    itself.__class__ = _NoticedModule
    itself.__dict__["__import_notice__"] = message
    _warn(message, module)


class _NoticedModule(ModuleType):
    """A module each import of which gives the DeprecationWarning `__import_notice__`."""

    __import_notice__: str

    def __getattribute__(self, name: str) -> object:
        if name == "__spec__":
            asked_by = _asks_for_import(sys._getframe(1))  # noqa: SLF001  # who asks is the point
            if asked_by is not None:
                self._notice(asked_by)
        elif not name.startswith("_"):
            _raise_lost(self)
        return super().__getattribute__(name)

    def _notice(self, asked_by: str) -> None:
        try:
            _warn(self.__import_notice__, self.__name__)
        except RetiredImportError as error:
            if asked_by == "import_module" or not _LOSES_ERRORS:
                raise
            self.__dict__["__import_error__"] = error
            if asked_by == "import" and isinstance(self, _RetiredModule):
                sys.modules.pop(self.__name__, None)  # so that the next statement fails by itself


class _RetiredModule(_NoticedModule):
    """A row of the table as a module: names are looked up in the new module when they are asked for."""

    def __getattr__(self, name: str) -> object:
        target, renamed = MOVED[self.__name__]
        new = sys.modules.get(target)
        if name == "__all__" and new is not None:
            return self._public(new)
        if new is not None and not (name.startswith("__") and name.endswith("__")):
            try:
                return getattr(new, renamed.get(name, name))
            except AttributeError:
                pass
        message = f"{self.__name__} is retired; {target}, where its names went, has no {renamed.get(name, name)!r}"
        if _opcode(sys._getframe(1)) == "IMPORT_FROM":  # noqa: SLF001  # the statement would replace our message
            raise ImportError(message, name=self.__name__)
        raise AttributeError(message, name=name, obj=self)

    def __dir__(self) -> "Sequence[str]":
        return sorted({*self.__dict__, *self._public(sys.modules[MOVED[self.__name__][0]])})

    def _public(self, new: ModuleType) -> list[str]:
        renamed = MOVED[self.__name__][1]
        names = getattr(new, "__all__", None) or [name for name in vars(new) if not name.startswith("_")]
        return [*(old for old, name in renamed.items() if hasattr(new, name)), *names]


class _ParentModule(ModuleType):
    """A package, real or gone, that had retired modules in it: it finds them in `sys.modules` and never keeps them."""

    def __setattr__(self, name: str, value: object) -> None:
        if not isinstance(value, _RetiredModule):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> object:
        module = sys.modules.get(f"{self.__name__}.{name}")
        asked_by = sys._getframe(1).f_code.co_name  # noqa: SLF001  # `from package import module` asks before it imports
        if isinstance(module, _RetiredModule) and asked_by != "_handle_fromlist":
            _raise_lost(module)
            return module
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)


class MovedFinder:
    """Finds the retired modules, and their parents where these are gone too. It is its own loader."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: ModuleType | None = None
    ) -> "ModuleSpec | None":
        """The spec of a row or of a parent of one, else None."""
        del path, target
        if fullname not in MOVED and fullname not in _PARENTS:
            return None
        from importlib.machinery import ModuleSpec

        # typeshed wants a subclass of an abstract Loader, whose import would cost; the two methods are all it needs.
        return ModuleSpec(fullname, self, is_package=fullname in _PARENTS)  # type: ignore[arg-type]  # see above

    def create_module(self, spec: "ModuleSpec") -> ModuleType:
        """An empty module of the class that does the rest."""
        return _RetiredModule(spec.name) if spec.name in MOVED else _ParentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Import the new module and warn; a parent that is gone has nothing to do."""
        if not isinstance(module, _RetiredModule):
            return
        name = module.__name__
        new, renamed = MOVED[name]
        _import_new(name, new)
        changed = "".join(f", {old} as {now}" for old, now in renamed.items())
        message = f"{name} is retired; import its names from {new}{changed}"
        module.__doc__ = message
        module.__dict__["__import_notice__"] = message
        _warn(message, name)
        parent = sys.modules[name.rpartition(".")[0]]
        if type(parent) is ModuleType:
            parent.__class__ = _ParentModule


def _import_new(name: str, new: str) -> None:
    from importlib import import_module

    try:
        import_module(new)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{new}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"{name} is retired, and {new}, where its names went, is not in this version of omnibase", name=name
        ) from None


def _warn(message: str, name: str) -> None:
    import warnings

    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # walked to the import statement
    while frame is not None and frame.f_globals.get("__name__") in _MACHINERY | {name}:
        frame = frame.f_back
    try:
        if frame is None:
            warnings.warn_explicit(message, DeprecationWarning, "<embedded>", 1)
        else:
            names = frame.f_globals
            registry = names.setdefault("__warningregistry__", {})
            module = names.get("__name__") or "<unknown>"
            warnings.warn_explicit(
                message, DeprecationWarning, frame.f_code.co_filename, frame.f_lineno, module, registry
            )
    except DeprecationWarning as error:
        raise RetiredImportError(f"{message} (this warning is an error here)", name=name) from error


def _asks_for_import(frame: FrameType) -> str | None:
    """How the frame that reads `__spec__` imports: `import`, `from` (a module out of its package), `import_module`."""
    if _opcode(frame) == "IMPORT_NAME":
        return "import"
    in_machinery = frame.f_globals.get("__name__") in _MACHINERY
    return _FUNCTIONS_THAT_IMPORT.get(frame.f_code.co_name) if in_machinery else None


def _raise_lost(module: ModuleType) -> None:
    error: RetiredImportError | None = module.__dict__.pop("__import_error__", None)
    if error is not None:
        raise error


def _opcode(frame: FrameType) -> str:
    """The instruction that a frame is at."""
    from opcode import opname

    return opname[frame.f_code.co_code[frame.f_lasti]] if frame.f_lasti >= 0 else ""
