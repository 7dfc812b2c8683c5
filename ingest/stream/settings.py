"""Defines the settings of the WebSocket that takes frames."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.sections import PositiveInt, PositiveSeconds, PositiveSize, Section


class StreamSettings(Section):
    """Says how many clients send frames by WebSocket, and how much each may have in progress."""

    section = "stream"

    enabled: bool = Field(default=True, description="whether there is `WS /api/v1/stream`")
    max_connections: PositiveInt = Field(
        default=256,
        description="the most connections of devices; beyond it 503. Those that bring no token in their handshake "
        "may be a quarter as many until they say hello; then the oldest of them makes room",
    )
    max_device_connections: PositiveInt = Field(
        default=4, description="the most connections of one device; beyond it a new one is closed with 4429"
    )
    window_frames: Annotated[int, Field(ge=1, le=64)] = Field(
        default=16,
        description="the most frames that a client may have sent without an answer; it gets fewer credits while the "
        "gateway is busy",
    )
    window_bytes: PositiveSize = Field(
        default=32_000_000, description="the most bytes of such frames; one frame is always accepted"
    )
    hello_timeout_s: PositiveSeconds = Field(default=10.0, description="how long a client may take to say hello")
    idle_timeout_s: PositiveSeconds = Field(
        default=300.0, description="a connection without a frame for so long is closed with 4408"
    )
    memory_timeout_s: PositiveSeconds = Field(
        default=10.0,
        description="how long a frame waits unread for memory (gateway.max_in_flight_bytes); then 1013",
    )
    max_sessions: PositiveInt = Field(
        default=4_000, description="how many sessions are remembered, so that their clients can resume"
    )
    resume_tail: PositiveInt = Field(
        default=10_000,
        description="among how many of the last events of a partition a frame is found that was published before the "
        "gateway restarted, so that it is not published again",
    )

    @model_validator(mode="after")
    def _connections(self) -> Self:
        self.require_at_most("max_device_connections", "max_connections")
        return self
