"""Starts and stops the Kafka broker or cluster of one folder, for people without Docker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.deploy.kafka.cluster import KafkaCluster
from infra.deploy.kafka.config import PROPERTIES
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.server import KafkaServer


@dataclass(frozen=True, slots=True)
class LocalNode:
    """Describes one node of a local broker or cluster, as it is now."""

    pid: int | None
    """The process id; None when the node does not run."""
    bootstrap_servers: str | None
    """``host:port`` where clients connect; None when the node does not run."""


def start_kafka(home: Path, *, cache: Path | None = None, nodes: int | None = None) -> list[LocalNode]:
    """Start the broker or cluster of ``home``, wait until it serves requests, and return its nodes.

    The first start creates it with ``nodes`` nodes (default 1) and fetches Kafka's jars into ``cache`` (see
    :func:`infra.deploy.kafka.jars.ensure_jars`), which takes a minute. Raises KafkaServerError, also when ``home``
    already has a different number of nodes.
    """
    servers = _open_servers(home, cache, nodes)
    servers.start()
    return _local_nodes(servers)


def stop_kafka(home: Path) -> list[LocalNode]:
    """Stop the broker or cluster of ``home`` and return its nodes. Raises KafkaServerError."""
    servers = _open_servers(home, None, None)
    servers.stop()
    return _local_nodes(servers)


def find_kafka(home: Path) -> list[LocalNode]:
    """Return the nodes of the broker or cluster of ``home``; one that does not run when ``home`` is empty."""
    return _local_nodes(_open_servers(home, None, None))


def _open_servers(home: Path, cache: Path | None, nodes: int | None) -> KafkaServer | KafkaCluster:
    """Return what is in ``home``; when it is empty, what the first start creates there."""
    found = KafkaCluster.found_at(home, cache)
    if found is not None:
        return _require_size(found, len(found.numbers), nodes)
    if (home / PROPERTIES).exists():
        return _require_size(KafkaServer(home, cache), 1, nodes)
    return KafkaServer(home, cache) if nodes in (None, 1) else KafkaCluster(home, cache, nodes=nodes or 1)


def _require_size(found: KafkaServer | KafkaCluster, size: int, wanted: int | None) -> KafkaServer | KafkaCluster:
    if wanted not in (None, size):
        raise KafkaServerError(
            f"{found.home}: has {size} node(s), not {wanted}; leave --nodes out, or choose a different --home"
        )
    return found


def _local_nodes(servers: KafkaServer | KafkaCluster) -> list[LocalNode]:
    nodes = [servers] if isinstance(servers, KafkaServer) else [servers.node(number) for number in servers.numbers]
    return [_local_node(node) for node in nodes]


def _local_node(node: KafkaServer) -> LocalNode:
    pid = node.pid
    return LocalNode(pid, None if pid is None else node.bootstrap_servers)
