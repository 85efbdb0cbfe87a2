"""An effect contract that carries its own input: what a service base's `execute_effect` also takes (overview, ruling
7).
"""

from typing import Self
from uuid import UUID, uuid4

from pydantic import ConfigDict, Field, model_validator

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictText


class ModelExternalServiceConfig(FrozenModel):
    """Whom to talk to. `connection_name` is a named connection; an HTTP URL or a file path needs none."""

    service_name: StrictText
    connection_name: StrictText | None = None


class ModelIOOperationConfig(FrozenModel):
    """What to do.

    operation_type and its parameters: a kind of SQL statement (select, insert, update, delete, upsert, raw) with
    `{query, parameters}`; an HTTP method with `{url, headers, query, body}`; `produce` with `{topic, payload, key,
    headers}`; read, write, delete, move or copy with `{path, content, destination}`. Parameters are values, never
    templates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    operation_type: StrictText
    parameters: dict[StrictText, object] = {}


class ModelContractEffect(FrozenModel):
    """One operation on an external service, or a subcontract with its input."""

    correlation_id: UUID = Field(default_factory=uuid4)
    external_service_config: ModelExternalServiceConfig | None = None
    io_operation_config: ModelIOOperationConfig | None = None
    retry_config: ModelEffectRetryPolicy | None = None
    subcontract: ModelEffectSubcontract | None = None
    input_data: dict[StrictText, object] = {}

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        by_service = self.external_service_config is not None and self.io_operation_config is not None
        if by_service == (self.subcontract is not None):
            raise ModelOnexError(
                "a ModelContractEffect has either external_service_config and io_operation_config, or a subcontract "
                "with input_data",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        return self
