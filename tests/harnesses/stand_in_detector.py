"""Answers frames as a detector would, without a model: a test says what becomes of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from infra.broker.port import Broker, CommitPoint, Consumer, GroupSpec, InRecord, OutRecord
from infra.failure.dead_letter_records import dead_letter
from schemas.cloudevents import decode
from schemas.errors import StandgaleError
from schemas.event_base import ModelRef
from schemas.events import Detection, DetectionsMade, DetectOptions, FrameCaptured, Timings
from schemas.geometry import Box
from schemas.ids import detection_id, detections_event_id
from schemas.timestamps import utc_now
from schemas.topics import FRAME_TOPICS, FRAMES_DEAD
from standgale.testing.factories import out_record

Decide = Callable[[FrameCaptured], StandgaleError | DetectionsMade | bool | None]
"""Returns the error for which a frame becomes a dead letter, whether something is found in it, its event, or None: no
answer."""


@asynccontextmanager
async def detecting(broker: Broker, decide: Decide = lambda _: True) -> AsyncIterator[list[InRecord]]:
    """Answer each frame once while the block runs; yield the records of the frames, as they come."""
    taken: list[InRecord] = []
    consumer = await broker.consumer(GroupSpec("detectors", FRAME_TOPICS, outputs=True))
    task = asyncio.create_task(_serve(consumer, decide, taken))
    try:
        yield taken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.close()


async def _serve(consumer: Consumer, decide: Decide, taken: list[InRecord]) -> None:
    seen: set[str] = set()
    while True:
        for record in await consumer.poll(max_records=100, timeout_s=0.2):
            taken.append(record)
            frame = decode(record.headers, record.value, FrameCaptured)
            decided = None if str(frame.frame_id) in seen else decide(frame)
            outputs: list[OutRecord] = []
            if isinstance(decided, StandgaleError):
                outputs = [dead_letter(record, group="detectors", error=decided, attempts=1, topic=FRAMES_DEAD)]
            elif decided is not None:
                seen.add(str(frame.frame_id))
                made = decided if isinstance(decided, DetectionsMade) else _made(frame, found=decided)
                outputs = [out_record(made)]
            point = {record.source: CommitPoint(record.offset + 1, record.epoch)}
            await consumer.commit(point, outputs)


def _made(frame: FrameCaptured, *, found: bool) -> DetectionsMade:
    own = detections_event_id(frame.frame_id, None, "small", "1.0")
    box = Box(x1=0.25, y1=0.5, x2=0.75, y2=1.0)
    detection = Detection(id=detection_id(own, 0), label="bird", class_id=0, confidence=0.5, box=box)
    shared = frame.model_dump(include={"frame_id", "device_id", "captured_at", "received_at", "camera", "metadata"})
    return DetectionsMade(
        **shared,
        id=own,
        image=frame.image,
        original_filename=frame.original_filename,
        detected_at=utc_now(),
        model=ModelRef(name="small", version="1.0"),
        options=DetectOptions(),
        detections=[detection] if found else [],
        timings=Timings(queued_ms=0, fetch_ms=0, decode_ms=0, inference_ms=1.5, merge_ms=0, total_ms=2),
    )
