"""What the broker is told: its ``server.properties`` and its logging, written once per home."""

from __future__ import annotations

from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.ports import free_ports

PROPERTIES = "server.properties"
LOGGING = "log4j2.properties"

# One node, so every internal topic has one replica. Few internal partitions and a small cleaner buffer make the start
# fast and the heap small; short group and transaction times let tests see a dead member within seconds; the short
# broker session lets the node come back at once after a crash (its former registration has to expire first).
_TEMPLATE = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=2097152
log.cleaner.threads=1
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
controlled.shutdown.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""

_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""


def write_config(home: Path) -> None:
    """Write ``server.properties`` with two free ports, and the logging, unless ``home`` has them already.

    Ports chosen once stay, so a restarted broker is found where it was.
    """
    home.mkdir(parents=True, exist_ok=True)
    if (home / PROPERTIES).exists():
        return
    port, controller_port = free_ports(2)
    (home / LOGGING).write_text(_LOGGING, encoding="utf-8")
    text = _TEMPLATE.format(port=port, controller_port=controller_port, data=(home / "data").resolve().as_posix())
    (home / PROPERTIES).write_text(text, encoding="utf-8")


def client_port(home: Path) -> int:
    """The port clients connect to. Raises KafkaServerError when ``home`` was never set up or is damaged."""
    path = home / PROPERTIES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KafkaServerError(f"{path}: cannot be read ({error.strerror}); start the broker once") from error
    for line in lines:
        if line.startswith("listeners=PLAINTEXT://"):
            return int(line.split(",")[0].rsplit(":", 1)[1])
    raise KafkaServerError(f"{path}: has no line listeners=PLAINTEXT://…; restore it, or take another --home")
