"""Reads partitions of the embedded broker at any offset, without a group."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Mapping
from functools import partial

from infra.broker.checks import check_partition
from infra.broker.embedded.file import catalog, log
from infra.broker.embedded.file.log import ReadRequest, ReadResult
from infra.broker.embedded.store import Store
from infra.broker.embedded.watcher import Ends
from infra.broker.port import InRecord, TopicPartition, TopicState
from infra.errors import TopicMismatchError
from schemas.topics import TopicSpec


class EmbeddedReader:
    """Implements :class:`infra.broker.port.Reader`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # The slot that each partition had at its last read.
        self._slots: dict[TopicPartition, int] = {}

    async def state(self, topic: str) -> TopicState:
        """See the port."""
        return await self._store.read(partial(catalog.topic_state, name=topic, declared=self._store.declared))

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        """See the port."""
        for source in [source for source in self._slots if source.topic == topic]:
            del self._slots[source]
        found = await self._store.read(partial(log.bounds, name=topic, declared=self._store.declared))
        return {number: bounds for number, bounds in found.items() if partitions is None or number in partitions}

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        """See the port. Raises TopicMismatchError for an unknown partition too."""
        slot, result = await self._store.read(
            partial(_begin, source=source, offset=offset, max_records=max_records, declared=self._store.declared)
        )
        if self._slots.setdefault(source, slot) != slot:
            del self._slots[source]
            raise TopicMismatchError(
                f"topic {source.topic} was deleted and created again since the last read; start again from its bounds"
            )
        deadline = asyncio.get_running_loop().time() + timeout_s

        def has_more(ends: Ends) -> bool:
            return ends.offsets.get(slot, 0) > offset

        while not result.records and max_records > 0:
            offset = result.read_on.get(source, offset)
            if not await self._store.watcher.wait(has_more, deadline - asyncio.get_running_loop().time()):
                return []
            requests = (ReadRequest(source, slot, offset),)
            result = await self._store.read(partial(log.read, requests=requests, max_records=max_records))
        return result.records

    async def close(self) -> None:
        """See the port; a reader holds no resources."""


def _begin(
    connection: sqlite3.Connection,
    source: TopicPartition,
    offset: int,
    max_records: int,
    declared: Mapping[str, TopicSpec],
) -> tuple[int, ReadResult]:
    """Return the slot of ``source``, and its first records from ``offset`` on."""
    slots = catalog.find_topic(catalog.load_topics(connection), source.topic, declared).slots
    check_partition(source, len(slots))
    slot = slots[source.partition]
    end = log.load_ends(connection)[slot]
    if offset > end:
        raise TopicMismatchError(
            f"{source.topic}/{source.partition} ends at offset {end}, before the next one to read ({offset}): the "
            "topic was deleted and created again; start again from its bounds"
        )
    return slot, log.read(connection, (ReadRequest(source, slot, offset),), max_records)
