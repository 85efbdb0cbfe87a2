"""`python -m examples.file_backup SRC DST`: back up a file or a directory tree, to a disk or to S3."""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from examples.file_backup.by_contract import ContractBackup
from examples.file_backup.handler import FileBackupHandler
from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.node import BackupResult, FileBackupNode
from examples.file_backup.s3 import SCHEME, S3Service
from examples.file_backup.tree import Pair, pairs_of
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError

_SHOWN_FAILURES = 20


class _Arguments(argparse.Namespace):
    source: str
    target: str
    contract: bool
    verify: bool
    jobs: int
    s3: str | None
    as_json: bool


class _Stoppable(Protocol):
    def cancel(self) -> object: ...


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def _parse(arguments: list[str]) -> _Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m examples.file_backup",
        description="Back up a file or a directory tree: each file whole or not at all, verified, undone on failure.",
        epilog="Exit status: 0, or that of the first error: 2 usage, 4 no room, 5 failed, 10 stopped, 11 conflict, "
        "13 forbidden, 14 not found.",
    )
    parser.add_argument("source", metavar="SRC", help="a file or a directory")
    parser.add_argument("target", metavar="DST", help="a file, a directory, or s3://bucket/prefix")
    parser.add_argument("--contract", action="store_true", help="run contract.yaml instead of the node in Python")
    parser.add_argument("--no-verify", dest="verify", action="store_false", help="do not read the backup back")
    parser.add_argument("--jobs", type=_jobs, default=4, metavar="N", help="files at a time, 1 to 64 (default 4)")
    parser.add_argument("--s3", metavar="URL", help="endpoint of the S3 service, such as http://127.0.0.1:9000")
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON document on standard output")
    found = parser.parse_args(arguments, _Arguments())
    if found.contract and found.target.startswith(SCHEME):
        parser.error("--contract writes files only; leave it out for s3://")
    return found


class _Run:
    """One run of the command: what is to be done, and what has become of it so far."""

    def __init__(self, arguments: _Arguments) -> None:
        self.arguments = arguments
        self.results: list[BackupResult] = []
        self.pairs: list[Pair] = []
        self.started = perf_counter()

    async def all(self, picture: Progress) -> None:
        arguments = self.arguments
        self.pairs = await asyncio.to_thread(lambda: list(pairs_of(arguments.source, arguments.target)))
        volume = picture.add_task(self._files_done(), total=sum(pair.size_bytes for pair in self.pairs))

        def done(result: BackupResult) -> None:
            self.results.append(result)
            picture.update(volume, description=self._files_done())

        if arguments.contract:
            await self._by_contract(done, lambda count: picture.advance(volume, count))
            return
        handler = FileBackupHandler(
            on_bytes=lambda count: picture.advance(volume, count), s3=S3Service(arguments.s3) if arguments.s3 else None
        )
        node = FileBackupNode(handler=handler)
        node.max_concurrent_effects = arguments.jobs
        await node.backup_many(self.pairs, concurrency=arguments.jobs, on_progress=done, verify_backup=arguments.verify)

    def _files_done(self) -> str:
        return f"{len(self.results)}/{len(self.pairs)} files"

    async def _by_contract(self, done: Callable[[BackupResult], None], on_bytes: Callable[[int], None]) -> None:
        roots = [_folder(Path(self.arguments.source)), _folder(Path(self.arguments.target))]
        await asyncio.to_thread(_make, roots)
        async with ContractBackup(roots) as backup:
            for pair in self.pairs:
                request = ModelFileBackupInput(
                    source_path=pair.source, backup_path=pair.backup, verify_backup=self.arguments.verify
                )
                done(await backup.attempt(request))
                on_bytes(pair.size_bytes)

    def tell(self, error: ModelOnexError | None) -> int:
        """Print what happened, and return the exit status."""
        failed = [result for result in self.results if result.error is not None]
        first = error or (failed[0].error if failed else None)
        good = [result.output for result in self.results if result.error is None]
        summary = {
            "files": len(self.pairs),
            "successful": len(good),
            "failed": len(failed),
            "bytes": sum(output.backup_size_bytes for output in good),
            "seconds": round(perf_counter() - self.started, 3),
            "error": None if first is None else {"code": first.error_code.value, "message": first.message},
        }
        if self.arguments.as_json:
            backups = [result.output.model_dump(mode="json") for result in self.results]
            print(json.dumps({**summary, "backups": backups}, indent=2))
        else:
            self._show(summary, failed, error)
        return 0 if first is None else first.error_code.exit_status

    def _show(self, summary: Mapping[str, object], failed: list[BackupResult], error: ModelOnexError | None) -> None:
        screen, complaints = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
        for result in failed[:_SHOWN_FAILURES]:
            complaints.print(f"[red]failed[/] {escape(result.output.error_message or '')}")
        if len(failed) > _SHOWN_FAILURES:
            complaints.print(f"and {len(failed) - _SHOWN_FAILURES} more; --json shows all")
        if error is not None:
            complaints.print(f"[red]error[/] {escape(error.message)}")
        verified = "verified" if self.arguments.verify else "not verified"
        screen.print(
            f"{summary['successful']} of {summary['files']} files backed up, {summary['bytes']} bytes, {verified}, "
            f"{summary['seconds']} s"
        )


def _folder(path: Path) -> Path:
    return path.absolute() if path.is_dir() else path.absolute().parent


def _make(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelOnexError(
                f"file backup: the directory {str(folder)!r} cannot be made ({error.strerror}); choose another target",
                EnumCoreErrorCode.OPERATION_FAILED,
            ) from error


@contextlib.contextmanager
def _stopped_by_signals(work: _Stoppable) -> Iterator[None]:
    """Ctrl-C and SIGTERM cancel the work, which then undoes what it had begun."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, work.cancel)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _main(arguments: _Arguments) -> int:
    run = _Run(arguments)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    quiet = not sys.stderr.isatty()
    error: ModelOnexError | None = None
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as picture:
        work = asyncio.ensure_future(run.all(picture))
        with _stopped_by_signals(work):
            await asyncio.wait((work,))
    if work.cancelled():
        error = ModelOnexError(
            "stopped; what was under way has been undone, and what is listed as backed up is complete",
            EnumCoreErrorCode.CANCELLED,
        )
    elif isinstance(raised := work.exception(), ModelOnexError):
        error = raised
    elif raised is not None:
        raise raised
    return run.tell(error)


def main(arguments: list[str]) -> int:
    """The exit status."""
    found = _parse(arguments)
    logging.getLogger("onex").setLevel(logging.ERROR)  # retries are seen in the summary
    return asyncio.run(_main(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
