"""Makes what clients get: detections with the field names of their API, and the events of a medium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from sinks.annotations.payloads import box_fields

MediaStatus = Literal["AIProcessing", "AIProcessed", "Error"]


class MediaDetection(BaseModel):
    """One object that was found; centre and size are parts of the picture's width and height, 0 to 1."""

    centerX: float  # noqa: N815 (names of the contract)
    centerY: float  # noqa: N815
    width: float
    height: float
    classNum: int  # noqa: N815
    label: str
    confidence: float


class MediaError(BaseModel):
    """Says why a frame, or the medium, has no result."""

    code: str
    message: str


class MediaEvent(BaseModel):
    """An event of a medium: what was found in one frame, or its end."""

    mediaId: str  # noqa: N815
    mediaStatus: MediaStatus  # noqa: N815
    mediaPercent: int = Field(ge=0, le=100)  # noqa: N815
    annotations: list[MediaDetection]
    videoTime: float | None = Field(default=None, description="seconds since the first frame of a video")  # noqa: N815
    error: MediaError | None = None


class MediaStarted(BaseModel):
    """The response to a request for a medium."""

    mediaId: str  # noqa: N815
    status: Literal["started"] = "started"


def detections_of(rows: Sequence[Any]) -> list[MediaDetection]:
    """Return the detections in rows of the table ``detections``."""
    return [
        MediaDetection.model_validate(
            box_fields(
                *(row["bbox_x1"], row["bbox_y1"], row["bbox_x2"], row["bbox_y2"]),
                class_id=row["class_id"],
                label=row["label"],
                confidence=row["confidence"],
            )
        )
        for row in rows
    ]


def event_text(event: MediaEvent) -> str:
    """Return the data of ``event``: one line of JSON."""
    return orjson.dumps(event.model_dump(exclude={"error"} if event.error is None else None)).decode()
