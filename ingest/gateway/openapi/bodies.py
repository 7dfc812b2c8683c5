"""Defines the bodies of responses for the OpenAPI document; the endpoints themselves write them faster."""

from __future__ import annotations

from pydantic import BaseModel, Field

from infra.http_api.openapi import ErrorBody

_FRAME_ID = "0b9a3c1e-5f0e-5a37-9d5c-3f2f8d9a7b61"
_PATH = "images/drone-1/2026-01-31/12-00-00_a3f5.jpg"
_TIME = "2026-01-31T12:00:00.123456Z"


class AcceptedImage(BaseModel):
    """The image as the gateway recognised it by content."""

    sha256: str
    size_bytes: int
    media_type: str
    width: int = Field(description="stored pixels; EXIF orientation is not applied")
    height: int


class AcceptedFrame(BaseModel):
    """The response to a frame that is durable and acknowledged."""

    frame_id: str = Field(examples=[_FRAME_ID])
    status: str = Field(examples=["accepted"])
    device_id: str = Field(examples=["drone-1"])
    captured_at: str = Field(examples=[_TIME])
    received_at: str
    image: AcceptedImage
    warnings: list[str] = Field(
        description="what of the image's EXIF and XMP could not be read, or was assumed; empty where all is known",
        examples=[["the capture time 2026-01-31 12:00:00 has no time zone; it was read as UTC"]],
    )
    links: dict[str, str] = Field(description="where to look next")


class KnownDigests(BaseModel):
    """Which of the digests belong to stored images."""

    known: list[str] = Field(description="in the order asked, each once")


class UploadAddress(BaseModel):
    """A PUT that is allowed."""

    method: str = Field(examples=["PUT"])
    url: str = Field(
        description="an absolute address, of the store; or one of this gateway, to be resolved against the request's",
        examples=["/api/v1/originals/upload/drone-1/9f86d081…?size=180000000&type=image%2Ftiff&expires=…&signature=…"],
    )
    headers: dict[str, str] = Field(description="what the PUT must send")
    expires_at: str = Field(examples=[_TIME])


class OriginalUpload(BaseModel):
    """What to do with an original."""

    status: str = Field(
        description="upload: PUT it, then announce it; stored: it is here, announce it with sha256 and proof",
        examples=["upload"],
    )
    upload: UploadAddress | None


class UploadState(BaseModel):
    """How much of an upload is here."""

    status: str = Field(description="uploaded, or partial", examples=["uploaded"])
    offset: int = Field(description="bytes that are here")


class UnansweredFrame(AcceptedFrame):
    """The response to a frame that is accepted, and whose detections did not come in time."""

    image_id: str = Field(description="the same as frame_id", examples=[_FRAME_ID])
    lakefs_path: str = Field(examples=[_PATH])
    message: str = Field(description="how to get the detections")


class FoundObject(BaseModel):
    """One object that was found."""

    id: str
    image_id: str = Field(examples=[_FRAME_ID])
    bbox: list[float] = Field(
        description="x1, y1, x2, y2, as shares of width and height", examples=[[0.1, 0.25, 0.2, 0.5]]
    )
    confidence: float
    label: str = Field(examples=["bird"])
    class_id: int
    created_at: str = Field(examples=[_TIME])
    corners: list[list[float]] | None = Field(
        default=None, description="only of a rotated box: its four corners, clockwise as seen; bbox encloses it"
    )


class DetectionResult(BaseModel):
    """A frame with its detections."""

    image_id: str = Field(description="the frame's id", examples=[_FRAME_ID])
    lakefs_path: str = Field(
        description="where the archive keeps the frame, known before it is there; the archive uses more digits for the "
        "later of two frames of one second that would have the same",
        examples=[_PATH],
    )
    detections: list[FoundObject] = Field(description="the best score first; empty when nothing was found")
    has_detections: bool
    inference_time_ms: float = Field(description="the model's part of the work")
    model_name: str
    model_version: str
    device_id: str = Field(examples=["drone-1"])
    captured_at: str = Field(examples=[_TIME])
    received_at: str
    image: AcceptedImage
    warnings: list[str] = Field(description="as in the response to a frame")
    links: dict[str, str] = Field(description="where to look next")


class BatchResult(DetectionResult):
    """One image of a batch with its detections."""

    filename: str = Field(description="as sent; images[3] for one without a name", examples=["DJI_0028.JPG"])
    index: int = Field(description="its place among the images sent, from 0")


class BatchError(BaseModel):
    """One image of a batch that failed; the others are not affected."""

    filename: str = Field(examples=["DJI_0029.JPG"])
    index: int
    code: str = Field(
        description="as error_code of the response to a single image, or NO_DETECTIONS_YET: accepted, but not "
        "detected within the time limit",
        examples=["CORRUPTED_FILE"],
    )
    message: str
    details: str | None = Field(description="what to do about it")
    image_id: str | None = Field(default=None, description="only where the image was accepted")
    captured_at: str | None = Field(default=None, description="only of NO_DETECTIONS_YET: send it again with this")
    lakefs_path: str | None = None


class BatchResponse(BaseModel):
    """What became of each image of a batch; processed and failed together are all that were sent."""

    results: list[BatchResult] = Field(description="in the order sent")
    total_processed: int
    total_failed: int
    failed_images: list[str] = Field(description="file names")
    errors: list[BatchError] = Field(description="one for each failed image, in the order sent")


class FlightFailure(BaseModel):
    """The frames of a flight that failed for one reason."""

    reason: str = Field(description="the code of their dead letters", examples=["IMAGE_CORRUPT"])
    count: int
    message: str = Field(description="of one of them, for people")
    frames: list[str] = Field(description="ids of the first frames; a flight shows at most 100", examples=[[_FRAME_ID]])


class FlightState(BaseModel):
    """What is known of a flight now."""

    flight: str = Field(examples=["2026-01-31-north"])
    device_id: str = Field(examples=["drone-1"])
    status: str = Field(description="open or closed", examples=["closed"])
    summary: str = Field(
        description="one line for people",
        examples=["483 of 483 arrived, 481 detected, 2 failed: 2 IMAGE_CORRUPT"],
    )
    complete: bool = Field(description="closed, as many arrived as counted, and each is detected or failed")
    problems: list[str] = Field(description="what does not fit together: counts that differ, frames that are missing")
    announced: int | None = Field(description="how many frames were announced")
    count: int | None = Field(description="with how many frames it was closed")
    arrived: int = Field(description="frames that were accepted, each once")
    detected: int = Field(description="frames with a detections event, also when nothing was found")
    failed: int = Field(description="frames that no detector could process; one that is re-driven and detected is not")
    waiting: int = Field(description="frames that arrived and are neither detected nor failed yet")
    missing: int | None = Field(description="of the count, or else of the announced frames")
    removed: int = Field(
        description="of those that arrived, frames that retention has removed since; they still count as detected or "
        "failed"
    )
    failures: list[FlightFailure] = Field(description="by reason, the most frequent first")
    opened_at: str = Field(examples=[_TIME])
    closed_at: str | None = None


class FlightList(BaseModel):
    """Flights of a device, the newest first."""

    flights: list[FlightState]
    next_before: str | None = Field(description="the value of `before` for those that follow; none: these were all")


BODIES: tuple[type[BaseModel], ...] = (
    ErrorBody,
    AcceptedFrame,
    KnownDigests,
    OriginalUpload,
    UploadState,
    FlightState,
    FlightList,
    UnansweredFrame,
    DetectionResult,
    BatchResponse,
)
"""All that responses refer to; the parts of them are found from there."""
