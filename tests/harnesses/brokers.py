"""Makes a harness for each broker: the embedded one, and Kafka, with topics changed through its own admin client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from infra.broker.open import open_broker
from infra.broker.settings import BrokerSettings
from schemas.topics import TopicSpec
from standgale.testing.broker import BrokerHarness, EmbeddedHarness
from standgale.testing.waiting import until


class KafkaHarness(BrokerHarness):
    """Gives the broker tests a running Kafka."""

    def __init__(self, settings: BrokerSettings, data_dir: Path) -> None:
        super().__init__(partial(open_broker, settings, data_dir))
        self._servers = settings.bootstrap_servers

    async def delete_topics(self, names: Sequence[str]) -> None:
        async with self._admin() as admin:
            await admin.delete_topics(list(names))
            await until(lambda: _absent(admin, names), f"{names} still exist")

    async def add_partitions(self, topic: TopicSpec, partitions: int) -> None:
        async with self._admin() as admin:
            await admin.create_partitions({topic.name: NewPartitions(partitions)})

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


async def _absent(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> bool:
    return not set(topics) & set(await admin.list_topics())


def harness_of(settings: BrokerSettings, data_dir: Path) -> BrokerHarness:
    """Return a harness on the broker of ``settings``."""
    return KafkaHarness(settings, data_dir) if settings.kind == "kafka" else EmbeddedHarness(data_dir)
