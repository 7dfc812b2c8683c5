"""``python -m infra.deploy.kafka start|stop|status --home DIR``: a broker for people without Docker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.server import KafkaServer


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; 0 when done (for ``status``: when the broker runs), 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m infra.deploy.kafka", description=__doc__)
    parser.add_argument("action", choices=("start", "stop", "status"))
    parser.add_argument("--home", type=Path, required=True, help="the folder of the broker's data, settings and log")
    parser.add_argument("--cache", type=Path, help="the folder of the broker's jars (default: ~/.cache/windhover)")
    given = parser.parse_args(arguments)
    server = KafkaServer(given.home, given.cache)
    try:
        return _act(server, given.action)
    except KafkaServerError as error:
        print(error, file=sys.stderr)
        return 1


def _act(server: KafkaServer, action: str) -> int:
    if action == "start":
        print("Starting Kafka (the first time its jars are fetched, which takes a minute) …", flush=True)
        server.start()
    elif action == "stop":
        server.stop()
    pid = server.pid
    if pid is None:
        print("Kafka does not run")
        return 0 if action == "stop" else 1
    print(f"Kafka runs as process {pid}; clients connect to {server.bootstrap_servers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
