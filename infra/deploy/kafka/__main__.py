"""``python -m infra.deploy.kafka start|stop|status --home DIR``: a broker for people without Docker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.local import find_kafka, start_kafka, stop_kafka


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
        return _run(given.home, given.cache, given.nodes, given.action)
    except KafkaServerError as error:
        print(error, file=sys.stderr)
        return 1


def _run(home: Path, cache: Path | None, nodes: int | None, action: str) -> int:
    if action == "start":
        print("Starting Kafka (the first time its jars are fetched, which takes a minute) …", flush=True)
        found = start_kafka(home, cache=cache, nodes=nodes)
    else:
        found = stop_kafka(home) if action == "stop" else find_kafka(home)
    running = [node for node in found if node.pid is not None]
    for node in running:
        print(f"Kafka runs as process {node.pid}; clients connect to {node.bootstrap_servers}")
    if not running:
        print("Kafka does not run")
    elif len(running) < len(found):
        print(f"{len(found) - len(running)} of {len(found)} nodes do not run")
    return 0 if len(running) == (0 if action == "stop" else len(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
