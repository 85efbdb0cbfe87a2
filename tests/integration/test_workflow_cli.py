"""Workers as processes: killed, told to stop, taken over; and `onex run` of a workflow under signals."""

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cli import Onex
from tests.support.workflow_cli import DOORS, Process, doors

LEASE_MS = 1_500
QUICK = {"ONEX_WORKER_LEASE_MS": str(LEASE_MS)}


@pytest.fixture
def here(onex: Onex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which everything is, with a database of its own."""
    del onex
    for name, value in {"ONEX_DATABASE_URL": "sqlite:///runs.db", **QUICK}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def _worker(directory: Path, *more: str) -> Process:
    process = Process(directory, "worker", "--steps", *more, **QUICK, ONEX_DATABASE_URL=os.environ["ONEX_DATABASE_URL"])
    process.wait_for("carries out the runs")
    return process


def _shown(onex: Onex, run: str) -> dict[str, object]:
    found = json.loads(onex("workflow", "show", run, "--json").out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_killed_worker_is_followed_by_another_one(
    onex: Onex, here: Path, database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in the middle of a step: the run goes on elsewhere, what was done is not repeated, and the contract
    is the one of the start, although its files have changed and there was a restart.
    """
    if database == "postgresql":
        monkeypatch.setenv("ONEX_DATABASE_URL", request.getfixturevalue("engine_database"))
    with doors(here, "two") as served, _worker(here) as first:
        assert onex("workflow", "start", "doors.yaml", "--id", "r").status == 0
        served.wait_for("two")
        (here / "doors.yaml").write_text(DOORS.replace('"three"', '"other"').replace("three}", "one}"))
        (here / "door.yaml").unlink()
        under_way = onex("workflow", "show", "r")
        with _worker(here) as second:
            first.send(signal.SIGKILL)
            killed = time.monotonic()
            assert first.wait() == -signal.SIGKILL
            served.open()
            second.wait_for("run r of doors 1.0.0 taken up")
            taken = time.monotonic() - killed
            assert onex("workflow", "wait", "r", "--timeout-ms", "20000").status == 0
            second.send(signal.SIGTERM)
            assert second.wait() == 0

    assert served.counts == Counter(one=1, two=2, three=1)
    assert taken < LEASE_MS / 1_000 + 1
    lines = under_way.out.splitlines()
    assert lines[0].startswith("doors 1.0.0 · run r · running · 1 of 3 steps")
    assert [line.split()[1:3] for line in lines[2:5]] == [["one", "completed"], ["two", "running"], ["three", "to"]]
    steps = _shown(onex, "r")["steps"]
    assert isinstance(steps, list)
    assert [(step["step"], step["status"]) for step in steps] == [
        ("one", "completed"),
        ("two", "completed"),
        ("three", "completed"),
    ]
    history = json.loads(onex("workflow", "export", "r").out)
    assert history["contract"]["files"]["doors.yaml"] == DOORS
    assert not any("step one" in line for line in second.lines), "what was recorded is not told again"


def test_a_worker_that_is_told_to_stop_lets_a_step_end(onex: Onex, here: Path) -> None:
    """SIGTERM: the step comes to its end, the run is handed back, exit status 0; another worker goes on at once."""
    with doors(here, "two") as served:
        with _worker(here) as first:
            assert onex("workflow", "start", "doors.yaml", "--id", "r").status == 0
            served.wait_for("two")
            first.send(signal.SIGTERM)
            first.wait_for("no new runs")
            served.open()
            assert first.wait() == 0
        assert "1 handed back" in first.lines[-1]
        assert served.counts == Counter(one=1, two=1)
        assert _shown(onex, "r")["status"] == "queued"

        assert onex("worker", "--until-idle").status == 0

        assert served.counts == Counter(one=1, two=1, three=1)
        assert onex("workflow", "wait", "r").status == 0


def test_a_step_that_does_not_end_is_handed_back_in_time(onex: Onex, here: Path) -> None:
    """After the limit it is interrupted, and the worker ends with 0 all the same."""
    with doors(here, "two") as served:
        with _worker(here, "--drain-s", "1") as worker:
            assert onex("workflow", "start", "doors.yaml", "--id", "r").status == 0
            served.wait_for("two")

            worker.send(signal.SIGTERM)

            assert worker.wait() == 0
        assert served.counts == Counter(one=1, two=1)
        assert _shown(onex, "r")["status"] == "queued"
        (told,) = [line for line in worker.lines if "run r of" in line and "taken up" not in line]
        assert "handed back in the middle of a step" in told


def test_a_pause_says_whether_the_run_is_paused(onex: Onex, here: Path) -> None:
    """Not before the step that is under way has come to its end."""
    with doors(here, "two") as served, _worker(here):
        assert onex("workflow", "start", "doors.yaml", "--id", "r").status == 0
        served.wait_for("two")

        assert onex("workflow", "pause", "r").out == "r: will be paused at the end of its step\n"
        served.open()


def test_a_second_signal_ends_a_worker_at_once(onex: Onex, here: Path) -> None:
    """Without waiting for anything; its runs are taken over as after a crash."""
    with doors(here, "one") as served, _worker(here) as worker:
        assert onex("workflow", "start", "doors.yaml", "--id", "r").status == 0
        served.wait_for("one")
        worker.send(signal.SIGTERM)
        worker.wait_for("no new runs")

        worker.send(signal.SIGTERM)

        assert worker.wait() == 128 + signal.SIGTERM


def test_a_worker_tells_of_its_health(here: Path) -> None:
    """A line every so often, with what it has done."""
    with _worker(here, "--health-s", "1", "--json") as worker:
        told = json.loads(worker.wait_for('"event": "health"'))
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0

    assert (told["database"], told["under_way"], told["completed"], told["failed"]) == ("ok", 0, 0, 0)
    assert {json.loads(line)["event"] for line in worker.lines} >= {"worker_started", "worker_drains", "worker_ended"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_a_one_shot_run(here: Path, number: signal.Signals) -> None:
    """Exit status 10, and the document says what was done and what was cancelled."""
    with doors(here, "two") as served, Process(here, "run", "doors.yaml", "--json") as process:
        served.wait_for("two")

        process.send(number)

        assert process.wait() == 10
    document = json.loads("\n".join(process.lines))
    assert document["error"]["code"] == "CANCELLED"
    assert "two was under way" in document["error"]["message"]
    results = document["output"]["step_results"]
    assert [results[name]["status"] for name in ("one", "two", "three")] == ["completed", "cancelled", "skipped"]
    assert served.counts == Counter(one=1, two=1)


def test_a_one_shot_run_that_was_killed_goes_on_by_its_id(here: Path, onex: Onex) -> None:
    """Where runs are kept, the same command with the same id takes it up; finished steps are not repeated."""
    with doors(here, "two") as served:
        with Process(here, "run", "doors.yaml", "--id", "r", "--database", "sqlite:///runs.db", **QUICK) as first:
            served.wait_for("two")
            first.send(signal.SIGKILL)
            assert first.wait() == -signal.SIGKILL
        served.open()

        ended = onex("run", "doors.yaml", "--id", "r")

        assert ended.status == 0, ended.err
        assert served.counts == Counter(one=1, two=2, three=1)
    assert ended.out.splitlines()[0].startswith("doors 1.0.0 · run r · completed · 3 of 3 steps")


def test_a_one_shot_run_that_was_killed_is_taken_over_by_a_worker(here: Path, onex: Onex) -> None:
    """Also by one that was there before anybody had run anything once."""
    with doors(here, "two") as served, _worker(here) as worker:
        with Process(here, "run", "doors.yaml", "--id", "r", "--database", "sqlite:///runs.db", **QUICK) as first:
            served.wait_for("two")
            first.send(signal.SIGKILL)
            assert first.wait() == -signal.SIGKILL
        served.open()

        assert onex("workflow", "wait", "r", "--timeout-ms", "20000").status == 0

        assert (served.counts["one"], served.counts["three"]) == (1, 1)
        assert served.counts["two"] in {1, 2}  # once where the worker was the first to take the run
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


def test_workers_forget_runs_after_the_days_of_the_setting(here: Path, onex: Onex) -> None:
    """One that ended two days ago is gone, the one of today is still there."""
    with doors(here) as served:
        for run in ("old", "new"):
            assert onex("run", "doors.yaml", "--id", run).status == 0
    with closing(sqlite3.connect(here / "runs.db")) as connection, connection:
        connection.execute(
            "UPDATE workflow_status SET completed_at = completed_at - ? WHERE workflow_uuid = 'old'",
            (2 * 86_400_000,),
        )
    environment = {"ONEX_DATABASE_URL": os.environ["ONEX_DATABASE_URL"], "ONEX_WORKFLOW_RETENTION_DAYS": "1"}

    with Process(here, "worker", **environment) as worker:
        limit = time.monotonic() + 20
        while onex("workflow", "show", "old").status == 0:
            assert time.monotonic() < limit
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0

    assert onex("workflow", "show", "old").status == 14
    assert onex("workflow", "show", "new").status == 0
    assert served.counts == Counter(one=2, two=2, three=2)
