"""Defines the settings of the edge client: what it watches, how much it keeps, and how it uploads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, SecretStr, field_validator, model_validator

from infra.sections import (
    HttpAddress,
    Interval,
    PositiveInt,
    PositiveSeconds,
    PositiveSize,
    Seconds,
    Section,
    ShortInterval,
    Size,
)
from ingest.files.suffixes import PICTURE_SUFFIXES, Suffixes
from schemas.event_base import FLIGHT_ID_PATTERN

WhenFull = Literal["stop", "drop_oldest", "drop_newest"]


class EdgeSettings(Section):
    """Says which folder is watched, how much is kept while the gateway is unavailable, and how frames are sent."""

    section = "edge"

    url: HttpAddress | None = Field(default=None, description="the gateway's address, as https://gateway.example:8000")
    token: SecretStr | None = Field(default=None, description="the device's token; a file of it is read anew")
    ca_file: Path | None = Field(
        default=None, description="a PEM file of the authorities whose certificate the gateway may have"
    )
    folder: Path | None = Field(default=None, description="the folder to watch, with the folders in it")
    video: SecretStr | None = Field(
        default=None, description="a video or camera whose frames are sent: a file, or an address of http or rtsp"
    )
    video_mode: Literal["every", "nth", "rate", "key", "scene"] = Field(
        default="rate", description="which of its frames: see docs/video.md"
    )
    video_per_second: Annotated[float, Field(gt=0, le=1_000)] = Field(
        default=1.0, description="rate: the most frames in a second of the video"
    )
    video_every: PositiveInt = Field(default=1, description="nth: the first frame, and then each one after so many")
    video_transport: Literal["tcp", "udp"] = Field(default="tcp", description="how RTSP sends the pictures")
    video_start: AwareDatetime | None = Field(
        default=None, description="when a recording began, where it does not say it or says it wrongly"
    )
    suffixes: Suffixes = Field(
        default=PICTURE_SUFFIXES,
        description="the ends of the names of files that are taken, in any case of letters",
    )
    release: Literal["keep", "delete"] = Field(
        default="keep", description="what becomes of a file in the watched folder once it is safe in the spool"
    )
    side_files: Literal["optional", "required", "ignore"] = Field(
        default="optional",
        description="photo.jpg.json or photo.json beside photo.jpg has fields of the frame; required: a file waits "
        "for it",
    )
    watch: Literal["events", "poll"] = Field(
        default="events",
        description="events: the system reports files that were closed or renamed; poll: for network shares, which "
        "report nothing",
    )
    scan_s: Interval = Field(
        default=10.0, description="how often the whole folder is listed, for files that no event reported"
    )
    settle_s: PositiveSeconds = Field(
        default=2.0, description="how long such a file must be unchanged before it is taken"
    )
    spool: Path | None = Field(default=None, description="the folder that keeps frames; default edge in data_dir")
    max_frame_bytes: PositiveSize = Field(default=50_000_000, description="a larger file stays in the watched folder")
    max_bytes: PositiveSize = Field(default=10_000_000_000, description="the most bytes in the spool")
    max_frames: PositiveInt = Field(default=100_000, description="the most frames in the spool")
    min_free_bytes: Size = Field(default=200_000_000, description="the spool is full when its disk has less free space")
    when_full: WhenFull = Field(
        default="stop",
        description="stop leaves new files in the watched folder until there is space; drop_oldest and drop_newest "
        "lose frames",
    )
    live_s: Seconds = Field(
        default=10.0,
        description="frames are live for so long after they arrived; older ones are the backlog, which is sent behind "
        "them; 0: all frames are live, in one order",
    )
    backlog_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.2, description="the share of the bytes that the backlog gets while live frames wait"
    )
    use_stream: bool = Field(
        default=True,
        description="whether the backlog is sent by `WS /api/v1/stream`, many frames at a time, where it is there",
    )
    ask_known: bool = Field(
        default=True, description="whether the gateway is asked which images of the backlog it has already"
    )
    flight: str | None = Field(default=None, description="the flight of the frames that are taken")
    until: Literal["stopped", "sent", "closed"] = Field(
        default="stopped",
        description="when the client ends: when it is stopped; when all that is in the folder, or in a recording, was "
        "sent; or when the flight is then also closed with the number of its frames",
    )
    max_bytes_per_s: PositiveSize | None = Field(default=None, description="the most bytes that are sent per second")
    connect_timeout_s: PositiveSeconds = Field(default=10.0, description="the time limit for a connection")
    stall_timeout_s: PositiveSeconds = Field(
        default=30.0, description="an upload that makes no progress for so long is given up and tried again"
    )
    first_delay_s: ShortInterval = Field(
        default=0.5, description="the pause after a failed upload; it doubles with each further one"
    )
    max_delay_s: PositiveSeconds = Field(default=60.0, description="the longest pause")

    @field_validator("flight")
    @classmethod
    def _is_flight(cls, flight: str | None) -> str | None:
        if flight is not None and re.fullmatch(FLIGHT_ID_PATTERN, flight, re.ASCII) is None:
            raise ValueError("a flight has 1 to 128 of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit")
        return flight

    @model_validator(mode="after")
    def _limits(self) -> Self:
        self.require_at_most("first_delay_s", "max_delay_s")
        self.require_at_most("max_frame_bytes", "max_bytes")
        if self.until == "closed" and self.flight is None:
            raise ValueError(f"{self.named('until')} is closed, and {self.named('flight')} is not set; name the flight")
        return self
