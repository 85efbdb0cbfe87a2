"""The kinds of contracts, by the key under which a file holds one: which model judges the file, and what is compiled.

A kind that is built is one row of `_ROWS`; its modules are imported when the first contract of it is read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, cast

from omnibase_core.models.contracts.contract_model import ContractFile, ContractModel
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.utils.contract_findings import Findings
from omnibase_core.utils.contract_hash import contract_hash

Compile = Callable[[ContractModel, Findings], object]
JudgeParts = Callable[[ContractModel, Findings], None]


@dataclass(frozen=True, slots=True)
class ContractKind:
    """A kind of contract that is built.

    key: in the file's root. file: the model of a whole file. compile_plan: makes the plan of a well-formed contract
    whose rules have been judged. judge_parts: finds in a contract with holes what compiling would find. Both add to the
    findings what is wrong.
    """

    key: str
    file: type[ContractFile]
    compile_plan: Compile
    judge_parts: JudgeParts

    @property
    def name(self) -> str:
        return self.key.removesuffix("_subcontract")


@cache
def contract_kind(key: str) -> ContractKind | None:
    """The kind of a root key, or None when it is not built."""
    row = _ROWS.get(key)
    return None if row is None else row()


def _effect() -> ContractKind:
    from omnibase_core.models.contracts.model_contract_file import ModelContractFile
    from omnibase_core.utils.effect_plan import EffectPlan, compile_plan, judge_plan

    key = "effect_subcontract"

    def compiled(contract: ContractModel, findings: Findings) -> EffectPlan:
        effect = cast("ModelEffectSubcontract", contract)  # the model of this key
        plan = compile_plan(effect, findings.reporter((key,)))
        if not findings.has_errors:
            _settle_hash(effect, key, findings)
        return plan

    def judge_parts(contract: ContractModel, findings: Findings) -> None:
        if "operations" in contract.__dict__:
            judge_plan(cast("ModelEffectSubcontract", contract), findings.reporter((key,)))  # the model of this key

    return ContractKind(key, ModelContractFile, compiled, judge_parts)


def _compute() -> ContractKind:
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import (
        ModelComputeContractFile,
        ModelComputeSubcontract,
    )
    from omnibase_core.utils.compute_plan import ComputePlan, compile_compute

    key = "compute_subcontract"

    def compiled(contract: ContractModel, findings: Findings) -> ComputePlan:
        compute = cast("ModelComputeSubcontract", contract)  # the model of this key
        return compile_compute(compute, findings.files, findings.reporter((key,)))

    def judge_parts(contract: ContractModel, findings: Findings) -> None:
        compiled(contract, findings)

    return ContractKind(key, ModelComputeContractFile, compiled, judge_parts)


def _reducer() -> ContractKind:
    from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import (
        ModelReducerContractFile,
        ModelReducerSubcontract,
    )
    from omnibase_core.utils.fsm_plan import FsmPlan, compile_machine, judge_machine

    key = "reducer_subcontract"

    def compiled(contract: ContractModel, findings: Findings) -> FsmPlan:
        reducer = cast("ModelReducerSubcontract", contract)  # the model of this key
        return compile_machine(reducer.state_machine, findings.reporter((key, "state_machine")))

    def judge_parts(contract: ContractModel, findings: Findings) -> None:
        machine = cast("ModelReducerSubcontract", contract).__dict__.get("state_machine")  # the model of this key
        if machine is not None:
            judge_machine(machine, findings.reporter((key, "state_machine")))

    return ContractKind(key, ModelReducerContractFile, compiled, judge_parts)


def _orchestrator() -> ContractKind:
    from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import (
        ModelOrchestratorContractFile,
        ModelOrchestratorSubcontract,
    )
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow, judge_parts_of_workflow, load_workflow

    key = "orchestrator_subcontract"

    def compiled(contract: ContractModel, findings: Findings) -> LoadedWorkflow:
        return load_workflow(cast("ModelOrchestratorSubcontract", contract), findings, key)  # the model of this key

    def judge_parts(contract: ContractModel, findings: Findings) -> None:
        judge_parts_of_workflow(cast("ModelOrchestratorSubcontract", contract), findings, key)  # the model of this key

    return ContractKind(key, ModelOrchestratorContractFile, compiled, judge_parts)


_ROWS: Final[dict[str, Callable[[], ContractKind]]] = {
    "effect_subcontract": _effect,
    "compute_subcontract": _compute,
    "reducer_subcontract": _reducer,
    "orchestrator_subcontract": _orchestrator,
}
BUILT_KINDS: Final = tuple(_ROWS)


def _settle_hash(contract: ModelEffectSubcontract, key: str, findings: Findings) -> None:
    """Compare the given hash, or have it computed when it is first read."""
    metadata = contract.metadata
    if metadata.contract_hash is None:
        contract.__dict__["metadata"] = metadata.with_hash(partial(contract_hash, contract))
        return
    computed = contract_hash(contract)
    if metadata.contract_hash != computed:
        findings.add(
            "W-HASH",
            "contract_hash is not that of this contract: it was changed since the hash was taken",
            (key, "metadata", "contract_hash"),
            found=repr(metadata.contract_hash),
            allowed=computed,
            fix="write the new hash, or leave it out: it is computed at load",
            severity="warning",
        )
