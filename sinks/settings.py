"""Defines the settings of the live stream (server-sent events), and of the metrics that are kept in the database."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from infra.sections import Interval, Port, PositiveInt, PositiveSeconds, Section, ShortInterval


class SystemMetricsSettings(Section):
    """Says how often the metrics of a process are kept in the table system_metrics, and for how long."""

    section = "system_metrics"

    interval_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=60.0, description="how often a process writes its metrics into the database"
    )
    keep_days: Annotated[float, Field(ge=0.01, le=3_650)] = Field(
        default=30.0, description="after how many days these rows are removed"
    )


class SseSettings(Section):
    """Says where the live stream listens, and what it keeps for its clients."""

    host: str = Field(default="127.0.0.1", description="the address to listen on; 0.0.0.0 for all")
    port: Port = Field(default=8001, description="0 takes a free port")
    heartbeat_s: Interval = Field(default=15.0, description="how often an idle client gets a comment line")
    client_queue_events: PositiveInt = Field(
        default=1_000, description="a client with more events waiting is disconnected"
    )
    replay_events: PositiveInt = Field(default=10_000, description="events kept in memory for clients that reconnect")
    flush_interval_s: ShortInterval = Field(
        default=0.03, description="how long events are collected before they are sent"
    )
    max_clients: PositiveInt = Field(default=5_000, description="beyond it a client gets 503")
    cors_origins: tuple[str, ...] = Field(default=(), description="web pages that may read the stream")
    image_lifetime_s: PositiveSeconds = Field(
        default=86_400.0, description="how long the address of an image in an event is valid, at least"
    )
    access: Literal["open", "keys"] = Field(
        default="open", description="keys: clients need an API key, or a token that was made with one"
    )
    token_lifetime_s: PositiveSeconds = Field(
        default=300.0, description="how long a token for the address of a page is valid"
    )
    tokens: tuple[SecretStr, ...] = Field(
        default=(), description="when given, a client must send one of them, or a key"
    )
