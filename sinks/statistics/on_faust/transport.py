"""Connects Faust to Kafka, without the defects by which Faust loses records and commits too late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from mode.utils.queues import FlowControlEvent


class KeepingFlowControl(FlowControlEvent):
    """Keeps what waits in the queues when the flow is resumed that was not suspended.

    At the end of a recovery Faust resumes the flow a second time; by then new records may wait, which it would drop.
    """

    def resume(self) -> None:
        """Let records into the queues again, and empty them first when they were suspended."""
        if not self.is_active():
            super().resume()


class ConsumerThread(AIOKafkaConsumerThread):
    """Reads committed records of the wanted partitions only, and reads again whatever has no committed offset."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        # An empty name is a name: all members would have it, never leave the group, and throw each other out of it.
        consumer._group_instance_id = self.app.conf.consumer_group_instance_id or None
        return consumer

    def _start_thread(self) -> None:
        # It is cancelled when it is cut off from Kafka, which is no error.
        with suppress(asyncio.CancelledError):
            super()._start_thread()

    async def getmany(self, active_partitions: Iterable[Any], timeout: float) -> Any:
        """Return records of ``active_partitions``."""
        # Faust changes the set while this waits. An empty one means all partitions to aiokafka, and Faust drops the
        # records that it did not want.
        return await super().getmany(frozenset(active_partitions), timeout)

    async def seek_to_committed(self) -> Mapping[Any, int | None]:
        """Read on from the committed offsets; return them."""
        offsets: Mapping[Any, int | None] = await self.call_thread(self._seek_to_committed)
        return offsets

    async def _seek_to_committed(self) -> Mapping[Any, int | None]:
        """Unlike Faust, read partitions without a committed offset from their start, and seek to the offset 0, too.

        What was read and dropped meanwhile would be lost.
        """
        consumer = self._ensure_consumer()
        changelogs = self.app.tables.changelog_topics
        partitions = consumer.assignment()
        offsets = {each: None if each.topic in changelogs else await consumer.committed(each) for each in partitions}
        for partition, offset in offsets.items():
            if offset is not None:
                consumer.seek(partition, offset)
        unknown = [each for each, offset in offsets.items() if offset is None and each.topic not in changelogs]
        if unknown:
            await consumer.seek_to_beginning(*unknown)
        return offsets


class FaustConsumer(Consumer):
    """Commits up to the last acknowledged record, also beyond the marks of transactions."""

    def _new_consumer_thread(self) -> Any:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        # Faust takes the record after a gap for a part of it. Acknowledged twice, it ends the run of offsets that one
        # commit covers: each commit would go as far as the next gap only, and transactions make a gap each.
        await super()._add_gap(tp, offset_from, offset_to - 1)


class FaustTransport(Transport):
    """Makes consumers of this module."""

    Consumer = FaustConsumer
