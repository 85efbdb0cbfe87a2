"""An Apache Kafka of one node (KRaft, no ZooKeeper) on ephemeral loopback ports, from jars that Maven fetches once.

Two listeners: PLAINTEXT, whose user may do everything, and SASL/PLAIN with the user `reader`, who may do nothing.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VERSION = "4.1.1"
SASL_USER, SASL_PASSWORD = "reader", "reader-password"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>onex.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
  </dependency></dependencies>
</project>
"""

_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
log.dirs={logs}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
"""


class UnavailableError(Exception):
    """Why no Apache Kafka can be started here."""


@dataclass(frozen=True, slots=True)
class RealKafka:
    bootstrap: str
    sasl: str
    version: str


def _jars() -> Path:
    if shutil.which("java") is None or shutil.which("mvn") is None:
        raise UnavailableError("java or mvn is not installed")
    home = Path.home() / ".cache" / "onex-tests" / f"kafka-{VERSION}"
    if (home / "complete").exists():
        return home / "lib"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("wb") as lock:  # parallel workers fetch once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _fetch(home)
    return home / "lib"


def _fetch(home: Path) -> None:
    pom = home / "pom.xml"
    pom.write_text(_POM.format(version=VERSION))
    command = ["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    command.append(f"-DoutputDirectory={home / 'lib'}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError("mvn did not fetch the jars within 300 s") from None
    if done.returncode != 0:
        raise UnavailableError(f"mvn could not fetch the jars: {done.stdout[-500:]}")
    (home / "complete").touch()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(directory: Path) -> Iterator[RealKafka]:
    """Start one in `directory` (empty, ours) and stop it at the end. Raises UnavailableError where that fails."""
    jars = _jars()
    plain, sasl, controller = _free_ports(3)
    settings = directory / "server.properties"
    settings.write_text(
        _PROPERTIES.format(
            plain=plain,
            sasl=sasl,
            controller=controller,
            logs=directory / "logs",
            user=SASL_USER,
            password=SASL_PASSWORD,
        )
    )
    java = ["java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    java += ["-cp", f"{jars}/*"]
    cluster_id = "onexOnexOnexOnexOnex0Q"
    formatting = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(settings)]
    formatted = subprocess.run(formatting, capture_output=True, text=True, timeout=60, check=False)
    if formatted.returncode != 0:
        raise UnavailableError(f"formatting failed: {formatted.stderr[-500:] or formatted.stdout[-500:]}")
    log = directory / "kafka.log"
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*java, "kafka.Kafka", str(settings)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + 60
        while not _answers(plain):
            if process.poll() is not None or time.monotonic() > limit:
                raise UnavailableError(f"it did not start: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.1)
        yield RealKafka(f"127.0.0.1:{plain}", f"127.0.0.1:{sasl}", VERSION)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
