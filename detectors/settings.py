"""Defines the settings of a detector worker and of the model store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, SecretStr, model_validator

from infra.plugin_names import NameOrPlugin
from infra.sections import (
    AlsoNamed,
    HttpAddress,
    Interval,
    PositiveInt,
    PositiveSeconds,
    PositiveSize,
    Seconds,
    Section,
    ShortInterval,
    Threads,
)
from infra.storage.settings import ObjectStoreSettings
from schemas.model_events import LANE_PATTERN

Precision = Literal["auto", "f32", "bf16", "f16"]
"""Names what an engine computes in; auto: the fastest that gives the results of f32; f32 while nothing is measured."""
LatePolicy = Literal["keep_all", "put_off", "give_up"]
"""Names what is done with late live frames: process them in order, move them to the backfill, or make dead letters."""
ShippedEngine = Literal[
    "auto", "openvino", "onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt", "tensorrt", "torch"
]
"""The engines that ship; auto chooses among them."""
EngineKind = Annotated[str, NameOrPlugin(get_args(ShippedEngine), "standgale.engines")]
"""Names the engine that runs a model's graph; auto: the fastest one on the machine."""


RulesEngineKind = Literal["auto", "trealla", "swi"]
"""Names what runs rules; auto: Trealla where it is installed, else SWI-Prolog."""


class ModelStoreSettings(ObjectStoreSettings):
    """Says where models are stored, and where fetched ones are kept."""

    section = "models"

    kind: Literal["folder", "s3", "http", "lakefs"] = Field(default="folder", description="where models are stored")
    folder: Path | None = Field(default=None, description="folder: its path; default DATA_DIR/models")
    prefix: str = Field(default="models", description="s3, lakefs: what all keys begin with; http: the loader's folder")
    endpoint_url: Annotated[HttpAddress | None, AlsoNamed("LOADER_URL", only_with=("kind", "http"))] = Field(
        default=None,
        description="s3: the address of a server other than AWS; lakefs: of the server; http: of the loader, default http://loader:8080",
    )
    access_key: SecretStr | None = Field(default=None, description="s3, lakefs: the id of the key; lakefs needs it")
    secret_key: SecretStr | None = Field(default=None, description="s3, lakefs: the secret of access_key")
    timeout_s: PositiveSeconds = Field(default=30.0, description="how long a transfer may make no progress")
    cache: Path | None = Field(default=None, description="where fetched models are kept; default DATA_DIR/model-cache")
    repository: str = Field(default="standgale", description="lakefs: the name of the repository")
    ref: str = Field(default="main", description="lakefs: the branch, tag or commit to read; to publish, a branch")
    load_path: str = Field(default="/load/{filename}", description="http: the path that files are fetched from")
    upload_path: str = Field(default="/upload/{filename}", description="http: the path that files are sent to")
    max_file_bytes: PositiveSize = Field(default=20_000_000_000, description="the largest file that is fetched")

    @model_validator(mode="after")
    def _lakefs_needs(self) -> Self:
        if self.kind == "lakefs" and (self.endpoint_url is None or self.access_key is None):
            raise ValueError(
                f"{self.named('endpoint_url', 'access_key', 'secret_key')}: all three are needed when models.kind is "
                "lakefs"
            )
        return self

    @model_validator(mode="after")
    def _paths(self) -> Self:
        for name in ("load_path", "upload_path"):
            path = str(getattr(self, name))
            if not path.startswith("/") or path.count("{filename}") > 1 or "{" in path.replace("{filename}", ""):
                raise ValueError(
                    f"{self.named(name)}: received {path!r}; it takes a path that begins "
                    "with / and may contain {filename} once"
                )
        return self


class DetectorSettings(Section):
    """Says which model a worker runs, how, and how many frames it takes at a time."""

    section = "detector"

    model: Path | None = Field(default=None, description="a model.yaml; default the model that ships with Standgale")
    engine: EngineKind = Field(default="auto", description="auto: the fastest one on the machine")
    precision: Precision | None = Field(
        default=None, description="what the engine computes in; none: what the model card names"
    )
    threads: Annotated[int, Field(ge=0, le=1_024)] = Field(default=0, description="engine threads; 0 means all cores")
    measure_s: Seconds = Field(
        default=4.0,
        description="about how long the first load of a model may measure how it runs fastest on this machine, which "
        "is then stored; 0 does not measure and uses what is usually fastest, in f32",
    )
    fallback: bool = Field(default=True, description="a batch on which an engine fails is given to the next engine")
    live_deadline_s: PositiveSeconds | None = Field(
        default=None, description="the age at which a live frame is late, from its receipt to its processing"
    )
    late_policy: LatePolicy = Field(
        default="keep_all",
        description="for late live frames: keep_all processes them in order; put_off moves them to frames.backfill, so "
        "that the newest come first; give_up makes them dead letters",
    )
    prefetch_frames: PositiveInt = Field(default=16, description="the most frames in progress at once")
    background_frames: PositiveInt = Field(
        default=1,
        description="the most frames of frames.jobs and frames.backfill in progress while live frames come",
    )
    job_models: Annotated[int, Field(ge=1, le=100)] = Field(
        default=2,
        description="the most models that are loaded for jobs beside the active ones; the one used longest ago is "
        "closed for another one",
    )
    max_in_flight_bytes: PositiveSize = Field(default=512_000_000, description="the most bytes of images in memory")
    fetch_threads: Threads = Field(default=2, description="threads that decode, cut tiles and merge")
    commit_interval_s: ShortInterval = Field(default=0.05, description="how often finished frames are committed")
    max_batch_frames: PositiveInt = Field(default=32, description="the most frames of one commit")
    duplicate_window: PositiveInt = Field(
        default=10_000, description="detections events per partition that are kept to recognise duplicates"
    )
    max_pixels: PositiveSize = Field(default=200_000_000, description="the largest image that is decoded")
    max_decode_s: PositiveSeconds = Field(
        default=20.0,
        description="the CPU time that decoding one image may take; beyond it the decoding is ended, and the frame "
        "becomes a dead letter",
    )
    rules: Path | None = Field(
        default=None,
        description="a file of Prolog rules that confirm, drop or relabel detections; wins over those of the model",
    )
    use_model_rules: bool = Field(default=True, description="whether the rules in the model card are applied")
    rules_engine: RulesEngineKind = Field(
        default="auto", description="what runs rules; auto: Trealla where it is installed, else SWI-Prolog"
    )
    max_rules_s: Annotated[float, Field(gt=0, le=5)] = Field(
        default=0.3, description="how long rules may take for a frame; then they are stopped and give no rulings"
    )
    lane: Annotated[str, Field(pattern=LANE_PATTERN)] = Field(
        default="default", description="the roll-out lane: its workers use the model that is activated for it"
    )
    report_interval_s: Interval = Field(
        default=15.0,
        description="how often a worker reports its models; after three missing reports it counts as ended",
    )

    @model_validator(mode="after")
    def _deadline(self) -> Self:
        if (self.late_policy == "keep_all") != (self.live_deadline_s is None):
            raise ValueError(
                f"{self.named('late_policy')}: received {self.late_policy} with "
                f"{self.named('live_deadline_s')} {self.live_deadline_s}; put_off and "
                "give_up need a deadline, keep_all takes none"
            )
        return self
