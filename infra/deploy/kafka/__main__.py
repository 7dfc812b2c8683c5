"""``python -m infra.deploy.kafka start|stop|status --home DIR``: a broker for people without Docker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.deploy.kafka.cluster import KafkaCluster
from infra.deploy.kafka.config import PROPERTIES
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.server import KafkaServer


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; 0 when done (for ``status``: when every broker runs), 1 when not."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.deploy.kafka", description="Runs Kafka on this machine without Docker."
    )
    parser.add_argument(
        "action", choices=("start", "stop", "status"), help="what to do with the broker or cluster of HOME"
    )
    parser.add_argument("--home", type=Path, required=True, help="the folder of the broker's data, settings and log")
    parser.add_argument("--cache", type=Path, help="the folder of the broker's jars (default: ~/.cache/standgale)")
    parser.add_argument("--nodes", type=int, help="start: how many brokers a new cluster has (default: 1)")
    given = parser.parse_args(arguments)
    try:
        return _act(_servers(given.home, given.cache, given.nodes), given.action)
    except KafkaServerError as error:
        print(error, file=sys.stderr)
        return 1


def _servers(home: Path, cache: Path | None, nodes: int | None) -> KafkaServer | KafkaCluster:
    """What is in ``home``, or, when it is empty, what is wanted there."""
    found = KafkaCluster.found_at(home, cache)
    if found is None and (home / PROPERTIES).exists():
        return _of_size(KafkaServer(home, cache), 1, nodes)
    if found is not None:
        return _of_size(found, len(found.numbers), nodes)
    return KafkaServer(home, cache) if nodes in (None, 1) else KafkaCluster(home, cache, nodes=nodes or 1)


def _of_size(found: KafkaServer | KafkaCluster, size: int, wanted: int | None) -> KafkaServer | KafkaCluster:
    if wanted not in (None, size):
        raise KafkaServerError(
            f"{found.home}: has {size} node(s), not {wanted}; leave --nodes out, or take another --home"
        )
    return found


def _act(servers: KafkaServer | KafkaCluster, action: str) -> int:
    if action == "start":
        print("Starting Kafka (the first time its jars are fetched, which takes a minute) …", flush=True)
        servers.start()
    elif action == "stop":
        servers.stop()
    nodes = [servers] if isinstance(servers, KafkaServer) else [servers.node(number) for number in servers.numbers]
    running = [node for node in nodes if node.pid is not None]
    for node in running:
        print(f"Kafka runs as process {node.pid}; clients connect to {node.bootstrap_servers}")
    if not running:
        print("Kafka does not run")
    elif len(running) < len(nodes):
        print(f"{len(nodes) - len(running)} of {len(nodes)} nodes do not run")
    return 0 if len(running) == (0 if action == "stop" else len(nodes)) else 1


if __name__ == "__main__":
    sys.exit(main())
