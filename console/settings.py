"""Defines the settings of the console: its address, and the limits of uploads and jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.sections import Interval, Port, Section

_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Bytes = Annotated[int, Field(ge=1_024, le=10_000_000_000)]
_Pixels = Annotated[int, Field(ge=1, le=65_535)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_Days = Annotated[float, Field(ge=0.001, le=3_650)]


class ConsoleSettings(Section):
    """Says where the console listens, and what it accepts."""

    section = "console"

    host: str = Field(default="127.0.0.1", description="the address to listen on; 0.0.0.0 for all")
    port: Port = Field(
        default=8001, description="0 takes a free port; `standgale up` serves the console on the gateway's"
    )
    key_refresh_s: Interval = Field(default=2.0, description="how often the API keys are read")
    max_body_bytes: _Bytes = Field(default=524_288, description="the largest JSON body of a request")
    body_timeout_s: _Seconds = Field(default=30.0, description="the time limit for receiving a JSON body")
    max_bodies: _Count = Field(
        default=256,
        description="the most requests with a JSON body at the same time, besides uploads, of one client at most half; "
        "beyond it 503",
    )
    database_timeout_s: _Seconds = Field(default=10.0, description="the time limit of a request for the database")
    max_files: _Count = Field(default=100, description="the most files of one upload")
    max_file_bytes: _Bytes = Field(default=50_000_000, description="the largest file of an upload")
    min_side_px: _Pixels = Field(default=64, description="the shortest side of a picture that is accepted")
    max_side_px: _Pixels = Field(default=8_192, description="the longest side of a picture that is accepted")
    upload_timeout_s: _Seconds = Field(default=300.0, description="the time limit for receiving an upload")
    max_uploads: _Count = Field(
        default=32, description="the most uploads that are received at the same time; beyond it 503"
    )
    max_in_flight_bytes: _Bytes = Field(
        default=256_000_000, description="the most bytes of all uploads in progress together"
    )
    max_open_uploads: _Count = Field(
        default=1_000,
        description="the most uploads of a client that no job has used and that have not expired; those that were "
        "cut off, or refused because of another file than the first, in the last two hours are among them",
    )
    upload_days: _Days = Field(default=7.0, description="after how many days the files of an upload are removed")
    max_open_jobs: _Count = Field(default=1_000, description="the most jobs of a client that have not ended")
    job_window: _Count = Field(
        default=16, description="how many files of one job may be with the detectors at the same time"
    )
    max_published: _Count = Field(
        default=1_000, description="how many files of all jobs may be with the detectors at the same time"
    )
    publish_again_s: Annotated[float, Field(ge=10, le=604_800)] = Field(
        default=3_600.0,
        description="a file of a job that no detector has answered for so long is published again, with the same ids",
    )
    rules: Path | None = Field(
        default=None, description="the folder of the rules that jobs may name, as NAME.pl; default DATA_DIR/rules"
    )
    watch_interval_s: Interval = Field(
        default=0.3, description="how often the jobs that clients watch are read, all of them in one query"
    )
    heartbeat_s: Annotated[float, Field(ge=0.1, le=3_600)] = Field(
        default=15.0, description="how often a stream of progress without an event sends a comment"
    )
    max_watchers: _Count = Field(default=1_000, description="the most streams of progress at the same time")
    max_client_watchers: _Count = Field(default=500, description="the most streams of progress of one client")
    cors_origins: tuple[str, ...] = Field(
        default=(), description="web pages that may use the API, such as https://map.example; * for all"
    )

    @model_validator(mode="after")
    def _limits(self) -> Self:
        self.require_at_most("min_side_px", "max_side_px")
        self.require_at_most("max_file_bytes", "max_in_flight_bytes")
        self.require_at_most("max_body_bytes", "max_in_flight_bytes")
        self.require_at_most("job_window", "max_published")
        self.require_at_most("max_client_watchers", "max_watchers")
        return self
