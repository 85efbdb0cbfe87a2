"""Errors on their way out of nodes: a decorator that gives them one shape, and a collector over several nodes."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast, get_args, overload
from uuid import UUID, uuid4

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.logging.redaction import MASK, redact

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails, ValidationError

P = ParamSpec("P")
R = TypeVar("R")

_MAX_MESSAGE: Final = 2000
_MAY_QUOTE: Final = {"value_error", "assertion_error", "union_tag_invalid", "import_error", "get_attribute_error"}
_BRANCH: Final = re.compile(r"(function-[a-z]+|tuple|list|dict|set|frozenset|union|nullable|literal)\[.*\]", re.DOTALL)
"""What stands in the place of a finding for one of several types that a field may have; some hold addresses."""
_MIN_HIDDEN: Final = 3  # characters of an input that a message is searched for


@overload
def standard_error_handling(operation: Callable[P, R]) -> Callable[P, R]: ...
@overload
def standard_error_handling(operation: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def standard_error_handling(
    operation: Callable[P, R] | str | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Have everything that a function or coroutine function raises leave it as ModelOnexError.

    Written as `@standard_error_handling`, or with the operation's name: `@standard_error_handling("load customers")`;
    without one the function's name serves.

    A ModelOnexError passes as the same object. A pydantic ValidationError becomes VALIDATION_ERROR with the paths and
    messages of its findings in `context["validation_errors"]`; neither it nor its cause shows the values. TimeoutError
    becomes TIMEOUT, FileNotFoundError NOT_FOUND, any other Exception OPERATION_FAILED, each with the cause chained.
    Cancellation, KeyboardInterrupt and SystemExit pass untouched.

    `context` has `correlation_id` (text: the error's own, an argument of that name, that of the first argument that has
    one, the node's, the current one, else a new one), `node_type` (the class of the method's object, else the module)
    and `operation`, as far as they are not there.

    Raises TypeError for a generator function: it raises when it is iterated, not when it is called.
    """
    if operation is None or isinstance(operation, str):
        return functools.partial(_decorate, operation=operation)
    return _decorate(operation, None)


class PipelineErrorContext:
    """Collects what went wrong in the nodes of one pipeline, so that it can be raised as one error."""

    def __init__(self, correlation_id: UUID) -> None:
        self.correlation_id = correlation_id
        self.errors: list[Exception] = []
        self.failed_nodes: list[str] = []
        """Each node once, in the order of their first errors."""
        self._entries: list[dict[str, object]] = []

    def add_error(self, error: Exception, node_type: str) -> None:
        """Note an error of a node; one that is no ModelOnexError counts as OPERATION_FAILED."""
        name = str(node_type)
        self.errors.append(error)
        if name not in self.failed_nodes:
            self.failed_nodes.append(name)
        known = error if isinstance(error, ModelOnexError) else None
        self._entries.append(
            {
                "node_type": name,
                "error_type": type(error).__name__,
                "error_code": (known.error_code if known else EnumCoreErrorCode.OPERATION_FAILED).value,
                "message": redact(known.message) if known else _described(error),
                "context": dict(known.context) if known else {},
            }
        )

    def create_pipeline_error(self) -> ModelOnexError:
        """OPERATION_FAILED with `pipeline_errors` (one dict each), `failed_nodes` and `total_errors` in its context.

        Its cause is the error, or an ExceptionGroup of all of them. Without any it says that none was reported.
        """
        total = len(self.errors)
        if total:
            first = self._entries[0]
            message = (
                f"pipeline failed in {', '.join(self.failed_nodes)} ({total} error{'s' if total > 1 else ''}); "
                f"first: {first['node_type']}: {first['message']}"
            )
        else:
            message = "pipeline failed, but none of its nodes reported an error"
        error = ModelOnexError(
            message,
            EnumCoreErrorCode.OPERATION_FAILED,
            {
                "correlation_id": str(self.correlation_id),
                "pipeline_errors": [dict(entry) for entry in self._entries],
                "failed_nodes": list(self.failed_nodes),
                "total_errors": total,
            },
            self.correlation_id,
        )
        if total == 1:
            error.__cause__ = self.errors[0]
        elif total:
            error.__cause__ = ExceptionGroup("errors of the pipeline", self.errors)
        return error


def _decorate(function: Callable[P, R], operation: str | None) -> Callable[P, R]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"standard_error_handling: {name} is a generator function, which raises when it is iterated")
    name = operation or str(getattr(function, "__name__", type(function).__name__))
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
            try:
                return await function(*args, **kwargs)
            except Exception as error:  # the boundary that users put here
                failure = _failure(error, name, function, args, kwargs)
                if failure is error:
                    raise
            try:
                raise failure  # outside the handler: a ValidationError must not hang on it as its context
            finally:
                del failure  # its traceback has this frame

        return cast("Callable[P, R]", awaited)  # R is the coroutine of what it returns

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # as above
            failure = _failure(error, name, function, args, kwargs)
            if failure is error:
                raise
        try:
            raise failure
        finally:
            del failure

    return called


def _failure(
    error: Exception,
    operation: str,
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> ModelOnexError:
    """The error to raise: a ModelOnexError itself with its context filled in, else a new one with its cause."""
    node = args[0] if args and _is_method_of(function, args[0]) else None
    node_type = str(function.__module__)
    if node is not None:
        node_type = node.__name__ if isinstance(node, type) else type(node).__name__
    failure = error if isinstance(error, ModelOnexError) else _translated(error, f"{node_type}: {operation}")
    if failure.correlation_id is None:
        failure.correlation_id = _correlation_id(node, args[1:] if node is not None else args, kwargs)
    failure.context.setdefault("correlation_id", str(failure.correlation_id))
    failure.context.setdefault("node_type", node_type)
    failure.context.setdefault("operation", operation)
    return failure


def _is_method_of(function: Callable[..., object], first: object) -> bool:
    """Whether the function stands, under this wrapper, in the class of its first argument."""
    name = getattr(function, "__name__", "")
    owner = first if isinstance(first, type) else type(first)
    return any(inspect.unwrap(vars(cls).get(name, _nothing)) is function for cls in owner.__mro__)


def _nothing() -> None:
    """Stands for a member that is not there."""


def _correlation_id(node: object, args: tuple[object, ...], kwargs: Mapping[str, object]) -> UUID:
    given = kwargs.get("correlation_id")
    if isinstance(given, UUID):
        return given
    found = next((its for each in (*args, *kwargs.values(), node) if (its := _id_of(each)) is not None), None)
    return found or current_correlation_id.get() or uuid4()


def _id_of(value: object) -> UUID | None:
    try:
        found = getattr(value, "correlation_id", None)
    except Exception:  # noqa: BLE001  # a property of somebody's own must not replace the error that is on its way
        return None
    return found if isinstance(found, UUID) else None


def _translated(error: Exception, place: str) -> ModelOnexError:
    from pydantic_core import ValidationError  # here, because importing the errors must not cost what pydantic costs

    if isinstance(error, ValidationError):
        return of_validation(error, place)
    code = EnumCoreErrorCode.OPERATION_FAILED
    if isinstance(error, TimeoutError):
        code = EnumCoreErrorCode.TIMEOUT
    elif isinstance(error, FileNotFoundError):
        code = EnumCoreErrorCode.NOT_FOUND
    failure = ModelOnexError(f"{place} failed: {_described(error)}", code, {"error_type": type(error).__name__})
    failure.__cause__ = error
    return failure


def of_validation(error: "ValidationError", place: str) -> ModelOnexError:
    """VALIDATION_ERROR that begins with `place` and tells the findings without values and without links."""
    findings = [
        {"field": redact(_place(each["loc"])), "message": _without_input(each), "type": each["type"]}
        for each in error.errors(include_url=False)
    ]
    told = "; ".join(f"{each['field'] or 'the whole'}: {each['message']}" for each in findings)
    failure = ModelOnexError(
        f"{place}: {error.title}, {len(findings)} finding{'s' if len(findings) > 1 else ''}: {told[:_MAX_MESSAGE]}",
        EnumCoreErrorCode.VALIDATION_ERROR,
        {"error_type": type(error).__name__, "validation_errors": findings},
    )
    failure.__cause__ = _without_inputs(error, findings)
    return failure


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(key) for key in loc if not (isinstance(key, str) and _BRANCH.fullmatch(key)))


def _without_inputs(error: "ValidationError", findings: list[dict[str, str]]) -> "ValidationError":
    """The same findings without the values, for the chain of causes."""
    from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

    places = [each["loc"] for each in error.errors(include_url=False, include_context=False, include_input=False)]
    details = [
        InitErrorDetails(
            type=PydanticCustomError(each["type"], "{told}", {"told": each["message"]}), loc=loc, input=None
        )
        for each, loc in zip(findings, places, strict=True)
    ]
    return ValidationError.from_exception_data(error.title, details, hide_input=True).with_traceback(
        error.__traceback__
    )


def _without_input(finding: "ErrorDetails") -> str:
    """A finding's message. Those that may quote the value have its texts masked."""
    message = redact(finding["msg"])
    if finding["type"] in _never_quote():
        return message
    texts = _texts(finding["input"]) | _texts(finding.get("ctx", {}).get("tag"))
    for text in sorted(texts, key=len, reverse=True):
        message = message.replace(text, MASK)
    return message


@functools.cache
def _never_quote() -> frozenset[str]:
    """The kinds of findings whose messages are made of bounds and names of types only."""
    from pydantic_core.core_schema import ErrorType

    return frozenset(get_args(ErrorType)) - _MAY_QUOTE


def _texts(value: object, depth: int = 3) -> set[str]:
    """The texts and numbers in a value that are long enough to be looked for."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        return {text} if len(text) >= _MIN_HIDDEN else set()
    if depth and isinstance(value, Mapping):
        value = list(value.values())
    if depth and isinstance(value, list | tuple | set | frozenset):
        return set().union(*(_texts(each, depth - 1) for each in value))
    return set()


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as trouble:  # noqa: BLE001  # an exception's own __str__ may raise anything
        text = f"<{type(trouble).__name__} while it was shown>"
    name = type(error).__name__
    return redact(f"{name}: {text}" if text else name)[:_MAX_MESSAGE]
