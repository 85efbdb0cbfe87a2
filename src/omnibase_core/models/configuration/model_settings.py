"""Settings: named connections, and the policy that belongs to the operator and that a contract can never widen."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from omnibase_core.models.primitives.strict_types import FrozenModel, Scalar


class ModelConnection(FrozenModel):
    """A named connection.

    url: `postgresql://user:password@host:5432/db`, `mysql://...`, `sqlite:///relative/or//absolute/path.db`, or
        `kafka://host:9092,host2:9092`. Secret as a whole, because it may hold a password.
    options: settings of the driver, such as `pool_size` (default 10, 1..1000), `prepare_threshold`, or any option of
        librdkafka; an option that the driver does not know is CONFIGURATION_ERROR.
    """

    url: SecretStr
    options: dict[str, Scalar] = {}


class ModelPolicy(FrozenModel):
    """What contracts may reach. None means no restriction, which only the library and the command line use, except for
    `file_roots`.

    file_roots: directories below which files may be touched; None: the current directory of the process.
    allowed_hosts: `host`, `*.suffix`, either with `:port`; applied to every request and every redirect.
    private_hosts: hosts or networks (CIDR) that data or a redirect may name although their addresses are private,
        loopback, link-local or metadata addresses; `host:port` narrows to a port.
    env_names, secret_names: names that `${env.X}` and `${secret.X}` may read.
    tls_exceptions: hosts for which a contract's `verify_ssl: false` is heeded; elsewhere it is SECURITY_VIOLATION.
    max_response_bytes, max_file_bytes: upper bounds of what one operation may hold in memory.
    """

    file_roots: tuple[Path, ...] | None = None
    allowed_hosts: tuple[str, ...] | None = None
    private_hosts: tuple[str, ...] = ()
    env_names: tuple[str, ...] | None = None
    secret_names: tuple[str, ...] | None = None
    tls_exceptions: tuple[str, ...] = ()
    max_response_bytes: Annotated[int, Field(strict=True, ge=1024, le=1 << 30)] = 64 * 1024 * 1024
    max_file_bytes: Annotated[int, Field(strict=True, ge=1024, le=1 << 32)] = 256 * 1024 * 1024


class ModelRetryBudget(FrozenModel):
    """Token bucket that all retries against one target share, so that retries cannot become the storm (section 2.5).

    capacity: tokens at the start and at most. retry_cost: tokens that a retry costs. timeout_retry_cost: the same after
    an attempt that timed out. success_gain: tokens that a success gives back.
    """

    capacity: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 500
    retry_cost: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 5
    timeout_retry_cost: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 10
    success_gain: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 1


class ModelSettings(FrozenModel):
    """Everything that an installation decides.

    connections: by name; names are lower case in variables. policy: what contracts may reach. retry_budget: of every
    target. data_dir: where ONEX keeps what is its own, among it the SQLite file of the connections `default` and
    `embedded`. secrets_dir: one file per secret, the way Docker and Kubernetes mount them.
    secrets: values given by the host program; asked before the files, which are asked before the environment.
    state_connection: the database connection (SQLite or PostgreSQL) in which states are kept; None: in memory.
    compute_cluster: `module:function` that makes the executor (`concurrent.futures.Executor`) of the backend `cluster`.
    database_url: where runs of workflows are kept, `sqlite:///file.db` or `postgresql://...`; None: `workflows.db` in
        data_dir, for the commands that keep runs.
    engine: what carries workflows out, `memory` or `dbos`; None: dbos where runs are kept, else memory.
    worker_lease_ms: after so long without a sign of life others take the runs of a worker over.
    workflow_retention_days: workers delete runs that ended longer ago, looking once an hour; None: none is deleted.
    """

    connections: dict[str, ModelConnection] = {}
    policy: ModelPolicy = ModelPolicy()
    retry_budget: ModelRetryBudget = ModelRetryBudget()
    data_dir: Path = Path(".onex")
    secrets_dir: Path = Path("/run/secrets")
    secrets: dict[str, SecretStr] = {}
    state_connection: str | None = None
    compute_cluster: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    database_url: SecretStr | None = None
    engine: Literal["memory", "dbos"] | None = None
    worker_lease_ms: Annotated[int, Field(strict=True, ge=300, le=3_600_000)] = 15_000
    workflow_retention_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] | None = None
