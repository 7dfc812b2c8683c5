"""Writes a broker's ``server.properties``, its logging settings and its cluster's identity, once per home."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.files import write_files
from infra.deploy.kafka.security import Security
from infra.deploy.ports import free_ports

PROPERTIES = "server.properties"
LOGGING = "log4j2.properties"
_IDENTITY = "cluster.id"
_CONTROLLER = "CONTROLLER"
_PLAIN = "PLAINTEXT"

# Few internal partitions and a small cleaner buffer make the start fast and the heap small; short group and transaction
# times let tests see a dead member within seconds. Offsets of a stopped group are kept as long as any topic of
# topics.yaml keeps its records.
_COMMON = """\
process.roles=broker,controller
node.id={number}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
offsets.retention.minutes=43200
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=2097152
log.cleaner.threads=1
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
"""
# The short broker session lets the node come back at once after a crash: its former registration has to expire first.
_SINGLE = """\
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controlled.shutdown.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
# The session is a little longer than for one node: three of them share the processors, and a late heartbeat moves every
# leader. A request to a frozen node times out after seconds instead of 30: until then no leader would move.
_CLUSTER = """\
controller.quorum.voters={voters}
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
controller.socket.timeout.ms=2000
replica.socket.timeout.ms=3000
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


def write_configs(homes: Sequence[Path], security: Security | None = None) -> None:
    """Write settings with free ports for the nodes of one cluster, one per home, unless they have settings already.

    Ports are chosen once, so a restarted broker keeps its address.
    """
    if all((home / PROPERTIES).exists() for home in homes):
        return
    listeners = {_PLAIN: _PLAIN, **(security.listeners() if security else {}), _CONTROLLER: _PLAIN}
    ports = free_ports(len(homes) * len(listeners))
    per_node = [dict(zip(listeners, ports[n * len(listeners) :], strict=False)) for n in range(len(homes))]
    voters = ",".join(f"{n}@127.0.0.1:{each[_CONTROLLER]}" for n, each in enumerate(per_node, start=1))
    identity = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A")
    texts: dict[Path, str] = {}
    for number, (home, own_ports) in enumerate(zip(homes, per_node, strict=True), start=1):
        home.mkdir(parents=True, exist_ok=True)
        text = _common(number, home, listeners, own_ports, copies=len(homes))
        text += (_CLUSTER if len(homes) > 1 else _SINGLE).format(voters=voters, controller=own_ports[_CONTROLLER])
        if security is not None:
            text += security.properties(homes[0].resolve())
        texts |= {home / LOGGING: _LOGGING, home / _IDENTITY: identity, home / PROPERTIES: text}
    write_files(texts)


def _common(number: int, home: Path, listeners: Mapping[str, str], ports: Mapping[str, int], copies: int) -> str:
    addresses = {name: f"{name}://{_host(protocol)}:{ports[name]}" for name, protocol in listeners.items()}
    bound = (address.replace("localhost", "127.0.0.1") for address in addresses.values())
    return _COMMON.format(
        number=number,
        listeners=",".join(bound),
        advertised=",".join(addresses.values()),
        protocols=",".join(f"{name}:{protocol}" for name, protocol in listeners.items()),
        data=(home / "data").resolve().as_posix(),
        copies=copies,
        in_sync=max(1, copies - 1),
    )


def _host(protocol: str) -> str:
    # Certificates have this name, so that a test can connect to the address and see the name refused.
    return "localhost" if "SSL" in protocol else "127.0.0.1"


def format_options(home: Path) -> list[str]:
    """Return options of ``StorageTool format``: the cluster's identity, and ``--standalone`` for a single node."""
    identity = (home / _IDENTITY).read_text(encoding="ascii")
    alone = "controller.quorum.voters=" not in (home / PROPERTIES).read_text(encoding="utf-8")
    return [*(["--standalone"] if alone else []), "--cluster-id", identity]


def client_address(home: Path, listener: str = _PLAIN) -> str:
    """Return ``host:port`` of ``listener``. Raises KafkaServerError for a home never set up, or damaged."""
    path = home / PROPERTIES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KafkaServerError(f"{path}: cannot be read ({error.strerror}); start the broker once") from error
    for line in lines:
        if line.startswith("advertised.listeners="):
            for each in line.removeprefix("advertised.listeners=").split(","):
                name, _, address = each.partition("://")
                if name == listener:
                    return address
    raise KafkaServerError(f"{path}: has no listener {listener}; restore the file, or choose a different --home")
