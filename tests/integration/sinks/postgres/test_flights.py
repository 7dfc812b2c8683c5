"""I14: each frame of a flight is counted once, as arrived and as detected or failed, in any order and repetition."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from uuid import uuid4

import pytest

from infra.broker.port import InRecord
from infra.database.pool import Database
from infra.errors import ImageCorruptError
from infra.failure.dead_letter_records import dead_letter
from schemas.cloudevents import decode
from schemas.events import DeadLetter, DetectionsMade, FrameCaptured
from sinks.postgres.failed_frames import FailedFrames
from sinks.postgres.flights import ArrivedFrames
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made, frame_captured, in_record, out_record

pytestmark = pytest.mark.integration

FLIGHT = "2026-05-01-north"
NO_FLIGHT = None


def frame(number: int, flight: str | None = FLIGHT, device: str = "drone-1") -> FrameCaptured:
    return frame_captured(number, device=device, flight_id=flight)


def detected(number: int, flight: str | None = FLIGHT) -> DetectionsMade:
    return detections_made(number, flight_id=flight)


def failed(number: int, flight: str | None = FLIGHT, *, value: bytes | None = None, whole: bool = True) -> DeadLetter:
    sent = out_record(frame(number, flight))
    record: InRecord = in_record(number, value=value or sent.value, headers=sent.headers)
    error = ImageCorruptError("the JPEG ends early")
    letter = dead_letter(record, group="detector", error=error, attempts=1, topic="frames.dead", whole=whole)
    return decode(letter.headers, letter.value, DeadLetter)


class Tables:
    """The three sinks on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sinks = (ArrivedFrames(database), PostgresSink(database), FailedFrames(database))

    async def open(self) -> None:
        for sink in self._sinks:
            await sink.open()

    async def write(self, *events: FrameCaptured | DetectionsMade | DeadLetter) -> None:
        arrived, made, dead = self._sinks
        for event in events:
            if isinstance(event, FrameCaptured):
                await arrived.write([event])
            elif isinstance(event, DetectionsMade):
                await made.write([event])
            else:
                await dead.write([event])

    async def states(self, flight: str | None = FLIGHT) -> Counter[str]:
        query = "SELECT processing_status FROM images WHERE flight_id IS NOT DISTINCT FROM $1"
        async with self._database.acquire() as connection:
            return Counter(row["processing_status"] for row in await connection.fetch(query, flight))

    async def rows(self, query: str) -> list[dict[str, object]]:
        async with self._database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query)]


@pytest.fixture
async def tables(database: Database) -> Tables:
    opened = Tables(database)
    await opened.open()
    return opened


async def test_a_frame_arrives_and_is_detected_or_fails(tables: Tables) -> None:
    await tables.write(*(frame(number) for number in range(4)))
    assert await tables.states() == {"pending": 4}
    await tables.write(detected(0), detected(1), failed(2))
    assert await tables.states() == {"pending": 1, "completed": 2, "failed": 1}
    (row,) = await tables.rows("SELECT * FROM images WHERE processing_status = 'failed'")
    assert (row["failure_reason"], row["failure_message"]) == ("IMAGE_CORRUPT", "the JPEG ends early")
    assert (row["processed_at"], row["sha256"]) == (None, frame(2).image.sha256)
    (flight,) = await tables.rows("SELECT f.*, d.device_id AS name FROM flights f JOIN devices d ON d.id = f.device_id")
    assert (flight["flight_id"], flight["name"], flight["announced"], flight["closed_at"]) == (
        FLIGHT,
        "drone-1",
        None,
        None,
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_frame_that_failed_and_was_detected_is_detected(tables: Tables, order: tuple[int, ...]) -> None:
    """It is re-driven; or a canary failed on it; and the topics are read in any order, twice."""
    events = [frame(0), failed(0), detected(0)]
    for place in (*order, *order):
        await tables.write(events[place])
    assert await tables.states() == {"completed": 1}
    (row,) = await tables.rows("SELECT * FROM images")
    assert (row["failure_reason"], row["failure_message"], row["has_detections"]) == (None, None, True)
    assert row["processed_at"] == detected(0).detected_at


async def test_a_frame_that_failed_twice_counts_once_with_its_last_reason(tables: Tables) -> None:
    again = failed(0).model_copy(update={"id": uuid4(), "reason": "IMAGE_TOO_COSTLY"})
    await tables.write(failed(0), frame(0), failed(0), again)
    assert await tables.states() == {"failed": 1}
    assert await tables.rows("SELECT failure_reason FROM images") == [{"failure_reason": "IMAGE_TOO_COSTLY"}]


async def test_one_batch_may_have_a_frame_several_times(tables: Tables, database: Database) -> None:
    await ArrivedFrames(database).write([frame(0), frame(1), frame(0), frame(0, device="drone-2")])
    await FailedFrames(database).write([failed(0), failed(1), failed(0)])
    assert await tables.states() == {"failed": 2, "pending": 1}
    assert len(await tables.rows("SELECT * FROM flights")) == 2


async def test_a_frame_sent_again_with_a_flight_belongs_to_it(tables: Tables) -> None:
    """A drone lands: what was sent on the way, and detected, is sent by digest again, now with its flight."""
    await tables.write(detected(0, NO_FLIGHT), frame(0))
    assert await tables.states() == {"completed": 1}
    await tables.write(detected(1, NO_FLIGHT), detected(1))
    assert await tables.states() == {"completed": 2}
    await tables.write(frame(0, "south"), failed(0, "south"), detected(0, "south"))
    assert await tables.states("south") == {}


async def test_frames_without_a_flight_cost_no_rows_until_they_have_an_end(tables: Tables) -> None:
    lost = failed(3).model_copy(update={"frame_id": None, "original": failed(3, whole=False).original})
    await tables.write(frame(0, NO_FLIGHT), failed(1, value=b"no frame"), lost)
    assert await tables.rows("SELECT * FROM images") == await tables.rows("SELECT * FROM flights") == []
    await tables.write(detected(0, NO_FLIGHT), failed(2, NO_FLIGHT))
    assert await tables.states(NO_FLIGHT) == {"completed": 1, "failed": 1}
    assert await tables.rows("SELECT * FROM flights") == []
