"""Runs several Kafka nodes (KRaft) of one cluster on this machine; each can be killed, frozen and restarted alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.deploy.kafka.config import PROPERTIES, write_configs
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.files import HOME_OPTION, explained_errors
from infra.deploy.kafka.probing import nodes_seen
from infra.deploy.kafka.security import Security
from infra.deploy.kafka.server import KafkaServer

_HEAP_MB = 256


class KafkaCluster:
    """Runs ``nodes`` brokers with their files in ``home``/node-1, node-2 and so on; every node is also a controller.

    Topics are replicated to every node and writes need all but one of them, unless a topic declares otherwise. Nodes
    are numbered from 1. A second start on the same home keeps data and ports. The context manager starts and stops it.
    """

    def __init__(
        self, home: Path, cache: Path | None = None, *, nodes: int = 3, security: Security | None = None
    ) -> None:
        self.home = home
        self._security = security
        self._nodes = {
            number: KafkaServer(home / f"node-{number}", cache, security=security, heap_mb=_HEAP_MB)
            for number in range(1, nodes + 1)
        }

    @classmethod
    def found_at(cls, home: Path, cache: Path | None = None) -> Self | None:
        """Return the cluster that was set up in ``home``, or None when there is none."""
        nodes = len(list(home.glob(f"node-*/{PROPERTIES}")))
        return cls(home, cache, nodes=nodes) if nodes else None

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` of every node for clients, comma separated."""
        return ",".join(node.bootstrap_servers for node in self._nodes.values())

    @property
    def numbers(self) -> list[int]:
        """The numbers of all nodes."""
        return list(self._nodes)

    def node(self, number: int) -> KafkaServer:
        """Return one node, to be killed, frozen or restarted; its ``start`` waits until this node responds."""
        return self._nodes[number]

    def start(self, timeout_s: float = 120.0) -> None:
        """Start the nodes that do not run or respond, in parallel; wait until every node works and sees all others."""
        with explained_errors(self.home, HOME_OPTION):
            write_configs([node.home for node in self._nodes.values()], self._security)
        self._each(KafkaServer.launch)
        self.wait_until_whole(timeout_s)

    def wait_until_whole(self, timeout_s: float = 120.0) -> None:
        """Wait until every node responds and sees all others. Raises KafkaServerError when that takes too long."""
        deadline = time.monotonic() + timeout_s
        for number, node in self._nodes.items():
            while nodes_seen(node.bootstrap_servers) < len(self._nodes):
                if node.pid is None or time.monotonic() > deadline:
                    what = "ended" if node.pid is None else f"did not see all others within {timeout_s:g} s"
                    raise KafkaServerError(f"Kafka node {number} {what}: {node.cause()}")
                time.sleep(0.05)

    def stop(self) -> None:
        """Ask all nodes to end and wait for them; kill those that do not end."""
        self._each(KafkaServer.stop)

    def kill(self) -> None:
        """End all nodes at once (SIGKILL)."""
        self._each(KafkaServer.kill)

    def _each(self, work: Callable[[KafkaServer], None]) -> None:
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            list(pool.map(work, self._nodes.values()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
