"""An adapter serves several event loops one after another, and leaves nothing behind, closed or not."""

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_spi.db.adapter import DbAdapter
from tests.support.databases import CORRELATION, NAME, adapter_on, context
from tests.support.mariadb import MariadbBackend
from tests.support.postgres import PostgresBackend


@pytest.fixture(params=["sqlite", "memory", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind: str = request.param
    if kind == "postgresql":
        postgres: PostgresBackend = request.getfixturevalue("postgres_backend")
        return postgres.url
    if kind == "mysql":
        mariadb: MariadbBackend = request.getfixturevalue("mariadb_backend")
        return mariadb.url
    return "sqlite:///:memory:" if kind == "memory" else f"sqlite:///{tmp_path}/x.db"


async def _answer(adapter: DbAdapter) -> object:
    return (await adapter.execute(context("SELECT 1 AS one", operation="select"), CORRELATION))["rows"]


def _threads() -> int:
    return sum(thread.name == "onex-sqlite" for thread in threading.enumerate())


def _wait_for_threads(count: int) -> None:
    for thread in threading.enumerate():
        if thread.name == "onex-sqlite" and _threads() > count:
            thread.join(2)
    assert _threads() == count


def test_several_event_loops_one_after_another(url: str) -> None:
    """Each `asyncio.run` gets connections of its own; those of the ended one are gone without a warning."""
    before = _threads()
    adapter = adapter_on(url)

    for _ in range(3):
        assert asyncio.run(_answer(adapter)) == [{"one": 1}]
        gc.collect()

    asyncio.run(adapter.aclose())
    _wait_for_threads(before)


def test_a_loop_that_was_closed_without_shutdown(url: str) -> None:
    """Its connections cannot be closed in order any more; they are dropped quietly."""
    adapter = adapter_on(url)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_answer(adapter))
    loop.close()

    assert asyncio.run(_answer(adapter)) == [{"one": 1}]

    gc.collect()
    asyncio.run(adapter.aclose())


def test_an_adapter_that_is_never_closed(url: str) -> None:
    """When it is collected, its connections and threads go with it."""
    before = _threads()
    adapter = adapter_on(url)
    asyncio.run(_answer(adapter))

    del adapter
    gc.collect()

    _wait_for_threads(before)


async def test_collected_while_the_loop_runs(url: str) -> None:
    """The same inside of a running loop; no task is left behind."""
    before = asyncio.all_tasks()
    adapter = adapter_on(url)
    await _answer(adapter)

    del adapter
    gc.collect()
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before


def test_an_in_memory_database_outlives_loops() -> None:
    """It lives as long as its adapter, which a program may use from several `asyncio.run`."""
    adapter = adapter_on("sqlite:///:memory:")

    asyncio.run(adapter.execute(context("CREATE TABLE t (n integer)"), CORRELATION))
    asyncio.run(adapter.execute(context("INSERT INTO t VALUES (1)", operation="insert"), CORRELATION))
    document = asyncio.run(adapter.execute(context("SELECT n FROM t", operation="select"), CORRELATION))

    assert document["rows"] == [{"n": 1}]
    asyncio.run(adapter.aclose())


def test_the_embedded_database(tmp_path: Path) -> None:
    """`default` and `embedded` are one file under the data directory, made on first use, with one writer."""
    adapter = DbAdapter(ModelSettings(data_dir=tmp_path / "deep" / "data"))

    async def work() -> object:
        async with adapter.transaction("default"):
            await adapter.execute(context("CREATE TABLE t (n integer)", connection_name="default"), CORRELATION)
            await adapter.execute(context("INSERT INTO t VALUES (1)", connection_name="embedded"), CORRELATION)
            await adapter.ping("embedded")
        selected = context("SELECT n FROM t", operation="select", connection_name="embedded")
        document = await adapter.execute(selected, CORRELATION)
        await adapter.aclose()
        return document["rows"]

    assert asyncio.run(work()) == [{"n": 1}]
    assert (tmp_path / "deep" / "data" / "embedded.db").exists()


def test_the_end_of_the_interpreter_is_not_held_up(tmp_path: Path) -> None:
    """A program that ends in the middle of things ends: with open connections, and with a statement still running."""
    program = f"""
import asyncio
from tests.support.databases import CORRELATION, adapter_on, context
adapter = adapter_on("sqlite:///{tmp_path}/x.db")
long = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c"
async def main():
    await adapter.ping("main")
    asyncio.get_running_loop().call_later(0.1, lambda: sys.exit(3))
    await adapter.execute(context(long, operation="select"), CORRELATION)
import sys
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 3, done.stderr
    assert "Warning" not in done.stderr


def test_importing_the_adapter_imports_no_driver() -> None:
    """Drivers are imported when the first connection is made."""
    program = (
        "import sys, omnibase_spi.db.adapter; print(*sorted({'psycopg', 'asyncmy', 'psycopg_pool'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)

    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("scheme", "module", "extra"), [("postgresql", "psycopg", "postgres"), ("mysql", "asyncmy", "mysql")]
)
def test_a_missing_driver_names_its_extra(scheme: str, module: str, extra: str) -> None:
    """CONFIGURATION_ERROR with the command that installs it."""
    program = f"""
import asyncio, sys
sys.modules["{module}"] = None
from omnibase_core.errors.onex_error import ModelOnexError
from tests.support.databases import CORRELATION, adapter_on, context
try:
    asyncio.run(adapter_on("{scheme}://u:p@127.0.0.1/x").execute(context("SELECT 1"), CORRELATION))
except ModelOnexError as error:
    print(error.error_code.value, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)

    assert done.stdout.startswith("CONFIGURATION_ERROR")
    assert f"omnibase[{extra}]" in done.stdout


async def test_one_database_in_memory_for_one_loop_at_a_time() -> None:
    """Two loops at once cannot share it, and are told so instead of seeing two databases."""
    adapter = adapter_on("sqlite:///:memory:")
    result: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(_answer(adapter))
        except ModelOnexError as error:
            result.append(error)

    async with adapter.transaction(NAME):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
    await adapter.aclose()

    assert "two event loops" in str(result[0])


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_cancelled_while_connecting(scheme: str) -> None:
    """A server that accepts and says nothing: the cancellation passes at once, and no connection is left open."""
    accepted = asyncio.Event()
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        while await reader.read(1024):
            pass
        writer.close()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    adapter = adapter_on(f"{scheme}://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    task = asyncio.create_task(_answer(adapter))
    await accepted.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    del task
    gc.collect()
    async with asyncio.timeout(2):
        await ended.wait()
    pools = adapter._current
    assert pools is not None
    assert pools.by_name[NAME].write.open_connections == 0
    await adapter.aclose()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("name", ["default", "embedded"])
async def test_a_failure_of_the_embedded_database_is_told_by_the_name_that_was_used(tmp_path: Path, name: str) -> None:
    """The two names are one database, and a message has none that the contract does not have."""
    adapter = DbAdapter(ModelSettings(data_dir=tmp_path))
    other = {"default": "embedded", "embedded": "default"}[name]

    with pytest.raises(EffectFault) as statement:
        await adapter.execute(context("SELECT nonsense", connection_name=name), CORRELATION)
    with pytest.raises(ModelOnexError) as nested:
        async with adapter.transaction(other), adapter.transaction(name, read_only=True):
            pass

    assert statement.value.context["connection"] == name
    assert "the embedded database (sqlite)" in statement.value.message
    assert repr(other) not in statement.value.message
    assert repr(name) in nested.value.message
    await adapter.aclose()


@pytest.mark.parametrize("where", ["below a file", "below /proc"])
async def test_a_data_directory_that_cannot_be_made_is_a_fault(tmp_path: Path, where: str) -> None:
    """CONFIGURATION_ERROR with the directory, the reason and what to set; nothing was sent."""
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" / "data" if where == "below a file" else Path("/proc/onex/data")
    adapter = DbAdapter(ModelSettings(data_dir=directory))

    with pytest.raises(EffectFault) as caught:
        await adapter.execute(context("SELECT 1", connection_name="embedded"), CORRELATION)

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert (caught.value.error_kind, caught.value.phase) == ("DB_SETTINGS", EnumFaultPhase.NOT_SENT)
    assert str(directory) in caught.value.message
    assert "ONEX_DATA_DIR" in caught.value.message
    await adapter.aclose()
