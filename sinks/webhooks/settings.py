"""Defines the settings of web-hooks: what is tried for how long, and which addresses may be called."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from infra.sections import Interval, Section

_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Seconds = Annotated[float, Field(gt=0, le=3_600)]
_Days = Annotated[float, Field(ge=0.01, le=3_650)]


class WebhookSettings(Section):
    """Says how web-hooks are called."""

    section = "webhooks"

    networks: tuple[str, ...] = Field(
        default=(),
        description="networks inside which addresses may be called besides public ones, such as 10.0.7.0/24; none: "
        "only public addresses",
    )
    require_https: bool = Field(
        default=True,
        description="whether only https:// is called; http:// is allowed inside webhooks.networks all the same",
    )
    timeout_s: _Seconds = Field(default=15.0, description="the time limit for one call, until its response begins")
    concurrency: _Count = Field(default=16, description="how many calls one process makes at the same time")
    per_webhook: _Count = Field(default=4, description="how many calls to one web-hook are made at the same time")
    max_waiting: _Count = Field(
        default=10_000,
        description="how many deliveries to one web-hook may wait; further ones become dead letters at once",
    )
    keep_days: _Days = Field(
        default=7.0,
        description="how long delivered and dead deliveries are kept, for looking at them and sending again",
    )
    refresh_s: Interval = Field(default=2.0, description="how often the web-hooks for detections are read")

    @field_validator("networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return cls.with_networks("networks", networks)
