"""Defines the limits of what clients may send to the gateway."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.sections import Count, Interval, PositiveInt, Section

_Rate = Annotated[int, Field(ge=0, le=1_000_000)]


class LimitsSettings(Section):
    """Says how often clients may ask, and how far the detectors may be behind before frames are refused."""

    section = "limits"

    address_per_minute: _Rate = Field(
        default=0,
        description="the most requests of one address (IPv6: of its /64 network) in a minute, beyond it 429; 0: no "
        "limit, because a drone sends several frames a second and many may share one address",
    )
    device_per_minute: _Rate = Field(
        default=0,
        description="the most requests of one device, or of one client of the console, in a minute, beyond it 429; "
        "0: no limit",
    )
    bad_tokens_per_minute: _Rate = Field(
        default=60,
        description="the most wrong tokens of one address in a minute; beyond it all its tokens but those that "
        "were right before get 429; 0: no limit",
    )
    max_counted: PositiveInt = Field(
        default=100_000,
        description="the most addresses, and devices or clients, that are counted at the same time; beyond it the "
        "oldest are forgotten",
    )
    max_lag_frames: Count = Field(
        default=0,
        description="how many live frames of a partition may wait for the detectors before further ones of its devices "
        "get 503; backfill stops at half of it; 0: no limit, frames wait on the broker until retention",
    )
    max_backfill_lag_frames: Count = Field(
        default=0,
        description="how many backfill frames of a partition may wait for the detectors before further ones get 503; "
        "0: no limit but that of max_lag_frames",
    )
    lag_interval_s: Interval = Field(default=2.0, description="how often the lag of the detectors is read")

    @property
    def limits_lag(self) -> bool:
        """Whether any lag is limited."""
        return bool(self.max_lag_frames or self.max_backfill_lag_frames)
