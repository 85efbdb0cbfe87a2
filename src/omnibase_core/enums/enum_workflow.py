"""Closed vocabularies of workflows."""

from enum import StrEnum


class EnumWorkflowCoordination(StrEnum):
    """How the steps of a workflow follow each other (section 5.1)."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    PIPELINE = "pipeline"
    EVENT_DRIVEN = "event_driven"


class EnumDurability(StrEnum):
    """How often the outcomes of pure steps are recorded: each, those of one depth together, or never on the way.

    Effects, waits and child workflows are always recorded. What was not recorded is computed again after a crash.
    """

    STEP = "step"
    LEVEL = "level"
    RUN = "run"


class EnumWorkflowStepType(StrEnum):
    """What a step is."""

    EFFECT = "effect"
    COMPUTE = "compute"
    REDUCER = "reducer"
    ORCHESTRATOR = "orchestrator"
    WAIT = "wait"
    APPROVAL = "approval"


class EnumOnFailure(StrEnum):
    """What follows when a step has failed for good."""

    ABORT = "abort"
    SKIP = "skip"
    RETRY = "retry"
    COMPENSATE = "compensate"


class EnumStepStatus(StrEnum):
    """What became of a step. `UNKNOWN`: its effect may have happened or not. `COMPENSATED`: completed, then undone."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class EnumRunStatus(StrEnum):
    """Where a run of a workflow stands."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows by itself."""
        return self in {EnumRunStatus.COMPLETED, EnumRunStatus.FAILED, EnumRunStatus.CANCELLED}


class EnumDependencyType(StrEnum):
    """Whether a workflow can do without a service."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class EnumWaitTimeout(StrEnum):
    """What the end of a wait's time means."""

    FAIL = "fail"
    CONTINUE = "continue"


class EnumApprovalTimeout(StrEnum):
    """What it means that nobody has answered in time."""

    REJECT = "reject"
    APPROVE = "approve"
    FAIL = "fail"
