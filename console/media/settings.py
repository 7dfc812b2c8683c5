"""Defines the settings of media: where their bytes come from, and how many are worked on."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from infra.sections import AlsoNamed, HttpAddress, Interval, Section

_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Bytes = Annotated[int, Field(ge=1_024, le=100_000_000_000)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_Days = Annotated[float, Field(ge=0.1, le=3_650)]


class MediaSettings(Section):
    """Says how media are fetched, detected and streamed."""

    section = "media"

    annotations_url: Annotated[HttpAddress, AlsoNamed("ANNOTATIONS_URL")] = Field(
        default="http://annotations:8080",
        description="the Annotations service: it has the bytes of media that come without any, refreshes tokens, and "
        "takes what is found in media",
    )
    annotate: bool | None = Field(
        default=None,
        description="whether what is found in media is posted to the Annotations service, where the caller sent a "
        "token for it; none: where media.annotations_url is given",
    )
    token_keep_s: Annotated[float, Field(ge=0, le=604_800)] = Field(
        default=3_600.0,
        description="how long a token is kept after its medium has ended, at most, for what was not posted yet",
    )
    networks: tuple[str, ...] = Field(
        default=(),
        description="networks inside which an address of `source` may be besides public ones, such as 10.0.7.0/24; "
        "none: only public addresses",
    )
    max_at_once: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=2, description="how many media are worked on at the same time, by all processes; others wait"
    )
    max_waiting: _Count = Field(default=100, description="the most media of a client that have not ended")
    max_bytes: _Bytes = Field(default=500_000_000, description="the largest picture or video")
    max_frames: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="the most frames of a video that are detected; a longer one ends with an error"
    )
    max_direct: _Count = Field(
        default=32, description="the most requests that wait for the detections of a picture; beyond it 503"
    )
    answer_timeout_s: _Seconds = Field(default=30.0, description="how long such a request waits for its detections")
    receive_timeout_s: _Seconds = Field(default=300.0, description="the time limit for receiving a medium")
    fetch_timeout_s: _Seconds = Field(default=600.0, description="the time limit for fetching a medium, in all tries")
    refresh_timeout_s: _Seconds = Field(default=15.0, description="the time limit for refreshing a token")
    watch_interval_s: Interval = Field(default=0.3, description="how often each stream of events reads new ones")
    heartbeat_s: Annotated[float, Field(ge=0.1, le=3_600)] = Field(
        default=15.0, description="how often a stream without an event sends a comment"
    )
    max_streams: _Count = Field(default=100, description="the most streams of events at the same time")
    send_timeout_s: _Seconds = Field(
        default=30.0, description="a client that takes nothing of its stream for so long is disconnected"
    )
    keep_days: _Days = Field(
        default=7.0, description="after how many days a medium that has ended, and its events, are forgotten"
    )

    @field_validator("networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return cls.with_networks("networks", networks)

    @property
    def sends_annotations(self) -> bool:
        """Whether what is found in media is posted to the Annotations service."""
        return "annotations_url" in self.model_fields_set if self.annotate is None else self.annotate

    @model_validator(mode="after")
    def _waits(self) -> Self:
        self.require_at_most("watch_interval_s", "heartbeat_s")
        return self
