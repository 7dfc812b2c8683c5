"""Dead letters sent again: only to the failed group, once, at a rate, and a limited number of times."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from infra.broker.port import InRecord, Loss, OutRecord, Publisher, Reader, TopicPartition
from infra.errors import RecordError
from infra.failure.dead_letter_records import lost_letter
from infra.failure.dead_letters import list_dead, redrive
from infra.failure.redrive import RedriveResult, RedriveRules, original_record, target_group_of
from schemas.events import DeadLetter
from schemas.topics import FRAMES_DEAD, FRAMES_LIVE, REDRIVE, SINKS_DEAD
from standgale.testing import waiting
from standgale.testing.factories import out_record
from tests.factories import HEADERS, dead_letter_of, dead_letter_record, original
from tests.harnesses.sink_runs import (
    RETRY,
    FaultyBroker,
    ListSink,
    dead,
    frame,
    lag,
    publish,
    records_of,
    running,
    until,
)


@pytest.fixture
async def publisher(broker: FaultyBroker) -> AsyncIterator[Publisher]:
    publisher = await broker.publisher()
    yield publisher
    await publisher.close()


async def each(*letters: DeadLetter) -> AsyncIterator[DeadLetter]:
    for one in letters:
        yield one


async def test_a_frame_goes_to_its_own_topic_byte_for_byte(
    broker: FaultyBroker, reader: Reader, publisher: Publisher
) -> None:
    values = [b"\x00not text\xff", None, b"", b"x" * 100_000]
    await publish(broker, *[dead_letter_record(original(number, value=value)) for number, value in enumerate(values)])
    progress_counts: list[int] = []
    result = await redrive(reader, publisher, list_dead(reader, FRAMES_DEAD), progress=progress_counts.append)
    assert (result, progress_counts[-1]) == (RedriveResult(sent=4), 4)
    found = await records_of(reader, FRAMES_LIVE)
    assert [(one.key, one.value, one.headers[:3]) for one in found] == [("cam-1", value, HEADERS) for value in values]
    assert [dict(one.headers)["standgale-redrive-from"] for one in found] == [
        f"frames.live/0/{number}".encode() for number in range(4)
    ]
    assert await redrive(reader, publisher, list_dead(reader, FRAMES_DEAD)) == RedriveResult(already=4)
    assert len(await records_of(reader, FRAMES_LIVE)) == 4


async def test_letters_are_sent_in_batches_and_in_order(reader: Reader, publisher: Publisher) -> None:
    letters = [
        dead_letter_of(dead_letter_record(original(number, value=str(number).encode()), "sink.x"))
        for number in range(250)
    ]
    progress_counts: list[int] = []
    assert await redrive(reader, publisher, each(*letters), progress=progress_counts.append) == RedriveResult(sent=250)
    assert progress_counts == [100, 200, 250]
    found = await records_of(reader, REDRIVE)
    assert [one.value for one in found] == [str(number).encode() for number in range(250)]
    assert {target_group_of(one.headers) for one in found} == {"sink.x"}
    assert await records_of(reader, FRAMES_LIVE) == []


async def test_a_dry_run_counts_and_sends_nothing(reader: Reader, publisher: Publisher) -> None:
    letters = [dead_letter_of(dead_letter_record(original(number), "sink.x")) for number in range(5)]
    assert await redrive(reader, publisher, each(*letters), RedriveRules(dry_run=True)) == RedriveResult(sent=5)
    assert await records_of(reader, REDRIVE) == []
    assert await redrive(reader, publisher, each(*letters)) == RedriveResult(sent=5)
    assert await redrive(reader, publisher, each(*letters), RedriveRules(again=True)) == RedriveResult(sent=5)


async def test_a_rate_spreads_them_over_time(reader: Reader, publisher: Publisher) -> None:
    letters = [dead_letter_of(dead_letter_record(original(number), "sink.x")) for number in range(6)]
    started = time.monotonic()
    assert await redrive(reader, publisher, each(*letters), RedriveRules(rate=20.0)) == RedriveResult(sent=6)
    assert time.monotonic() - started >= 5 / 20


async def test_a_record_is_sent_again_only_so_often(reader: Reader, publisher: Publisher) -> None:
    one = dead_letter_of(dead_letter_record(original(1), "sink.x"))
    for tries in range(1, 4):
        assert await redrive(reader, publisher, each(one)) == RedriveResult(sent=1)
        # It fails again, at its place in the topic of what is re-driven, and is another letter then.
        again = (await records_of(reader, REDRIVE))[-1]
        assert dict(again.headers)["standgale-redrive-try"] == str(tries).encode()
        assert len([name for name, _ in again.headers if name == "standgale-redrive-try"]) == 1
        one = dead_letter_of(dead_letter_record(again, "sink.x"))
    assert await redrive(reader, publisher, each(one)) == RedriveResult(exhausted=1)
    assert await redrive(reader, publisher, each(one), RedriveRules(max_tries=4)) == RedriveResult(sent=1)


async def test_records_lost_to_retention_cannot_be_sent(reader: Reader, publisher: Publisher) -> None:
    lost = lost_letter(Loss(TopicPartition(FRAMES_LIVE, 1), 0, 9, 1), group="sink.x", topic=SINKS_DEAD)
    assert await redrive(reader, publisher, each(dead_letter_of(lost))) == RedriveResult(lost=1)


async def test_omitted_original_is_read_at_its_offset(broker: FaultyBroker, reader: Reader) -> None:
    whole = OutRecord(FRAMES_LIVE, "cam-1", b"z" * 50_000, HEADERS)
    await publish(broker, whole)
    (found,) = await records_of(reader, FRAMES_LIVE)
    assert await original_record(reader, dead_letter_of(dead_letter_record(found, "g", whole=False))) == whole


async def test_deleted_original_is_reported_and_others_are_sent(
    reader: Reader, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    letters = [
        dead_letter_of(dead_letter_record(original(1))),
        dead_letter_of(dead_letter_record(original(999), whole=False)),
        dead_letter_of(dead_letter_record(original(2))),
    ]
    assert await redrive(reader, publisher, each(*letters)) == RedriveResult(sent=2, gone=1)
    assert "frames.live/0 no longer has offset 999" in caplog.text


@pytest.mark.parametrize("other", [{"key": "cam-2"}, {"timestamp_ms": 1}])
async def test_different_record_at_original_offset_is_not_sent(
    broker: FaultyBroker, reader: Reader, publisher: Publisher, other: dict[str, object]
) -> None:
    await publish(broker, out_record(frame(1)))
    (found,) = await records_of(reader, FRAMES_LIVE)
    former = replace(found, **other)  # type: ignore[arg-type]  # fields by name
    assert await redrive(
        reader, publisher, each(dead_letter_of(dead_letter_record(former, whole=False)))
    ) == RedriveResult(gone=1)
    assert await redrive(
        reader, publisher, each(dead_letter_of(dead_letter_record(found, whole=False)))
    ) == RedriveResult(sent=1)


async def test_a_record_without_a_key_gets_its_device(reader: Reader) -> None:
    keyless = dead_letter_record(original(1, None, b'{"device_id": "cam-9"}'))
    assert (await original_record(reader, dead_letter_of(keyless))).key == "cam-9"


async def test_redriven_record_reaches_only_its_group_once(
    broker: FaultyBroker, reader: Reader, publisher: Publisher
) -> None:
    def refuse(numbers: list[int]) -> None:
        if refusing and set(numbers) & {1, 4}:
            raise RecordError("not now")

    refusing = True
    picky, other = ListSink(name="picky", faults=refuse), ListSink(name="other")
    await publish(broker, *[out_record(frame(number, f"cam-{number}")) for number in range(6)])
    async with AsyncExitStack() as stack:
        for sink in (picky, other):
            await stack.enter_async_context(running(broker, sink))
        await until(lambda: len(picky.written) == 4 and len(other.written) == 6)
        await until_dead(broker, 2)
        # They fail again, then they succeed.
        assert await redrive(reader, publisher, list_dead(reader, SINKS_DEAD)) == RedriveResult(sent=2)
        await until_dead(broker, 4)
        refusing = False
        assert await redrive(reader, publisher, list_dead(reader, SINKS_DEAD)) == RedriveResult(sent=2, already=2)
        await until(lambda: len(picky.written) == 6)
        assert await redrive(reader, publisher, list_dead(reader, SINKS_DEAD)) == RedriveResult(already=4)
        await publish(broker, out_record(frame(6)))
        await until(lambda: 6 in picky.written and 6 in other.written)
    assert Counter(picky.written) == Counter(range(7))
    assert Counter(other.written) == Counter(range(7))
    assert len(await records_of(reader, FRAMES_LIVE)) == 7
    assert await lag(broker, picky) == 0
    # A sink that starts now skips all records that were re-driven to others.
    late = ListSink(name="late")
    async with running(broker, late) as run:
        await until(lambda: len(late.written) == 7, run)
        await until(lambda: any(source.topic == REDRIVE for commit in broker.commits for source in commit), run)
    assert Counter(late.written) == Counter(range(7))


async def test_redriven_record_that_fails_does_not_open_the_breaker(
    broker: FaultyBroker, reader: Reader, publisher: Publisher
) -> None:
    def refuse(_: list[int]) -> None:
        raise RecordError("never")

    letters = [dead_letter_of(dead_letter_record(as_read(number), "sink.stubborn")) for number in range(8)]
    await redrive(reader, publisher, each(*letters))
    retry = RETRY.model_copy(update={"min_dead": 3})
    sink = ListSink(name="stubborn", faults=refuse)
    async with running(broker, sink, retry=retry):
        await until_dead(broker, 8)


async def test_two_runs_at_once_do_not_double_what_fails_again(
    broker: FaultyBroker, reader: Reader, publisher: Publisher
) -> None:
    def refuse(_: list[int]) -> None:
        raise RecordError("never")

    letters = [dead_letter_of(dead_letter_record(as_read(number), "sink.stubborn")) for number in range(4)]
    # Neither run knows of the other, so each sends every letter for the first time.
    for _run in range(2):
        await redrive(reader, publisher, each(*letters), RedriveRules(again=True))
    async with running(broker, ListSink(name="stubborn", faults=refuse), retry=RETRY):
        await until_dead(broker, 4)

        async def all_failed_again() -> bool:
            return len(await records_of(reader, SINKS_DEAD)) >= 8

        await waiting.until(all_failed_again)
    assert len(await dead(broker)) == 4
    assert (await redrive(reader, publisher, list_dead(reader, SINKS_DEAD))).sent == 4


def as_read(number: int) -> InRecord:
    out = out_record(frame(number))
    return InRecord(out.topic, 0, number, 0, out.key, out.value, out.headers)


async def until_dead(broker: FaultyBroker, count: int) -> None:
    async def enough() -> bool:
        return len(await dead(broker)) >= count

    await waiting.until(enough)
