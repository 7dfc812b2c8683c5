"""Defines the settings of replays: how fast, how much at once, and where objects and archives are read from."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from infra.sections import (
    Count,
    HttpAddress,
    Interval,
    Port,
    PositiveInt,
    PositiveSeconds,
    PositiveSize,
    Section,
    ShortInterval,
)
from ingest.files.suffixes import PICTURE_SUFFIXES, Suffixes


class ReplaySettings(Section):
    """Says how fast a replay goes, and what it takes from a source."""

    section = "replay"

    suffixes: Suffixes = Field(
        default=PICTURE_SUFFIXES,
        description="the ends of the names of pictures, in any case of letters",
    )
    rate: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        default=None, description="the most frames per second"
    )
    max_bytes_per_s: PositiveSize | None = Field(default=None, description="the most bytes of pictures per second")
    in_progress: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=16, description="the most pictures that are read and stored at the same time"
    )
    batch_frames: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=64, description="the most events that are published together, for one write of the checkpoint"
    )
    max_backlog: Count = Field(
        default=500,
        description="a replay waits while so many frames of frames.backfill are not processed; 0: it never waits",
    )
    backlog_interval_s: Interval = Field(default=1.0, description="how often the backlog is read")
    read_timeout_s: PositiveSeconds = Field(
        default=30.0, description="the time limit for reading one picture, or one page of a list, from a server"
    )
    broker_timeout_s: PositiveSeconds = Field(
        default=15.0, description="the time limit for reading positions and backlog from the broker"
    )
    max_archive_entries: PositiveInt = Field(
        default=500_000, description="an archive with more entries is refused; the list of a zip is in memory"
    )
    max_archive_bytes: PositiveSize = Field(
        default=2_000_000_000_000, description="an archive that unpacks to more is refused"
    )
    max_archive_ratio: Annotated[float, Field(ge=2, le=1_000_000_000)] = Field(
        default=200.0,
        description="what unpacks to more than so many times its size is refused; pictures hardly compress",
    )
    metrics_port: Port | None = Field(
        default=None, description="where a running replay shows its metrics, on this machine only; none: nowhere"
    )
    first_delay_s: ShortInterval = Field(
        default=0.5, description="the pause after source, store or broker failed; it doubles with each further failure"
    )
    max_delay_s: PositiveSeconds = Field(default=30.0, description="the longest pause")

    @model_validator(mode="after")
    def _limits(self) -> Self:
        self.require_at_most("first_delay_s", "max_delay_s")
        return self


class ReplayS3Settings(Section):
    """Says where s3:// sources are read from; the settings of the frame store are not used for them."""

    section = "replay_s3"

    endpoint_url: HttpAddress | None = Field(default=None, description="the address of a server other than AWS")
    region: str = Field(default="us-east-1", description="the region of the bucket")
    access_key: SecretStr | None = Field(
        default=None, description="the id of the key; without both keys those of the machine are used"
    )
    secret_key: SecretStr | None = Field(default=None, description="the secret of access_key")
    timeout_s: PositiveSeconds = Field(default=10.0, description="the time limit for connecting, and for each read")

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        self.require_both("access_key", "secret_key")
        return self


class ReplayLakeFsSettings(Section):
    """Says where lakefs:// sources are read from."""

    section = "replay_lakefs"

    endpoint_url: HttpAddress | None = Field(default=None, description="the address of the LakeFS server")
    access_key: SecretStr | None = Field(default=None, description="the id of the key")
    secret_key: SecretStr | None = Field(default=None, description="the secret of access_key")
    timeout_s: PositiveSeconds = Field(default=10.0, description="how long a transfer may make no progress")

    @field_validator("endpoint_url")
    @classmethod
    def _without_api(cls, url: str | None) -> str | None:
        return None if url is None else url.removesuffix("/api/v1")
