"""The one place where exceptions of drivers become faults.

A row is found by the qualified name of the exception's class or of the nearest class that it derives from, so that the
table needs no driver to be installed. A test walks the exception trees of the installed drivers and asks for a row of
their own subject for every class. Where one class stands for many faults (an error number, an SQLSTATE), the number
is looked up in the driver's second table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase


@dataclass(frozen=True, slots=True)
class FaultRow:
    """What a driver's exception means: the fault's kind, how far the attempt came, and whether it always may be
    repeated.
    """

    error_kind: str
    phase: EnumFaultPhase
    transient: bool = False
    error_code: EnumCoreErrorCode = EnumCoreErrorCode.OPERATION_FAILED


def find_row(rows: Mapping[str, FaultRow], error: BaseException) -> FaultRow | None:
    """The row of the error's class, else of the nearest base class that has one."""
    for cls in type(error).__mro__:
        row = rows.get(f"{cls.__module__}.{cls.__qualname__}")
        if row is not None:
            return row
    return None


# Kafka (confluent-kafka). Every failure is a `KafkaException` around a `KafkaError`, or a `KafkaError` in a delivery
# report; the code's name decides. Names with a leading underscore are the client's own, the others a broker's answer.
# A broker's refusal proves that nothing was stored only if the client had not tried before: the adapter switches the
# client's own retries off unless the producer is idempotent, for which a broker drops the double.


def _kafka_rows() -> dict[str, FaultRow]:
    not_sent, rejected, ambiguous = EnumFaultPhase.NOT_SENT, EnumFaultPhase.REJECTED, EnumFaultPhase.AMBIGUOUS
    unavailable, missing = EnumCoreErrorCode.RESOURCE_UNAVAILABLE, EnumCoreErrorCode.NOT_FOUND
    timeout, refused = EnumCoreErrorCode.TIMEOUT, EnumCoreErrorCode.SECURITY_VIOLATION
    groups = [
        (FaultRow("ECONNREFUSED", not_sent), "_ALL_BROKERS_DOWN _RESOLVE"),
        # The client does not say whether a message that timed out had been written to a socket.
        (
            FaultRow("ETIMEDOUT", ambiguous, error_code=timeout),
            "_MSG_TIMED_OUT _TIMED_OUT _TIMED_OUT_QUEUE REQUEST_TIMED_OUT",
        ),
        (FaultRow("ECONNRESET", ambiguous), "_TRANSPORT _DESTROY _DESTROY_BROKER _PURGE_INFLIGHT NETWORK_EXCEPTION"),
        (FaultRow("PRODUCER_CLOSED", not_sent, transient=True), "_PURGE_QUEUE"),
        (FaultRow("QUEUE_FULL", not_sent, transient=True, error_code=unavailable), "_QUEUE_FULL"),
        (
            FaultRow("AUTHENTICATION", not_sent, error_code=unavailable),
            "_AUTHENTICATION _SSL SASL_AUTHENTICATION_FAILED UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE",
        ),
        (
            FaultRow("AUTHORIZATION", rejected, error_code=refused),
            """
            TOPIC_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED
            TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            """,
        ),
        (
            FaultRow("UNKNOWN_TOPIC", rejected, error_code=missing),
            "UNKNOWN_TOPIC_OR_PART UNKNOWN_TOPIC_ID _UNKNOWN_TOPIC _UNKNOWN_PARTITION TOPIC_EXCEPTION",
        ),
        (FaultRow("MESSAGE_TOO_LARGE", rejected), "MSG_SIZE_TOO_LARGE RECORD_LIST_TOO_LARGE INVALID_MSG_SIZE"),
        (
            FaultRow("INVALID_MESSAGE", rejected),
            """
            INVALID_RECORD UNSUPPORTED_FOR_MESSAGE_FORMAT UNSUPPORTED_COMPRESSION_TYPE INVALID_TIMESTAMP
            INVALID_REQUIRED_ACKS POLICY_VIOLATION UNSUPPORTED_VERSION _UNSUPPORTED_FEATURE _BAD_COMPRESSION
            _INVALID_ARG _INVALID_TYPE _NOT_IMPLEMENTED _NOT_CONFIGURED _KEY_SERIALIZATION _VALUE_SERIALIZATION
            """,
        ),
        (
            FaultRow("BROKER_BUSY", rejected, transient=True),
            """
            LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION NOT_ENOUGH_REPLICAS BROKER_NOT_AVAILABLE
            REPLICA_NOT_AVAILABLE THROTTLING_QUOTA_EXCEEDED FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH INVALID_MSG
            """,
        ),
        (FaultRow("BROKER_ERROR", ambiguous), "NOT_ENOUGH_REPLICAS_AFTER_APPEND KAFKA_STORAGE_ERROR UNKNOWN"),
        (
            FaultRow("PRODUCER_FATAL", ambiguous),
            """
            OUT_OF_ORDER_SEQUENCE_NUMBER DUPLICATE_SEQUENCE_NUMBER UNKNOWN_PRODUCER_ID INVALID_PRODUCER_EPOCH
            INVALID_PRODUCER_ID_MAPPING PRODUCER_FENCED _FATAL _FENCED _GAPLESS_GUARANTEE _INCONSISTENT
            """,
        ),
        # What a producer does not meet: consuming, administration, transactions, the client's inner signals. Listed so
        # that a code added by a newer client is noticed by the test rather than by a user.
        (
            FaultRow("KAFKA_CLIENT", ambiguous),
            """
            _APPLICATION _ASSIGNMENT_LOST _ASSIGN_PARTITIONS _AUTO_OFFSET_RESET _BAD_MSG _CONFLICT _CRIT_SYS_RESOURCE
            _EXISTING_SUBSCRIPTION _FAIL _FS _INTR _INVALID_DIFFERENT_RECORD _IN_PROGRESS _ISR_INSUFF
            _KEY_DESERIALIZATION _LOG_TRUNCATION _MAX_POLL_EXCEEDED _NODE_UPDATE _NOENT _NOOP _NO_OFFSET _OUTDATED
            _PARTIAL _PARTITION_EOF _PREV_IN_PROGRESS _READ_ONLY _RETRY _REVOKE_PARTITIONS _STATE _UNDERFLOW
            _UNKNOWN_BROKER _UNKNOWN_GROUP _UNKNOWN_PROTOCOL _VALUE_DESERIALIZATION _WAIT_CACHE _WAIT_COORD
            """,
        ),
        (
            FaultRow("KAFKA_BROKER", ambiguous),
            """
            CONCURRENT_TRANSACTIONS COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
            DELEGATION_TOKEN_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTH_DISABLED DELEGATION_TOKEN_EXPIRED
            DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
            DUPLICATE_RESOURCE DUPLICATE_VOTER ELECTION_NOT_NEEDED ELIGIBLE_LEADERS_NOT_AVAILABLE FEATURE_UPDATE_FAILED
            FENCED_INSTANCE_ID FENCED_MEMBER_EPOCH FENCED_STATE_EPOCH FETCH_SESSION_ID_NOT_FOUND GROUP_ID_NOT_FOUND
            GROUP_MAX_SIZE_REACHED GROUP_SUBSCRIBED_TO_TOPIC ILLEGAL_GENERATION INCONSISTENT_GROUP_PROTOCOL
            INCONSISTENT_TOPIC_ID INCONSISTENT_VOTER_SET INVALID_COMMIT_OFFSET_SIZE INVALID_CONFIG
            INVALID_FETCH_SESSION_EPOCH INVALID_GROUP_ID INVALID_PARTITIONS INVALID_PRINCIPAL_TYPE INVALID_RECORD_STATE
            INVALID_REGISTRATION INVALID_REGULAR_EXPRESSION INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT
            INVALID_REQUEST INVALID_SESSION_TIMEOUT INVALID_SHARE_SESSION_EPOCH INVALID_TRANSACTION_TIMEOUT
            INVALID_TXN_STATE INVALID_UPDATE_VERSION INVALID_VOTER_KEY LISTENER_NOT_FOUND LOG_DIR_NOT_FOUND
            MEMBER_ID_REQUIRED MISMATCHED_ENDPOINT_TYPE NON_EMPTY_GROUP NOT_CONTROLLER NOT_COORDINATOR NO_ERROR
            NO_REASSIGNMENT_IN_PROGRESS OFFSET_METADATA_TOO_LARGE OFFSET_NOT_AVAILABLE OFFSET_OUT_OF_RANGE
            OPERATION_NOT_ATTEMPTED PREFERRED_LEADER_NOT_AVAILABLE PRINCIPAL_DESERIALIZATION_FAILURE
            REASSIGNMENT_IN_PROGRESS REBALANCE_IN_PROGRESS REBOOTSTRAP_REQUIRED RESOURCE_NOT_FOUND SECURITY_DISABLED
            SHARE_SESSION_LIMIT_REACHED SHARE_SESSION_NOT_FOUND STALE_BROKER_EPOCH STALE_CTRL_EPOCH STALE_MEMBER_EPOCH
            STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH STREAMS_TOPOLOGY_FENCED TELEMETRY_TOO_LARGE
            TOPIC_ALREADY_EXISTS TOPIC_DELETION_DISABLED TRANSACTION_ABORTABLE TRANSACTION_COORDINATOR_FENCED
            UNACCEPTABLE_CREDENTIAL UNKNOWN_CONTROLLER_ID UNKNOWN_MEMBER_ID UNKNOWN_SUBSCRIPTION_ID
            UNRELEASED_INSTANCE_ID UNSTABLE_OFFSET_COMMIT UNSUPPORTED_ASSIGNOR UNSUPPORTED_ENDPOINT_TYPE VOTER_NOT_FOUND
            """,
        ),
    ]
    return {name: row for row, names in groups for name in names.split()}


KAFKA_ROWS = {"cimpl.KafkaException": FaultRow("KAFKA_CLIENT", EnumFaultPhase.AMBIGUOUS)}
KAFKA_CODES = _kafka_rows()


# A request that found a pooled connection closed counts as sent: the client cannot know how far the server read.
HTTP_ROWS = {
    f"aiohttp.{name}": row
    for row, names in (
        (FaultRow("ECONNREFUSED", EnumFaultPhase.NOT_SENT), "client_exceptions.ClientConnectorError"),
        (
            FaultRow("ETIMEDOUT", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.TIMEOUT),
            "client_exceptions.ConnectionTimeoutError",
        ),
        (
            FaultRow("ETIMEDOUT", EnumFaultPhase.AMBIGUOUS, error_code=EnumCoreErrorCode.TIMEOUT),
            "client_exceptions.ServerTimeoutError",
        ),
        (
            FaultRow("ECONNRESET", EnumFaultPhase.AMBIGUOUS),
            "client_exceptions.ClientError http_exceptions.HttpProcessingError",
        ),
        (
            FaultRow("TLS_CERTIFICATE", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.SECURITY_VIOLATION),
            "client_exceptions.ClientConnectorCertificateError client_exceptions.ServerFingerprintMismatch",
        ),
        (
            FaultRow("INVALID_URL", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.VALIDATION_ERROR),
            "client_exceptions.InvalidURL client_exceptions.NonHttpUrlClientError",
        ),
    )
    for name in names.split()
}


# sqlite3 finds its class by the result code; what matters is looked up by the code's name, most telling part first.
_SQLITE_BUSY = FaultRow("SQLITE_BUSY", EnumFaultPhase.REJECTED, transient=True)
_CONSTRAINT = FaultRow("CONSTRAINT", EnumFaultPhase.REJECTED)
_UNIQUE = FaultRow("UNIQUE_VIOLATION", EnumFaultPhase.REJECTED, error_code=EnumCoreErrorCode.CONFLICT)
_READ_ONLY = FaultRow("READ_ONLY", EnumFaultPhase.REJECTED)
_NO_SPACE = FaultRow("NO_SPACE", EnumFaultPhase.REJECTED)
_BAD_SQL = FaultRow("SQL_ERROR", EnumFaultPhase.REJECTED)
_BAD_DATA = FaultRow("DATA_ERROR", EnumFaultPhase.REJECTED)
_NOT_BOUND = FaultRow("INVALID_VALUE", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.VALIDATION_ERROR)
_CANCELED = FaultRow("ETIMEDOUT", EnumFaultPhase.REJECTED, error_code=EnumCoreErrorCode.TIMEOUT)
_SETTINGS = FaultRow("DB_SETTINGS", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.CONFIGURATION_ERROR)
_LOST = FaultRow("ECONNRESET", EnumFaultPhase.AMBIGUOUS)

SQLITE_ROWS = {
    "sqlite3.Warning": _BAD_SQL,
    "sqlite3.Error": FaultRow("SQLITE_ERROR", EnumFaultPhase.AMBIGUOUS),
    "sqlite3.InterfaceError": _BAD_DATA,
    "sqlite3.DatabaseError": FaultRow("SQLITE_ERROR", EnumFaultPhase.AMBIGUOUS),
    "sqlite3.DataError": _BAD_DATA,
    "sqlite3.OperationalError": _BAD_SQL,
    "sqlite3.IntegrityError": _CONSTRAINT,
    "sqlite3.InternalError": FaultRow("SQLITE_ERROR", EnumFaultPhase.AMBIGUOUS),
    "sqlite3.ProgrammingError": _BAD_SQL,
    "sqlite3.NotSupportedError": _BAD_SQL,
    "builtins.OverflowError": _NOT_BOUND,
    "builtins.UnicodeError": _NOT_BOUND,
}
SQLITE_CODES = {
    "SQLITE_BUSY": _SQLITE_BUSY,
    "SQLITE_LOCKED": _SQLITE_BUSY,
    "SQLITE_CONSTRAINT": _CONSTRAINT,
    "SQLITE_CONSTRAINT_UNIQUE": _UNIQUE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": _UNIQUE,
    "SQLITE_CONSTRAINT_ROWID": _UNIQUE,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_FULL": _NO_SPACE,
    "SQLITE_INTERRUPT": _CANCELED,
    "SQLITE_TOOBIG": _BAD_DATA,
    "SQLITE_MISMATCH": _BAD_DATA,
    "SQLITE_ERROR": _BAD_SQL,
    "SQLITE_AUTH": _BAD_SQL,
    "SQLITE_SCHEMA": _BAD_SQL,
    "SQLITE_RANGE": _BAD_SQL,
    "SQLITE_CANTOPEN": _SETTINGS,
    "SQLITE_NOTADB": _SETTINGS,
    "SQLITE_PERM": _SETTINGS,
    # a write that failed midway: SQLite rolls back, but a failing disk is not to be trusted with the proof
    "SQLITE_IOERR": FaultRow("SQLITE_IOERR", EnumFaultPhase.AMBIGUOUS),
    "SQLITE_CORRUPT": FaultRow("SQLITE_CORRUPT", EnumFaultPhase.AMBIGUOUS),
    "SQLITE_NOMEM": FaultRow("SQLITE_NOMEM", EnumFaultPhase.AMBIGUOUS),
}

# An error that the server reports with its own SQLSTATE was undone by it, unless it also ends the session. A class of
# psycopg without SQLSTATE was raised by the client.
POSTGRES_ROWS = {
    "psycopg.Warning": _BAD_SQL,
    "psycopg.Error": _LOST,
    "psycopg.InterfaceError": _LOST,
    "psycopg.DatabaseError": _LOST,
    "psycopg.OperationalError": _LOST,
    "psycopg.InternalError": _LOST,
    "psycopg.DataError": _NOT_BOUND,
    "psycopg.IntegrityError": _CONSTRAINT,
    "psycopg.ProgrammingError": _BAD_SQL,
    "psycopg.NotSupportedError": _BAD_SQL,
    "psycopg.errors.ConnectionTimeout": FaultRow(
        "ETIMEDOUT", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.TIMEOUT
    ),
    "psycopg.errors.CancellationTimeout": FaultRow("ETIMEDOUT", EnumFaultPhase.AMBIGUOUS),
    "builtins.UnicodeError": _NOT_BOUND,
    "builtins.OSError": _LOST,
}
POSTGRES_CONNECT = FaultRow("ECONNREFUSED", EnumFaultPhase.NOT_SENT)
POSTGRES_REPORTED = FaultRow("SQL_ERROR", EnumFaultPhase.REJECTED)
POSTGRES_STATES = {
    "08": _LOST,
    "22": _BAD_DATA,
    "23": _CONSTRAINT,
    "23505": _UNIQUE,
    "23P01": _UNIQUE,
    "25006": _READ_ONLY,
    "25P03": _LOST,
    "25P04": _LOST,
    "28": _SETTINGS,
    "3D000": _SETTINGS,
    "40001": FaultRow("SERIALIZATION_FAILURE", EnumFaultPhase.REJECTED, transient=True),
    "40P01": FaultRow("DEADLOCK", EnumFaultPhase.REJECTED, transient=True),
    "40003": _LOST,
    "53": _NO_SPACE,
    "53300": FaultRow("TOO_MANY_CONNECTIONS", EnumFaultPhase.NOT_SENT, transient=True),
    "55P03": FaultRow("LOCK_TIMEOUT", EnumFaultPhase.REJECTED, transient=True),
    "57014": _CANCELED,
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": FaultRow("CANNOT_CONNECT_NOW", EnumFaultPhase.NOT_SENT, transient=True),
    "57P04": _LOST,
    "57P05": _LOST,
}

# asyncmy picks its class by the error number, so that this decides first: below 1000 and 2000..2999 are its own.
MYSQL_ROWS = {
    "asyncmy.errors.MySQLError": _LOST,
    "asyncmy.errors.Warning": _BAD_SQL,
    "asyncmy.errors.Error": _LOST,
    "asyncmy.errors.InterfaceError": FaultRow("ECONNRESET", EnumFaultPhase.NOT_SENT),
    "asyncmy.errors.DatabaseError": _LOST,
    "asyncmy.errors.DataError": _BAD_DATA,
    "asyncmy.errors.OperationalError": _LOST,
    "asyncmy.errors.IntegrityError": _CONSTRAINT,
    "asyncmy.errors.InternalError": _LOST,
    "asyncmy.errors.ProgrammingError": _BAD_SQL,
    "asyncmy.errors.NotSupportedError": _BAD_SQL,
    "builtins.UnicodeError": _NOT_BOUND,
    "builtins.OSError": _LOST,
}
MYSQL_CONNECT = FaultRow("ECONNREFUSED", EnumFaultPhase.NOT_SENT)
MYSQL_REPORTED = FaultRow("SQL_ERROR", EnumFaultPhase.REJECTED)


def _mysql_rows() -> dict[int, FaultRow]:
    rejected, not_sent = EnumFaultPhase.REJECTED, EnumFaultPhase.NOT_SENT
    groups = (
        (_UNIQUE, (1022, 1062, 1169, 1557, 1586, 1859)),
        (_CONSTRAINT, (1048, 1215, 1216, 1217, 1364, 1451, 1452, 3819, 4025)),
        (_BAD_DATA, (1264, 1265, 1292, 1365, 1366, 1406, 1411, 1441, 1690)),
        (FaultRow("DEADLOCK", rejected, transient=True), (1213, 1020)),
        (FaultRow("LOCK_TIMEOUT", rejected, transient=True), (1205, 3572)),
        (_READ_ONLY, (1290, 1792, 1836)),
        (_NO_SPACE, (1021, 1041, 1114)),
        (_CANCELED, (1317, 1969, 3024)),
        (_SETTINGS, (1044, 1045, 1049, 1129, 1130, 1251, 1275, 1524, 1698, 1862, 2059)),
        (FaultRow("TOO_MANY_CONNECTIONS", not_sent, transient=True), (1040, 1203, 1226)),
        (FaultRow("ECONNREFUSED", not_sent), (2002, 2003, 2005)),
        (FaultRow("ECONNRESET", not_sent), (2006,)),
        (_LOST, (1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2013, 2014, 2055)),
    )
    return {number: row for row, numbers in groups for number in numbers}


MYSQL_NUMBERS = _mysql_rows()
