"""Implements the broker port on one SQLite file: opens its clients and applies the declared topics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from infra.broker import growth
from infra.broker.embedded.admin import EmbeddedAdmin
from infra.broker.embedded.file import catalog, log
from infra.broker.embedded.file.log import Transaction
from infra.broker.embedded.group.consumer import EmbeddedConsumer
from infra.broker.embedded.publisher import EmbeddedPublisher
from infra.broker.embedded.reader import EmbeddedReader
from infra.broker.embedded.store import Store
from infra.broker.port import Admin, Broker, Consumer, GroupSpec, Publisher, Reader, TopicDifference
from schemas.topics import TopicSpec


class EmbeddedBroker(Broker):
    """Implements :class:`infra.broker.port.Broker` on the file ``path``, for all processes of this machine.

    The file is created, and ``topics`` are applied to it, when the first client is opened. When a topic cannot be
    corrected, only the admin opens; the other clients raise TopicMismatchError. All raise BrokerUnavailableError when
    the file cannot be used.

    Standgale creates and alters topics here, and never deletes one. When another process gives a topic a partition
    count that ``topics`` does not declare, every client raises TopicMismatchError from then on, and consumers leave
    their group.

    When the file is removed, moved away or replaced while in use, all raise BrokerUnavailableError until it is back
    under its name; no new one is created before the process is restarted.

    Processes take turns at writing. A process that is stopped (not killed) in the middle of a write blocks all others
    until it continues or ends; they raise BrokerUnavailableError during that time.
    """

    def __init__(self, path: Path, topics: Mapping[str, TopicSpec]) -> None:
        self._path = path
        self._topics = topics
        self._store: Store | None = None
        self._differences: list[TopicDifference] = []
        self._opening = asyncio.Lock()

    async def publisher(self) -> Publisher:
        """See the port."""
        return EmbeddedPublisher(await self._open_checked())

    async def consumer(self, spec: GroupSpec) -> Consumer:
        """See the port. Raises TopicMismatchError when a topic of ``spec`` does not exist."""
        store = await self._open_checked()
        await store.read(partial(catalog.check_topics, names=spec.topics, declared=store.declared))
        return EmbeddedConsumer(store, spec)

    async def reader(self) -> Reader:
        """See the port."""
        return EmbeddedReader(await self._open_checked())

    async def admin(self) -> Admin:
        """See the port."""
        return EmbeddedAdmin(await self._open())

    async def close(self) -> None:
        """See the port."""
        async with self._opening:
            if self._store is not None:
                await self._store.close()

    async def _open_checked(self) -> Store:
        store = await self._open()
        if self._differences:
            # The topics may have been corrected since, or topics that are to grow may have been read completely.
            self._differences = await store.writer.run(self._apply_topics)
        growth.raise_for_differences(self._differences, catalog.WHERE)
        return store

    async def _open(self) -> Store:
        async with self._opening:
            if self._store is None:
                store = Store(self._path, self._topics)
                try:
                    self._differences = await store.writer.run(self._apply_topics)
                except BaseException:
                    await store.close()
                    raise
                self._store = store
            return self._store

    def _apply_topics(self, transaction: Transaction) -> list[TopicDifference]:
        found = log.apply_topics_in(transaction, self._topics.values())
        # Nothing is changed when anything is refused.
        return found if any(not difference.fixable for difference in found) else []
