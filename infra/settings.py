"""All settings of a Windhover process: one frozen object, built once in ``main`` and passed on in parts.

Read from the environment (``WINDHOVER_GATEWAY__PORT=8000``) and, below it, from a YAML file named by ``WINDHOVER_CONFIG``
or ``--config``. Nobody else reads the environment. Units are in the names; secrets mask themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from infra.errors import SettingsError

Port = Annotated[int, Field(ge=0, le=65_535)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerSettings(_Section):
    """Where events travel."""

    kind: Literal["embedded", "kafka"] = "embedded"
    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="kafka: host:port, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    compression: Literal["none", "gzip", "lz4", "zstd"] = "lz4"
    request_timeout_s: PositiveSeconds = 20.0
    replication: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="overrides every topic's replication (a one-node cluster needs 1)"
    )


class FrameSettings(_Section):
    """Where the bytes of frames lie."""

    kind: Literal["folder", "s3"] = "folder"
    folder: Path | None = Field(default=None, description="folder: where; default DATA_DIR/frames")
    bucket: str = "windhover"
    prefix: str = "frames"
    endpoint_url: str | None = Field(default=None, description="s3: an endpoint other than AWS")
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    timeout_s: PositiveSeconds = 10.0


class DatabaseSettings(_Section):
    """PostgreSQL; without a url an embedded server is run under DATA_DIR/postgres."""

    url: SecretStr | None = Field(default=None, description="postgresql://user:password@host:port/database")
    pool_min: Annotated[int, Field(ge=1)] = 1
    pool_max: Annotated[int, Field(ge=1)] = 4
    command_timeout_s: PositiveSeconds = 30.0


class GatewaySettings(_Section):
    """The HTTP edge where frames come in."""

    host: str = "127.0.0.1"
    port: Port = 8000
    max_image_bytes: PositiveInt = 10_000_000
    min_side_px: PositiveInt = 256
    max_side_px: PositiveInt = 16_384
    max_pixels: PositiveInt = 120_000_000
    max_metadata_bytes: PositiveInt = 16_384
    max_clock_skew_s: PositiveSeconds = 300.0
    max_concurrent_uploads: PositiveInt = 64
    token_refresh_s: PositiveSeconds = 2.0
    publish_timeout_s: PositiveSeconds = 10.0
    cors_origins: tuple[str, ...] = ()


class DetectorSettings(_Section):
    """The worker that finds things."""

    model: Path | None = Field(default=None, description="a model.yaml; default the model that ships with Windhover")
    engine: Literal["auto", "openvino", "onnxruntime"] = "auto"
    threads: Annotated[int, Field(ge=0)] = Field(default=0, description="engine threads; 0 means all cores")
    prefetch_frames: PositiveInt = 16
    max_in_flight_bytes: PositiveInt = 512_000_000
    fetch_threads: PositiveInt = 2
    commit_interval_s: PositiveSeconds = 0.05
    max_batch_frames: PositiveInt = 32
    duplicate_window: PositiveInt = Field(default=10_000, description="answers remembered per partition")
    max_pixels: PositiveInt = 200_000_000


class SinkSettings(_Section):
    """What all sinks share."""

    batch_records: PositiveInt = 500
    batch_wait_s: PositiveSeconds = 0.1


class SseSettings(_Section):
    """Server-sent events for live clients."""

    host: str = "127.0.0.1"
    port: Port = 8001
    heartbeat_s: PositiveSeconds = 15.0
    client_queue_events: PositiveInt = 1_000
    replay_events: PositiveInt = 10_000
    flush_interval_s: PositiveSeconds = 0.03
    max_clients: PositiveInt = 5_000
    cors_origins: tuple[str, ...] = ()
    tokens: tuple[SecretStr, ...] = Field(default=(), description="when given, a client must show one of them")


class RetrySettings(_Section):
    """The failure policy of every consumer."""

    first_delay_s: PositiveSeconds = 0.2
    max_delay_s: PositiveSeconds = 10.0
    record_attempts: PositiveInt = Field(default=3, description="tries before a record by itself is a dead letter")


class TelemetrySettings(_Section):
    """Logs, metrics and traces."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"
    otlp_endpoint: str | None = Field(default=None, description="for example http://tempo:4318; none: no traces leave")
    health_host: str = "127.0.0.1"
    health_port: Port = Field(default=9090, description="/health/live, /health/ready, /metrics; 0 takes a free port")
    drain_timeout_s: PositiveSeconds = 25.0


class Settings(BaseSettings):
    """Everything one process may be told."""

    model_config = SettingsConfigDict(
        env_prefix="WINDHOVER_", env_nested_delimiter="__", frozen=True, extra="forbid", nested_model_default_partial_update=True
    )

    data_dir: Path = Field(default=Path(".windhover"), description="where the embedded parts keep their files")
    topics_file: Path | None = None
    broker: BrokerSettings = BrokerSettings()
    frames: FrameSettings = FrameSettings()
    database: DatabaseSettings = DatabaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    detector: DetectorSettings = DetectorSettings()
    sinks: SinkSettings = SinkSettings()
    sse: SseSettings = SseSettings()
    retry: RetrySettings = RetrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
