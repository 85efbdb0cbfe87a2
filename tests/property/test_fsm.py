"""Random machines and logs against the plainest way to run them; the same bytes wherever a log is replayed."""

import json
import os
import subprocess
import sys
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract
from omnibase_core.utils.fsm_executor import FsmAction, step
from omnibase_core.utils.fsm_plan import compile_machine

SPACE = UUID("6f4d1f0e-5f0b-4d53-9f0a-0e1c5a7d2b11")
NAMES = ("A", "B", "C", "D")
TRIGGERS = ("go", "back", "stop")

transitions = st.lists(
    st.fixed_dictionaries(
        {
            "from": st.one_of(
                st.just(["*"]), st.lists(st.sampled_from(NAMES[:3]), min_size=1, max_size=3, unique=True)
            ),
            "to": st.sampled_from(NAMES),
            "trigger": st.sampled_from(TRIGGERS),
            "least": st.one_of(st.none(), st.integers(0, 3)),
            "priority": st.integers(-1, 1),
            "intents": st.integers(0, 2),
        }
    ),
    max_size=8,
)
logs = st.lists(st.tuples(st.sampled_from(TRIGGERS), st.integers(0, 3)), max_size=12)


def _model(rows: list[dict[str, object]]) -> ModelFSMSubcontract:
    """A machine whose states can all be reached; D is terminal."""
    states = [
        {
            "state_name": name,
            "is_terminal": name == "D",
            "entry_intents": [{"intent_type": "enter", "target": name, "payload": "${state.n:-0}"}],
            "exit_intents": [{"intent_type": "exit", "target": name, "payload": "${state.n:-0}"}],
        }
        for name in NAMES
    ]
    made = [
        {
            "transition_name": f"t{index}",
            "from_state": row["from"],
            "to_state": row["to"],
            "trigger": row["trigger"],
            "guard": None if row["least"] is None else f"payload.n >= {row['least']}",
            "priority": row["priority"],
            "assign": {"n": "${payload.n}", "last": f"'t{index}'"},
            "intents": [{"intent_type": "take", "target": f"t{index}", "payload": "${state.n}"}]
            * int(str(row["intents"])),
        }
        for index, row in enumerate(rows)
    ]
    reach = [
        {"transition_name": f"to{name}", "from_state": "A", "to_state": name, "trigger": f"to{name}"} for name in "BCD"
    ]
    return ModelFSMSubcontract.model_validate(
        {"state_machine_name": "m", "initial_state": "A", "states": states, "transitions": [*made, *reach]}
    )


Naive = tuple[str, dict[str, object], list[tuple[str, object, UUID]]]


def _naive(
    rows: list[dict[str, object]], state: str, data: dict[str, object], log: tuple[str, int], id_: UUID
) -> Naive | None:
    """The specification, word for word."""
    if state == "D":
        return None
    trigger, n = log
    for exact in (True, False):
        fitting = [
            (index, row)
            for index, row in enumerate(rows)
            if row["trigger"] == trigger and (state in list(row["from"]) if exact else row["from"] == ["*"])  # type: ignore[call-overload]  # a list
        ]
        for index, row in sorted(fitting, key=lambda pair: -int(str(pair[1]["priority"]))):
            least = row["least"]
            if isinstance(least, int) and n < least:
                continue
            out: list[tuple[str, object]] = [(state, data.get("n", 0))]
            out += [(f"t{index}", n)] * int(str(row["intents"]))
            out.append((str(row["to"]), n))
            ids = [uuid5(id_, f"t{index}:{place}") for place in range(len(out))]
            told = [(target, payload, made) for (target, payload), made in zip(out, ids, strict=True)]
            return str(row["to"]), {"n": n, "last": f"t{index}"}, told
    return None


@settings(max_examples=150, deadline=None)
@given(transitions, logs)
def test_a_machine_does_what_the_specification_says(rows: list[dict[str, object]], log: list[tuple[str, int]]) -> None:
    """State, data, intents and their ids after each action; a refused action changes nothing."""
    plan = compile_machine(_model(rows), lambda breach: pytest.fail(breach.message))
    state = plan.initial
    expected: tuple[str, dict[str, object]] = ("A", {})
    for number, entry in enumerate(log):
        action_id = uuid5(SPACE, str(number))
        naive = _naive(rows, *expected, entry, action_id)
        action = FsmAction(entry[0], action_id, {"n": entry[1]})
        if naive is None:
            with pytest.raises(ModelOnexError):
                step(plan, state, action)
            continue
        done = step(plan, state, action)
        expected = naive[0], naive[1]
        assert (done.state.state, dict(done.state.context)) == expected
        assert [(intent.target, intent.payload, intent.intent_id) for intent in done.intents] == naive[2]
        assert done.state.version == state.version + 1
        state = done.state


_REPLAY = """
import hashlib, json, sys
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5
from pathlib import Path
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract
from omnibase_core.utils.fsm_executor import FsmAction, step
from omnibase_core.utils.fsm_plan import plan_of
plan = plan_of(ModelFSMSubcontract.model_validate_json(sys.stdin.read()))
space, when = UUID(int=7), datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
state, digest, emitted = plan.initial, hashlib.sha256(), 0
for number in range(10_000):
    payload = {"n": number % 7, f"k{number % 50}": [number], "m": {"z": 1, "a": number}}
    action = FsmAction(("go", "back", "stop")[number % 3], uuid5(space, str(number)), payload, when + timedelta(number))
    done = step(plan, state, action)
    state, emitted = done.state, emitted + len(done.intents)
    for intent in done.intents:
        digest.update(intent.model_dump_json().encode())
    digest.update(json.dumps(state.snapshot()).encode())
print(json.dumps([digest.hexdigest(), emitted, state.snapshot()]))
"""


def test_ten_thousand_actions_replayed_elsewhere_give_the_same_bytes() -> None:
    """Four processes with different hash seeds, time zones and clocks (the first of January 1970 in one of them)."""
    out = [{"intent_type": "x", "target": "t", "payload": {"at": "${meta.timestamp}", "of": "${payload}"}}]
    machine = json.dumps(
        {
            "state_machine_name": "m",
            "initial_state": "A",
            "strict": False,
            "states": [{"state_name": "A", "exit_intents": out}, {"state_name": "B", "invariants": ["state.n >= 0"]}],
            "transitions": [
                {
                    "transition_name": name,
                    "from_state": source,
                    "to_state": target,
                    "trigger": name,
                    "guard": "payload.n > 0",
                    "assign": {"n": "payload.n", "m": "payload.m", "by": "meta.action_id", f"f_{name}": "${payload}"},
                    "intents": out,
                }
                for name, source, target in (("go", "A", "B"), ("back", "B", "A"), ("stop", "*", "A"))
            ],
        }
    )
    clock = "import time\ntime.time = lambda: 0.0\ntime.time_ns = lambda: 0\n"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", prefix + _REPLAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
        )
        for seed, zone, prefix in (
            ("0", "UTC", ""),
            ("1", "Asia/Tokyo", ""),
            ("2", "America/Lima", clock),
            ("random", "", ""),
        )
    ]

    said = [run.communicate(machine.encode(), timeout=60)[0] for run in runs]

    assert [run.returncode for run in runs] == [0] * 4
    assert len(set(said)) == 1
    assert json.loads(said[0])[1] > 5_000
