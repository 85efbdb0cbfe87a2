"""The rules of a state machine: what can never happen, and what was hardly meant."""

from typing import cast

import pytest
from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.contract_model import LOADER, Breach
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelFSMSubcontract, ModelFSMTransition

Tree = dict[str, JsonValue]


def arrow(source: JsonValue, target: str, trigger: str = "GO", **more: JsonValue) -> Tree:
    return {
        "transition_name": f"{source}-{target}-{trigger}",
        "from_state": source,
        "to_state": target,
        "trigger": trigger,
        **more,
    }


def machine(states: str, *transitions: Tree, initial: str = "A") -> Tree:
    """A state per letter; the one behind a `!` is terminal."""
    names: list[JsonValue] = [
        {"state_name": name.strip("!"), "is_terminal": name.startswith("!")} for name in states.split()
    ]
    return {"state_machine_name": "m", "initial_state": initial, "states": names, "transitions": list(transitions)}


def findings(data: Tree) -> list[Breach]:
    built = ModelFSMSubcontract.model_validate(data, context=LOADER)
    return [breach for rule in ModelFSMSubcontract.rules for breach in rule.check(built)]


A_TO_B = arrow("A", "B")
ERRORS = [
    (machine("A A !B", A_TO_B), "E-STATE-DUPLICATE", ("states", 1, "state_name"), "states[0] and states[1]"),
    (machine("A !B *", A_TO_B), "E-STATE-WILDCARD", ("states", 2, "state_name"), "stands for every state"),
    (machine("A !B", A_TO_B, A_TO_B), "E-TRANSITION-DUPLICATE", ("transitions", 1, "transition_name"), "twice"),
    (machine("A !B", A_TO_B, initial="Z"), "E-UNKNOWN-STATE", ("initial_state",), "'Z' is not among"),
    (machine("A !B", A_TO_B, arrow("Z", "B")), "E-UNKNOWN-STATE", ("transitions", 1, "from_state"), "'Z'"),
    (
        machine("A !B", A_TO_B, arrow(["A", "Z"], "B", "G2")),
        "E-UNKNOWN-STATE",
        ("transitions", 1, "from_state", 1),
        "Z",
    ),
    (machine("A !B", A_TO_B, arrow("A", "Z", "G2")), "E-UNKNOWN-STATE", ("transitions", 1, "to_state"), "'Z'"),
    (machine("A !B", arrow(["A", "*"], "B")), "E-STATE-WILDCARD", ("transitions", 0, "from_state"), "already"),
    (machine("A !B", arrow(["A", "A"], "B")), "E-STATE-DUPLICATE", ("transitions", 0, "from_state", 1), "twice"),
    (machine("A !B", A_TO_B, arrow("B", "A")), "E-TERMINAL-LEFT", ("transitions", 1, "from_state"), "is terminal"),
    (
        machine("A !B", A_TO_B, arrow(["A", "B"], "A", "G2")),
        "E-TERMINAL-LEFT",
        ("transitions", 1, "from_state", 1),
        "B",
    ),
    (machine("A !B !C", A_TO_B), "E-STATE-UNREACHABLE", ("states", 2, "state_name"), "from 'A' to state 'C'"),
    (
        machine("A !B C D", A_TO_B, arrow("C", "D"), arrow("D", "C")),
        "E-STATE-UNREACHABLE",
        ("states", 2, "state_name"),
        "C",
    ),
    (machine("!A B", arrow("*", "B")), "E-STATE-UNREACHABLE", ("states", 1, "state_name"), "B"),
]
WARNINGS = [
    (machine("A B", A_TO_B), "W-DEAD-END", ("states", 1, "state_name"), "no transition leads out"),
    (machine("A B", A_TO_B, arrow("B", "B")), "W-DEAD-END", ("states", 1, "state_name"), "'B'"),
    (
        machine("A !B", A_TO_B, arrow("A", "A")),
        "W-AMBIGUOUS",
        ("transitions", 1, "transition_name"),
        "both have priority 0 and no guard, and 'A-B-GO' is declared first",
    ),
    (
        machine("A !B", A_TO_B, arrow("A", "A", priority=-1)),
        "W-NEVER-TAKEN",
        ("transitions", 1, "transition_name"),
        "comes first",
    ),
    (
        machine("A !B", arrow("*", "B", priority=9), A_TO_B),
        "W-SHADOWED",
        ("transitions", 0, "transition_name"),
        "never taken on 'GO' in 'A': 'A-B-GO' names the state",
    ),
]


@pytest.mark.parametrize(("data", "code", "path", "message"), ERRORS)
def test_an_error_is_found_at_its_place(data: Tree, code: str, path: tuple[str | int, ...], message: str) -> None:
    """The loader collects it; in Python it is raised."""
    found = findings(data)

    assert any((b.code, b.path, b.severity) == (code, path, "error") and message in b.message for b in found), found
    with pytest.raises(ModelOnexError) as raised:
        ModelFSMSubcontract.model_validate(data)
    assert raised.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


@pytest.mark.parametrize(("data", "code", "path", "message"), WARNINGS)
def test_a_warning_is_found_and_raises_nothing(
    data: Tree, code: str, path: tuple[str | int, ...], message: str
) -> None:
    """One finding, for the loader."""
    [found] = findings(data)

    assert (found.code, found.path, found.severity) == (code, path, "warning")
    assert message in found.message
    ModelFSMSubcontract.model_validate(data)


@pytest.mark.parametrize(
    "data",
    [
        machine("A !B", A_TO_B),
        machine("A !B", arrow("*", "B")),
        machine("!A"),
        machine("A !B", arrow("A", "A", guard="payload.a"), A_TO_B),
        machine("A !B", A_TO_B, arrow("A", "A", "OTHER")),
        machine("A B !C", A_TO_B, arrow(["A", "B"], "C", "END")),
        machine("A !B", arrow("*", "B", guard="false"), arrow("A", "A", guard="true")),
    ],
)
def test_a_sound_machine_has_no_findings(data: Tree) -> None:
    """Wildcards, guards and several triggers are no mistakes."""
    assert findings(data) == []


def test_a_shadow_over_many_states_is_one_finding() -> None:
    """With the first ten of them."""
    names = [f"S{index}" for index in range(14)]
    data = machine(" ".join(["A", *names]), arrow("*", "A"), arrow(cast("JsonValue", ["A", *names]), "A", guard=None))
    cast("list[Tree]", data["transitions"]).extend(arrow("A", name, name) for name in names)

    [found] = [breach for breach in findings(data) if breach.code == "W-SHADOWED"]

    assert "'A', 'S0', 'S1'" in found.message
    assert "and 5 more" in found.message


@pytest.mark.parametrize(
    "change",
    [{"initial_state": ""}, {"states": []}, {"strict": "yes"}, {"state_machine_version": "1"}, {"other": 1}],
)
def test_types_and_bounds_are_those_of_the_fields(change: Tree) -> None:
    """A rule is asked only about what is well-formed."""
    with pytest.raises(ValidationError):
        ModelFSMSubcontract.model_validate({**machine("A !B", A_TO_B), **change})


def test_a_transition_knows_its_sources() -> None:
    """One, several or all."""
    one, several, every = (
        ModelFSMTransition(transition_name="t", from_state=source, to_state="B", trigger="GO")
        for source in ("A", ["A", "B"], "*")
    )

    assert [transition.sources for transition in (one, several, every)] == [("A",), ("A", "B"), ("*",)]
    assert [transition.is_wildcard for transition in (one, several, every)] == [False, False, True]
