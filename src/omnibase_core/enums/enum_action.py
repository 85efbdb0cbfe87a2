"""What an orchestrator may ask for, of whom, and what became of it."""

from enum import StrEnum


class EnumActionType(StrEnum):
    """What an action is for."""

    START_WORKFLOW = "start_workflow"
    DELEGATE_TASK = "delegate_task"
    UPDATE_STATE = "update_state"
    ABORT_WORKFLOW = "abort_workflow"
    CHECKPOINT_STATE = "checkpoint_state"
    ROLLBACK_STATE = "rollback_state"


class EnumActionStatus(StrEnum):
    """How far an action came, as it was when the action was written down."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EnumActionTarget(StrEnum):
    """The kind of node that an action is sent to."""

    EFFECT = "effect"
    COMPUTE = "compute"
    REDUCER = "reducer"
    ORCHESTRATOR = "orchestrator"


class EnumLeaseEvent(StrEnum):
    """What the audit of leases and actions writes down.

    Of a lease: ACQUIRED (not each renewal), RELEASED by its holder, FORCED by a person. Of an action: COMMITTED, it
    changed the state; STARTED, then COMPLETED or FAILED, it was sent out; REFUSED, lease, token, epoch or time did not
    hold.
    """

    ACQUIRED = "acquired"
    RELEASED = "released"
    FORCED = "forced"
    COMMITTED = "committed"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"
