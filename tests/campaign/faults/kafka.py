"""Kills, freezes and restarts Kafka nodes, and deletes topics and records."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from infra.deploy.kafka import KafkaCluster, KafkaServer
from infra.errors import TopicMismatchError
from schemas.topics import FRAMES_DEAD, FRAMES_LIVE
from tests.campaign.brokers import CampaignBroker
from tests.campaign.faults.kind import Fault, Kind, whole
from tests.campaign.site import GROUPS

_ALL = whole("broker")


@dataclass
class NodesKilled:
    """Sends SIGKILL (SIGTERM when ``gently``) to some nodes, and starts them again."""

    broker: CampaignBroker
    nodes: Sequence[KafkaServer]
    gently: bool = False

    @property
    def name(self) -> str:
        how = "restart" if self.gently else "kill"
        return f"{how} Kafka {', '.join(node.home.name for node in self.nodes)}"

    async def start(self) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.stop if self.gently else node.kill)

    async def end(self) -> None:
        await self.broker.wait_until_complete()


@dataclass
class NodeFrozen:
    """Sends SIGSTOP to one node; to the coordinator of ``group`` where a group is given."""

    broker: CampaignBroker
    node: KafkaServer
    group: str | None = None

    @property
    def name(self) -> str:
        coordinating = f", coordinator of {self.group}" if self.group else ""
        return f"freeze Kafka {self.node.home.name}{coordinating}"

    async def start(self) -> None:
        if self.group is not None and isinstance(self.broker.server, KafkaCluster):
            async with _admin(self.broker) as admin:
                self.node = self.broker.server.node(await admin.find_coordinator(self.group))
        self.node.freeze()

    async def end(self) -> None:
        self.node.thaw()
        await self.broker.wait_until_complete()


@dataclass
class DeadTopicRemoved:
    """Deletes the topic of dead letters, and creates it again later."""

    broker: CampaignBroker
    name: str = f"delete topic {FRAMES_DEAD}"

    async def start(self) -> None:
        async with _admin(self.broker) as admin:
            await admin.delete_topics([FRAMES_DEAD])

    async def end(self) -> None:
        """Create the topic; raise TopicMismatchError while it is missing, because its deletion takes a moment."""
        await self.broker.wait_until_complete()
        declared = self.broker.topics().values()
        async with self.broker.admin() as admin:
            await admin.apply(declared)
            if wrong := [each for each in await admin.check(declared) if each.fixable]:
                raise TopicMismatchError(f"after topics apply there is still {wrong}")


@dataclass
class ReadDeleted:
    """Deletes all frames that were read and committed, as retention does."""

    broker: CampaignBroker
    name: str = f"retention of {FRAMES_LIVE}"

    async def start(self) -> None:
        wanted = [TopicPartition(FRAMES_LIVE, number) for number in range(self.broker.topics()[FRAMES_LIVE].partitions)]
        async with _admin(self.broker) as admin:
            committed = await admin.list_consumer_group_offsets("detector", partitions=wanted)
            read = {source: RecordsToDelete(at.offset) for source, at in committed.items() if at.offset > 0}
            if read:
                await admin.delete_records(read)

    async def end(self) -> None:
        pass


def kinds(broker: CampaignBroker) -> list[Kind]:
    """Return all kinds that hit Kafka, one at a time; none on the embedded broker."""
    if broker.server is None:
        return []
    found = [
        Kind("topic_removed", ("frames.dead",), (1.0, 5.0), lambda _, rng: DeadTopicRemoved(broker), 0.5, _ALL),
        Kind("retention", ("frames.live",), (0.0, 0.1), lambda _, rng: ReadDeleted(broker), 1.0, _ALL),
    ]
    return found + (_of_one(broker, broker.server) if isinstance(broker.server, KafkaServer) else _of_three(broker))


def _of_one(broker: CampaignBroker, server: KafkaServer) -> list[Kind]:
    def ended(gently: bool) -> Callable[[str, random.Random], Fault]:
        return lambda _, rng: NodesKilled(broker, [server], gently)

    def frozen(_: str, rng: random.Random) -> NodeFrozen:
        return NodeFrozen(broker, server)

    return [
        Kind("broker_killed", ("broker",), (0.0, 3.0), ended(False), 1.0, _ALL),
        Kind("broker_restarted", ("broker",), (0.0, 1.0), ended(True), 0.5, _ALL),
        Kind("broker_frozen", ("broker",), (1.0, 6.0), frozen, 1.0, _ALL),
        Kind("broker_frozen_long", ("broker",), (11.0, 16.0), frozen, 0.3, _ALL),
    ]


def _of_three(broker: CampaignBroker) -> list[Kind]:
    cluster = broker.server
    assert isinstance(cluster, KafkaCluster)
    nodes = tuple(f"node-{number}" for number in cluster.numbers)

    def node(target: str) -> KafkaServer:
        return cluster.node(int(target.removeprefix("node-")))

    def two(rng: random.Random) -> list[KafkaServer]:
        return [cluster.node(number) for number in rng.sample(cluster.numbers, 2)]

    return [
        Kind("node_killed", nodes, (0.0, 4.0), lambda t, rng: NodesKilled(broker, [node(t)]), 2.0, _ALL),
        Kind("node_restarted", nodes, (0.0, 1.0), lambda t, rng: NodesKilled(broker, [node(t)], True), 1.0, _ALL),
        Kind("node_frozen", nodes, (1.0, 14.0), lambda t, rng: NodeFrozen(broker, node(t)), 2.0, _ALL),
        Kind(
            "coordinator_frozen",
            tuple(GROUPS),
            (8.0, 15.0),
            lambda group, rng: NodeFrozen(broker, cluster.node(1), group),
            1.0,
            _ALL,
        ),
        Kind("two_nodes_down", ("cluster",), (2.0, 6.0), lambda _, rng: NodesKilled(broker, two(rng)), 0.7, _ALL),
    ]


@asynccontextmanager
async def _admin(broker: CampaignBroker) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin of the client library itself, for actions that Standgale never does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.settings.bootstrap_servers, request_timeout_ms=15_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
