"""The consumer loop on the embedded broker: failing, slow, wrong, lost and too large records, and stops."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from infra.broker.port import OutRecord
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.errors import BrokerUnavailableError, DatabaseUnavailableError, RecordError
from infra.failure.retry import run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_LIVE, SINKS_DEAD, load_topics
from standgale.testing.factories import out_record
from tests.harnesses.sink_runs import RETRY, SINKS, FaultyBroker, ListSink, dead, frame, lag, publish, running, until


async def test_every_event_is_written_in_order_and_committed(broker: FaultyBroker) -> None:
    sink = ListSink()
    events = [frame(number, f"cam-{number % 5}") for number in range(60)]
    await publish(broker, *map(out_record, events))
    async with running(broker, sink, sinks=BatchSettings(batch_records=7, batch_wait_s=0.0)) as run:
        await until(lambda: len(sink.written) == 60, run)
        assert run.part.reason is None
    assert sorted(sink.written) == list(range(60))
    for device in range(5):
        mine = [number for number in sink.written if number % 5 == device]
        assert mine == sorted(mine)
    assert max(map(len, sink.batches)) <= 7
    assert await lag(broker, sink) == 0
    assert (sink.opened, sink.closed) == (1, 1)
    assert await dead(broker) == []


async def test_restarted_sink_continues_at_committed_offset(broker: FaultyBroker) -> None:
    first, second = ListSink(), ListSink()
    await publish(broker, out_record(frame(1)))
    async with running(broker, first) as run:
        await until(lambda: first.written == [1], run)
    await publish(broker, out_record(frame(2)))
    async with running(broker, second) as run:
        await until(lambda: second.written == [2], run)
    assert (first.written, second.written) == ([1], [2])


async def test_batch_waits_while_database_is_unavailable_and_health_reports_it(broker: FaultyBroker) -> None:
    away = True

    def faults(_: list[int]) -> None:
        if away:
            raise DatabaseUnavailableError("the database is starting up")

    sink = ListSink(name="waits", faults=faults)
    await publish(broker, *[out_record(frame(number)) for number in range(3)])
    async with running(broker, sink) as run:
        await until(lambda: len(sink.batches) >= 5, run)
        assert run.part.reason == "writing to waits: the database is starting up"
        assert broker.commits == []
        away = False
        await until(lambda: run.part.reason is None and bool(broker.commits), run)
    assert sink.written == [0, 1, 2]
    assert {tuple(batch) for batch in sink.batches} == {(0, 1, 2)}
    labels = {"group": "sink.waits", "reason": "DATABASE_UNAVAILABLE"}
    assert (REGISTRY.get_sample_value("standgale_retries_total", labels) or 0) >= 5
    assert await dead(broker) == []


async def test_stop_while_database_is_unavailable_commits_nothing(broker: FaultyBroker) -> None:
    def faults(_: list[int]) -> None:
        raise ConnectionRefusedError("nobody there")

    sink = ListSink(name="stopped", faults=faults)
    await publish(broker, out_record(frame(1)))
    slow = RetrySettings(first_delay_s=3600, max_delay_s=3600)
    async with running(broker, sink, retry=slow) as run:
        await until(lambda: len(sink.batches) == 1, run)
    assert await lag(broker, sink) == 1
    assert sink.closed == 1


async def test_hanging_write_does_not_keep_the_sink_from_stopping(
    broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, thawed = asyncio.Event(), asyncio.Event()

    class Hanging(ListSink):
        async def write(self, events: Sequence[FrameCaptured]) -> None:
            hung.set()
            while not thawed.is_set():
                # As a driver that sends a cancel request to a frozen server.
                with suppress(asyncio.CancelledError):
                    await thawed.wait()

    monkeypatch.setattr(run_until_stop, "__defaults__", (0.1,))
    sink = Hanging(name="hangs")
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(hung.is_set, run)
    assert await lag(broker, sink) == 1
    assert sink.closed == 1
    thawed.set()


async def test_a_poison_record_is_found_and_the_others_are_written(broker: FaultyBroker) -> None:
    def faults(numbers: list[int]) -> None:
        if 11 in numbers:
            raise RecordError("number 11 can't be written")

    sink = ListSink(name="poison", faults=faults)
    records = [out_record(frame(number)) for number in range(20)]
    await publish(broker, *records)
    async with running(broker, sink) as run:
        await until(lambda: len(sink.written) == 19, run)
    assert sink.written == [number for number in range(20) if number != 11]
    assert await lag(broker, sink) == 0
    (letter,) = await dead(broker)
    assert (letter.group, letter.reason, letter.attempts) == ("sink.poison", "RECORD_ERROR", 1)
    assert (letter.device_id, letter.frame_id) == ("cam-1", UUID(int=11))
    assert letter.original.value == records[11].value
    assert tuple(letter.original.headers) == records[11].headers
    assert len(sink.batches) <= 1 + 2 * 5


async def test_unexpected_sink_error_is_logged_and_dead_after_record_attempts(
    broker: FaultyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    def faults(numbers: list[int]) -> None:
        if 1 in numbers:
            raise KeyError("label")

    sink = ListSink(name="bug", faults=faults)
    await publish(broker, *[out_record(frame(number)) for number in range(3)])
    with caplog.at_level(logging.WARNING):
        async with running(broker, sink) as run:
            await until(lambda: sink.written == [0, 2], run)
    (letter,) = await dead(broker)
    assert (letter.reason, letter.attempts, letter.message) == ("UNEXPECTED_ERROR", 3, "KeyError: 'label'")
    assert [batch for batch in sink.batches if batch == [1]] == [[1]] * 3
    last = caplog.records[-1]
    assert last.levelname == "ERROR"
    assert last.exc_info
    labels = {"group": "sink.bug", "topic": FRAMES_LIVE, "reason": "UNEXPECTED_ERROR"}
    assert REGISTRY.get_sample_value("standgale_records_dead_lettered_total", labels) == 1
    assert REGISTRY.get_sample_value("standgale_records_failed_total", labels) == 3
    consumed = {"group": "sink.bug", "topic": FRAMES_LIVE}
    assert REGISTRY.get_sample_value("standgale_records_consumed_total", consumed) == 3


async def test_a_record_that_fails_once_by_chance_is_written(broker: FaultyBroker) -> None:
    tries: Counter[int] = Counter()

    def faults(numbers: list[int]) -> None:
        tries.update(numbers)
        if tries[1] < 3:
            raise ValueError("by chance")

    sink = ListSink(name="chance", faults=faults)
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: sink.written == [1], run)
    assert await dead(broker) == []


async def test_transient_error_of_single_record_is_retried(broker: FaultyBroker) -> None:
    outcomes: list[Exception | None] = [ValueError("odd")] + [DatabaseUnavailableError("away")] * 10 + [None]

    def faults(_: list[int]) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    sink = ListSink(name="mixed", faults=faults)
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: sink.written == [1], run)
    assert await dead(broker) == []


async def test_record_without_event_is_dead_at_once(broker: FaultyBroker) -> None:
    sink = ListSink(name="decode")
    good = out_record(frame(1))
    await publish(
        broker,
        OutRecord(FRAMES_LIVE, "cam-1", b"not json", good.headers),
        OutRecord(FRAMES_LIVE, "cam-1", b"{}", ()),
        OutRecord(FRAMES_LIVE, "cam-1", None, good.headers),
        good,
    )
    async with running(broker, sink) as run:
        await until(lambda: sink.written == [1], run)
    letters = await dead(broker)
    assert [letter.reason for letter in letters] == ["INVALID_EVENT"] * 3
    assert [letter.original.value for letter in letters] == [b"not json", b"{}", None]
    assert await lag(broker, sink) == 0


async def test_a_lost_partition_keeps_the_others_committed(broker: FaultyBroker) -> None:
    sink = ListSink(name="lost")
    events = [frame(number, f"cam-{number}") for number in range(16)]
    await publish(broker, *map(out_record, events))
    reader = await broker.reader()
    sizes = {partition: end for partition, (_, end) in (await reader.bounds(FRAMES_LIVE)).items() if end}
    lost = next(iter(sizes))
    assert len(sizes) > 1
    broker.lost = {lost}
    async with running(broker, sink) as run:
        await until(lambda: sum(len(commit) for commit in broker.commits) == len(sizes) - 1, run)
    assert await lag(broker, sink) == sizes[lost]
    assert (REGISTRY.get_sample_value("standgale_partitions_lost_total", {"group": "sink.lost"}) or 0) >= 1


async def test_waiting_batch_is_dropped_when_its_partition_is_lost(broker: FaultyBroker) -> None:
    def faults(_: list[int]) -> None:
        if not broker.hidden:
            raise DatabaseUnavailableError("away")

    sink = ListSink(name="gone", faults=faults)
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: len(sink.batches) >= 2, run)
        broker.hidden = set(range(8))
        await until(lambda: run.part.reason is None, run)
    assert sink.written == []
    assert await lag(broker, sink) == 1


async def test_sink_waits_while_broker_is_unavailable(broker: FaultyBroker) -> None:
    def away() -> BrokerUnavailableError:
        return BrokerUnavailableError("broker away")

    broker.faults = {"consumer": [away()] * 2, "poll": [away()] * 3, "commit": [away()] * 3, "lag": [away()]}
    sink = ListSink(name="away")
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: bool(broker.commits), run)
        await until(lambda: run.part.reason is None, run)
    assert sink.written == [1]
    assert await lag(broker, sink) == 0
    assert broker.faults == {"consumer": [], "poll": [], "commit": [], "lag": []}


async def test_open_retries_transient_errors_and_raises_others(broker: FaultyBroker) -> None:
    class Opening(ListSink):
        faults_left = 2
        bad: Exception | None = None

        async def open(self) -> None:
            await super().open()
            if self.bad is not None:
                raise self.bad
            if self.opened <= self.faults_left:
                raise DatabaseUnavailableError("starting up")

    sink = Opening(name="opening")
    await publish(broker, out_record(frame(1)))
    async with running(broker, sink) as run:
        await until(lambda: sink.written == [1], run)
    assert (sink.opened, sink.closed) == (3, 1)

    wrong = Opening(name="wrong")
    wrong.bad = RecordError("no such table; run standgale migrate up")
    runner = SinkRunner(wrong, broker, batches=SINKS, retry=RETRY)
    with pytest.raises(RecordError):
        await runner.run(asyncio.Event(), Health().part("wrong"))
    assert wrong.closed == 1


async def test_an_original_too_large_for_the_dead_letters_is_left_out(tmp_path: Path) -> None:
    topics = load_topics()
    topics[SINKS_DEAD] = topics[SINKS_DEAD].model_copy(update={"max_message_bytes": 20_000})
    broker = FaultyBroker(tmp_path / "small.sqlite", topics)
    good = out_record(frame(1))
    await publish(
        broker,
        OutRecord(FRAMES_LIVE, "cam-1", b"x" * 1_000, good.headers),
        OutRecord(FRAMES_LIVE, "cam-1", b"y" * 100_000, good.headers),
        good,
    )
    sink = ListSink(name="large")
    async with running(broker, sink) as run:
        await until(lambda: sink.written == [1], run)
    letters = await dead(broker)
    assert [letter.original.omitted for letter in letters] == [False, True]
    assert letters[0].original.value == b"x" * 1_000
    assert "original of 100000 bytes left out" in letters[1].message
    assert await lag(broker, sink) == 0
    await broker.close()


async def test_a_batch_gathers_until_it_is_full_or_its_time_is_up(broker: FaultyBroker) -> None:
    sink = ListSink(name="gather")
    settings = BatchSettings(batch_records=10, batch_wait_s=60.0)
    async with running(broker, sink, sinks=settings) as run:
        for number in range(10):
            await publish(broker, out_record(frame(number)))
        await until(lambda: len(sink.written) == 10, run)
    assert sink.batches == [list(range(10))]


async def test_large_records_make_small_batches(broker: FaultyBroker) -> None:
    sink = ListSink(name="bytes")
    event = frame(1).model_copy(update={"metadata": {"note": "z" * 50_000}})
    records = [out_record(event.model_copy(update={"frame_id": UUID(int=number)})) for number in range(40)]
    settings = BatchSettings(batch_records=500, batch_bytes=500_000, batch_wait_s=0.0)
    await publish(broker, *records)
    async with running(broker, sink, sinks=settings) as run:
        await until(lambda: len(sink.written) == 40, run)
    assert max(map(len, sink.batches)) <= 10


async def test_two_members_share_the_work(broker: FaultyBroker) -> None:
    one, two = ListSink(name="shared"), ListSink(name="shared")
    async with running(broker, one) as first, running(broker, two) as second:
        await until(lambda: first.part.reason is None and second.part.reason is None)
        admin = await broker.admin()
        number = 0
        async with asyncio.timeout(20):
            while not (one.written and two.written):
                await publish(broker, *[out_record(frame(number + index, f"cam-{index}")) for index in range(16)])
                number += 16
                await asyncio.sleep(0.1)
        await until(lambda: len(set(one.written + two.written)) == number)
        await admin.close()
    assert await lag(broker, one) == 0
