"""A run is pinned to its texts: what they are, and that they load again to the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from omnibase_core.errors import ContractError, ModelOnexError
from omnibase_core.utils.contract_loader import load_contract
from omnibase_core.utils.workflow_bundle import LoadedWorkflow, bundle_of, load_bundle
from tests.support.workflow_contracts import NODES, loaded, workflow

STEPS = (
    "step_id: a, step_type: compute, node: total.yaml, input: {lines: [1]}\n"
    "step_id: b, step_type: orchestrator, node: ./deep/child.yaml, input: {n: 1}\n"
    "step_id: c, step_type: effect, node: store.yaml, input: {id: 1}, "
    "compensate: {step_type: effect, node: typed.yaml, input: {n: 1}}\n"
    "step_id: d, step_type: effect, node: service"
)
USED = {"main.yaml", "total.yaml", "lines.json", "deep/child.yaml", "deep/count.yaml", "deep/n.yaml", "store.yaml"}


def in_folder(folder: Path, text: str) -> LoadedWorkflow:
    """The workflow, as files."""
    for name, content in {**NODES, "main.yaml": text}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    workflow_ = load_contract(folder / "main.yaml").workflow
    assert workflow_ is not None
    return workflow_


def test_a_bundle_holds_every_text_and_no_other(tmp_path: Path) -> None:
    """Those of nodes, of their schemas, of child workflows and theirs."""
    bundle = in_folder(tmp_path, workflow(STEPS)).bundle

    assert set(bundle.files) == {*USED, "typed.yaml"}
    assert bundle.root == "main.yaml"
    assert bundle.files["deep/n.yaml"] == NODES["deep/n.yaml"]
    assert len(bundle.digest) == 64


def test_a_folder_and_a_bundle_give_the_same(tmp_path: Path) -> None:
    """Also when the files are gone."""
    found = in_folder(tmp_path, workflow(STEPS))
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()

    again = load_bundle(found.bundle)

    assert again.bundle == found.bundle
    assert again.subcontract == found.subcontract
    assert set(again.nodes) == {"total.yaml", "deep/child.yaml", "store.yaml", "typed.yaml"}
    assert [step.node for step in again.plan.steps] == ["total.yaml", "deep/child.yaml", "store.yaml", "service"]


def test_a_child_has_a_bundle_of_its_own() -> None:
    """Its paths are relative to its own folder."""
    child = loaded(workflow(STEPS)).nodes["deep/child.yaml"].workflow
    assert child is not None

    assert set(child.bundle.files) == {"child.yaml", "count.yaml", "n.yaml"}
    assert load_bundle(child.bundle).plan.name == "child"


def test_nodes_may_lie_above_the_workflow(tmp_path: Path) -> None:
    """The bundle keeps the path as it is."""
    flow = tmp_path / "flows" / "main.yaml"
    flow.parent.mkdir()
    flow.write_text(workflow("step_id: a, step_type: effect, node: ../typed.yaml, input: {n: 1}"))
    (tmp_path / "typed.yaml").write_text(NODES["typed.yaml"])
    found = load_contract(flow).workflow
    assert found is not None

    assert set(found.bundle.files) == {"main.yaml", "../typed.yaml"}
    assert load_bundle(found.bundle).bundle == found.bundle


def test_two_parents_of_one_child_have_its_texts_both() -> None:
    """A contract that was loaded once is in the bundle of everybody who uses it."""
    child = "step_type: orchestrator, node: deep/child.yaml, input: {n: 1}"
    nodes = {**NODES, "middle.yaml": workflow(f"step_id: a, {child}")}
    found = loaded(workflow(f"step_id: a, {child}\nstep_id: b, step_type: orchestrator, node: middle.yaml"), nodes)
    middle = found.nodes["middle.yaml"].workflow
    assert middle is not None

    assert set(middle.bundle.files) == {"middle.yaml", "deep/child.yaml", "deep/count.yaml", "deep/n.yaml"}
    assert set(found.bundle.files) == {*middle.bundle.files, "main.yaml"}


def test_a_bundle_has_a_limit(tmp_path: Path) -> None:
    """It is stored with each run."""
    for number in range(5):
        (tmp_path / f"n{number}.yaml").write_text(NODES["typed.yaml"] + "#" * 900_000 + "\n")
    main = tmp_path / "main.yaml"
    main.write_text(
        workflow("\n".join(f"step_id: s{n}, step_type: effect, node: n{n}.yaml, input: {{n: 1}}" for n in range(5)))
    )

    with pytest.raises(ContractError, match="each run keeps them all"):
        load_contract(main)


def test_the_digest_is_that_of_the_texts() -> None:
    """The same texts in any order; another text, path or root is another digest."""
    texts = {"a": "1", "b": "2"}

    assert bundle_of("a", texts).digest == bundle_of("a", {"b": "2", "a": "1"}).digest
    assert (
        len({bundle_of("a", texts).digest, bundle_of("b", texts).digest, bundle_of("a", {"a": "2", "b": "1"}).digest})
        == 3
    )


def test_a_workflow_is_loaded_once_for_each_bundle() -> None:
    """As long as it is among the latest."""
    bundle = loaded(workflow("step_id: kept, step_type: effect, node: x")).bundle
    one = load_bundle(bundle)

    assert load_bundle(bundle) is one
    for number in range(70):
        load_bundle(loaded(workflow(f"step_id: s{number}, step_type: effect, node: x")).bundle)
    assert load_bundle(bundle) is not one


def test_a_bundle_that_was_changed_is_refused() -> None:
    """Its digest tells."""
    bundle = loaded(workflow("step_id: one, step_type: effect, node: x")).bundle
    changed = replace(bundle, files={"main.yaml": workflow("step_id: two, step_type: effect, node: x")})

    with pytest.raises(ModelOnexError, match="not those of its digest"):
        load_bundle(replace(changed, digest="0" * 64))
    with pytest.raises(ModelOnexError, match="not those of its digest"):
        load_bundle(replace(bundle, root="other.yaml", digest="1" * 64))


def test_a_bundle_that_is_not_valid_any_more_says_why() -> None:
    """All problems, as for a file."""
    with pytest.raises(ContractError, match="not valid any more") as raised:
        load_bundle(bundle_of("main.yaml", {"main.yaml": "orchestrator_subcontract: {}\n"}))
    assert {d.code for d in raised.value.diagnostics} == {"E-MISSING-FIELD"}
    with pytest.raises(ModelOnexError, match="a bundle holds a workflow, found compute_subcontract"):
        load_bundle(bundle_of("total.yaml", {"total.yaml": NODES["total.yaml"], "lines.json": NODES["lines.json"]}))


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Too large, no text, several documents."""
    (tmp_path / "large.yaml").write_bytes(b"#" * 2_000_000)
    (tmp_path / "latin.yaml").write_bytes(b"caf\xe9: 1\n")
    (tmp_path / "two.yaml").write_text(NODES["typed.yaml"] + "---\n" + NODES["typed.yaml"])
    names = ("large", "latin", "two")
    main = tmp_path / "main.yaml"
    main.write_text(workflow("\n".join(f"step_id: {name}, step_type: effect, node: {name}.yaml" for name in names)))

    with pytest.raises(ContractError) as raised:
        load_contract(main)

    messages = [d.message for d in raised.value.diagnostics]
    for message, words in zip(messages, ("has more than", "no UTF-8 at byte 3", "has 2 documents"), strict=True):
        assert words in message
