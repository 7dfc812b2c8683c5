"""What Faust reads from Kafka is neither dropped nor held back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("faust")

from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from mode.utils.queues import FlowControlQueue

from sinks.statistics.on_faust.transport import ConsumerThread, KeepingFlowControl


async def test_partitions_that_are_paused_while_records_are_awaited_do_not_widen_the_wish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = {TP("changelog", 0)}

    async def getmany(_: Any, active_partitions: Any, timeout: float) -> Any:
        wanted.clear()
        return active_partitions

    monkeypatch.setattr(AIOKafkaConsumerThread, "getmany", getmany)
    thread = ConsumerThread.__new__(ConsumerThread)
    assert await thread.getmany(wanted, 1.0) == {TP("changelog", 0)}


async def test_partitions_without_a_commit_are_read_from_their_start() -> None:
    committed = {TopicPartition("detections", 0): 7, TopicPartition("detections", 1): 0}
    partitions = [*committed, TopicPartition("detections", 2), TopicPartition("changelog", 2)]
    sought: dict[TopicPartition, int | str] = {}

    class Consumer:
        def assignment(self) -> list[TopicPartition]:
            return partitions

        async def committed(self, partition: TopicPartition) -> int | None:
            return committed.get(partition)

        def seek(self, partition: TopicPartition, offset: int) -> None:
            sought[partition] = offset

        async def seek_to_beginning(self, *missing: TopicPartition) -> None:
            sought.update(dict.fromkeys(missing, "start"))

    thread = ConsumerThread.__new__(ConsumerThread)
    thread._consumer = Consumer()
    thread.app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={"changelog"}))
    offsets = await thread._seek_to_committed()
    assert sought == committed | {TopicPartition("detections", 2): "start"}
    assert offsets == dict.fromkeys(partitions) | committed


async def test_a_flow_that_is_resumed_twice_keeps_what_came_in_between() -> None:
    flow = KeepingFlowControl()
    queue: Any = FlowControlQueue(flow_control=flow, clear_on_resume=True)
    queue.put_nowait("before")
    flow.resume()
    assert queue.empty()
    queue.put_nowait("between")
    flow.resume()
    assert queue.get_nowait() == "between"
    queue.put_nowait("late")
    flow.suspend()
    flow.resume()
    assert queue.empty()
