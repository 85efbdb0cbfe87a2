"""Carries out file operations in children that are killed, or whose system calls fail, at every point; a verdict.

Run as a process of its own with one thread, because it forks:
`python -m tests.chaos.file_scenarios DIRECTORY kill|fail|audit [DIRECTORY_ON_ANOTHER_DEVICE]`.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from omnibase_core.errors import EffectFault
from omnibase_core.handlers import atomic_file
from omnibase_core.handlers.confined_path import FileRoots
from omnibase_core.handlers.filesystem_job import FileJob
from omnibase_core.handlers.filesystem_operations import perform
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext
from tests.chaos.syscall_tracer import CAN_INJECT, permitted, run_traced, run_until_event

OLD, LATER = "old " * 100, "later"
NEW = "new " * (260 * 1024)  # two chunks
_ROOTS = FileRoots([Path("/")])


@dataclass
class Scenario:
    """An operation, the files before it, and what may stand there when it was cut off."""

    name: str
    context: ModelResolvedFilesystemContext
    before: dict[Path, str]
    after: dict[Path, str]
    allowed: list[dict[Path, str]]
    directories: set[Path]
    through_links: bool = False
    untouched_when_rejected: bool = True
    problems: list[str] = field(default_factory=list)

    def lay_out(self) -> None:
        for directory in self.directories:
            for entry in directory.iterdir():
                entry.unlink()
        for path, content in self.before.items():
            path.write_text(content)

    def work(self) -> None:
        if self.through_links:
            atomic_file._found_renameat2[:] = [None]
        perform(FileJob(self.context, UUID(int=1), _ROOTS, 1 << 30))

    def files(self) -> dict[Path, str]:
        return {p: p.read_text() for d in self.directories for p in d.iterdir() if not p.name.endswith(".tmp")}

    def left_over(self) -> list[str]:
        return [p.name for d in self.directories for p in d.iterdir() if p.name.endswith(".tmp")]

    def judge(self, when: str, allowed: list[dict[Path, str]]) -> None:
        found = self.files()
        if found not in allowed:
            shown = {path.name: (len(text), text[:8]) for path, text in found.items()}
            self.problems.append(f"{self.name}: {when}: found {shown}")

    def write_again(self, when: str) -> None:
        """The next write of the same target succeeds and leaves nothing beside it."""
        target = self.context.destination_path or self.context.file_path
        context = ModelResolvedFilesystemContext(
            timeout_ms=1, operation="write", file_path=target, content=LATER, atomic=True
        )
        perform(FileJob(context, UUID(int=2), _ROOTS, 1 << 30))
        if Path(target).read_text() != LATER or self.left_over():
            self.problems.append(f"{self.name}: {when}: after the next write there is {self.left_over()}")


def _scenarios(home: Path, other: Path | None) -> list[Scenario]:
    target, source = home / "target", home / "source"
    far = other / "target" if other else None

    def context(operation: str, path: Path, **more: object) -> ModelResolvedFilesystemContext:
        return ModelResolvedFilesystemContext.model_validate(
            {"timeout_ms": 1, "operation": operation, "file_path": str(path), **more}
        )

    write = {"content": NEW, "atomic": True}
    both = {source: NEW, target: OLD}
    scenarios = [
        Scenario("overwrite", context("write", target, **write), {target: OLD}, {target: NEW}, [], {home}),
        Scenario(
            "overwrite with mode",
            context("write", target, **write, mode="0600"),
            {target: OLD},
            {target: NEW},
            [],
            {home},
        ),
        Scenario("create", context("write", target, **write), {}, {target: NEW}, [], {home}),
        Scenario(
            "create exclusively", context("write", target, **write, overwrite=False), {}, {target: NEW}, [], {home}
        ),
        Scenario(
            "create through links",
            context("write", target, **write, overwrite=False),
            {},
            {target: NEW},
            [],
            {home},
            through_links=True,
        ),
        Scenario(
            "copy", context("copy", source, destination_path=str(target)), both, {source: NEW, target: NEW}, [], {home}
        ),
        Scenario(
            "move", context("move", source, destination_path=str(target), atomic=True), both, {target: NEW}, [], {home}
        ),
        Scenario(
            "move exclusively",
            context("move", source, destination_path=str(target), atomic=True, overwrite=False),
            {source: NEW},
            {target: NEW},
            [],
            {home},
        ),
    ]
    if far is not None and other is not None:
        across = context("move", source, destination_path=str(far))
        scenarios.append(
            Scenario(
                "move across", across, {source: NEW, far: OLD}, {far: NEW}, [{source: NEW, far: NEW}], {home, other}
            )
        )
    return scenarios


def kill_everywhere(scenario: Scenario, run: Callable[[Callable[[], None], int], bool]) -> int:
    """Kill at every point until the child gets through; returns how many points there were."""
    point = 0
    while True:
        point += 1
        scenario.lay_out()
        killed = run(scenario.work, point)
        when = f"killed at {point}"
        if not killed:
            scenario.judge("not killed", [scenario.after])
            return point - 1
        scenario.judge(when, [scenario.before, scenario.after, *scenario.allowed])
        scenario.write_again(when)


def fail_everywhere(scenario: Scenario, error: int) -> int:
    """Make every file call fail once, and compare what the operation says with what it did."""
    point = 0
    while True:
        point += 1
        scenario.lay_out()
        receive, send = os.pipe()

        def work() -> None:
            said = "success"
            try:
                scenario.work()
            except EffectFault as fault:
                said = str(fault.phase)
            except BaseException as stray:  # whatever it is, the test must name it
                said = f"stray {stray!r}"
            os.writev(send, [said.encode()])  # noqa: B023  # runs at once; not `write`, which may be the call that fails

        ending = run_traced(work, fail_at=point, error=error)
        os.close(send)
        said = os.read(receive, 10_000).decode()
        os.close(receive)
        when = f"{errno.errorcode[error]} of {ending.injected} ({point})"
        if not ending.injected:
            return point - 1
        allowed = {
            "success": [scenario.after],
            "not_sent": [scenario.before],
            "rejected": [scenario.before],
            "ambiguous": [scenario.before, scenario.after, *scenario.allowed],
        }
        if said not in allowed:
            scenario.problems.append(f"{scenario.name}: {when}: {said or 'no answer'}")
            continue
        scenario.judge(f"{when}, which it calls {said}", allowed[said])
        if scenario.left_over() and ending.injected not in {"unlinkat", "flock", "openat"}:
            scenario.problems.append(f"{scenario.name}: {when}: left {scenario.left_over()}")
        scenario.write_again(when)


def main() -> None:
    home, mode = Path(sys.argv[1]), sys.argv[2]
    other = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    refused = permitted() if mode != "audit" else ""
    verdict: dict[str, object] = {"refused": refused, "can_inject": CAN_INJECT}
    points: dict[str, int] = {}
    problems: list[str] = []
    for scenario in _scenarios(home, other):
        if refused or (mode == "fail" and not CAN_INJECT):
            break
        scenario.lay_out()
        if not scenario.through_links:
            scenario.work()  # whatever Python loads or caches at a first call is not part of the window
        if mode == "kill":
            points[scenario.name] = kill_everywhere(scenario, lambda work, n: run_traced(work, kill_at=n).killed)
        elif mode == "audit":
            points[scenario.name] = kill_everywhere(scenario, lambda work, n: run_until_event(work, kill_at=n).killed)
        else:
            points[scenario.name] = sum(fail_everywhere(scenario, error) for error in (errno.EIO, errno.EACCES))
        problems += scenario.problems
    print(json.dumps({**verdict, "points": points, "problems": problems}))


if __name__ == "__main__":
    main()
