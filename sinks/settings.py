"""Defines the settings of the live stream (server-sent events)."""

from __future__ import annotations

from pydantic import Field, SecretStr

from infra.sections import Port, PositiveInt, PositiveSeconds, Section


class SseSettings(Section):
    """Says where the live stream listens, and what it keeps for its clients."""

    host: str = "127.0.0.1"
    port: Port = 8001
    heartbeat_s: PositiveSeconds = 15.0
    client_queue_events: PositiveInt = 1_000
    replay_events: PositiveInt = 10_000
    flush_interval_s: PositiveSeconds = 0.03
    max_clients: PositiveInt = 5_000
    cors_origins: tuple[str, ...] = ()
    tokens: tuple[SecretStr, ...] = Field(default=(), description="when given, a client must show one of them")
