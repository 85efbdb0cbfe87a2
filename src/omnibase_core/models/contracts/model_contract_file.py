"""The root of a contract file."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.primitives.strict_types import StrictText

CONTRACT_KINDS: Final = ("effect_subcontract", "compute_subcontract", "reducer_subcontract", "orchestrator_subcontract")
"""Keys of which a file has exactly one."""


class ModelContractFile(ContractModel):
    """A contract file: one node's contract, and optionally how the file as a whole is called.

    name: what tools call the file. description: for the reader. version: of the file, apart from the contract's own.
    effect_subcontract: the contract.
    """

    name: Annotated[StrictText, Field(min_length=1, max_length=100)] | None = None
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    version: Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] | None = None
    effect_subcontract: ModelEffectSubcontract

    not_built: ClassVar = CONTRACT_KINDS[1:]
