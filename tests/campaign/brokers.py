"""Starts, stops and describes the brokers that a campaign can run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.broker.open import open_broker
from infra.broker.port import Admin, Broker, TopicPartition
from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaCluster, KafkaServer
from schemas.topics import TopicSpec, load_topics

BrokerName = Literal["embedded", "kafka", "kafka3"]


@dataclass
class CampaignBroker:
    """One broker under test; ``server`` is None for the embedded broker, which is a file in ``data``."""

    data: Path
    topics_file: Path
    server: KafkaServer | KafkaCluster | None = None

    @classmethod
    def of(cls, name: BrokerName, folder: Path, data: Path, topics_file: Path) -> CampaignBroker:
        """Return the broker ``name``; it is not started yet."""
        servers = {"embedded": None, "kafka": KafkaServer(folder / "kafka"), "kafka3": KafkaCluster(folder / "kafka")}
        return cls(data, topics_file, servers[name])

    def running(self) -> AbstractContextManager[object]:
        """Run the server inside the block."""
        return nullcontext() if self.server is None else self.server

    @property
    def settings(self) -> BrokerSettings:
        """The broker settings of the processes."""
        if self.server is None:
            return BrokerSettings()
        copies = 1 if isinstance(self.server, KafkaServer) else None
        return BrokerSettings(kind="kafka", bootstrap_servers=self.server.bootstrap_servers, replication=copies)

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables."""
        settings = self.settings
        found: dict[str, str] = {"STANDGALE_BROKER__KIND": settings.kind}
        if self.server is not None:
            found["STANDGALE_BROKER__BOOTSTRAP_SERVERS"] = settings.bootstrap_servers
        if settings.replication is not None:
            found["STANDGALE_BROKER__REPLICATION"] = str(settings.replication)
        return found

    def topics(self) -> dict[str, TopicSpec]:
        """Return the topics as they are declared now."""
        return load_topics(self.topics_file)

    @asynccontextmanager
    async def open_client(self) -> AsyncIterator[Broker]:
        """Open a broker client for this process."""
        broker = open_broker(self.settings, self.data, self.topics())
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Admin]:
        """Open an admin client for this process."""
        async with self.open_client() as broker:
            admin = await broker.admin()
            try:
                yield admin
            finally:
                await admin.close()

    async def lag(self, groups: Mapping[str, Collection[str]]) -> int:
        """Count the records that ``groups`` (topics by name) have not committed."""
        async with self.admin() as admin:
            lags: list[Mapping[TopicPartition, int]] = [
                await admin.group_lag(group, topics) for group, topics in groups.items()
            ]
        return sum(sum(each.values()) for each in lags)

    async def wait_until_complete(self) -> None:
        """Start missing nodes and return when all of them respond."""
        if self.server is not None:
            await asyncio.to_thread(self.server.start)
