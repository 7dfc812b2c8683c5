"""Defines the events of frames, detections, dead letters and probes, and lists all events.

The JSON Schemas and the AsyncAPI document are generated from these models. Readers ignore fields they do not know, so
a field can be added without a new version. Any other change needs a new event version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue

from schemas.archive_events import ArchiveCommitted
from schemas.event_base import Base64, DeviceId, Event, EventPart, FlightId, ModelRef, Sha256, UtcDatetime
from schemas.geometry import Box, CameraGeometry, Point, Unit
from schemas.job_events import JobFinished, JobRules
from schemas.model_events import ModelActivated, WorkerAvailability
from schemas.statistics_events import StatisticsCounted

MediaType = Literal["image/jpeg", "image/png", "image/tiff", "image/webp"]
EXTENSIONS: Mapping[str, str] = {"image/jpeg": "jpg", "image/png": "png", "image/tiff": "tif", "image/webp": "webp"}
"""What the name of a file ends in, by its media type."""
Milliseconds = Annotated[float, Field(ge=0)]


class ImageRef(EventPart):
    """Says where the bytes of a frame are, and how to check them."""

    uri: Annotated[str, Field(min_length=1, max_length=2048)]
    """Address in the frame store: file: or s3:"""
    sha256: Sha256
    """SHA-256 of the image's bytes, hexadecimal"""
    size_bytes: Annotated[int, Field(gt=0)]
    media_type: MediaType
    width: Annotated[int, Field(gt=0)]
    """Pixels"""
    height: Annotated[int, Field(gt=0)]
    """Pixels"""


MergeMethod = Literal["nms", "nmm", "greedy_nmm", "wbf"]
"""How boxes that show the same object are merged into one; wbf: weighted box fusion."""


TilingMode = Literal["fixed", "gsd", "auto", "whole"]


def _different(scales: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(scales)) < len(scales):
        raise ValueError(f"scales: one of {', '.join(f'{scale:g}' for scale in scales)} is there twice")
    return scales


Scale = Annotated[float, Field(ge=0.1, le=2.0)]
Scales = Annotated[tuple[Scale, ...], Field(min_length=1, max_length=4), AfterValidator(_different)]
"""At which scales a frame is cut into tiles: 1 is native pixels, 0.5 the frame at half its width and height."""


MOST_BOX_PX = 1_000_000_000
"""The largest area that can be asked of a box, in square pixels."""
LONGEST_PROMPT = 1_000
"""The most characters of a prompt."""


class DetectOptions(EventPart):
    """Holds the options that a frame requests or was processed with; None means the value of the model card."""

    confidence: Unit | None = None
    """The least score of a detection of any class; None where classes have their own in the card"""
    iou: Unit | None = None
    """Boxes of one tile that overlap by more are one object"""
    mode: TilingMode | None = None
    """How the frame is cut; whole: not at all"""
    overlap: Annotated[float, Field(ge=0.0, lt=0.9)] | None = None
    tile_width: Annotated[int, Field(ge=64, le=8192)] | None = None
    tile_height: Annotated[int, Field(ge=64, le=8192)] | None = None
    whole_frame: bool | None = None
    scales: Scales | Literal["auto"] | None = None
    """auto: by the ground sampling distance, else by what a quick pass finds"""
    tile_metres: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Metres of ground across a tile; needs the camera's geometry, and wins over the sides in pixels"""
    merge_method: MergeMethod | None = None
    merge_metric: Literal["iou", "ios"] | None = None
    merge_threshold: Unit | None = None
    settle: Unit | None = None
    """Boxes of different classes that overlap by more (IoU) show one thing, and the best stays; 1 settles none"""
    max_detections: Annotated[int, Field(gt=0, le=100_000)] | None = None
    min_box_px: Annotated[float, Field(ge=0, le=MOST_BOX_PX)] | None = None
    """Smaller boxes are left out: their area in square pixels of the frame"""
    prompt: Annotated[str, Field(min_length=1, max_length=LONGEST_PROMPT)] | None = None
    """What to look for, of a model that takes text: names of things, with dots between"""


def _is_none(value: object) -> bool:
    """Return whether ``value`` is left out of the JSON, so that frames without rules have events as large as before."""
    return value is None


RuleName = Annotated[str, Field(min_length=1, max_length=100)]


class RuleApplied(EventPart):
    """Names the rule that confirmed or relabelled a detection."""

    name: RuleName
    """As the rules file calls it"""
    ruling: Literal["confirmed", "relabelled"]
    former_label: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """What the model called a detection that was relabelled"""


class Detection(EventPart):
    """Describes one object that was found."""

    id: UUID
    label: Annotated[str, Field(min_length=1, max_length=100)]
    class_id: Annotated[int, Field(ge=0)]
    confidence: Unit
    """The model's score, 0 to 1, rounded to 4 decimals"""
    box: Box
    """Corners, normalised to the frame and rounded to 6 decimals"""
    corners: tuple[Point, Point, Point, Point] | None = None
    """The corners of a rotated box, clockwise as seen; then box is what encloses it within the frame"""
    rule: RuleApplied | None = Field(default=None, exclude_if=_is_none)
    """The rule that confirmed or relabelled it; none where no rule decided"""


class DroppedDetection(Detection):
    """Describes an object that the model found and a rule dropped; it is none of the frame's detections."""

    dropped_by: RuleName
    """The rule that dropped it"""


class RulesReport(EventPart):
    """Reports what a rules file did with the detections of a frame."""

    file: Annotated[str, Field(min_length=1, max_length=255)]
    """The name of the rules file"""
    sha256: Sha256
    """SHA-256 of the rules file, hexadecimal"""
    engine: Annotated[str, Field(max_length=100)]
    """What ran the rules, with its version; empty when nothing could"""
    elapsed_ms: Milliseconds
    dropped: list[DroppedDetection] = Field(default_factory=list)
    """What rules dropped, the best score first"""
    dropped_by_rule: dict[str, int] = Field(default_factory=dict)
    """How many detections each rule dropped, by its name"""
    problem: Annotated[str, Field(max_length=4000)] | None = None
    """Why the rules gave no rulings; then the detections are what the model found"""


class Timings(EventPart):
    """Holds how long each step took for one frame, in milliseconds of wall time."""

    queued_ms: Milliseconds
    fetch_ms: Milliseconds
    decode_ms: Milliseconds
    inference_ms: Milliseconds
    merge_ms: Milliseconds
    total_ms: Milliseconds


ClockOrigin = Literal["option", "telemetry", "metadata", "rtcp", "arrival"]
"""What the capture times of a video come from: what the sender states, the drone's telemetry, the file's creation time,
the camera's clock by RTCP, or the arrival of frames here."""


class VideoPosition(EventPart):
    """Says which video a frame is from, and where in it."""

    source: Annotated[str, Field(min_length=1, max_length=255)]
    """The name of the file or camera, as its operator calls it"""
    presentation_time_s: Annotated[float, Field(ge=0)]
    """Seconds since the first frame of the source"""
    clock: ClockOrigin
    """Where captured_at comes from"""


class FrameBatch(EventPart):
    """Names the frames that a device sent together."""

    id: UUID
    """Computed from its frames"""
    frames: Annotated[int, Field(ge=1)]
    """How many it has"""


class FrameCaptured(Event):
    """Reports that a device took a frame; its bytes are stored in the frame store at ``image.uri``."""

    event_name: ClassVar[str] = "frame.captured"

    frame_id: UUID
    """Computed from device, capture time and content: the same frame always has the same id"""
    device_id: DeviceId
    """The device that took the frame; also the record's key"""
    captured_at: UtcDatetime
    """When the device took the frame, UTC"""
    received_at: UtcDatetime
    """When the gateway received the frame, UTC"""
    image: ImageRef
    camera: CameraGeometry | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """What the device sent with the frame, unchanged"""
    original_filename: Annotated[str, Field(max_length=255)] | None = None
    job_id: UUID | None = None
    """The job the frame belongs to; none for live frames"""
    video: VideoPosition | None = None
    """The place in a video; none for single images"""
    flight_id: FlightId | None = None
    """The flight of the device that the frame belongs to, as the device names it"""
    batch: FrameBatch | None = Field(default=None, exclude_if=_is_none)
    """The batch in which the device sent it; none for a frame that was sent alone"""
    options: DetectOptions = DetectOptions()
    """What this frame requests; for absent fields the model card decides"""
    model: ModelRef | None = None
    """The model version of the store that this frame requests; none: the one that the worker serves"""
    rules: JobRules | None = None
    """The rules of this frame's job; none: those of the worker or of the model, if there are some"""
    use_rules: bool = True
    """Whether rules decide about its detections at all"""


class DetectionsMade(Event):
    """Reports what a detector found in a frame; ``detections`` is empty when it found nothing."""

    event_name: ClassVar[str] = "detections.made"

    id: UUID
    """Computed from frame, job and model version: a frame processed again has the same id again"""
    frame_id: UUID
    """Computed from device, capture time and content: the same frame always has the same id"""
    device_id: DeviceId
    """The device that took the frame; also the record's key"""
    captured_at: UtcDatetime
    """When the device took the frame, UTC"""
    received_at: UtcDatetime
    """When the gateway received the frame, UTC"""
    detected_at: UtcDatetime
    """When the detector finished the frame, UTC"""
    image: ImageRef
    camera: CameraGeometry | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """What the device sent with the frame, unchanged"""
    original_filename: Annotated[str, Field(max_length=255)] | None = None
    job_id: UUID | None = None
    """The job the frame belongs to; none for live frames"""
    video: VideoPosition | None = None
    """The place in a video; none for single images"""
    flight_id: FlightId | None = None
    """The flight of the device that the frame belongs to, as the device names it"""
    batch: FrameBatch | None = Field(default=None, exclude_if=_is_none)
    """The batch in which the device sent it; none for a frame that was sent alone"""
    model: ModelRef
    options: DetectOptions
    """The options that the frame was processed with"""
    detections: list[Detection]
    """The objects that were found, the best score first; may be empty"""
    timings: Timings
    gsd_m: Annotated[float, Field(gt=0)] | None = None
    """Metres on the ground per pixel, where the camera's geometry is known"""
    too_large: Annotated[int, Field(ge=0)] | None = None
    """The number of boxes left out as too large for their class, where gsd_m is known; many mean that gsd_m is wrong"""
    rules: RulesReport | None = Field(default=None, exclude_if=_is_none)
    """What rules did with the detections; none where there are no rules"""
    classes: list[Annotated[str, Field(min_length=1, max_length=100)]] | None = Field(default=None, exclude_if=_is_none)
    """The labels that class_id numbers, those of the model and then those of rules; none for frames of no job"""


class OriginalRecord(EventPart):
    """Holds a record as it was in its topic, byte for byte."""

    topic: Annotated[str, Field(min_length=1)]
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    timestamp_ms: Annotated[int, Field(ge=0)]
    key: str | None
    value: Base64 | None
    headers: list[tuple[str, Base64]]
    omitted: bool = Field(
        default=False, description="Value and headers are left out: they are larger than the dead-letter topic takes"
    )


class LostRange(EventPart):
    """Names records that were deleted before a consumer group read them: offsets ``first`` up to, without, ``end``."""

    first: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]


class DeadLetter(Event):
    """Reports a record that a consumer cannot process: the reason, and the original record for a re-drive."""

    event_name: ClassVar[str] = "dead.letter"

    id: UUID
    group: Annotated[str, Field(min_length=1)]
    """The consumer group that could not process the record"""
    reason: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="The error's stable code")
    message: Annotated[str, Field(max_length=4000)]
    attempts: Annotated[int, Field(ge=1)]
    """The number of attempts"""
    failed_at: UtcDatetime
    """When the last attempt failed, UTC"""
    device_id: str | None = None
    frame_id: UUID | None = None
    model: ModelRef | None = Field(default=None, exclude_if=_is_none)
    """The model that a detector used for the frame; none of other consumers"""
    original: OriginalRecord
    lost: LostRange | None = Field(
        default=None,
        description="Set when this letter reports records that retention deleted before they were read; they cannot be "
        "re-driven. ``original`` then names the place of the first one",
    )


class ProbeSent(Event):
    """Checks whether the broker accepts records; a gateway writes it and no service reads it."""

    event_name: ClassVar[str] = "probe.sent"
    key_pattern: ClassVar[str] = r"^.{1,255}$"
    key_about: ClassVar[str] = "The process that sent the probe."

    process: Annotated[str, Field(min_length=1, max_length=255)]
    """Host name and process id"""
    sent_at: UtcDatetime


EVENTS: tuple[type[Event], ...] = (
    FrameCaptured,
    DetectionsMade,
    DeadLetter,
    ModelActivated,
    WorkerAvailability,
    JobFinished,
    StatisticsCounted,
    ArchiveCommitted,
    ProbeSent,
)
"""All events; the documents are generated from this list, and topics.yaml names events by ``event_name``."""
