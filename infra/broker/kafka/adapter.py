"""Implements the broker port on Apache Kafka: opens its clients and closes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakSet

from infra.broker.kafka.administration.admin import KafkaAdmin
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.group.consumer import KafkaConsumer
from infra.broker.kafka.publisher import KafkaPublisher
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.reader import KafkaReader
from infra.broker.port import Admin, Broker, Consumer, GroupSpec, Publisher, Reader
from infra.broker.settings import BrokerSettings
from schemas.topics import TopicSpec


class KafkaBroker(Broker):
    """Implements :class:`infra.broker.port.Broker` on the cluster that ``settings`` name.

    ``topics`` declare how large records may be, and how many partitions the topics must have on the cluster. Raises
    SettingsError for certificate files that cannot be used.
    """

    def __init__(
        self, settings: BrokerSettings, topics: Mapping[str, TopicSpec], password_file: Path | None = None
    ) -> None:
        self._link = Link(settings, topics, password_file)
        # A certificate that cannot be read is reported now, not at the first connection.
        self._link.client_options()
        self._queries = ClusterQueries(self._link)
        self._opened: WeakSet[Admin | Consumer | Publisher | Reader] = WeakSet()

    async def publisher(self) -> Publisher:
        """See the port. Raises BrokerUnavailableError when the cluster does not respond."""
        publisher = KafkaPublisher(self._link, self._queries)
        self._opened.add(publisher)
        await publisher.connect()
        return publisher

    async def consumer(self, spec: GroupSpec) -> Consumer:
        """See the port. Raises TopicMismatchError when a topic of ``spec`` does not exist."""
        consumer = KafkaConsumer(self._link, spec)
        self._opened.add(consumer)
        await consumer.join()
        return consumer

    async def reader(self) -> Reader:
        """See the port. Raises BrokerUnavailableError when the cluster does not respond."""
        reader = KafkaReader(self._link)
        self._opened.add(reader)
        await reader.connect()
        return reader

    async def admin(self) -> Admin:
        """See the port. Raises BrokerUnavailableError when the cluster does not respond."""
        admin = KafkaAdmin(self._link)
        self._opened.add(admin)
        await admin.connect()
        return admin

    async def close(self) -> None:
        """See the port. Closes also the clients that are still open, because their tasks would keep running."""
        await asyncio.gather(*(each.close() for each in set(self._opened)))
        await self._queries.close()
        await self._link.close()
