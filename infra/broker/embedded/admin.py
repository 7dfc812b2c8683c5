"""Checks and applies topics of the embedded broker, and lists and deletes its groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from infra.broker import growth
from infra.broker.embedded.file import catalog, log
from infra.broker.embedded.group import known_groups
from infra.broker.embedded.store import Store
from infra.broker.port import GroupState, TopicDifference, TopicPartition
from schemas.topics import TopicSpec


class EmbeddedAdmin:
    """Implements :class:`infra.broker.port.Admin`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port. Replication is not compared: one file has one copy."""
        return await self._store.read(partial(catalog.compare_topics, specs=specs))

    async def apply(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port."""
        differences = await self._store.writer.run(partial(log.apply_topics_in, specs=specs))
        growth.raise_for_differences(differences, catalog.WHERE)
        return differences

    async def group_lag(self, group: str, topics: Collection[str]) -> Mapping[TopicPartition, int]:
        """See the port. Raises TopicMismatchError for an unknown topic."""
        return await self._store.read(partial(log.lag, group=group, topics=topics))

    async def groups(self) -> Sequence[GroupState]:
        """See the port."""
        return await self._store.read(known_groups.group_states)

    async def forget_group(self, name: str) -> None:
        """See the port. Members whose session is over do not count."""
        await self._store.writer.run(partial(known_groups.delete_group, name=name))

    async def close(self) -> None:
        """See the port; an admin holds no resources."""
