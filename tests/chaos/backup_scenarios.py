"""Carries out file backups in children that are killed, or whose system calls fail, at every point; a verdict.

Run as a process of its own with one thread, because it forks: `python -m tests.chaos.backup_scenarios DIRECTORY
kill|fail|audit`. The steps are those that the node runs in threads.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from examples.file_backup.handler import FileBackupHandler
from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.work import Backup, as_stored
from omnibase_core.errors import EffectFault
from tests.chaos.syscall_tracer import CAN_INJECT, permitted, run_traced, run_until_event

OLD, LATER = "old " * 100, "later"
NEW = "new " * (260 * 1024)  # two chunks


@dataclass
class Scenario:
    """A backup of NEW over OLD or over nothing, and whether its verification finds rot."""

    name: str
    home: Path
    previous: bool = True
    rotten: bool = False
    hard_links: bool = True
    problems: list[str] = field(default_factory=list)

    @property
    def target(self) -> Path:
        return self.home / "target"

    @property
    def before(self) -> str | None:
        return OLD if self.previous else None

    @property
    def after(self) -> str | None:
        return self.before if self.rotten else NEW

    def lay_out(self) -> None:
        for entry in self.home.iterdir():
            entry.unlink()
        (self.home / "source").write_text(NEW)
        if self.previous:
            self.target.write_text(OLD)

    def begin(self, *, rotten: bool = False) -> Backup:
        read_back = (lambda _: iter([b"rot"])) if rotten else as_stored
        handler = FileBackupHandler(hard_links=self.hard_links, read_back=read_back)
        return handler.begin(ModelFileBackupInput(source_path=self.home / "source", backup_path=self.target))

    def run(self, *, rotten: bool = False) -> None:
        backup = self.begin(rotten=rotten)
        try:
            backup.place()
            backup.verify()
            backup.commit()
        except EffectFault:
            backup.undo()
            raise

    def work(self) -> None:
        try:
            self.run(rotten=self.rotten)
        except EffectFault as fault:
            if fault.error_kind != "CHECKSUM_MISMATCH":
                raise

    def content(self) -> str | None:
        return self.target.read_text() if self.target.exists() else None

    def left_over(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir() if path.name.startswith("."))

    def judge(self, when: str, *allowed: str | None) -> None:
        found = self.content()
        if found not in allowed:
            shown = None if found is None else (len(found), found[:8])
            self.problems.append(f"{self.name}: {when}: found {shown}")

    def run_again(self, when: str) -> None:
        """The next run succeeds, and leaves nothing beside the backup; so does one that fails."""
        try:
            self.run(rotten=True)
            self.problems.append(f"{self.name}: {when}: rot was not found")
        except EffectFault:
            self.judge(f"{when}, then a run that failed", self.before, NEW)
        (self.home / "source").write_text(LATER)
        self.run()
        self.judge(f"{when}, then a run that succeeded", LATER)
        if self.left_over():
            self.problems.append(f"{self.name}: {when}: after the next runs there is {self.left_over()}")


def kill_everywhere(scenario: Scenario, run: Callable[[Callable[[], None], int], bool]) -> int:
    """Kill at every point until the child gets through; returns how many points there were."""
    point = 0
    while True:
        point += 1
        scenario.lay_out()
        killed = run(scenario.work, point)
        if not killed:
            scenario.judge("not killed", scenario.after)
            return point - 1
        scenario.judge(f"killed at {point}", scenario.before, NEW)
        scenario.run_again(f"killed at {point}")


def fail_everywhere(scenario: Scenario, error: int) -> int:
    """Make every file call fail once, and compare what the backup says with what it did."""
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
        if not ending.injected:
            return point - 1
        when = f"{errno.errorcode[error]} of {ending.injected} ({point})"
        if said == "success":
            scenario.judge(when, scenario.after)
        elif said == "ambiguous":
            scenario.judge(f"{when}, which it calls {said}", scenario.before, NEW)
        elif said in {"rejected", "not_sent"}:
            scenario.judge(f"{when}, which it calls {said}", scenario.before)
        else:
            scenario.problems.append(f"{scenario.name}: {when}: {said or 'no answer'}")
        scenario.run_again(when)


def main() -> None:
    home, mode = Path(sys.argv[1]), sys.argv[2]
    refused = permitted() if mode != "audit" else ""
    points: dict[str, int] = {}
    problems: list[str] = []
    scenarios = [
        Scenario("replace", home),
        Scenario("first", home, previous=False),
        Scenario("mismatch", home, rotten=True),
    ]
    if mode == "audit":
        scenarios.append(Scenario("replace, kept by copy", home, hard_links=False))
    for scenario in scenarios:
        if refused or (mode == "fail" and not CAN_INJECT):
            break
        scenario.lay_out()
        scenario.work()  # whatever Python loads or caches at a first call is not part of the window
        if mode == "kill":
            points[scenario.name] = kill_everywhere(scenario, lambda work, n: run_traced(work, kill_at=n).killed)
        elif mode == "audit":
            points[scenario.name] = kill_everywhere(scenario, lambda work, n: run_until_event(work, kill_at=n).killed)
        else:
            points[scenario.name] = fail_everywhere(scenario, errno.EIO)
        problems += scenario.problems
    print(json.dumps({"refused": refused, "can_inject": CAN_INJECT, "points": points, "problems": problems}))


if __name__ == "__main__":
    main()
