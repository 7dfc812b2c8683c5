"""Asks Kafka about partition bounds, topics, committed offsets and members of groups."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.structs import OffsetAndMetadata

from infra.broker.checks import check_count
from infra.broker.kafka.connection.error_translation import raise_for
from infra.broker.kafka.connection.link import Link, Result
from infra.broker.kafka.queries.committed import Committed, next_to_read
from infra.broker.kafka.queries.protocol import (
    UNSTABLE_OFFSET_COMMIT,
    OffsetFetch,
    TopicMetadata,
    codes_by_partition,
)
from infra.broker.port import TopicPartition, TopicState
from infra.errors import RefusedError
from schemas.topics import TopicSpec

# A frozen node must not use the whole time in which another node could respond.
_ATTEMPTS = 3
_SHORTEST_ATTEMPT_S = 1.0


@dataclass(frozen=True, slots=True)
class StaticMember:
    """Describes the present holder of a static member's name."""

    member_id: str
    """The id that Kafka gave it."""
    member_note: bytes | None
    """What it sent about itself when it joined. Kafka reports this only between rebalances; None during one."""


class ClusterQueries:
    """Queries partitions and groups over separate connections, opened on first use.

    A consumer's connection cannot be used: while the consumer joins its group, Kafka does not respond to anything else
    on it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._admin: AIOKafkaAdminClient | None = None
        self._offsets_client: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()
        self._attempt_s = max(_SHORTEST_ATTEMPT_S, link.timeout_s / _ATTEMPTS)

    async def admin(self) -> AIOKafkaAdminClient:
        """Return the admin client, connected. Raises aiokafka's errors, so call it inside :meth:`Link.ask`."""
        async with self._connecting:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._link.client_options())
                try:
                    await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin

    async def committed(self, group: str, sources: Collection[TopicPartition], *, stable: bool = False) -> Committed:
        """Return what ``group`` has committed per partition; None where it never did. Raises BrokerUnavailableError.

        With ``stable`` it waits for the end of transactions that are about to change it.
        """

        async def call() -> Committed:
            async with asyncio.timeout(self._attempt_s):
                node = await (await self.admin()).find_coordinator(group)
                found = await self._ask_coordinator(node, group, sources, stable=stable)
            return {source: _to_offset(group, source.topic, *response) for source, response in found.items()}

        return await self._ask(f"asking for the offsets of group {group}", call)

    async def committed_with_pending(self, group: str, sources: Collection[TopicPartition]) -> Committed:
        """Return what ``group`` has committed, while an open transaction of the caller is about to change ``sources``.

        The response counts only when the coordinator knows that transaction. A coordinator that lost the group to
        another node, and does not know it yet, would return old offsets. Raises BrokerUnavailableError.
        """

        async def call() -> Committed:
            async with asyncio.timeout(self._attempt_s):
                node = await (await self.admin()).find_coordinator(group)
                pending = await self._ask_coordinator(node, group, sources, stable=True)
                if any(code != UNSTABLE_OFFSET_COMMIT for _, _, code in pending.values()):
                    raise kafka.NotCoordinatorForGroupError(f"node {node} does not know the last commit of {group}")
                found = await self._ask_coordinator(node, group, sources, stable=False)
            return {source: _to_offset(group, source.topic, *response) for source, response in found.items()}

        return await self._ask(f"asking for the offsets of group {group}", call)

    async def bounds(self, sources: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """Return per partition its first offset and its last stable one. The partitions must exist.

        Raises BrokerUnavailableError. Without ``sources`` no request is sent.
        """

        async def call() -> Mapping[TopicPartition, tuple[int, int]]:
            client = await self._connect_offsets_client()
            wanted = [KafkaPartition(*source) for source in sources]
            firsts, ends = await asyncio.gather(client.beginning_offsets(wanted), client.end_offsets(wanted))
            return {source: (firsts[KafkaPartition(*source)], ends[KafkaPartition(*source)]) for source in sources}

        return await self._ask("asking where partitions end", call) if sources else {}

    async def states(
        self, topics: Collection[str], *, optional: Collection[str] = (), timeout_s: float | None = None
    ) -> Mapping[str, TopicState]:
        """Return the state of those of ``topics`` that exist, and of those ``optional`` ones that this user may see.

        Raises RefusedError when this user may not see one of ``topics``, or BrokerUnavailableError.
        """

        attempt_s = self._attempt_s if timeout_s is None else timeout_s / _ATTEMPTS

        async def call() -> Mapping[str, TopicState]:
            async with asyncio.timeout(attempt_s):
                response = await (await self.admin())._send_request(TopicMetadata([*topics, *optional]))
            found = {}
            for code, topic, topic_id, _, partitions, *_ in response.topics:
                if code == 0:
                    found[topic] = TopicState(len(partitions), topic_id.hex())
                elif topic in topics and code != kafka.UnknownTopicOrPartitionError.errno:
                    raise_for(code, topic)
            return found

        return await self._ask("asking for its topics", call, timeout_s)

    async def state(self, topic: str, declared: Mapping[str, TopicSpec]) -> TopicState:
        """Return the state of ``topic``; any node can respond.

        Raises TopicMismatchError when it is missing, or its partition count is not the ``declared`` one.
        """
        found = await self.states([topic])
        self._link.check_present([topic], found)
        check_count(declared, topic, found[topic].partitions, self._link.where)
        return found[topic]

    async def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return how many partitions each of ``topics`` has. Raises TopicMismatchError for one that does not exist."""
        found = await self.states(topics)
        self._link.check_present(topics, found)
        return {topic: found[topic].partitions for topic in topics}

    async def static_member(self, group: str, instance_id: str) -> StaticMember | None:
        """Return the member that joined ``group`` as ``instance_id``, or None. Raises BrokerUnavailableError."""
        # The id that Kafka gives a static member begins with its name; the response has the name nowhere else.
        pattern = re.compile(re.escape(instance_id) + "-[0-9A-Za-z_-]{22,36}")

        async def call() -> StaticMember | None:
            async with asyncio.timeout(self._attempt_s):
                (response,) = await (await self.admin()).describe_consumer_groups([group])
            code, _, state, _, _, members, *_ = response.groups[0]
            raise_for(code, group)
            member = next((member for member in members if pattern.fullmatch(member[0])), None)
            if member is None:
                return None
            note = ConsumerProtocol.METADATA.decode(member[3]).user_data or b"" if state == "Stable" else None
            return StaticMember(member[0], note)

        return await self._ask(f"asking for the members of group {group}", call)

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()
        client, self._offsets_client = self._offsets_client, None
        if client is not None:
            self._link.client_shutdown.stop(client)

    async def _ask(self, doing: str, call: Callable[[], Awaitable[Result]], timeout_s: float | None = None) -> Result:
        try:
            return await self._link.ask(doing, call, timeout_s)
        except RefusedError:
            # New clients read the password again; these would keep the old one.
            await self.close()
            raise

    async def _ask_coordinator(
        self, node: int, group: str, sources: Collection[TopicPartition], *, stable: bool
    ) -> Mapping[TopicPartition, tuple[int, str, int]]:
        """Return what ``node`` reports per partition. Raises aiokafka's error when it refuses to."""
        admin = await self.admin()
        response = await admin._send_request(OffsetFetch(group, sources, stable=stable), node)
        raise_for(response.error_code, group)
        found = codes_by_partition(response)
        if set(found) != set(sources):
            raise kafka.NotCoordinatorForGroupError(f"node {node} left out partitions of group {group}")
        return found

    async def _connect_offsets_client(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._offsets_client is None:
                client = AIOKafkaConsumer(**self._link.client_options(), **self._link.fetch_options(()))
                try:
                    await client.start()
                except BaseException:
                    self._link.client_shutdown.stop(client)
                    raise
                self._offsets_client = client
            return self._offsets_client


def _to_offset(group: str, topic: str, offset: int, metadata: str, code: int) -> OffsetAndMetadata | None:
    """Convert the response for one partition. Raises aiokafka's error for its code; a retriable one while unstable."""
    if code == UNSTABLE_OFFSET_COMMIT:
        raise kafka.CoordinatorLoadInProgressError(f"a transaction of group {group} is in progress")
    if code:
        error = kafka.for_code(code)
        raise error(topic if error is kafka.TopicAuthorizationFailedError else group)
    return OffsetAndMetadata(offset, metadata) if offset >= 0 else None


async def group_lag(
    queries: ClusterQueries, group: str, sources: Collection[TopicPartition]
) -> Mapping[TopicPartition, int]:
    """Return per partition how many offsets are between what ``group`` has committed and the last stable one."""
    if not sources:
        return {}
    committed = await queries.committed(group, sources)
    bounds = await queries.bounds(sources)
    return {source: max(0, end - next_to_read(committed[source], first)) for source, (first, end) in bounds.items()}
