"""The root of an effect contract's file."""

from omnibase_core.models.contracts.contract_model import CONTRACT_KINDS, ContractFile
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract

__all__ = ["CONTRACT_KINDS", "ModelContractFile"]


class ModelContractFile(ContractFile):
    """A contract file: one node's contract, and optionally how the file as a whole is called.

    name: what tools call the file. description: for the reader. version: of the file, apart from the contract's own.
    effect_subcontract: the contract.
    """

    effect_subcontract: ModelEffectSubcontract
