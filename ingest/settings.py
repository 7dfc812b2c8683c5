"""Defines the settings of the gateway: its address, and limits for uploads."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from infra.sections import Port, PositiveInt, PositiveSeconds, Section


class GatewaySettings(Section):
    """Says where the gateway listens, and what it accepts."""

    section = "gateway"

    host: str = "127.0.0.1"
    port: Port = 8000
    max_image_bytes: PositiveInt = 10_000_000
    min_side_px: PositiveInt = 256
    max_side_px: PositiveInt = 16_384
    max_pixels: PositiveInt = 120_000_000
    max_metadata_bytes: PositiveInt = 16_384
    max_clock_skew_s: PositiveSeconds = Field(
        default=300.0, description="how far in the future captured_at may be: devices' clocks differ"
    )
    clock_tolerance_s: PositiveSeconds = Field(
        default=5.0,
        description="by how much the gateway's clock may differ from the broker's; beyond that it warns and takes the "
        "broker's time",
    )
    max_concurrent_uploads: PositiveInt = 64
    max_in_flight_bytes: PositiveInt = Field(
        default=256_000_000, description="of all uploads that are under way together"
    )
    body_timeout_s: PositiveSeconds = Field(default=30.0, description="in which a whole upload must have come")
    token_refresh_s: PositiveSeconds = 2.0
    publish_timeout_s: PositiveSeconds = 10.0
    store_timeout_s: PositiveSeconds = Field(
        default=30.0, description="in which the frame store must have kept a frame"
    )
    probe_interval_s: PositiveSeconds = Field(
        default=10.0, description="how often store and broker are tried while no frame does"
    )
    recovery_s: PositiveSeconds = Field(
        default=10.0,
        description="after a put or a publish failed, and no frame succeeded since: how long nothing may fail before a "
        "probe that passes makes the gateway ready again",
    )
    cors_origins: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sides(self) -> Self:
        self.require_at_most("min_side_px", "max_side_px")
        return self
