"""A sink that holds instead of making dead letters, and how it continues without a restart."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from infra.broker.partitioning import partition_for
from infra.broker.port import Loss, OutRecord, TopicPartition
from infra.consuming.batch_writer import BatchSize
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.errors import RecordError, RefusedError, TooSlowError, TopicMismatchError
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.events import FrameCaptured, LostRange
from schemas.topics import FRAMES_LIVE, load_topics
from standgale.testing import waiting
from standgale.testing.factories import out_record
from tests.harnesses.sink_runs import RETRY, SINKS, FaultyBroker, ListSink, dead, frame, lag, publish, running, until


def in_order(numbers: list[int], devices: int) -> bool:
    lanes = [[number for number in numbers if number % devices == device] for device in range(devices)]
    return all(lane == sorted(lane) for lane in lanes)


class Switch:
    """A sink's fault that a test turns off."""

    def __init__(self, fault: Callable[[list[int]], None]) -> None:
        self.on = True
        self.fault = fault

    def __call__(self, numbers: list[int]) -> None:
        if self.on:
            self.fault(numbers)


def fails(error: Exception, *bad: int) -> Callable[[list[int]], None]:
    """Raise ``error`` for batches with one of the numbers ``bad``, or for all when there are none."""

    def fault(numbers: list[int]) -> None:
        if not bad or set(bad) & set(numbers):
            raise error

    return fault


async def test_records_that_all_fail_are_held_until_they_succeed(broker: FaultyBroker) -> None:
    switch = Switch(fails(KeyError("trigger")))
    sink = ListSink(name="alike", faults=switch)
    await publish(broker, *[out_record(frame(number, f"cam-{number % 3}")) for number in range(12)])
    async with running(broker, sink) as run:
        await until(lambda: len(sink.batches) > 40, run)
        assert "no other record succeeds" in (run.part.reason or "")
        assert "KeyError: 'trigger'" in (run.part.reason or "")
        assert await lag(broker, sink) == 12
        switch.on = False
        await until(lambda: len(sink.written) == 12, run)
        await until(lambda: run.part.reason is None, run)
    assert sorted(sink.written) == list(range(12))
    assert in_order(sink.written, 3)
    assert await dead(broker) == []
    assert await lag(broker, sink) == 0


async def test_record_that_fails_alone_is_dead_and_devices_keep_order(broker: FaultyBroker) -> None:
    sink = ListSink(name="alone", faults=fails(KeyError("odd"), 4, 5, 9))
    await publish(broker, *[out_record(frame(number, f"cam-{number % 3}")) for number in range(15)])
    async with running(broker, sink) as run:
        await until(lambda: len(sink.written) == 12, run)
    assert in_order(sink.written, 3)
    letters = await dead(broker)
    assert sorted(letter.frame_id.int for letter in letters if letter.frame_id) == [4, 5, 9]
    assert {letter.reason for letter in letters} == {"UNEXPECTED_ERROR"}
    assert await lag(broker, sink) == 0


async def test_failing_record_without_other_record_is_held_until_one_succeeds(broker: FaultyBroker) -> None:
    sink = ListSink(name="lonely", faults=fails(ValueError("odd"), 1))
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: sink.batches.count([1]) > 8, run)
        assert await dead(broker) == []
        assert "no other record succeeds" in (run.part.reason or "")
        await publish(broker, out_record(frame(2)))
        await until(lambda: sink.written == [2], run)
        await until(lambda: run.part.reason is None, run)
    (letter,) = await dead(broker)
    assert letter.frame_id is not None
    assert letter.frame_id.int == 1
    assert await lag(broker, sink) == 0


async def test_too_many_dead_letters_hold_the_sink_and_name_the_setting(broker: FaultyBroker) -> None:
    switch = Switch(fails(RecordError("the column is too short")))
    sink = ListSink(name="flood", faults=switch)
    await publish(broker, *[out_record(frame(number)) for number in range(60)])
    retry = RETRY.model_copy(update={"min_dead": 10})
    async with running(broker, sink, retry=retry) as run:
        await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (run.part.reason or ""), run)
        assert "with this record 10 of 10" in (run.part.reason or "")
        assert await dead(broker) == []
        switch.on = False
        await until(lambda: len(sink.written) == 51, run)
        await until(lambda: run.part.reason is None, run)
    assert sink.written == list(range(9, 60))
    assert len(await dead(broker)) == 9


async def test_many_records_without_event_open_the_breaker(broker: FaultyBroker) -> None:
    sink = ListSink(name="garbage")
    junk = [OutRecord(FRAMES_LIVE, "cam-1", b"junk", out_record(frame(0)).headers) for _ in range(30)]
    await publish(broker, *junk)
    async with running(broker, sink) as run:
        await until(lambda: "too many dead letters" in (run.part.reason or ""), run)
        assert await lag(broker, sink) == 30
    allowed = RETRY.model_copy(update={"max_dead_share": 1.0})
    async with running(broker, sink, retry=allowed) as run:
        await publish(broker, out_record(frame(1)))
        await until(lambda: sink.written == [1], run)
    assert len(await dead(broker)) == 30


async def test_a_batch_that_takes_too_long_is_halved_until_it_is_written(broker: FaultyBroker) -> None:
    tries: list[int] = []

    def slow(numbers: list[int]) -> None:
        tries.append(len(numbers))
        if len(numbers) > 12:
            raise TooSlowError("took longer than 3 s")

    sink = ListSink(name="slow", faults=slow)
    await publish(broker, *[out_record(frame(number, f"cam-{number % 4}")) for number in range(200)])
    async with running(broker, sink, sinks=BatchSettings(batch_records=100, batch_wait_s=0.0)) as run:
        await until(lambda: len(sink.written) == 200, run)
        # 12, or another size where the machine was busy: a larger one is tried when a write was quick for its size.
        assert re.search(r"writes at most \d+ records at once", run.part.report().note or "")
    assert in_order(sink.written, 4)
    assert await dead(broker) == []
    assert tries[:4] == [100, 50, 25, 12]


async def test_a_single_record_that_takes_too_long_is_held(broker: FaultyBroker) -> None:
    switch = Switch(fails(TooSlowError("took longer than 3 s")))
    sink = ListSink(name="slowest", faults=switch)
    await publish(broker, *[out_record(frame(number)) for number in range(4)])
    async with running(broker, sink) as run:
        await until(lambda: sink.batches.count([0]) > 3, run)
        assert run.part.reason == "writing to slowest: took longer than 3 s"
        switch.on = False
        await until(lambda: len(sink.written) == 4, run)
    assert sink.written == [0, 1, 2, 3]


def test_batch_size_grows_only_when_twice_as_many_fit_the_time_limit() -> None:
    size = BatchSize(100)
    size.written(100, 5.0)
    assert (size.limit, size.note) == (100, None)
    size.too_slow(100, 3.0)
    assert size.limit == 50
    size.written(50, 1.5)
    assert size.limit == 50
    size.written(20, 0.1)
    assert size.limit == 50
    assert "at most 50 records" in (size.note or "")
    size.written(50, 0.5)
    assert (size.limit, size.note) == (100, None)
    for _ in range(10):
        size.too_slow(size.limit, 3.0)
    assert size.limit == 1


async def test_without_its_dead_letter_topic_only_that_partition_is_held(broker: FaultyBroker) -> None:
    sink = ListSink(name="nowhere", faults=fails(RecordError("bad"), 1))
    broker.faults["letters"] = [
        TopicMismatchError("topic sinks.dead does not exist; run: standgale topics apply")
    ] * 500
    await publish(broker, *[out_record(frame(number, f"cam-{number}")) for number in range(16)])
    async with running(broker, sink) as run:
        await until(lambda: bool(run.part.reason) and "sinks.dead does not exist" in (run.part.reason or ""), run)
        await publish(broker, *[out_record(frame(number, f"cam-{number % 16}")) for number in range(16, 64)])
        devices = together(1)
        mine = {number for number in range(64) if number % 16 in devices}
        await until(lambda: set(sink.written) >= set(range(64)) - mine, run)
        await until_lag(broker, sink, len(mine))
        broker.faults["letters"].clear()
        await until(lambda: run.part.reason is None and len(sink.written) == 63, run)
        await until_lag(broker, sink, 0)
    (letter,) = await dead(broker)
    assert letter.reason == "RECORD_ERROR"
    assert sorted(sink.written) == [number for number in range(64) if number != 1]


def together(number: int) -> set[int]:
    """Of the devices cam-0 to cam-15 those that share a partition with cam-``number``."""
    partitions = load_topics()[FRAMES_LIVE].partitions
    lanes = [partition_for(f"cam-{device}", partitions) for device in range(16)]
    return {device for device in range(16) if lanes[device] == lanes[number]}


async def until_lag(broker: FaultyBroker, sink: ListSink, wanted: int) -> None:
    async def reached() -> bool:
        return await lag(broker, sink) == wanted

    await waiting.until(reached)


def too_new(event: FrameCaptured) -> OutRecord:
    new = out_record(event)
    headers = tuple(
        (name, b"standgale.frame.captured.v2" if name == "ce_type" else value) for name, value in new.headers
    )
    return OutRecord(new.topic, new.key, new.value, headers)


async def test_an_event_of_a_newer_version_holds_its_partition_and_is_no_dead_letter(
    broker: FaultyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ListSink(name="older")
    await publish(broker, out_record(frame(0)), too_new(frame(1)), out_record(frame(2)))
    await publish(broker, out_record(frame(3, "cam-2")))
    async with running(broker, sink) as run:
        await until(lambda: set(sink.written) == {0, 3}, run)
        await until(lambda: "update this program" in (run.part.reason or ""), run)
        await publish(broker, out_record(frame(4)), out_record(frame(5, "cam-2")))
        await until(lambda: 5 in sink.written, run)
        await until_lag(broker, sink, 3)
        assert "update this program" in (run.part.reason or "")
    assert 2 not in sink.written
    assert await dead(broker) == []
    assert [entry.levelname for entry in caplog.records if "offset 1" in entry.message] == ["ERROR"]


async def test_loss_after_event_of_newer_version_is_not_committed_by_sink(broker: FaultyBroker) -> None:
    sink = ListSink(name="waiting")
    place = TopicPartition(FRAMES_LIVE, partition_for("cam-1", load_topics()[FRAMES_LIVE].partitions))
    await publish(broker, out_record(frame(0)), too_new(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: "update this program" in (run.part.reason or ""), run)
        broker.losses = [Loss(place, first=2, end=15, epoch=broker.assigned[place])]
        for number in (3, 4):
            await publish(broker, out_record(frame(number, "cam-2")))
            await until(lambda: number in sink.written, run)  # noqa: B023 (awaited at once)
        await until_lag(broker, sink, 1)
    assert [commit[place].next_offset for commit in broker.commits if place in commit] == [1]
    assert await dead(broker) == []


async def test_loss_is_reported_once_in_log_health_metric_and_dead_letter(
    broker: FaultyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ListSink(name="losing")
    place = TopicPartition(FRAMES_LIVE, 0)
    async with running(broker, sink) as run:
        await until(lambda: place in broker.assigned, run)
        broker.losses = [Loss(place, first=0, end=15, epoch=broker.assigned[place])]
        await until(lambda: not broker.losses, run)
        await until(lambda: "15 records were lost to retention" in (run.part.report().note or ""), run)
    (letter,) = await dead(broker)
    assert (letter.group, letter.reason, letter.lost) == ("sink.losing", "RECORDS_LOST", LostRange(first=0, end=15))
    assert {place: 15} in [{source: at.next_offset for source, at in commit.items()} for commit in broker.commits]
    labels = {"group": "sink.losing", "topic": FRAMES_LIVE}
    assert REGISTRY.get_sample_value("standgale_records_lost_total", labels) == 15
    assert len([entry for entry in caplog.records if entry.levelname == "ERROR"]) == 1


async def test_lag_read_that_hangs_does_not_stop_the_sink(broker: FaultyBroker) -> None:
    broker.lag_hangs = True
    sink = ListSink(name="lagless")
    async with running(broker, sink) as run:
        for number in range(5):
            await publish(broker, out_record(frame(number)))
            await until(lambda: len(sink.written) == number + 1, run)  # noqa: B023 (awaited at once)


async def test_refused_open_is_retried_and_defect_ends_the_sink(broker: FaultyBroker) -> None:
    class Opening(ListSink):
        errors: list[Exception]

        async def open(self) -> None:
            if self.errors:
                raise self.errors.pop(0)

    sink = Opening(name="refused")
    sink.errors = [RefusedError("password"), TopicMismatchError("topic"), OSError("gone")]
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: sink.written == [1], run)
    sink.errors = [TypeError("a defect")]
    with pytest.raises(TypeError, match="a defect"):
        await SinkRunner(sink, broker, batches=SINKS, retry=RETRY).run(asyncio.Event(), Health().part("defect"))


async def test_a_long_hold_does_not_flood_the_log(broker: FaultyBroker, caplog: pytest.LogCaptureFixture) -> None:
    sink = ListSink(name="quiet", faults=fails(ValueError("odd")))
    await publish(broker, out_record(frame(1)))
    quick = RetrySettings(first_delay_s=0.001, max_delay_s=0.001)
    with caplog.at_level(logging.WARNING):
        async with running(broker, sink, retry=quick) as run:
            await until(lambda: len(sink.batches) > 60, run)
    assert len(caplog.records) < 15
