"""Starts and stops the Kafka broker or cluster of one folder, for people without Docker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.deploy.kafka.cluster import KafkaCluster
from infra.deploy.kafka.config import PROPERTIES
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.files import HOME_OPTION, absolute_path, explained_errors
from infra.deploy.kafka.server import KafkaServer
from infra.storage.durable_files import locked_folder

_RESPONSE_S = 3.0


@dataclass(frozen=True, slots=True)
class LocalNode:
    """Describes one node of a local broker or cluster, as it is now."""

    pid: int | None
    """The process id; None when the node does not run."""
    bootstrap_servers: str | None
    """``host:port`` where clients connect; None when the node does not run."""
    responds: bool = False
    """Whether it serves requests; a frozen process does not."""


def start_kafka(home: Path, *, cache: Path | None = None, nodes: int | None = None) -> list[LocalNode]:
    """Start the broker or cluster of ``home``, wait until it serves requests, and return its nodes.

    The first start creates it with ``nodes`` nodes (default 1) and fetches Kafka's jars into ``cache`` (see
    :func:`infra.deploy.kafka.jars.ensure_jars`), which takes a minute. Raises KafkaServerError, also when ``home``
    already has a different number of nodes, or another process starts it now. A start that is interrupted ends the
    nodes that it has started.
    """
    with _only_start(home):
        servers = _open_servers(home, cache, nodes)
        stopped = [node for node in _nodes(servers) if node.pid is None]
        try:
            servers.start()
        except (SystemExit, KeyboardInterrupt):
            for node in stopped:
                node.kill()
            raise
    return _local_nodes(servers)


def stop_kafka(home: Path) -> list[LocalNode]:
    """Stop the broker or cluster of ``home`` and return its nodes. Raises KafkaServerError."""
    servers = _open_servers(home, None, None)
    servers.stop()
    return _local_nodes(servers)


def find_kafka(home: Path) -> list[LocalNode]:
    """Return the nodes of the broker or cluster of ``home``; one that does not run when ``home`` is empty."""
    return _local_nodes(_open_servers(home, None, None))


@contextmanager
def _only_start(home: Path) -> Iterator[None]:
    """Create ``home`` and hold its lock, so that two starts at once do not both format its storage."""
    with ExitStack() as held:
        with explained_errors(home, HOME_OPTION):
            _require_folder(home)
            home.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(locked_folder(home, exclusive=True, wait=False))
            except BlockingIOError as error:
                raise KafkaServerError(
                    f"another start is in progress in {home}; wait until it has ended, then see "
                    "`standgale kafka status`"
                ) from error
        yield


def _open_servers(home: Path, cache: Path | None, nodes: int | None) -> KafkaServer | KafkaCluster:
    """Return what is in ``home``; when it is empty, what the first start creates there."""
    with explained_errors(home, HOME_OPTION):
        _require_folder(home)
        return _open_found(home, cache, nodes)


def _require_folder(home: Path) -> None:
    """Raise KafkaServerError when ``home`` or what it is in is a file, or the current folder was removed."""
    absolute_path(home, HOME_OPTION)
    nearest = next((path for path in (home, *home.parents) if path.exists()), home)
    if nearest.exists() and not nearest.is_dir():
        raise KafkaServerError(f"{nearest}: is not a folder; choose a different {HOME_OPTION}")


def _open_found(home: Path, cache: Path | None, nodes: int | None) -> KafkaServer | KafkaCluster:
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


def _nodes(servers: KafkaServer | KafkaCluster) -> list[KafkaServer]:
    return [servers] if isinstance(servers, KafkaServer) else [servers.node(number) for number in servers.numbers]


def _local_nodes(servers: KafkaServer | KafkaCluster) -> list[LocalNode]:
    return [_local_node(node) for node in _nodes(servers)]


def _local_node(node: KafkaServer) -> LocalNode:
    pid = node.pid
    if pid is None:
        return LocalNode(None, None)
    return LocalNode(pid, node.bootstrap_servers, responds=node.responds_within(_RESPONSE_S))
