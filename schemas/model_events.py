"""Defines the events of the `models` topic: activations of model versions, and reports of the workers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.event_base import DeviceId, Event, EventPart, ModelRef, Sha256, UtcDatetime
from schemas.geometry import Unit

LANE_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}$"
# A roll-out lane, or a roll-out lane and a worker in it.
MODELS_KEY_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}(/.{1,255})?$"
LaneName = Annotated[str, Field(pattern=LANE_PATTERN)]
WorkerName = Annotated[str, Field(min_length=1, max_length=255)]


class Canary(EventPart):
    """Describes a canary: a second version that gets the frames of some devices, and a share of all other frames."""

    model: ModelRef
    sha256: Sha256 | None = None
    """SHA-256 of its ONNX file; a version with a different file is refused"""
    share: Unit = 0.0
    """The share of the frames of all other devices, decided by the frame's id: the same for a frame each time"""
    devices: Annotated[list[DeviceId], Field(max_length=1_000)] = Field(default_factory=list)
    """The devices whose frames all go to the canary"""


class ModelActivated(Event):
    """Reports the model version that the workers of a roll-out lane must use; the newest activation counts."""

    event_name: ClassVar[str] = "model.activated"
    key_pattern: ClassVar[str] = MODELS_KEY_PATTERN
    key_about: ClassVar[str] = "The roll-out lane: the newest record of a lane counts."

    id: UUID
    """New for each activation, also for one of the same version"""
    lane: LaneName
    """The roll-out lane: the workers whose setting detector.lane has this value"""
    stable: ModelRef | None
    """The version that processes frames; none: what each worker's setting detector.model names"""
    sha256: Sha256 | None = None
    """SHA-256 of its ONNX file; a version with a different file is refused"""
    canary: Canary | None = None
    previous: ModelRef | None = None
    """What a roll-back returns to; none: what each worker's setting names"""
    previous_sha256: Sha256 | None = None
    activated_at: UtcDatetime
    by: Annotated[str, Field(max_length=255)] | None = None
    """Who activated it"""
    comment: Annotated[str, Field(max_length=1_000)] | None = None
    """Why"""


AvailabilityState = Literal["none", "downloading", "converting", "uploading", "enabled", "warning", "error"]
"""converting: a faster engine is being built while this version serves; uploading: that engine is being stored for
other machines; warning: the version was refused and a different one serves; error: no version serves."""


class ModelAvailability(EventPart):
    """Describes one model version in one worker."""

    model: ModelRef
    role: Literal["stable", "canary", "former"]
    """Its role in the newest activation; former: it serves until the activated version is ready, or instead of it"""
    state: AvailabilityState
    serving: bool
    """Whether new frames are processed with it"""
    engine: str | None = None
    """The engine that computes it, for example openvino"""
    engine_reason: str | None = None
    detail: Annotated[str, Field(max_length=4_000)] | None = None
    """What the version waits for, or why it was refused"""
    since: UtcDatetime
    """When this state began, UTC"""
    loaded_at: UtcDatetime | None = None


class WorkerAvailability(Event):
    """Reports which models a worker has; sent on each change, and at an interval while the worker runs."""

    event_name: ClassVar[str] = "model.availability"
    key_pattern: ClassVar[str] = MODELS_KEY_PATTERN
    key_about: ClassVar[str] = "Roll-out lane and worker, with a slash between; a tombstone when the worker has ended."

    lane: LaneName
    worker: WorkerName
    """Its instance id, or a name that it chose when it started"""
    activation: UUID | None
    """The newest activation that it has read"""
    settled: bool
    """Whether it has applied that activation: each of its models serves or is refused"""
    state: AvailabilityState
    """The most urgent state of all its models"""
    models: list[ModelAvailability]
    reported_at: UtcDatetime
    valid_s: Annotated[float, Field(gt=0)]
    """Seconds after which a worker without a newer report counts as ended"""
