"""Lists all consumer groups of a Kafka cluster with their lag, and deletes groups."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka import errors as kafka
from aiokafka.protocol.admin import DeleteGroupsRequest

from infra.broker.checks import group_in_use, group_not_found
from infra.broker.kafka.connection.error_translation import raise_for
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.queries.committed import all_partitions, next_to_read
from infra.broker.kafka.reader import KafkaReader
from infra.broker.port import GroupState, TopicPartition

_HAS_MEMBERS = kafka.NonEmptyGroup.errno
_ABSENT = kafka.GroupIdNotFound.errno


class Groups:
    """Reads all groups of the cluster. ``counts`` has the cluster's topics and their partition counts."""

    def __init__(self, link: Link, queries: ClusterQueries) -> None:
        self._link = link
        self._queries = queries
        # An administrator needs the topics as they are, also when they are not as declared.
        self._reader = KafkaReader(link, declared={})

    async def lags(self, counts: Mapping[str, int]) -> Mapping[str, Mapping[str, int]]:
        """Return per topic the groups that committed on it and have not read all of it, with the lag of each."""
        found: dict[str, dict[str, int]] = {}
        for group in await self._names() if counts else ():
            for source, (lag, _) in (await self._unread(group, counts)).items():
                if lag:
                    behind = found.setdefault(source.topic, {})
                    behind[group] = behind.get(group, 0) + lag
        return found

    async def states(self, counts: Mapping[str, int]) -> list[GroupState]:
        """Return every group, by name."""
        return [await self._state(name, counts) for name in await self._names()]

    async def delete(self, name: str) -> None:
        """Delete the group ``name``. Raises GroupError when it has members or does not exist."""

        async def call() -> int:
            admin = await self._queries.admin()
            coordinator = await admin.find_coordinator(name)
            response = await admin._send_request(DeleteGroupsRequest([name]), coordinator)
            code = int(response.results[0][1])
            if code not in (_HAS_MEMBERS, _ABSENT):
                raise_for(code, name)
            return code

        code = await self._link.ask(f"deleting group {name}", call)
        if code == _HAS_MEMBERS:
            raise group_in_use(name)
        if code == _ABSENT:
            raise group_not_found(name, self._link.where)

    async def close(self) -> None:
        """Release all resources."""
        await self._reader.close()

    async def _names(self) -> list[str]:
        async def call() -> list[str]:
            return sorted(group[0] for group in await (await self._queries.admin()).list_consumer_groups())

        return await self._link.ask("listing groups", call)

    async def _state(self, name: str, counts: Mapping[str, int]) -> GroupState:
        unread = await self._unread(name, counts)
        members = await self._members(name)
        times = [oldest_ms for _, oldest_ms in unread.values() if oldest_ms is not None]
        return GroupState(
            name=name,
            members=members,
            topics=tuple(sorted({source.topic for source in unread})),
            lag=sum(lag for lag, _ in unread.values()),
            seen_ms=time.time_ns() // 1_000_000 if members else None,
            oldest_unread_ms=min(times, default=None),
        )

    async def _members(self, name: str) -> int:
        async def call() -> int:
            responses = await (await self._queries.admin()).describe_consumer_groups([name])
            return sum(len(group[5]) for response in responses for group in response.groups)

        return await self._link.ask(f"asking for the members of group {name}", call)

    async def _unread(self, group: str, counts: Mapping[str, int]) -> Mapping[TopicPartition, tuple[int, int | None]]:
        """Return the lag of ``group`` and the time of the first record it has not read.

        Both are per partition of the topics on which it has committed.
        """
        committed = await self._queries.committed(group, all_partitions(counts))
        topics = {source.topic for source, at in committed.items() if at is not None}
        unread: dict[TopicPartition, tuple[int, int | None]] = {}
        bounds = await self._queries.bounds([source for source in committed if source.topic in topics])
        for source, (first, end) in bounds.items():
            next_offset = next_to_read(committed[source], first)
            records = (
                await self._reader.read(source, next_offset, max_records=1, timeout_s=0) if next_offset < end else []
            )
            # The offsets before the end may be markers of transactions, which are not records.
            unread[source] = (end - next_offset, records[0].timestamp_ms) if records else (0, None)
        return unread
