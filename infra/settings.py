"""All settings of a Standgale process: one frozen object, built once in ``main`` and passed on in parts.

Read from the environment (``STANDGALE_GATEWAY__PORT=8000``) and, below it, from a YAML file named by
``STANDGALE_CONFIG`` or ``--config``. Nobody else reads the environment. Units are in the names. Secrets mask themselves
and can be given as files too (``STANDGALE_DATABASE__URL_FILE=/run/secrets/url``). An empty variable means "not given".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from infra.process.settings_sources import CONFIG_VARIABLE, Setting, describe, file_variable, load, secret_in
from schemas.events import LANE_PATTERN

Port = Annotated[int, Field(ge=0, le=65_535)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Precision = Literal["auto", "f32", "bf16", "f16"]
"""auto: what is computed fastest on this machine and answers as f32 does; f32 while nothing was measured."""
LatePolicy = Literal["keep_all", "put_off", "give_up"]
EngineKind = Literal["auto", "openvino", "onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt", "tensorrt", "torch"]
"""What runs a model's graph; auto: the fastest one on the machine."""


class _Section(BaseModel):
    # Inputs stay out of pydantic's own error texts: one of them may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def _at_most(section: str, low: str, low_value: float, high: str, high_value: float) -> None:
    """Raise ValueError, naming both settings, when the lower bound is above the upper one."""
    if low_value > high_value:
        raise ValueError(
            f"{section}.{low} (STANDGALE_{section.upper()}__{low.upper()}): received {low_value}; it takes at most "
            f"{section}.{high} (STANDGALE_{section.upper()}__{high.upper()}), which is {high_value}"
        )


class BrokerSettings(_Section):
    """Where events travel."""

    kind: Literal["embedded", "kafka"] = "embedded"
    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="kafka: host:port, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = Field(default=None, description="a file is read again for each new connection")
    ssl_cafile: Path | None = Field(default=None, description="PEM file; none: the certificates of this machine")
    ssl_certfile: Path | None = Field(default=None, description="PEM file with this client's certificate")
    ssl_keyfile: Path | None = Field(default=None, description="PEM file with the key of ssl_certfile")
    ssl_keyfile_password: SecretStr | None = Field(default=None, description="when the key is locked")
    compression: Literal["none", "gzip", "lz4", "zstd"] = "lz4"
    request_timeout_s: PositiveSeconds = 20.0
    replication: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="overrides every topic's replication (a one-node cluster needs 1)"
    )

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        wanted = self.kind == "kafka" and self.security_protocol.startswith("SASL_")
        if wanted and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(
                "broker.sasl_username and broker.sasl_password (STANDGALE_BROKER__SASL_USERNAME, "
                f"STANDGALE_BROKER__SASL_PASSWORD): both are needed when broker.security_protocol is "
                f"{self.security_protocol}"
            )
        return self

    @model_validator(mode="after")
    def _certificate(self) -> Self:
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            missing = "ssl_certfile" if self.ssl_certfile is None else "ssl_keyfile"
            raise ValueError(
                f"broker.{missing} (STANDGALE_BROKER__{missing.upper()}): missing while the other one is given; "
                "give both, or neither"
            )
        return self


class FrameSettings(_Section):
    """Where the bytes of frames lie."""

    kind: Literal["folder", "s3"] = "folder"
    folder: Path | None = Field(default=None, description="folder: where; default DATA_DIR/frames")
    bucket: str = "standgale"
    prefix: str = "frames"
    endpoint_url: str | None = Field(default=None, description="s3: an endpoint other than AWS")
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    timeout_s: PositiveSeconds = 10.0
    max_bytes: PositiveInt | None = Field(
        default=None, description="folder: the most that all frames may be together; beyond it new ones are refused"
    )
    min_free_bytes: Annotated[int, Field(ge=0)] = Field(
        default=100_000_000,
        description="folder: a frame that would leave less free on the disk is refused, so that broker and database "
        "keep working",
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.kind == "s3" and self.max_bytes is not None:
            raise ValueError(
                f"frames.max_bytes (STANDGALE_FRAMES__MAX_BYTES): received {self.max_bytes} with frames.kind s3; a "
                "bucket is not measured, so leave it out and give the bucket a quota"
            )
        return self

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            missing = "access_key" if self.access_key is None else "secret_key"
            raise ValueError(
                f"frames.{missing} (STANDGALE_FRAMES__{missing.upper()}): missing while the other key is given; "
                "give both, or none to use the machine's own credentials"
            )
        return self


class ModelStoreSettings(_Section):
    """Where models lie, and where the ones that were fetched are kept."""

    kind: Literal["folder", "s3", "http", "lakefs"] = "folder"
    folder: Path | None = Field(default=None, description="folder: where; default DATA_DIR/models")
    cache: Path | None = Field(default=None, description="where fetched models lie; default DATA_DIR/model-cache")
    endpoint_url: str | None = Field(
        default=None,
        description="s3: an endpoint other than AWS; lakefs: the server; http: the loader, default http://loader:8080",
    )
    prefix: str = Field(default="models", description="s3, lakefs: what all keys begin with; http: the loader's folder")
    bucket: str = Field(default="standgale", description="s3")
    region: str = Field(default="us-east-1", description="s3")
    repository: str = Field(default="standgale", description="lakefs")
    ref: str = Field(default="main", description="lakefs: the branch, tag or commit to read; to publish, a branch")
    load_path: str = Field(default="/load/{filename}", description="http: where files are asked for")
    upload_path: str = Field(default="/upload/{filename}", description="http: where files are sent")
    access_key: SecretStr | None = Field(default=None, description="s3, lakefs")
    secret_key: SecretStr | None = Field(default=None, description="s3, lakefs")
    timeout_s: PositiveSeconds = Field(default=30.0, description="how long a transfer may stand still")
    max_file_bytes: PositiveInt = Field(default=20_000_000_000, description="the largest file that is fetched")

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            missing = "access_key" if self.access_key is None else "secret_key"
            raise ValueError(
                f"models.{missing} (STANDGALE_MODELS__{missing.upper()}): missing while the other key is given; "
                "give both, or neither"
            )
        if self.kind == "lakefs" and (self.endpoint_url is None or self.access_key is None):
            raise ValueError(
                "models.endpoint_url, models.access_key and models.secret_key (STANDGALE_MODELS__ENDPOINT_URL, "
                "__ACCESS_KEY, __SECRET_KEY): all three are needed when models.kind is lakefs"
            )
        return self

    @model_validator(mode="after")
    def _plain_address(self) -> Self:
        parts = urlsplit(self.endpoint_url or "http://loader:8080")
        # The value stays out of the text: somebody may have written a password into it.
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(
                "models.endpoint_url (STANDGALE_MODELS__ENDPOINT_URL): takes http://host:port or https://host, "
                "without a user or a password"
            )
        if parts.query or parts.fragment:
            raise ValueError("models.endpoint_url (STANDGALE_MODELS__ENDPOINT_URL): takes no ? and no #")
        for name in ("load_path", "upload_path"):
            path = str(getattr(self, name))
            if not path.startswith("/") or path.count("{filename}") > 1 or "{" in path.replace("{filename}", ""):
                raise ValueError(
                    f"models.{name} (STANDGALE_MODELS__{name.upper()}): received {path!r}; it takes a path that begins "
                    "with / and may hold {filename} once"
                )
        return self


class DatabaseSettings(_Section):
    """PostgreSQL; without a url an embedded server is run under DATA_DIR/postgres."""

    url: SecretStr | None = Field(
        default=None,
        description="postgresql://user:password@host:port/database; a file is read again for each new connection",
    )
    pool_min: Annotated[int, Field(ge=1)] = 1
    pool_max: Annotated[int, Field(ge=1)] = 4
    command_timeout_s: PositiveSeconds = 30.0

    @model_validator(mode="after")
    def _pool(self) -> Self:
        _at_most("database", "pool_min", self.pool_min, "pool_max", self.pool_max)
        return self


class GatewaySettings(_Section):
    """The HTTP edge where frames come in."""

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
        _at_most("gateway", "min_side_px", self.min_side_px, "max_side_px", self.max_side_px)
        return self


class DetectorSettings(_Section):
    """The worker that finds things."""

    model: Path | None = Field(default=None, description="a model.yaml; default the model that ships with Standgale")
    engine: EngineKind = Field(default="auto", description="auto: the fastest one on the machine")
    precision: Precision | None = Field(
        default=None, description="what the engine computes in; none: what the model card says"
    )
    threads: Annotated[int, Field(ge=0)] = Field(default=0, description="engine threads; 0 means all cores")
    measure_s: Annotated[float, Field(ge=0)] = Field(
        default=4.0,
        description="about how long a model's first load may measure how it runs fastest on this machine, which is "
        "remembered; 0 does not measure and takes what is usually fastest, in f32",
    )
    fallback: bool = Field(default=True, description="a batch an engine fails on is given to the next engine")
    live_deadline_s: PositiveSeconds | None = Field(
        default=None, description="after how long a live frame is late; from its receipt to its turn"
    )
    late_policy: LatePolicy = Field(
        default="keep_all",
        description="of late live frames: keep_all answers them in order; put_off moves them to frames.backfill, so "
        "that the newest come first; give_up makes them dead letters",
    )
    prefetch_frames: PositiveInt = 16
    max_in_flight_bytes: PositiveInt = 512_000_000
    fetch_threads: PositiveInt = 2
    commit_interval_s: PositiveSeconds = 0.05
    max_batch_frames: PositiveInt = 32
    duplicate_window: PositiveInt = Field(default=10_000, description="answers remembered per partition")
    max_pixels: PositiveInt = 200_000_000
    lane: Annotated[str, Field(pattern=LANE_PATTERN)] = Field(
        default="default", description="workers of one lane answer with the model activated for it"
    )
    report_interval_s: PositiveSeconds = Field(
        default=15.0, description="how often a worker tells which models it has; after three it is taken for gone"
    )

    @model_validator(mode="after")
    def _deadline(self) -> Self:
        if (self.late_policy == "keep_all") != (self.live_deadline_s is None):
            raise ValueError(
                f"detector.late_policy (STANDGALE_DETECTOR__LATE_POLICY): received {self.late_policy} with "
                f"detector.live_deadline_s (STANDGALE_DETECTOR__LIVE_DEADLINE_S) {self.live_deadline_s}; put_off and "
                "give_up need a deadline, keep_all has no use for one"
            )
        return self


class SinkSettings(_Section):
    """What all sinks share."""

    batch_records: PositiveInt = 500
    batch_bytes: PositiveInt = Field(default=16_000_000, description="about the most that one batch holds in memory")
    batch_wait_s: Annotated[float, Field(ge=0)] = Field(
        default=0.05, description="how long a batch that is not full waits for more; 0 writes at once"
    )


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
    record_attempts: PositiveInt = Field(
        default=3, description="tries before a record that fails while others pass is a dead letter"
    )
    max_dead_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.5,
        description="when more of the last minute's records became dead letters, the consumer holds and is not ready; "
        "1 never holds",
    )
    min_dead: PositiveInt = Field(default=20, description="max_dead_share counts from so many records a minute on")

    @model_validator(mode="after")
    def _delays(self) -> Self:
        _at_most("retry", "first_delay_s", self.first_delay_s, "max_delay_s", self.max_delay_s)
        return self


class TelemetrySettings(_Section):
    """Logs, metrics and traces."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"
    otlp_endpoint: str | None = Field(default=None, description="for example http://tempo:4318; none: no traces leave")
    trace_sample_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=1.0, description="the share of new traces that are kept; a caller's own decision is followed"
    )
    health_host: str = "127.0.0.1"
    health_port: Port = Field(default=9090, description="/health/live, /health/ready, /metrics; 0 takes a free port")
    drain_timeout_s: PositiveSeconds = 25.0
    silence_s: PositiveSeconds = Field(
        default=120.0, description="a working part that gives no sign of life for so long makes the process not live"
    )


class Settings(_Section):
    """Everything one process may be told. ``Settings()`` is the defaults; ``load_settings`` reads the world."""

    data_dir: Path = Field(default=Path(".standgale"), description="where the embedded parts keep their files")
    topics_file: Path | None = None
    broker: BrokerSettings = BrokerSettings()
    frames: FrameSettings = FrameSettings()
    models: ModelStoreSettings = ModelStoreSettings()
    database: DatabaseSettings = DatabaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    detector: DetectorSettings = DetectorSettings()
    sinks: SinkSettings = SinkSettings()
    sse: SseSettings = SseSettings()
    retry: RetrySettings = RetrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def engines_folder(self) -> Path:
        """Where it is remembered how models run fastest on this machine."""
        return self.data_dir / "engines"

    @property
    def frames_folder(self) -> Path:
        """Where the folder frame store lies."""
        return self.frames.folder or self.data_dir / "frames"

    @property
    def model_cache(self) -> Path:
        """Where models lie that were fetched from the model store, and the engines built from them."""
        return self.models.cache or self.data_dir / "model-cache"


def load_settings(config: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of this process: ``overrides`` (by dotted path) over environment over file over defaults.

    The file is ``config``, else the one STANDGALE_CONFIG names, else none. Raises SettingsError naming every setting at
    fault at once, as variable and as path, with the value received (secrets masked) and what it takes.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    source = config or (Path(named) if named else None)
    return load(Settings, environ=os.environ, config=source, overrides=overrides or {})


def secret_file(path: str) -> Path | None:
    """The file which the environment names for the secret setting ``path`` (by dots), or None."""
    named = os.environ.get(file_variable(path))
    return Path(named) if named else None


def read_secret(file: Path) -> str | None:
    """The secret in ``file`` as it is now, or None when it cannot be read."""
    try:
        return secret_in(file)
    except (OSError, UnicodeDecodeError):
        return None


def secrets_of(settings: BaseModel) -> set[str]:
    """Every secret value in ``settings``, and the passwords inside secret URLs: what must never reach a log."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value: object = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= secrets_of(value)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, SecretStr):
                found |= secrets_in(item.get_secret_value())
    return found


def secrets_in(secret: str) -> set[str]:
    """``secret``, and if it is a url with a password that one too, as it stands and decoded."""
    try:
        password = urlsplit(secret).password
    except ValueError:
        return {secret}
    return {secret, password, unquote(password)} if password else {secret}


def settings_reference() -> list[Setting]:
    """Every setting there is, in the order of declaration."""
    return list(describe(Settings).values())


def settings_markdown() -> str:
    """The reference as a Markdown table, as it stands in the documentation."""
    lines = ["| variable | in the file | takes | default | about |", "| --- | --- | --- | --- | --- |"]
    for setting in settings_reference():
        default = f"`{setting.default}`" if setting.default else "none"
        lines.append(f"| `{setting.variable}` | `{setting.path}` | {setting.takes} | {default} | {setting.about} |")
    return "\n".join(lines) + "\n"
