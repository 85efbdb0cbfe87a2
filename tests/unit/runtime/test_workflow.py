"""`onex workflow` and `onex worker`, on an SQLite file."""

import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support.cli import Ended, Onex
from tests.support.workflow_cli import ORDER, write_order

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def order(onex: Onex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The order workflow, and a database of its own."""
    del onex
    monkeypatch.setenv("ONEX_DATABASE_URL", "sqlite:///runs.db")
    return write_order(tmp_path)


def _started(onex: Onex, order: str, run: str = "order-7", *more: str) -> Ended:
    ended = onex("workflow", "start", order, "--set", "id=7", "--id", run, *more)
    assert ended.status == 0, ended.err
    return ended


def _done(onex: Onex, run: str = "order-7") -> None:
    """Answer everything that the run will ask, and carry it out."""
    assert onex("workflow", "approve", run, "pay", "--by", "ada").status == 0
    assert onex("workflow", "signal", run, "paid", "--payload", '{"amount": 12}').status == 0
    assert onex("worker", "--until-idle").status == 0


def test_a_run_from_start_to_end(onex: Onex, order: str, tmp_path: Path) -> None:
    """It is started, answered, carried out by a worker, and then its output, its timeline and its history are there."""
    assert _started(onex, order).out == "order-7: queued\n"
    approved = onex("workflow", "approve", "order-7", "--by", "ada", "--comment", "fine")
    assert approved.out == "order-7: pay approved by ada\n"
    assert onex("workflow", "signal", "order-7", "paid", "--payload", '{"amount": 12}').out == (
        "order-7: signal paid sent\n"
    )

    worker = onex("worker", "--until-idle", "--steps")

    assert worker.status == 0, worker.err
    said = [line.partition(" ")[2] for line in worker.out.splitlines()]
    assert said[1] == "run order-7 of order 1.2.0 taken up"
    assert [line.split()[3:5] for line in said if line.startswith("run order-7 step")] == [
        [step, "completed,"] for step in ("price", "pay", "paid", "note")
    ]
    assert "run order-7 of order 1.2.0 completed" in said
    assert (tmp_path / "notes/7.txt").read_text() == "paid"
    waited = onex("workflow", "wait", "order-7")
    assert (waited.status, json.loads(waited.out)) == (0, {"approved": True, "by": "ada", "amount": 12})
    shown = onex("workflow", "show", "order-7").out
    assert shown.splitlines()[0].startswith("order 1.2.0 · run order-7 · completed · 4 of 4 steps")
    assert max(map(len, shown.splitlines()[:6])) <= 80
    assert "\x1b" not in shown
    assert TIMESTAMP.search(shown)
    history = json.loads(onex("workflow", "export", "order-7").out)
    assert {"price", "pay", "paid", "note"} <= {record["name"] for record in history["records"]}
    assert history["contract"]["files"]["order.yaml"] == ORDER
    assert history["document"]["steps"]["note"]["attempts"] == 1


def test_starting_again_is_the_same_run(onex: Onex, order: str) -> None:
    """The same id with the same input changes nothing; with another input or contract it is refused with 11."""
    _started(onex, order)

    assert _started(onex, order).out == "order-7: queued\n"
    other = onex("workflow", "start", order, "--set", "id=8", "--id", "order-7")
    assert (other.status, other.out) == (11, "")
    assert "started with another input or contract" in other.err
    assert len(json.loads(onex("workflow", "list", "--json").out)) == 1


def test_a_run_keeps_the_contract_that_it_was_started_with(onex: Onex, order: str, tmp_path: Path) -> None:
    """The files are changed and then gone before a worker sees the run; a new run is refused, the old one completes."""
    _started(onex, order)
    (tmp_path / order).write_text(ORDER.replace("by: ", "nobody: "))
    (tmp_path / "note.yaml").unlink()

    _done(onex)

    assert json.loads(onex("workflow", "wait", "order-7").out)["by"] == "ada"
    assert (tmp_path / "notes/7.txt").exists()
    assert onex("workflow", "start", order, "--set", "id=7").status == 2


def test_runs_are_found_by_name_status_time_and_attributes(onex: Onex, order: str) -> None:
    """Newest first, as a table and as JSON."""
    _started(onex, order, "a", "--attribute", "customer=ada", "--attribute", "urgent=true")
    _started(onex, order, "b", "--attribute", "customer=bob")
    _started(onex, order, "c", "--not-before", "1h")

    def found(*options: str) -> list[str]:
        return [run["workflow_id"] for run in json.loads(onex("workflow", "list", "--json", *options).out)]

    assert found() == ["c", "b", "a"]
    assert found("--name", "order", "--limit", "1") == ["c"]
    assert found("--status", "scheduled") == ["c"]
    assert found("--attribute", "customer=ada", "-a", "urgent=true") == ["a"]
    assert found("--since", "1h", "--status", "queued") == ["b", "a"]
    assert found("--until", "2020-01-01") == []
    lines = onex("workflow", "list", "--attribute", "customer=bob").out.splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "STATUS", "CREATED", "UPDATED", "ATTRIBUTES"]
    assert re.fullmatch(rf"b +order 1\.2\.0 +queued +{TIMESTAMP.pattern} +{TIMESTAMP.pattern} +customer=bob", lines[1])


WRONG: list[tuple[list[str], int, str]] = [
    (["show", "none"], 14, "'none' is unknown"),
    (["wait", "none"], 14, "'none' is unknown"),
    (["export", "none", "--format", "svg"], 14, "'none' is unknown"),
    (["signal", "none", "paid"], 14, "'none' is unknown"),
    (["cancel", "none"], 14, "'none' is unknown"),
    (["pause", "none"], 14, "'none' is unknown"),
    (["resume", "none"], 14, "'none' is unknown"),
    (["fork", "none", "--from", "pay"], 14, "'none' is unknown"),
    (["rewind", "none", "--to", "pay", "--yes"], 14, "'none' is unknown"),
    (["signal", "order-7", "payed"], 14, "no step waits for signal 'payed'; it waits for 'pay', 'paid'"),
    (["signal", "order-7", "Paid", "--event"], 14, "no step waits for event 'Paid'; it waits for no event"),
    (["approve", "order-7", "paid"], 14, "no approval 'paid'; there are 'pay'"),
    (["approve", "order-7", "--by", "eve"], 13, "'eve' is not asked; ada, bob may answer"),
    (["resume", "order-7"], 11, "queued"),
    (["fork", "order-7", "--from", "pay"], 14, "no step 'pay' is recorded"),
    (["cancel"], 2, "give ids of runs, or options"),
    (["cancel", "--name", "order"], 2, "nobody can be asked here; add --yes"),
    (["start", "order.yaml"], 2, "'id'"),
    (["start", "order.yaml", "--set", "id=x"], 2, "id: breaks 'type'"),
    (["start", "price.yaml"], 2, "found compute_subcontract; this command takes a workflow"),
    (["start", "order.yaml", "--set", "id=1", "--queue", "fast"], 14, "unknown queue 'fast'"),
    (["start", "order.yaml", "--set", "id=1", "--not-before", "soon"], 2, "--not-before 'soon'"),
    (["start", "order.yaml", "--set", "id=1", "--attribute", "x"], 2, "write key=value"),
    (["start", "order.yaml", "--set", "id=1", "--id", " "], 2, "its id is empty"),
    (["start", "order.yaml", "--set", "id=1", "--attribute", "y=1e999"], 2, "--attribute 'y=1e999' is no JSON"),
    (["start", "order.yaml", "--set", "id=1", "--attribute", "y=\udcff"], 2, "--attribute 'y=\\udcff' is no JSON"),
    (["start", "order.yaml", "--set", "id=1", "--id", "\udcff"], 2, "'\\udcff': a name is Unicode"),
    (["start", "order.yaml", "--set", "id=1", "--dedup-key", "\udcff"], 2, "deduplication key '\\udcff'"),
    (["signal", "order-7", "paid", "--payload", "[1e999]"], 2, "--payload is no JSON"),
    (["signal", "order-7", "paid", "--key", "\udcff"], 2, "key '\\udcff'"),
    (["show", "\udcff"], 2, "'\\udcff': a name is Unicode"),
    (["schedule", "delete", "\udcff", "--yes"], 2, "'\\udcff': a name is Unicode"),
    (["list", "--name", "\udcff"], 2, "'\\udcff': a name is Unicode"),
    (["list", "--since", "9999-12-31T23:59-12:00"], 2, "--since '9999-12-31T23:59-12:00'"),
    (["delete", "--before", "0001-01-01T00:00+14:00", "--yes"], 2, "--before '0001-01-01T00:00+14:00'"),
    (["list", "--since", "99z"], 2, "write a time such as"),
    (["wait", "order-7", "--timeout-ms", "1"], 6, "It goes on"),
    (["schedule", "pause", "none"], 14, "no schedule 'none'; there is none"),
    (["schedule", "delete", "none", "--yes"], 14, "'none' is unknown"),
    (["schedule", "put", "order.yaml", "--set", "id=1"], 2, "its triggers have no schedule; say --cron"),
    (["schedule", "put", "order.yaml", "--set", "id=1", "--cron", "never"], 2, "cron 'never'"),
    (["schedule", "put", "order.yaml", "--cron", "0 3 * * *"], 2, "'id'"),
    (["schedule", "put", "order.yaml", "--set", "id=1", "--cron", "@daily"], 2, "five fields are wanted"),
    (["schedule", "put", "order.yaml", "--set", "id=1", "--cron", "0 3 31 2 *"], 2, "never falls due"),
    (
        ["schedule", "put", "order.yaml", "--set", "id=1", "--cron", "0 3 * * *", "--timezone", "Europe"],
        2,
        "there is no time zone 'Europe'",
    ),
    (["delete", "--before", "1d"], 2, "add --yes"),
]


def test_what_is_wrong_is_told_in_one_line(onex: Onex, order: str) -> None:
    """With the exit status of its code, without a traceback, and the run is as it was."""
    _started(onex, order)

    for args, status, message in WRONG:
        ended = onex("workflow", *args)

        assert (ended.status, ended.out) == (status, ""), args
        assert message in ended.err, args
        assert len(ended.err.splitlines()) == 1, args
    assert [run["status"] for run in json.loads(onex("workflow", "list", "--json").out)] == ["queued"]


def test_a_run_that_has_ended_takes_nothing_any_more(onex: Onex, order: str) -> None:
    """Signals, answers, pauses and cancels are refused with 11 and change nothing."""
    _started(onex, order)
    _done(onex)

    for args in (("signal", "order-7", "paid"), ("approve", "order-7"), ("pause", "order-7"), ("cancel", "order-7")):
        ended = onex("workflow", *args)

        assert ended.status == 11, args
        assert "completed" in ended.err
        assert "Traceback" not in ended.err


def test_a_cycle_is_printed_as_a_path(onex: Onex, order: str, tmp_path: Path) -> None:
    """At the start, with all that is wrong, and nothing is started; also for nodes that do not exist."""
    text = ORDER.replace("node: price.yaml", "node: prize.yaml\n      depends_on: [note]")
    (tmp_path / order).write_text(text)

    ended = onex("workflow", "start", order, "--set", "id=7")

    assert ended.status == 2
    assert "steps wait for each other: price -> note -> paid -> pay -> price" in ended.err
    assert "prize.yaml" in ended.err
    assert onex("workflow", "list", "--json").out == "[]\n"


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("sqlite:///none/runs.db", 3, "directory does not exist"),
        ("sqlite:///.", 3, "is a directory"),
        ("sqlite:///runs.db?mode=ro", 3, "unknown options: mode"),
        ("postgresql://ada:hush-hush@h:notaport/x", 3, "cannot be read"),
        ("postgresql://ada:hush-hush@127.0.0.1:9/x", 4, "does not answer"),
        ("mysql://127.0.0.1/x", 3, "SQLite or PostgreSQL"),
        ("sqlite://", 3, "forgets its runs"),
        ("sqlite:///order.yaml", 3, "file is not a database"),
    ],
)
@pytest.mark.parametrize("command", [("workflow", "list"), ("worker",)])
def test_a_database_that_is_away_is_told(
    onex: Onex, order: str, command: tuple[str, ...], url: str, status: int, message: str
) -> None:
    """With what to do about it, and without its password."""
    del order

    ended = onex(*command, "--database", url)

    assert ended.status == status, ended.err
    assert message in ended.err
    assert "hush-hush" not in ended.err
    assert "Traceback" not in ended.err
    assert "Warning" not in ended.err


def test_an_engine_in_memory_keeps_no_runs(onex: Onex, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be asked from another process: a mistake in the settings."""
    del order
    monkeypatch.setenv("ONEX_ENGINE", "memory")

    ended = onex("workflow", "list")

    assert ended.status == 3
    assert "ONEX_ENGINE" in ended.err


def test_runs_are_kept_in_the_data_directory_by_default(
    onex: Onex, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any setting the file is made there."""
    monkeypatch.delenv("ONEX_DATABASE_URL")

    _started(onex, order)

    assert (tmp_path / ".onex/workflows.db").exists()


def test_runs_are_cancelled_by_a_filter(onex: Onex, order: str) -> None:
    """All that the options choose and that go on."""
    for run in ("a", "b"):
        _started(onex, order, run, "--attribute", "batch=1")
    _started(onex, order, "c")

    assert onex("workflow", "cancel", "--attribute", "batch=1", "--yes").out == "cancelled 2 runs\n"
    statuses = {run["workflow_id"]: run["status"] for run in json.loads(onex("workflow", "list", "--json").out)}
    assert statuses == {"a": "cancelled", "b": "cancelled", "c": "queued"}
    assert onex("workflow", "cancel", "--attribute", "batch=1", "--yes").out == "cancelled 0 runs\n"
    waited = onex("workflow", "wait", "a")
    assert (waited.status, waited.err) == (10, "error CANCELLED: run a of order: cancelled\n")


def test_a_paused_run_rests_until_it_is_resumed(onex: Onex, order: str) -> None:
    """A worker leaves it alone meanwhile."""
    _started(onex, order)
    assert onex("workflow", "pause", "order-7").out == "order-7: paused\n"
    _done(onex)
    assert [run["status"] for run in json.loads(onex("workflow", "list", "--json").out)] == ["paused"]

    assert onex("workflow", "resume", "order-7").out == "order-7: goes on\n"

    assert onex("worker", "--until-idle").status == 0
    assert onex("workflow", "wait", "order-7").status == 0


def test_fork_and_rewind_repeat_from_a_step(onex: Onex, order: str, tmp_path: Path) -> None:
    """The steps before keep their records; a fork is a run of its own."""
    _started(onex, order)
    _done(onex)
    (tmp_path / "notes/7.txt").unlink()

    assert onex("workflow", "fork", "order-7", "--from", "note", "--id", "again").status == 0
    assert onex("worker", "--until-idle").status == 0

    assert (tmp_path / "notes/7.txt").exists()
    assert json.loads(onex("workflow", "wait", "again").out)["amount"] == 12
    (tmp_path / "notes/7.txt").unlink()
    assert onex("workflow", "rewind", "order-7", "--to", "note", "--yes").out == "order-7: goes on at note\n"
    assert onex("worker", "--until-idle").status == 0
    assert (tmp_path / "notes/7.txt").exists()


def test_a_failed_run_says_so_by_its_status(onex: Onex, order: str) -> None:
    """The exit status of waiting is that of the error; the timeline names it."""
    _started(onex, order)
    assert onex("workflow", "approve", "order-7", "--by", "bob").status == 0
    assert onex("workflow", "signal", "order-7", "paid", "--payload", "nothing").status == 0
    assert onex("worker", "--until-idle").status == 0

    waited = onex("workflow", "wait", "order-7", "--json")

    document = json.loads(waited.out)
    assert waited.status == document["error"]["exit_status"] != 0
    assert document["run"]["status"] == "failed"
    shown = onex("workflow", "show", "order-7")
    assert shown.status == 0
    assert document["error"]["code"] in shown.out


def test_the_history_of_a_run_is_told_in_the_order_of_time(onex: Onex, order: str) -> None:
    """A line for each thing that happened, as text and as documents."""
    _started(onex, order)
    queued = onex("workflow", "logs", "order-7").out.splitlines()
    assert onex("workflow", "approve", "order-7", "--by", "bob").status == 0
    assert onex("workflow", "signal", "order-7", "paid", "--payload", "nothing").status == 0
    assert onex("worker", "--until-idle").status == 0

    lines = onex("workflow", "logs", "order-7").out.splitlines()
    documents = [json.loads(line) for line in onex("workflow", "logs", "order-7", "--json").out.splitlines()]

    assert [line.partition(" ")[2] for line in queued] == ["order 1.2.0 started"]
    assert lines == [f"{document['at']} {document['message']}" for document in documents]
    assert lines == sorted(lines, key=lambda line: line.partition(" ")[0])
    assert documents[0]["event"] == "run_started"
    assert documents[-1]["event"] == "run_ended"
    assert documents[-1]["message"].startswith("failed: ")
    ended = [document for document in documents if document["event"] == "step_ended"]
    assert [(document["step"], document["status"]) for document in ended][:3] == [
        ("price", "completed"),
        ("pay", "completed"),
        ("paid", "completed"),
    ]
    assert onex("workflow", "logs", "none").status == 14


def test_the_timeline_is_exported_as_pictures(onex: Onex, order: str) -> None:
    """SVG is well formed and has a bar for each step; Mermaid has a line for each."""
    _started(onex, order)
    _done(onex)

    picture = ET.fromstring(onex("workflow", "export", "order-7", "--format", "svg").out)
    lines = onex("workflow", "export", "order-7", "-f", "mermaid").out.splitlines()

    name = "{http://www.w3.org/2000/svg}"
    assert picture.tag == f"{name}svg"
    titles = [group.findtext(f"{name}title") or "" for group in picture.findall(f"{name}g")]
    assert [title.partition(":")[0] for title in titles] == ["price", "pay", "paid", "note"]
    assert all(float(group.find(f"{name}rect").get("width")) >= 2 for group in picture.findall(f"{name}g"))  # type: ignore[union-attr,arg-type]  # each has one
    assert lines[0] == "gantt"
    assert [line.split()[0] for line in lines[5:]] == ["price", "pay", "paid", "note"]


def test_schedules_are_kept_started_and_ended(onex: Onex, order: str) -> None:
    """Put, listed, paused, resumed, triggered, backfilled once, deleted."""
    put = onex("workflow", "schedule", "put", order, "--set", "id=7", "--cron", "0 3 * * *", "--timezone", "Asia/Tokyo")
    assert re.fullmatch(r"order: next run at \d{4}-\d\d-\d\dT18:00:00Z\n", put.out)

    assert onex("workflow", "schedule", "pause", "order").out == "order: paused\n"
    assert onex("workflow", "schedule", "list").out.splitlines()[1].split() == [
        *["order", "0", "3", "*", "*", "*", "Asia/Tokyo", "paused", "order.yaml"]
    ]
    assert onex("workflow", "schedule", "resume", "order").status == 0
    listed = json.loads(onex("workflow", "schedule", "list", "--json").out)
    assert [(each["name"], each["paused"], each["input"]) for each in listed] == [("order", False, {"id": 7})]
    assert onex("workflow", "schedule", "trigger", "order").out.endswith(": queued\n")
    days = ("--from", "2030-01-01", "--to", "2030-01-03")
    filled = onex("workflow", "schedule", "backfill", "order", *days).out.splitlines()
    assert filled == [f"order-2030-01-0{day}T18:00:00+00:00: queued" for day in (1, 2)]
    assert onex("workflow", "schedule", "backfill", "order", *days).out.splitlines() == filled
    assert len(json.loads(onex("workflow", "list", "--json", "-a", "schedule=order").out)) == 3
    assert onex("workflow", "schedule", "delete", "order", "--yes").out == "order: deleted\n"
    assert json.loads(onex("workflow", "schedule", "list", "--json").out) == []


class Terminal(io.StringIO):
    """A person who types."""

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_before_much_is_started_or_cancelled(
    onex: Onex, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A no does nothing and ends with 10, a yes does it; where nobody can be asked it is 2."""
    assert onex("workflow", "schedule", "put", order, "--set", "id=7", "--cron", "* * * * *", "--paused").status == 0
    much = ("workflow", "schedule", "backfill", "order", "--from", "2030-01-01", "--to", "2030-01-02")
    assert onex(*much).status == 2
    _started(onex, order)

    for answer, status, left in (("n\n", 10, "queued"), ("y\n", 0, "cancelled")):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        ended = onex("workflow", "cancel", "--name", "order")

        assert ended.status == status
        assert "Cancel 1 run (order-7)?" in ended.err
        assert [run["status"] for run in json.loads(onex("workflow", "list", "--json").out)] == [left]
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    asked = onex(*much)
    assert asked.status == 10
    assert "Start more than 1000 runs of order?" in asked.err


def test_a_schedule_of_the_contract_needs_no_cron(onex: Onex, order: str, tmp_path: Path) -> None:
    """The only one among its triggers is taken, with its zone and its input."""
    trigger = '  triggers: [{schedule: {cron: "15 4 * * *", timezone: Europe/Berlin}, input: {id: 3}}]\n'
    (tmp_path / order).write_text(ORDER.replace("  steps:\n", f"{trigger}  steps:\n"))

    assert onex("workflow", "schedule", "put", order, "--name", "nightly").status == 0

    (kept,) = json.loads(onex("workflow", "schedule", "list", "--json").out)
    assert (kept["name"], kept["cron"], kept["timezone"], kept["input"]) == (
        "nightly",
        "15 4 * * *",
        "Europe/Berlin",
        {"id": 3},
    )


def test_a_second_run_with_a_deduplication_key_is_refused(onex: Onex, order: str) -> None:
    """While the first one goes on."""
    _started(onex, order, "a", "--dedup-key", "k")

    assert onex("workflow", "start", order, "--set", "id=7", "--id", "b", "--dedup-key", "k").status == 11
    assert onex("workflow", "cancel", "a").status == 0
    _started(onex, order, "b", "--dedup-key", "k")


def test_old_runs_are_forgotten(onex: Onex, order: str) -> None:
    """Those that have ended; the others stay."""
    _started(onex, order, "a")
    _started(onex, order, "b")
    assert onex("workflow", "cancel", "a").status == 0

    assert onex("workflow", "delete", "--before", "2999-01-01", "--yes").out.startswith("forgot 1 run ")

    assert [run["workflow_id"] for run in json.loads(onex("workflow", "list", "--json").out)] == ["b"]


@pytest.mark.parametrize("queue", ["", ":2", "a:0", "a:x", "a:1:2:3", "a:-1"])
def test_a_queue_that_cannot_be_read_is_told(onex: Onex, order: str, queue: str) -> None:
    """Before anything is opened."""
    del order

    ended = onex("worker", "--queue", queue)

    assert ended.status == 2
    assert "name:concurrency:rate" in ended.err


def test_a_queue_of_a_worker_takes_runs(onex: Onex, order: str) -> None:
    """It is known from then on, with its limits."""
    assert onex("worker", "--until-idle", "--queue", "mail:1:5", "--queue", "api").status == 0
    _started(onex, order, "order-7", "--queue", "mail", "--priority", "3")

    _done(onex)

    shown = json.loads(onex("workflow", "show", "order-7", "--json").out)
    assert (shown["queue"], shown["priority"], shown["status"]) == ("mail", 3, "completed")
    assert [step["status"] for step in shown["steps"]] == ["completed"] * 4


def test_a_worker_keeps_the_schedules_of_its_files(onex: Onex, order: str, tmp_path: Path) -> None:
    """A restart changes nothing of one that is the same; a paused one stays paused."""
    triggers = "  triggers:\n" + "".join(
        f'    - {{schedule: {{cron: "{minute} 4 * * *"}}, input: {{id: {minute}}}}}\n' for minute in (1, 2)
    )
    (tmp_path / order).write_text(ORDER.replace("  steps:\n", f"{triggers}  steps:\n"))
    assert onex("worker", order, "--until-idle").status == 0
    before = onex("workflow", "schedule", "list", "--json").out
    assert [(each["name"], each["cron"], each["input"]) for each in json.loads(before)] == [
        ("order-1", "1 4 * * *", {"id": 1}),
        ("order-2", "2 4 * * *", {"id": 2}),
    ]
    assert onex("workflow", "schedule", "pause", "order-2").status == 0

    assert onex("worker", order, "--until-idle").status == 0

    after = json.loads(onex("workflow", "schedule", "list", "--json").out)
    assert [each["paused"] for each in after] == [False, True]
    assert after[0] == json.loads(before)[0]


def test_events_of_the_runs_of_a_worker_start_runs(onex: Onex, order: str, tmp_path: Path) -> None:
    """A workflow that waits for the end of a step of another one."""
    follow = """\
orchestrator_subcontract:
  workflow_name: follow
  version: 1.0.0
  triggers:
    - event: {on_event: WorkflowStepCompletedEvent, filter: event.payload.step_id == 'note'}
      input: {id: "${event.payload.workflow_id}"}
  steps:
    - {step_id: price, step_type: compute, node: price.yaml, input: {id: "${input.id}"}}
"""
    (tmp_path / "follow.yaml").write_text(follow)
    _started(onex, order)
    assert onex("workflow", "approve", "order-7", "pay", "--by", "ada").status == 0
    assert onex("workflow", "signal", "order-7", "paid", "--payload", '{"amount": 12}').status == 0

    worker = onex("worker", "follow.yaml", "--until-idle")

    assert worker.status == 0, worker.err
    (run,) = json.loads(onex("workflow", "list", "--name", "follow", "--json").out)
    assert run["status"] == "completed", worker.out
    assert json.loads(onex("workflow", "wait", run["workflow_id"]).out) == {"price": {"id": "order-7"}}


def test_the_doctor_asks_the_database_of_workflows(onex: Onex, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a connection, without its password; a setting that is wrong is 4."""
    _started(onex, order)
    assert "database_url" in onex("doctor").out

    monkeypatch.setenv("ONEX_DATABASE_URL", "postgresql://ada:hush-hush@127.0.0.1:9/x")
    ended = onex("doctor", "--json")

    document = json.loads(ended.out)
    (check,) = [each for each in document["checks"] if each["name"] == "database_url"]
    assert (ended.status, check["status"], document["healthy"]) == (4, "failed", False)
    assert "hush-hush" not in ended.out
