"""Types of the events of Standgale, generated from their JSON Schemas. Do not edit."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class ArchivedImage(TypedDict):
    frame_id: str
    # The path on the branch, for example images/drone-7/2026-05-01/12-00-00_a3f5.jpg
    path: str


class Box(TypedDict):
    x1: float
    y1: float
    x2: float
    y2: float


class CameraGeometry(TypedDict):
    # Height above the ground (or above the take-off point), metres
    altitude_m: NotRequired[float | None]
    # Height above mean sea level, metres
    altitude_msl_m: NotRequired[float | None]
    focal_length_mm: NotRequired[float | None]
    sensor_width_mm: NotRequired[float | None]
    latitude: NotRequired[float | None]
    longitude: NotRequired[float | None]
    # Direction the top of the picture points to, degrees clockwise from north
    heading_deg: NotRequired[float | None]
    # Gimbal pitch, degrees; -90 looks straight down
    pitch_deg: NotRequired[float | None]
    # Metres on the ground per pixel, where known directly; wins over altitude and lens
    gsd_m: NotRequired[float | None]


class Canary(TypedDict):
    model: ModelRef
    # SHA-256 of its ONNX file; a version with a different file is refused
    sha256: NotRequired[str | None]
    # The share of the frames of all other devices, decided by the frame's id: the same for a frame each time
    share: NotRequired[float]
    # The devices whose frames all go to the canary
    devices: NotRequired[list[str]]


class ClassStatistics(TypedDict):
    label: str
    detections: int
    # Frames with at least one of them
    frames: int
    mean_confidence: float


class DetectOptions(TypedDict):
    # The least score of a detection of any class; None where classes have their own in the card
    confidence: NotRequired[float | None]
    # Boxes of one tile that overlap by more are one object
    iou: NotRequired[float | None]
    # How the frame is cut; whole: not at all
    mode: NotRequired[Literal["fixed", "gsd", "auto", "whole"] | None]
    overlap: NotRequired[float | None]
    tile_width: NotRequired[int | None]
    tile_height: NotRequired[int | None]
    whole_frame: NotRequired[bool | None]
    # auto: by the ground sampling distance, else by what a quick pass finds
    scales: NotRequired[list[float] | Literal["auto"] | None]
    # Metres of ground across a tile; needs the camera's geometry, and wins over the sides in pixels
    tile_metres: NotRequired[float | None]
    merge_method: NotRequired[Literal["nms", "nmm", "greedy_nmm", "wbf"] | None]
    merge_metric: NotRequired[Literal["iou", "ios"] | None]
    merge_threshold: NotRequired[float | None]
    # Boxes of different classes that overlap by more (IoU) show one thing, and the best stays; 1 settles none
    settle: NotRequired[float | None]
    max_detections: NotRequired[int | None]
    # Smaller boxes are left out: their area in square pixels of the frame
    min_box_px: NotRequired[float | None]
    # What to look for, of a model that takes text: names of things, with dots between
    prompt: NotRequired[str | None]


class Detection(TypedDict):
    id: str
    label: str
    class_id: int
    # The model's score, 0 to 1, rounded to 4 decimals
    confidence: float
    # Corners, normalised to the frame and rounded to 6 decimals
    box: Box
    # The corners of a rotated box, clockwise as seen; then box is what encloses it within the frame
    corners: NotRequired[list[Point] | None]
    # The rule that confirmed or relabelled it; none where no rule decided
    rule: NotRequired[RuleApplied | None]


class DroppedDetection(TypedDict):
    id: str
    label: str
    class_id: int
    # The model's score, 0 to 1, rounded to 4 decimals
    confidence: float
    # Corners, normalised to the frame and rounded to 6 decimals
    box: Box
    # The corners of a rotated box, clockwise as seen; then box is what encloses it within the frame
    corners: NotRequired[list[Point] | None]
    # The rule that confirmed or relabelled it; none where no rule decided
    rule: NotRequired[RuleApplied | None]
    # The rule that dropped it
    dropped_by: str


class FrameBatch(TypedDict):
    # Computed from its frames
    id: str
    # How many it has
    frames: int


class FrameTimes(TypedDict):
    # From the device's clock to the gateway's: transfer, and what the two clocks differ
    captured_to_received: Spread
    # How long the frames waited before a detector began with them
    lag: Spread
    received_to_detected: Spread
    captured_to_detected: Spread


class ImageRef(TypedDict):
    # Address in the frame store: file: or s3:
    uri: str
    # SHA-256 of the image's bytes, hexadecimal
    sha256: str
    size_bytes: int
    media_type: Literal["image/jpeg", "image/png", "image/tiff", "image/webp"]
    # Pixels
    width: int
    # Pixels
    height: int


class JobRules(TypedDict):
    # What the rules are called, for people
    name: str
    # The rules: ISO Prolog
    text: str


JsonValue: TypeAlias = "Any"


class LostRange(TypedDict):
    first: int
    end: int


class ModelAvailability(TypedDict):
    model: ModelRef
    # Its role in the newest activation; former: it serves until the activated version is ready, or instead of it
    role: Literal["stable", "canary", "former"]
    state: Literal["none", "downloading", "converting", "uploading", "enabled", "warning", "error"]
    # Whether new frames are processed with it
    serving: bool
    # The engine that computes it, for example openvino
    engine: NotRequired[str | None]
    engine_reason: NotRequired[str | None]
    # What the version waits for, or why it was refused
    detail: NotRequired[str | None]
    # When this state began, UTC
    since: str
    loaded_at: NotRequired[str | None]


class ModelRef(TypedDict):
    name: str
    version: str


class OriginalRecord(TypedDict):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: str | None
    headers: list[list[str]]
    # Value and headers are left out: they are larger than the dead-letter topic takes
    omitted: NotRequired[bool]


class Point(TypedDict):
    x: float
    y: float


class RuleApplied(TypedDict):
    # As the rules file calls it
    name: str
    ruling: Literal["confirmed", "relabelled"]
    # What the model called a detection that was relabelled
    former_label: NotRequired[str | None]


class RulesReport(TypedDict):
    # The name of the rules file
    file: str
    # SHA-256 of the rules file, hexadecimal
    sha256: str
    # What ran the rules, with its version; empty when nothing could
    engine: str
    elapsed_ms: float
    # What rules dropped, the best score first
    dropped: NotRequired[list[DroppedDetection]]
    # How many detections each rule dropped, by its name
    dropped_by_rule: NotRequired[dict[str, int]]
    # Why the rules gave no rulings; then the detections are what the model found
    problem: NotRequired[str | None]


class Spread(TypedDict):
    mean_ms: float
    # Half of the frames took at most so long; it and the next two are up to a tenth too high
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Timings(TypedDict):
    queued_ms: float
    fetch_ms: float
    decode_ms: float
    inference_ms: float
    merge_ms: float
    total_ms: float


class VideoPosition(TypedDict):
    # The name of the file or camera, as its operator calls it
    source: str
    # Seconds since the first frame of the source
    presentation_time_s: float
    # Where captured_at comes from
    clock: Literal["option", "telemetry", "metadata", "rtcp", "arrival"]


class FrameCaptured(TypedDict):
    # Computed from device, capture time and content: the same frame always has the same id
    frame_id: str
    # The device that took the frame; also the record's key
    device_id: str
    # When the device took the frame, UTC
    captured_at: str
    # When the gateway received the frame, UTC
    received_at: str
    image: ImageRef
    camera: NotRequired[CameraGeometry | None]
    # What the device sent with the frame, unchanged
    metadata: NotRequired[dict[str, JsonValue]]
    original_filename: NotRequired[str | None]
    # The job the frame belongs to; none for live frames
    job_id: NotRequired[str | None]
    # The place in a video; none for single images
    video: NotRequired[VideoPosition | None]
    # The flight of the device that the frame belongs to, as the device names it
    flight_id: NotRequired[str | None]
    # The batch in which the device sent it; none for a frame that was sent alone
    batch: NotRequired[FrameBatch | None]
    # What this frame requests; for absent fields the model card decides
    options: NotRequired[DetectOptions]
    # The model version of the store that this frame requests; none: the one that the worker serves
    model: NotRequired[ModelRef | None]
    # The rules of this frame's job; none: those of the worker or of the model, if there are some
    rules: NotRequired[JobRules | None]
    # Whether rules decide about its detections at all
    use_rules: NotRequired[bool]


class DetectionsMade(TypedDict):
    # Computed from frame, job and model version: a frame processed again has the same id again
    id: str
    # Computed from device, capture time and content: the same frame always has the same id
    frame_id: str
    # The device that took the frame; also the record's key
    device_id: str
    # When the device took the frame, UTC
    captured_at: str
    # When the gateway received the frame, UTC
    received_at: str
    # When the detector finished the frame, UTC
    detected_at: str
    image: ImageRef
    camera: NotRequired[CameraGeometry | None]
    # What the device sent with the frame, unchanged
    metadata: NotRequired[dict[str, JsonValue]]
    original_filename: NotRequired[str | None]
    # The job the frame belongs to; none for live frames
    job_id: NotRequired[str | None]
    # The place in a video; none for single images
    video: NotRequired[VideoPosition | None]
    # The flight of the device that the frame belongs to, as the device names it
    flight_id: NotRequired[str | None]
    # The batch in which the device sent it; none for a frame that was sent alone
    batch: NotRequired[FrameBatch | None]
    model: ModelRef
    # The options that the frame was processed with
    options: DetectOptions
    # The objects that were found, the best score first; may be empty
    detections: list[Detection]
    timings: Timings
    # Metres on the ground per pixel, where the camera's geometry is known
    gsd_m: NotRequired[float | None]
    # The number of boxes left out as too large for their class, where gsd_m is known; many mean that gsd_m is wrong
    too_large: NotRequired[int | None]
    # What rules did with the detections; none where there are no rules
    rules: NotRequired[RulesReport | None]
    # The labels that class_id numbers, those of the model and then those of rules; none for frames of no job
    classes: NotRequired[list[str] | None]


class DeadLetter(TypedDict):
    id: str
    # The consumer group that could not process the record
    group: str
    # The error's stable code
    reason: str
    message: str
    # The number of attempts
    attempts: int
    # When the last attempt failed, UTC
    failed_at: str
    device_id: NotRequired[str | None]
    frame_id: NotRequired[str | None]
    # The model that a detector used for the frame; none of other consumers
    model: NotRequired[ModelRef | None]
    original: OriginalRecord
    # Set when this letter reports records that retention deleted before they were read; they cannot be re-driven. ``original`` then names the place of the first one
    lost: NotRequired[LostRange | None]


class ModelActivated(TypedDict):
    # New for each activation, also for one of the same version
    id: str
    # The roll-out lane: the workers whose setting detector.lane has this value
    lane: str
    # The version that processes frames; none: what each worker's setting detector.model names
    stable: ModelRef | None
    # SHA-256 of its ONNX file; a version with a different file is refused
    sha256: NotRequired[str | None]
    canary: NotRequired[Canary | None]
    # What a roll-back returns to; none: what each worker's setting names
    previous: NotRequired[ModelRef | None]
    previous_sha256: NotRequired[str | None]
    activated_at: str
    # Who activated it
    by: NotRequired[str | None]
    # Why
    comment: NotRequired[str | None]


class WorkerAvailability(TypedDict):
    lane: str
    # Its instance id, or a name that it chose when it started
    worker: str
    # The newest activation that it has read
    activation: str | None
    # Whether it has applied that activation: each of its models serves or is refused
    settled: bool
    # The most urgent state of all its models
    state: Literal["none", "downloading", "converting", "uploading", "enabled", "warning", "error"]
    models: list[ModelAvailability]
    reported_at: str
    # Seconds after which a worker without a newer report counts as ended
    valid_s: float


class JobFinished(TypedDict):
    # Computed from the job: a job ends once
    id: str
    job_id: str
    # The job_id of its frames and detections events
    job_uuid: str
    # The client that asked for the job
    client_id: str
    # failed: not one file has a result
    status: Literal["completed", "failed", "cancelled"]
    created_at: str
    finished_at: str
    total_images: int
    # Those that have an end, detected or failed; fewer than all only when the job was cancelled
    processed_images: int
    failed_images: int
    total_detections: int
    # Why it failed: the error of its files, if they have one in common
    error_code: NotRequired[str | None]
    error_message: NotRequired[str | None]


class StatisticsCounted(TypedDict):
    # Computed from the window and its revision
    id: str
    # Computed from device, minute, model and source: the same for all revisions
    window_id: str
    # The device that took the frames; also the record's key
    device_id: str
    # When the minute begins, UTC; a frame belongs to the minute in which it was captured
    minute: str
    # The model version that detected them
    model: ModelRef
    source: Literal["live", "jobs"]
    # Of several events of a window, the one with the largest revision is right
    revision: int
    # Frames that were detected, each once; one that two jobs asked for counts for both
    frames: int
    frames_with_detections: int
    # The frames by the 60 seconds of the minute
    frames_per_s: float
    first_captured_at: str
    last_captured_at: str
    # When the latest of the frames was detected
    last_detected_at: str
    # Frames that arrived before they were captured: the device's clock is ahead
    clock_ahead: int
    detections: int
    # The labels that were found, in alphabetical order; no more than the first 500 of them
    classes: list[ClassStatistics]
    # Detections with labels that ``classes`` leaves out
    other_detections: int
    times: FrameTimes


class ArchiveCommitted(TypedDict):
    # Computed from commit and batch
    id: str
    # Computed from the frames that were committed together; also in the metadata of the commit
    batch_id: str
    repository: str
    branch: str
    commit_id: str
    committed_at: str
    images: list[ArchivedImage]


class ProbeSent(TypedDict):
    # Host name and process id
    process: str
    sent_at: str
