"""Makes dead letters and their originals, and a clock that tests move."""

from __future__ import annotations

from dataclasses import dataclass

from infra.broker.port import InRecord, OutRecord
from infra.errors import ImageMissingError
from infra.failure.dead_letter_records import dead_letter
from schemas.cloudevents import decode
from schemas.events import DeadLetter
from schemas.topics import FRAMES_DEAD, FRAMES_LIVE

FRAME_FIELDS: dict[str, object] = {
    "frame_id": "0b5d7c2e-7a67-5d0e-9b52-5d6a3c1f2e4b",
    "device_id": "drone-1",
    "captured_at": "2026-11-20T12:00:00.000001Z",
    "received_at": "2026-11-20T12:00:01Z",
    "image": {
        "uri": "s3://bucket/a",
        "sha256": "a" * 64,
        "size_bytes": 10,
        "media_type": "image/png",
        "width": 640,
        "height": 480,
    },
}
"""The fields of a frame in JSON."""

HEADERS = (("ce_id", b"1"), ("odd", b"\xff\x00"), ("odd", b"twice"))


def original(offset: int, device: str | None = "cam-1", value: bytes | None = b"\x00not text\xff") -> InRecord:
    return InRecord(FRAMES_LIVE, 0, offset, 1_000, device, value, HEADERS)


def dead_letter_record(
    record: InRecord,
    group: str = "detector",
    *,
    error: Exception | None = None,
    topic: str = FRAMES_DEAD,
    whole: bool = True,
) -> OutRecord:
    error = error or ImageMissingError("gone")
    return dead_letter(record, group=group, error=error, attempts=1, topic=topic, whole=whole)


def dead_letter_of(record: OutRecord) -> DeadLetter:
    return decode(record.headers, record.value, DeadLetter)


@dataclass
class ManualClock:
    """Shows the time ``now``, in seconds, until a test moves it."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now
