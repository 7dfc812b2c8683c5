"""The failure policy: back-off, retrying, and what a dead letter holds."""

from __future__ import annotations

import asyncio
import logging
import random
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from infra.broker.port import InRecord, Loss, TopicPartition
from infra.errors import DatabaseUnavailableError, ImageMissingError, TransientError
from infra.failure.policy import (
    UNEXPECTED,
    Backoff,
    StoppedError,
    dead_letter,
    error_code,
    is_transient,
    lost_letter,
    report_loss,
    retry,
)
from infra.process.health import Health, HealthPart
from infra.settings import RetrySettings, TelemetrySettings
from infra.telemetry.logs import MASK, configure_logging
from schemas.cloudevents import decode, header
from schemas.events import DeadLetter, LostRange
from schemas.ids import dead_letter_id

QUICK = RetrySettings(first_delay_s=0.001, max_delay_s=0.002)
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FRAME = UUID(int=5)
VALUE = b'{"frame_id": "%s", "device_id": "cam-7", "more": 1}' % str(FRAME).encode()
RECORD = InRecord(
    "frames.live", 2, 40, 1_700_000_000_000, "cam-7", VALUE, (("a", b"\xff\x00"), ("traceparent", PARENT))
)


@pytest.fixture
def part() -> HealthPart:
    return Health().part("test-failure")


def test_backoff_doubles_to_its_limit_with_jitter_and_starts_again() -> None:
    backoff = Backoff(RetrySettings(first_delay_s=1.0, max_delay_s=5.0), rng=random.Random(1))
    delays = [backoff.next_delay_s() for _ in range(6)]
    for delay, whole in zip(delays, [1, 2, 4, 5, 5, 5], strict=True):
        assert whole / 2 <= delay <= whole
    assert len(set(delays[3:])) == 3
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0


async def test_waiting_ends_when_the_process_stops() -> None:
    stop = asyncio.Event()
    backoff = Backoff(RetrySettings(first_delay_s=60.0, max_delay_s=60.0))
    waiting = asyncio.create_task(backoff.wait(stop))
    await asyncio.sleep(0)
    stop.set()
    assert await asyncio.wait_for(waiting, 5) is False


async def test_what_looks_before_a_retry_can_end_it(part: HealthPart) -> None:
    tries: list[str] = []

    async def operation() -> None:
        tries.append("try")
        raise DatabaseUnavailableError("away")

    async def before_retry() -> None:
        tries.append("look")
        if len(tries) >= 4:
            raise ImageMissingError("no longer ours")

    with pytest.raises(ImageMissingError):
        await retry(
            operation, policy=QUICK, stop=asyncio.Event(), health=part, what="writing", before_retry=before_retry
        )
    assert tries == ["try", "look", "try", "look"]


@pytest.mark.parametrize(
    ("error", "transient", "code"),
    [
        (DatabaseUnavailableError("away"), True, "DATABASE_UNAVAILABLE"),
        (ConnectionResetError("reset"), True, TransientError.code),
        (TimeoutError(), True, TransientError.code),
        (ImageMissingError("gone"), False, "IMAGE_MISSING"),
        (KeyError("bug"), False, UNEXPECTED),
    ],
)
def test_whose_fault_it_is(error: Exception, transient: bool, code: str) -> None:
    assert is_transient(error) is transient
    assert error_code(error) == code


async def test_retrying_waits_for_the_world_and_tells_so(part: HealthPart) -> None:
    part.set_ready()
    reasons: list[str | None] = []
    outcomes: list[Exception | str] = [DatabaseUnavailableError("starting up"), ConnectionRefusedError("no"), "done"]

    async def operation() -> str:
        reasons.append(part.reason)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    labels = {"group": "g-retrying", "reason": "DATABASE_UNAVAILABLE"}
    result = await retry(
        operation, policy=QUICK, stop=asyncio.Event(), health=part, what="writing to x", group="g-retrying"
    )
    assert result == "done"
    assert reasons == [None, "writing to x: starting up", "writing to x: ConnectionRefusedError: no"]
    assert part.reason is None
    assert REGISTRY.get_sample_value("standgale_retries_total", labels) == 1


async def test_retrying_does_not_make_ready_what_was_not(part: HealthPart) -> None:
    outcomes: list[Exception | None] = [TimeoutError(), None]

    async def operation() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    await retry(operation, policy=QUICK, stop=asyncio.Event(), health=part, what="opening x")
    assert part.reason == "starting"


async def test_retrying_raises_what_is_nobodys_weather(part: HealthPart) -> None:
    async def operation() -> None:
        raise ImageMissingError("gone")

    with pytest.raises(ImageMissingError):
        await retry(operation, policy=QUICK, stop=asyncio.Event(), health=part, what="reading")


async def test_retrying_gives_up_when_the_process_stops(part: HealthPart) -> None:
    stop = asyncio.Event()

    async def operation() -> None:
        stop.set()
        raise DatabaseUnavailableError("away")

    slow = RetrySettings(first_delay_s=60.0, max_delay_s=60.0)
    with pytest.raises(StoppedError, match="writing: given up after 1 tries") as caught:
        await retry(operation, policy=slow, stop=stop, health=part, what="writing")
    assert isinstance(caught.value.__cause__, DatabaseUnavailableError)


async def test_a_long_outage_does_not_flood_the_log(part: HealthPart, caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def operation() -> None:
        nonlocal tries
        tries += 1
        if tries <= 25:
            raise DatabaseUnavailableError("away")

    with caplog.at_level(logging.INFO, "infra.failure.policy"):
        await retry(operation, policy=QUICK, stop=asyncio.Event(), health=part, what="writing")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["INFO"]


def test_a_dead_letter_holds_reason_and_original_byte_for_byte() -> None:
    out = dead_letter(RECORD, group="sink.x", error=ImageMissingError("no such image"), attempts=3, topic="sinks.dead")
    letter = decode(out.headers, out.value, DeadLetter)
    assert out.topic == "sinks.dead"
    assert out.key == "cam-7"
    assert header(out.headers, "traceparent") == PARENT.decode()
    assert header(out.headers, "ce_id") == str(letter.id)
    assert letter.id == dead_letter_id("sink.x", "frames.live", 2, 40)
    assert (letter.group, letter.reason, letter.message, letter.attempts) == (
        "sink.x",
        "IMAGE_MISSING",
        "no such image",
        3,
    )
    assert (letter.device_id, letter.frame_id) == ("cam-7", FRAME)
    original = letter.original
    assert (original.topic, original.partition, original.offset) == ("frames.live", 2, 40)
    assert original.timestamp_ms == RECORD.timestamp_ms
    assert (original.key, original.value) == (RECORD.key, VALUE)
    assert tuple(original.headers) == RECORD.headers
    assert not original.omitted


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xff\xfe", b"[1]", b'"x"', b'{"device_id": 7, "frame_id": "nope"}', b'{"device_id": null}'],
)
def test_whatever_a_record_holds_it_can_be_a_dead_letter(value: bytes | None) -> None:
    record = InRecord("frames.live", 0, 0, -1, None, value, ())
    out = dead_letter(record, group="g", error=RuntimeError("x" * 10_000), attempts=1, topic="frames.dead")
    letter = decode(out.headers, out.value, DeadLetter)
    assert (letter.original.value, letter.original.key) == (value, None)
    assert (letter.device_id, letter.frame_id, letter.reason) == (None, None, UNEXPECTED)
    assert letter.original.timestamp_ms == 0
    assert len(letter.message) == 4000


def test_an_original_too_large_is_left_out_and_said_so() -> None:
    error = ImageMissingError("y" * 5_000)
    out = dead_letter(RECORD, group="g", error=error, attempts=1, topic="sinks.dead", whole=False)
    letter = decode(out.headers, out.value, DeadLetter)
    assert letter.original.omitted
    assert (letter.original.value, letter.original.headers) == (None, [])
    assert letter.message.endswith(
        f"(original of {len(VALUE)} bytes left out: it is larger than sinks.dead takes; it stands at its own place)"
    )
    assert len(letter.message) == 4000


def test_a_dead_letter_holds_no_known_secret() -> None:
    root = logging.getLogger()
    handlers = list(root.handlers)
    configure_logging(TelemetrySettings(), service="test", secrets=("open-sesame",))
    try:
        out = dead_letter(RECORD, group="g", error=RuntimeError("login open-sesame"), attempts=1, topic="sinks.dead")
    finally:
        configure_logging(TelemetrySettings(), service="test")
        root.handlers[:] = handlers
    assert decode(out.headers, out.value, DeadLetter).message == f"RuntimeError: login {MASK}"


def test_a_loss_is_one_dead_letter_that_names_the_range() -> None:
    loss = Loss(TopicPartition("detections", 3), first=100, end=115, epoch=2)
    out = lost_letter(loss, group="sink.x", topic="sinks.dead")
    letter = decode(out.headers, out.value, DeadLetter)
    again = lost_letter(loss, group="sink.x", topic="sinks.dead")
    assert decode(again.headers, again.value, DeadLetter).id == letter.id
    assert (letter.reason, letter.group) == ("RECORDS_LOST", "sink.x")
    assert letter.lost == LostRange(first=100, end=115)
    assert (letter.original.topic, letter.original.partition, letter.original.offset) == ("detections", 3, 100)
    assert "up to 15 records of detections/3 (offsets 100 to 114)" in letter.message


def test_a_loss_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    report_loss(Loss(TopicPartition("detections", 3), first=100, end=115, epoch=2), "g-loss")
    labels = {"group": "g-loss", "topic": "detections"}
    assert REGISTRY.get_sample_value("standgale_records_lost_total", labels) == 15
    assert [record.levelname for record in caplog.records] == ["ERROR"]
