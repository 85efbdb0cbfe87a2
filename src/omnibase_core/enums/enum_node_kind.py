"""The four kinds of nodes."""

from enum import StrEnum


class EnumNodeKind(StrEnum):
    """What a node is for (overview, section 1); data flows from the first to the last."""

    EFFECT = "EFFECT"
    COMPUTE = "COMPUTE"
    REDUCER = "REDUCER"
    ORCHESTRATOR = "ORCHESTRATOR"
