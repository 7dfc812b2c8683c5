"""C-S1-059: a frame that no detector could process is a failed image, with a session that says why, once."""

from __future__ import annotations

from itertools import permutations
from uuid import UUID

import pytest

from infra.database.pool import Database
from infra.failure.dead_letter_records import dead_letter
from infra.failure.redrive import LETTER_HEADER, TRY_HEADER
from schemas.cloudevents import decode
from schemas.errors import StandgaleError
from schemas.event_base import ModelRef
from schemas.events import DeadLetter, DetectOptions, FrameCaptured
from sinks.postgres.failed_frames import FailedFrames
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made, frame_captured, in_record, out_record

pytestmark = pytest.mark.integration

MODEL = ModelRef(name="drone", version="2.0.0")


class FrameError(StandgaleError):
    code = "IMAGE_CORRUPT"


class HangError(StandgaleError):
    code = "ENGINE_HANGS"


def failed(
    frame: FrameCaptured,
    error: Exception | None = None,
    *,
    model: ModelRef | None = MODEL,
    offset: int = 0,
    after: DeadLetter | None = None,
    whole: bool = True,
) -> DeadLetter:
    """The dead letter that a detector writes; ``after``: of the frame re-driven from that letter."""
    sent = out_record(frame)
    redriven = () if after is None else ((LETTER_HEADER, str(after.id).encode()), (TRY_HEADER, b"1"))
    record = in_record(offset, value=sent.value, headers=(*sent.headers, *redriven))
    made = dead_letter(
        record,
        group="detector",
        error=error or FrameError("the JPEG ends early"),
        attempts=1,
        topic="frames.dead",
        whole=whole,
        model=model,
    )
    return decode(made.headers, made.value, DeadLetter)


class Tables:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.made = PostgresSink(database)
        self.failed = FailedFrames(database)

    async def rows(self, query: str) -> list[dict[str, object]]:
        async with self._database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query)]

    async def sessions(self) -> list[tuple[object, ...]]:
        found = await self.rows("SELECT status, id FROM inference_sessions ORDER BY status, error_message")
        return [tuple(row.values()) for row in found]


@pytest.fixture
async def tables(database: Database) -> Tables:
    opened = Tables(database)
    await opened.made.open()
    await opened.failed.open()
    return opened


async def test_a_failed_frame_is_an_image_and_a_session_with_the_reason(tables: Tables) -> None:
    frame = frame_captured(1, options=DetectOptions(prompt="bird . boat"))
    letter = failed(frame)
    await tables.failed.write([letter])
    (image,) = await tables.rows("SELECT * FROM images")
    assert (image["id"], image["processing_status"], image["failure_reason"]) == (
        frame.frame_id,
        "failed",
        "IMAGE_CORRUPT",
    )
    assert (image["sha256"], image["flight_id"], image["has_detections"]) == (frame.image.sha256, None, False)
    (session,) = await tables.rows("SELECT * FROM inference_sessions")
    assert (session["id"], session["image_id"], session["status"]) == (letter.id, frame.frame_id, "failed")
    assert session["error_message"] == "IMAGE_CORRUPT: the JPEG ends early"
    assert (session["model_name"], session["model_version"]) == ("drone", "2.0.0")
    assert (session["text_prompt"], session["num_detections"], session["duration_ms"]) == ("bird . boat", 0, None)
    assert session["completed_at"] == letter.failed_at


async def test_a_frame_that_took_too_long_is_a_timeout(tables: Tables) -> None:
    await tables.failed.write([failed(frame_captured(1), HangError("no end after 30 s"))])
    assert await tables.rows("SELECT status, error_message FROM inference_sessions") == [
        {"status": "timeout", "error_message": "ENGINE_HANGS: no end after 30 s"}
    ]


async def test_a_letter_of_an_older_detector_has_an_unknown_model(tables: Tables) -> None:
    asked = frame_captured(2, model=MODEL)
    await tables.failed.write([failed(frame_captured(1), model=None), failed(asked, model=None, offset=1)])
    found = await tables.rows("SELECT model_name, model_version FROM inference_sessions ORDER BY model_name")
    assert [tuple(row.values()) for row in found] == [("drone", "2.0.0"), ("unknown", "unknown")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_frame_redriven_twice_and_detected_is_completed(tables: Tables, order: tuple[int, ...]) -> None:
    """Each attempt is one session, in whatever order and however often the topics are read."""
    frame = frame_captured(1)
    first = failed(frame)
    second = failed(frame, FrameError("it ends early again"), after=first, offset=9)
    detected = detections_made(1)
    for place in (*order, *order):
        if place == 2:
            await tables.made.write([detected])
        else:
            await tables.failed.write([(first, second)[place]])
    (image,) = await tables.rows("SELECT processing_status, failure_reason, has_detections FROM images")
    assert list(image.values()) == ["completed", None, True]
    assert await tables.sessions() == [("failed", second.id), ("failed", first.id), ("success", detected.id)]


async def test_one_batch_may_have_a_letter_and_a_frame_several_times(tables: Tables) -> None:
    frame = frame_captured(1)
    first = failed(frame)
    again = failed(frame, HangError("no end"), offset=7)
    await tables.failed.write([first, first, again, failed(frame_captured(2), offset=3)])
    found = await tables.rows("SELECT failure_reason FROM images ORDER BY failure_reason")
    assert [row["failure_reason"] for row in found] == ["ENGINE_HANGS", "IMAGE_CORRUPT"]
    assert len(await tables.sessions()) == 3


async def test_letters_without_a_frame_cost_no_rows(tables: Tables) -> None:
    frame = frame_captured(3)
    no_frame = failed(frame).model_copy(
        update={"original": failed(frame).original.model_copy(update={"value": b"no frame"})}
    )
    await tables.failed.write([no_frame, failed(frame, whole=False)])
    assert await tables.rows("SELECT * FROM images") == await tables.rows("SELECT * FROM inference_sessions") == []


async def test_text_with_null_characters_and_quotes_is_stored_without_the_null(tables: Tables) -> None:
    await tables.failed.write([failed(frame_captured(1), FrameError("a '\0' \"b\""))])
    (session,) = await tables.rows("SELECT error_message FROM inference_sessions")
    assert session["error_message"] == "IMAGE_CORRUPT: a '' \"b\""


async def test_the_prompt_of_a_frame_is_in_its_session(tables: Tables) -> None:
    """C-S1-042"""
    plain = detections_made(1)
    options = plain.options.model_copy(update={"prompt": "bird"})
    await tables.made.write([plain, detections_made(2).model_copy(update={"options": options})])
    found = await tables.rows("SELECT text_prompt FROM inference_sessions ORDER BY text_prompt")
    assert [row["text_prompt"] for row in found] == ["bird", None]


def test_the_id_of_a_failed_session_is_that_of_its_letter() -> None:
    letter = failed(frame_captured(1))
    assert isinstance(letter.id, UUID)
    assert failed(frame_captured(1)).id == letter.id
