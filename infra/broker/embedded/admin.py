"""The embedded broker's admin: topics and lag."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from infra.broker.embedded import catalog, log
from infra.broker.embedded.log import Transaction
from infra.broker.embedded.store import Store
from infra.broker.port import TopicDifference, TopicPartition
from schemas.topics import TopicSpec


class EmbeddedAdmin:
    """Implements :class:`infra.broker.port.Admin`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port. Replication is not compared: one file has one copy."""
        return catalog.compare(await self._store.read(catalog.load), specs)

    async def apply(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """See the port; what can be mended is mended also when it raises for the rest."""

        def mend(transaction: Transaction) -> list[TopicDifference]:
            return catalog.mend(transaction.connection, specs)

        differences = await self._store.writer.run(mend)
        catalog.refuse([found for found in differences if not found.fixable])
        return differences

    async def group_lag(self, group: str, topics: Collection[str]) -> Mapping[TopicPartition, int]:
        """See the port. Raises TopicMismatchError for an unknown topic."""
        return await self._store.read(partial(log.lag, group=group, topics=topics))

    async def close(self) -> None:
        """See the port; an admin holds nothing of its own."""
