"""The brokers a campaign can run on, each with what starts, stops and describes it."""

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
    """One broker under test. ``server`` is None for the embedded one, which is a file in ``data``."""

    data: Path
    topics_file: Path
    server: KafkaServer | KafkaCluster | None = None

    @classmethod
    def of(cls, name: BrokerName, folder: Path, data: Path, topics_file: Path) -> CampaignBroker:
        """The broker ``name``; not started yet."""
        servers = {"embedded": None, "kafka": KafkaServer(folder / "kafka"), "kafka3": KafkaCluster(folder / "kafka")}
        return cls(data, topics_file, servers[name])

    def running(self) -> AbstractContextManager[object]:
        """Run the server inside the block."""
        return nullcontext() if self.server is None else self.server

    @property
    def settings(self) -> BrokerSettings:
        """What processes are told."""
        if self.server is None:
            return BrokerSettings()
        copies = 1 if isinstance(self.server, KafkaServer) else None
        return BrokerSettings(kind="kafka", bootstrap_servers=self.server.bootstrap_servers, replication=copies)

    def environment(self) -> dict[str, str]:
        """The settings as variables."""
        settings = self.settings
        found: dict[str, str] = {"STANDGALE_BROKER__KIND": settings.kind}
        if self.server is not None:
            found["STANDGALE_BROKER__BOOTSTRAP_SERVERS"] = settings.bootstrap_servers
        if settings.replication is not None:
            found["STANDGALE_BROKER__REPLICATION"] = str(settings.replication)
        return found

    def topics(self) -> dict[str, TopicSpec]:
        """The topics as they are declared now."""
        return load_topics(self.topics_file)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Broker]:
        """A client of this process."""
        broker = open_broker(self.settings, self.data, self.topics())
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Admin]:
        """An admin of this process."""
        async with self.opened() as broker:
            admin = await broker.admin()
            try:
                yield admin
            finally:
                await admin.close()

    async def lag(self, groups: Mapping[str, Collection[str]]) -> int:
        """Records that ``groups``, by name with their topics, have not committed."""
        async with self.admin() as admin:
            lags: list[Mapping[TopicPartition, int]] = [
                await admin.group_lag(group, topics) for group, topics in groups.items()
            ]
        return sum(sum(each.values()) for each in lags)

    async def until_whole(self) -> None:
        """Return when the server, all of its nodes, answers."""
        if self.server is not None:
            await asyncio.to_thread(self.server.start)
