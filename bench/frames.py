"""Stores pictures and makes their `frame.captured` events, as a gateway does."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from bench.pictures import Picture
from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from infra.storage.frames.port import FrameStore
from schemas import ids, topics
from schemas.events import FrameCaptured, ImageRef

_START = datetime(2026, 5, 1, tzinfo=UTC)


async def store_frame(
    store: FrameStore, picture: Picture, number: int, *, devices: int = 8, received_at: datetime | None = None
) -> FrameCaptured:
    """Store frame ``number`` of one of ``devices``, which shows ``picture``, and return its event.

    ``received_at``: default is the capture time, which follows from the number.
    """
    sha256 = hashlib.sha256(picture.data).hexdigest()
    uri = await store.put(picture.data, sha256=sha256, media_type="image/jpeg")
    device, moment = f"drone-{number % devices}", _START + timedelta(seconds=number)
    image = ImageRef(
        uri=uri,
        sha256=sha256,
        size_bytes=len(picture.data),
        media_type="image/jpeg",
        width=picture.width,
        height=picture.height,
    )
    return FrameCaptured(
        frame_id=ids.frame_id(device, moment, sha256),
        device_id=device,
        captured_at=moment,
        received_at=received_at or moment,
        image=image,
    )


def live_record(frame: FrameCaptured) -> OutRecord:
    """Return ``frame`` as a record of the live topic."""
    return event_record(
        topics.FRAMES_LIVE,
        frame,
        id=frame.frame_id,
        source="/standgale/bench",
        subject=str(frame.frame_id),
        time=frame.captured_at,
        key=frame.device_id,
    )
