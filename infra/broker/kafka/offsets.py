"""Asks Kafka where partitions begin and end, how many there are, what a group has committed, and who is in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from infra.broker.kafka.link import FAULTS, Link
from infra.broker.port import TopicPartition
from infra.errors import TopicMismatchError

Committed = Mapping[TopicPartition, OffsetAndMetadata | None]


class Offsets:
    """Answers questions about partitions and groups, over connections of its own, made on first use.

    A consumer's own connection would not do: while it joins its group, Kafka answers nothing else on it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._admin: AIOKafkaAdminClient | None = None
        self._looker: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def admin(self) -> AIOKafkaAdminClient:
        """The admin client, connected. Raises aiokafka's errors, so call it inside :meth:`Link.ask`."""
        async with self._connecting:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._link.client_options())
                try:
                    await admin.start()
                except FAULTS:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin

    async def committed(self, group: str, sources: Collection[TopicPartition]) -> Committed:
        """What ``group`` has committed per partition; None where it never did. Raises BrokerUnavailableError."""

        async def call() -> Committed:
            admin = await self.admin()
            wanted = [KafkaPartition(*source) for source in sources]
            found = await admin.list_consumer_group_offsets(group, partitions=wanted)
            known = {source: found.get(KafkaPartition(*source)) for source in sources}
            return {source: at if at is not None and at.offset >= 0 else None for source, at in known.items()}

        return await self._link.ask(f"asking for the offsets of group {group}", call)

    async def bounds(self, sources: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """Per partition its first offset and its last stable one. The partitions must exist. Raises
        BrokerUnavailableError."""

        async def call() -> Mapping[TopicPartition, tuple[int, int]]:
            looker = await self._connected_looker()
            wanted = [KafkaPartition(*source) for source in sources]
            firsts, ends = await asyncio.gather(looker.beginning_offsets(wanted), looker.end_offsets(wanted))
            return {source: (firsts[KafkaPartition(*source)], ends[KafkaPartition(*source)]) for source in sources}

        return await self._link.ask("asking where partitions end", call)

    async def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """How many partitions each of ``topics`` has. Raises TopicMismatchError for one that does not exist."""

        async def call() -> Mapping[str, int]:
            # All topics are listed, because asking for one by name creates it where the cluster is set up to do so.
            listed = await (await self.admin()).describe_topics()
            return {topic["topic"]: len(topic["partitions"]) for topic in listed if topic["error_code"] == 0}

        counts = await self._link.ask("asking for its topics", call)
        absent = sorted(set(topics) - set(counts))
        if absent:
            raise TopicMismatchError(
                f"{self._link.where} has no topic {', '.join(absent)}; declare it in topics.yaml and run "
                "`windhover topics apply`"
            )
        return {topic: counts[topic] for topic in topics}

    async def has_static_member(self, group: str, instance_id: str) -> bool:
        """Whether a static member of that name is in ``group``. Raises BrokerUnavailableError."""
        # The id that Kafka gives a static member begins with its name; the answer holds the name nowhere else.
        pattern = re.compile(re.escape(instance_id) + "-[0-9A-Za-z_-]{22,36}")

        async def call() -> bool:
            answers = await (await self.admin()).describe_consumer_groups([group])
            ids = (member[0] for answer in answers for found in answer.groups for member in found[5])
            return any(pattern.fullmatch(each) for each in ids)

        return await self._link.ask(f"asking for the members of group {group}", call)

    async def close(self) -> None:
        """Let go of the connections; may be called twice."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()
        looker, self._looker = self._looker, None
        if looker is not None:
            self._link.leavers.stop(looker)

    async def _connected_looker(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._looker is None:
                looker = AIOKafkaConsumer(**self._link.client_options(), **self._link.fetch_options(()))
                try:
                    await looker.start()
                except FAULTS:
                    self._link.leavers.stop(looker)
                    raise
                self._looker = looker
            return self._looker
