"""`standard_error_handling` and `PipelineErrorContext`."""

import asyncio
import contextlib
import gc
import inspect
import pickle
import subprocess
import sys
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import (
    LeaseConflictError,
    ModelOnexError,
    PipelineErrorContext,
    TransactionError,
    standard_error_handling,
)
from omnibase_core.errors.error_handling import of_validation
from omnibase_core.logging.correlation import correlated
from omnibase_core.logging.redaction import forget_secrets, register_secret

CORRELATION = UUID("11111111-2222-3333-4444-555555555555")


class Asked(BaseModel):
    """What a node is asked, with the id of the call."""

    correlation_id: UUID = CORRELATION


class Node:
    """A node whose methods raise what they are told to raise."""

    @standard_error_handling
    def bare(self, error: BaseException) -> str:
        """Raise it."""
        raise error

    @standard_error_handling("load customers")
    def named(self, error: BaseException) -> str:
        raise error

    @standard_error_handling("load customers")
    async def waiting(self, asked: Asked, error: BaseException | None = None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return 7

    @standard_error_handling()
    def fine(self, number: int, *, twice: bool = False) -> int:
        return number * (2 if twice else 1)

    @classmethod
    @standard_error_handling
    def of_class(cls) -> None:
        raise KeyError("k")

    @staticmethod
    @standard_error_handling
    def of_nobody() -> None:
        raise KeyError("k")


class Heir(Node):
    """Inherits all of it."""


async def test_an_error_of_any_kind_gets_the_one_shape() -> None:
    """OPERATION_FAILED, with the id, the node's class and the operation in the context, and the cause chained."""
    cause = RuntimeError("no disk")

    with pytest.raises(ModelOnexError) as raised:
        await Node().waiting(Asked(), cause)

    error = raised.value
    assert error.error_code is EnumCoreErrorCode.OPERATION_FAILED
    assert error.message == "Node: load customers failed: RuntimeError: no disk"
    assert error.correlation_id == CORRELATION
    assert error.context == {
        "correlation_id": str(CORRELATION),
        "node_type": "Node",
        "operation": "load customers",
        "error_type": "RuntimeError",
    }
    assert error.__cause__ is cause
    assert "in waiting" in "".join(traceback.format_exception(error))


def test_without_a_name_the_operation_is_the_functions() -> None:
    """Used without arguments, it takes the function's name; the node type is the class of the object at hand."""
    with pytest.raises(ModelOnexError) as raised:
        Heir().bare(OSError("x"))

    assert (raised.value.context["node_type"], raised.value.context["operation"]) == ("Heir", "bare")


def test_functions_without_an_object() -> None:
    """A class method speaks of the class, a static method or a function of its module."""
    with pytest.raises(ModelOnexError) as of_class:
        Heir.of_class()
    with pytest.raises(ModelOnexError) as of_nobody:
        Node.of_nobody()

    assert of_class.value.context["node_type"] == "Heir"
    assert of_nobody.value.context["node_type"] == __name__


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError("t"), EnumCoreErrorCode.TIMEOUT),
        (FileNotFoundError("f"), EnumCoreErrorCode.NOT_FOUND),
        (ExceptionGroup("g", [ValueError("v")]), EnumCoreErrorCode.OPERATION_FAILED),
        (ZeroDivisionError(), EnumCoreErrorCode.OPERATION_FAILED),
        (StopIteration(), EnumCoreErrorCode.OPERATION_FAILED),
    ],
)
def test_codes(error: Exception, code: EnumCoreErrorCode) -> None:
    """What is too late is TIMEOUT, what is missing NOT_FOUND, anything else OPERATION_FAILED."""
    with pytest.raises(ModelOnexError) as raised:
        Node().named(error)

    assert raised.value.error_code is code
    assert raised.value.__cause__ is error


async def test_an_error_of_ours_passes_as_the_same_object() -> None:
    """What its context lacks is filled in, what it has stays; so does its id, its code and its class."""
    own = uuid4()
    error = LeaseConflictError("held", context={"operation": "renew", "holder": "b"}, correlation_id=own)

    with pytest.raises(LeaseConflictError) as raised:
        await Node().waiting(Asked(), error)

    assert raised.value is error
    assert error.correlation_id == own
    assert error.context == {"operation": "renew", "holder": "b", "correlation_id": str(own), "node_type": "Node"}


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_ends_a_program_or_a_task_passes_untouched(kind: type[BaseException]) -> None:
    """Cancellation, KeyboardInterrupt and SystemExit are nobody's error."""
    error = kind()

    with pytest.raises(kind) as from_sync:
        Node().named(error)
    assert from_sync.value is error
    if kind is asyncio.CancelledError:
        with pytest.raises(kind):
            await Node().waiting(Asked(), kind())


async def test_a_cancelled_task_is_cancelled() -> None:
    """A task that is cancelled inside a decorated method counts as cancelled."""
    begun = asyncio.Event()

    @standard_error_handling("wait")
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


def test_where_the_id_comes_from() -> None:
    """An argument of that name, the first argument that has one, the node's, the current one, else a new one."""
    ids = [uuid4() for _ in range(4)]

    class WithId:
        def __init__(self, correlation_id: UUID | None) -> None:
            self.correlation_id = correlation_id

        @standard_error_handling
        def work(self, *_asked: object, correlation_id: UUID | None = None) -> None:
            raise RuntimeError

    class Awkward:
        @property
        def correlation_id(self) -> UUID:
            raise RuntimeError

    def id_of(node: WithId, *asked: object, **given: UUID) -> UUID | None:
        with pytest.raises(ModelOnexError) as raised, correlated(ids[3]):
            node.work(*asked, **given)
        return raised.value.correlation_id

    assert id_of(WithId(ids[0]), Asked(correlation_id=ids[1]), correlation_id=ids[2]) == ids[2]
    assert id_of(WithId(ids[0]), "text", Awkward(), Asked(correlation_id=ids[1])) == ids[1]
    assert id_of(WithId(ids[0]), "text") == ids[0]
    assert id_of(WithId(None)) == ids[3]
    with pytest.raises(ModelOnexError) as raised:
        WithId(None).work()
    assert isinstance(raised.value.correlation_id, UUID)
    assert raised.value.context["correlation_id"] == str(raised.value.correlation_id)


class Login(BaseModel):
    """A model whose refusals could quote what was sent."""

    user: str = Field(max_length=8)
    pin: int = Field(lt=10_000)
    kind: Literal["a", "b"] = "a"
    shape: "Square | Circle | None" = Field(default=None, discriminator="type")

    @field_validator("user")
    @classmethod
    def _no_root(cls, user: str) -> str:
        if user.startswith("root"):
            raise ValueError(f"{user} may not log in")
        return user


class Square(BaseModel):
    """One member of a union."""

    type: Literal["square"]


class Circle(BaseModel):
    """The other."""

    type: Literal["circle"]


def test_a_validation_error_tells_fields_and_messages_and_no_value() -> None:
    """Neither the message, the context, the cause, its chain nor the traceback has what was sent."""
    sent: dict[str, object] = {
        "user": "root-hunter2",
        "pin": "swordfish",
        "kind": "opensesame",
        "shape": {"type": "triangle-77"},
    }
    short: dict[str, object] = {"user": "rootling", "pin": 123_456}

    @standard_error_handling("log in")
    def login(data: dict[str, object]) -> Login:
        return Login.model_validate(data)

    for data, paths in ((sent, {"user", "pin", "kind", "shape"}), (short, {"user", "pin"})):
        with pytest.raises(ModelOnexError) as raised:
            login(data)
        error = raised.value
        assert error.error_code is EnumCoreErrorCode.VALIDATION_ERROR
        findings = error.context["validation_errors"]
        assert isinstance(findings, list)
        assert {each["field"] for each in findings} == paths
        assert isinstance(error.__cause__, ValidationError)
        assert error.__context__ is None or error.__context__ is error.__cause__
        assert error.__cause__.__context__ is None
        told = "".join(
            [
                error.message,
                repr(error.context),
                repr(error.__cause__),
                repr(error.__cause__.errors()),
                *traceback.format_exception(error),
            ]
        )
        for value in ("hunter2", "swordfish", "opensesame", "triangle-77", "rootling", "123456", "123_456"):
            assert value not in told, value
    assert "less than 10000" in error.message
    assert "*** may not log in" in error.message


def test_a_field_of_several_types_is_called_by_its_name() -> None:
    """The types that pydantic tried stand in the messages only."""

    class Several(BaseModel):
        share: Annotated[int, AfterValidator(abs)] | Annotated[tuple[int, ...], Field(min_length=1)]

    with pytest.raises(ValidationError) as raised:
        Several.model_validate({"share": "x"})

    found = of_validation(raised.value, "loading").context["validation_errors"]

    assert isinstance(found, list)
    assert [each["field"] for each in found] == ["share", "share"]


def test_secrets_do_not_show_in_the_message() -> None:
    """A known secret in an exception's text is masked, and one whose text cannot be had is named all the same."""
    forget_secrets()
    register_secret("hunter2-hunter2")

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(ModelOnexError) as leaky:
        Node().named(RuntimeError("login with hunter2-hunter2 failed"))
    with pytest.raises(ModelOnexError) as mute:
        Node().named(MuteError())

    assert leaky.value.message.endswith("RuntimeError: login with *** failed")
    assert "MuteError: <RuntimeError while it was shown>" in mute.value.message
    forget_secrets()


async def test_what_is_returned_and_how_it_looks_stay() -> None:
    """Results, signature, docstring and being a coroutine function are those of the function."""
    node = Node()

    assert (node.fine(3), node.fine(3, twice=True), await node.waiting(Asked())) == (3, 6, 7)
    assert inspect.iscoroutinefunction(Node.waiting)
    assert not inspect.iscoroutinefunction(Node.bare)
    assert Node.bare.__doc__ == "Raise it."
    assert str(inspect.signature(Node.fine)) == "(self, number: int, *, twice: bool = False) -> int"


def test_types_are_kept(tmp_path: Path) -> None:
    """For a type checker a decorated function is the function: wrong arguments and wrong uses are found."""
    code = (
        "from omnibase_core.errors import standard_error_handling\n"
        "@standard_error_handling\ndef one(a: int, *, b: str) -> float: return 1.0\n"
        "@standard_error_handling('two')\nasync def two(a: int) -> str: return ''\n"
        "async def use() -> None:\n"
        "    x: float = one(1, b='')\n    y: str = await two(1)\n"
        "    one('wrong', b='')\n    z: int = await two(1)\n    two()\n"
    )

    program = tmp_path / "program.py"
    program.write_text(code)
    checker = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    ended = subprocess.run([*checker, str(program)], capture_output=True, text=True, check=False)

    lines = [line.split(":")[1] for line in ended.stdout.splitlines() if ": error: " in line]
    assert lines == ["9", "10", "11", "11"], ended.stdout  # the last one twice: no argument, and never awaited


def test_generator_functions_are_refused() -> None:
    """They raise when they are iterated, where the decorator no longer is."""

    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="numbers is a generator function"):
        standard_error_handling(numbers)


def test_no_error_outlives_its_handling() -> None:
    """The error and what its frames hold are let go of without the garbage collector."""

    class Held:
        pass

    @standard_error_handling
    def work(held: Held) -> None:
        raise RuntimeError(str(held is None))

    held = Held()
    gone = weakref.ref(held)
    gc.disable()
    try:
        with contextlib.suppress(ModelOnexError):
            work(held)
        del held
        assert gone() is None
    finally:
        gc.enable()


def test_errors_of_a_pipeline() -> None:
    """All errors in order, each failed node once, their number; the causes are an ExceptionGroup of them."""
    pipeline = PipelineErrorContext(CORRELATION)
    first = TransactionError("no commit", context={"table": "t"})
    second = ValueError("odd")
    pipeline.add_error(first, "NodeEffect")
    pipeline.add_error(second, "NodeCompute")
    pipeline.add_error(first, "NodeEffect")

    error = pipeline.create_pipeline_error()

    assert (error.error_code, error.correlation_id) == (EnumCoreErrorCode.OPERATION_FAILED, CORRELATION)
    assert error.context["failed_nodes"] == ["NodeEffect", "NodeCompute"]
    assert error.context["total_errors"] == 3
    entries = error.context["pipeline_errors"]
    assert isinstance(entries, list)
    assert entries[:2] == [
        {
            "node_type": "NodeEffect",
            "error_type": "TransactionError",
            "error_code": "OPERATION_FAILED",
            "message": "no commit",
            "context": {"table": "t"},
        },
        {
            "node_type": "NodeCompute",
            "error_type": "ValueError",
            "error_code": "OPERATION_FAILED",
            "message": "ValueError: odd",
            "context": {},
        },
    ]
    assert error.message == "pipeline failed in NodeEffect, NodeCompute (3 errors); first: NodeEffect: no commit"
    assert isinstance(error.__cause__, ExceptionGroup)
    assert error.__cause__.exceptions == (first, second, first)
    assert pickle.loads(pickle.dumps(error)).context == error.context


def test_a_pipeline_with_one_error_and_with_none() -> None:
    """One error is the cause itself; without any the message says so, and nothing is counted."""
    pipeline = PipelineErrorContext(CORRELATION)
    empty = pipeline.create_pipeline_error()
    only = ModelOnexError("x")
    pipeline.add_error(only, "NodeReducer")

    assert (empty.context["total_errors"], empty.context["failed_nodes"], empty.__cause__) == (0, [], None)
    assert "none of its nodes" in empty.message
    assert pipeline.create_pipeline_error().__cause__ is only
    assert pipeline.create_pipeline_error().context is not pipeline.create_pipeline_error().context


def test_importing_the_errors_costs_no_pydantic() -> None:
    """The command line imports them for every command."""
    code = "import sys, omnibase_core.errors; print('pydantic' in sys.modules, 'pydantic_core' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.split() == ["False", "False"]
