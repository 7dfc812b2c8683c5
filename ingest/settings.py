"""Defines the settings of the gateway (its address, limits for uploads) and of reading videos."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from infra.sections import Interval, Port, PositiveInt, PositiveSeconds, PositiveSize, Section, ShortInterval, Threads

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")


class GatewaySettings(Section):
    """Says where the gateway listens, and what it accepts."""

    section = "gateway"

    host: str = Field(default="127.0.0.1", description="the address to listen on; 0.0.0.0 for all")
    port: Port = Field(default=8000, description="0 takes a free port")
    max_image_bytes: PositiveSize = Field(default=10_000_000, description="the largest upload")
    min_side_px: PositiveInt = Field(default=256, description="the shortest side of an image that is accepted")
    max_side_px: PositiveInt = Field(default=16_384, description="the longest side of an image that is accepted")
    max_pixels: PositiveSize = Field(default=120_000_000, description="the most pixels of an image that is accepted")
    max_metadata_bytes: PositiveSize = Field(default=16_384, description="the largest metadata field of an upload")
    max_clock_skew_s: PositiveSeconds = Field(
        default=300.0, description="how far in the future captured_at may be, because the clocks of devices differ"
    )
    clock_tolerance_s: PositiveSeconds = Field(
        default=5.0,
        description="by how much the gateway's clock may differ from the broker's; beyond that it warns and uses the "
        "broker's time",
    )
    max_concurrent_uploads: PositiveInt = Field(default=64, description="beyond it an upload gets 503")
    max_in_flight_bytes: PositiveSize = Field(
        default=256_000_000, description="the most bytes of all uploads in progress together"
    )
    body_timeout_s: PositiveSeconds = Field(default=30.0, description="the time limit for receiving a whole upload")
    token_refresh_s: Interval = Field(default=2.0, description="how often the device tokens are read")
    publish_timeout_s: PositiveSeconds = Field(default=10.0, description="the time limit for publishing an event")
    store_timeout_s: PositiveSeconds = Field(default=30.0, description="the time limit for storing a frame")
    probe_interval_s: Interval = Field(
        default=10.0, description="how often store and broker are probed while no frame uses them"
    )
    recovery_s: PositiveSeconds = Field(
        default=10.0,
        description="after storing or publishing failed, and no frame succeeded since: how long nothing may fail "
        "before a successful probe makes the gateway ready again",
    )
    answer_timeout_s: PositiveSeconds = Field(
        default=10.0,
        description="how long detect waits for the detections of a frame, from when it was received; then 202",
    )
    max_waiting: PositiveInt = Field(
        default=1_000,
        description="the most frames whose detections are waited for at the same time; beyond it detect gets 503",
    )
    answer_tail: PositiveInt = Field(
        default=10_000,
        description="among how many of the last detections events of a partition detect finds those of a frame that "
        "was sent before; not less than detector.duplicate_window",
    )
    digests_enabled: bool = Field(
        default=True,
        description="whether frames/known answers, and frames may name their image by digest instead of sending it",
    )
    max_known_digests: PositiveInt = Field(default=1_000, description="the most digests of one frames/known")
    originals_enabled: bool = Field(
        default=True, description="whether large images may be uploaded first (originals) and announced then"
    )
    max_original_bytes: PositiveSize = Field(default=200_000_000, description="the largest original")
    max_original_side_px: PositiveInt = Field(default=65_535, description="the longest side of an original")
    max_original_pixels: PositiveSize = Field(
        default=200_000_000, description="the most pixels of an original; not more than detector.max_pixels"
    )
    # S3 takes no address that is valid for longer than seven days.
    original_upload_s: Annotated[float, Field(gt=0, le=604_800)] = Field(
        default=3_600.0,
        description="how long the address for an upload is valid; what is not announced after twice this time is "
        "removed",
    )
    max_pending_originals: PositiveInt = Field(
        default=32,
        description="the most originals of a device that are uploaded, whole or in part, and not announced; with "
        "frames in S3, which counts no uploads, also of those whose address is valid",
    )
    max_original_uploads: PositiveInt = Field(
        default=8,
        description="the most originals that a gateway receives at the same time, a device half of them; with frames "
        "in S3 it receives none",
    )
    original_timeout_s: PositiveSeconds = Field(
        default=300.0, description="the time limit for reading an uploaded original, checking and storing it"
    )
    max_open_flights: PositiveInt = Field(
        default=1_000, description="the most flights that a device has announced and not closed"
    )
    flights_timeout_s: PositiveSeconds = Field(
        default=10.0, description="the time limit of a request about flights for the database; frames do not need it"
    )
    batch_enabled: bool = Field(default=True, description="whether there is detect/batch")
    max_batch_images: PositiveInt = Field(default=50, description="the most images of one batch")
    batch_timeout_s: PositiveSeconds = Field(
        default=300.0, description="the time limit for a batch: receiving it, and waiting for all detections"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="web pages that may use the API, such as https://map.example; * for all, which then may not send "
        "cookies",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for each in origins:
            if each != "*" and _ORIGIN.fullmatch(each) is None:
                raise ValueError(
                    f"{cls.named('cors_origins')}: received {each!r}; it takes origins as browsers write them, such as "
                    "https://map.example or http://localhost:3000, without a path or a slash at the end"
                )
        return origins

    @model_validator(mode="after")
    def _sides(self) -> Self:
        self.require_at_most("min_side_px", "max_side_px")
        if self.batch_enabled:
            self.require_at_most("max_batch_images", "max_waiting")
        return self


class VideoSettings(Section):
    """Says how files and cameras are read, and which addresses they may have."""

    section = "video"

    networks: tuple[str, ...] = Field(
        default=(),
        description="the only networks that cameras and servers may be in, such as 192.168.7.0/24; none: all, but "
        "neither this machine nor link-local addresses",
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(
        default=92,
        description="of the pictures that frames become; more is larger. JPEG that come whole are passed on",
    )
    max_pixels: PositiveSize = Field(default=40_000_000, description="the most pixels of a frame that is decoded")
    threads: Threads = Field(default=2, description="of the decoder, for each source")
    queue_frames: PositiveInt = Field(default=4, description="frames that wait for the acceptance, for each source")
    open_timeout_s: PositiveSeconds = Field(
        default=15.0, description="the time limit for connecting to a camera or server, and for recognising its format"
    )
    read_timeout_s: PositiveSeconds = Field(
        default=10.0, description="how long a camera or server may be silent before it is connected to again"
    )
    max_lag_s: PositiveSeconds = Field(
        default=30.0,
        description="how far behind a camera decoding and acceptance may be; what is older is left out up to the next "
        "key frame, and counted",
    )
    max_lag_bytes: PositiveSize = Field(
        default=32_000_000, description="the most bytes of a camera's stream that wait to be decoded, for each source"
    )
    first_reconnect_s: ShortInterval = Field(
        default=0.5, description="the pause before a camera is connected to again; it doubles with each attempt"
    )
    max_reconnect_s: PositiveSeconds = Field(default=30.0, description="the longest such pause")
    clock_tolerance_s: PositiveSeconds = Field(
        default=0.5, description="by how much a camera's clock may drift before its times are corrected"
    )
    max_clock_difference_s: PositiveSeconds = Field(
        default=30.0,
        description="by how much a camera's clock (RTCP, telemetry) may differ from this machine's; beyond it the "
        "arrival of frames counts",
    )

    @field_validator("networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return cls.with_networks("networks", networks)

    @model_validator(mode="after")
    def _pauses(self) -> Self:
        self.require_at_most("first_reconnect_s", "max_reconnect_s")
        return self
