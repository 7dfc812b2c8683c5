"""Defines the settings of the frame store: a folder, or an S3 bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import PositiveInt, PositiveSeconds, Section


class FrameSettings(Section):
    """Says where the bytes of frames are stored."""

    section = "frames"

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
                f"{self.named('max_bytes')}: received {self.max_bytes} with frames.kind s3; a "
                "bucket is not measured, so leave it out and give the bucket a quota"
            )
        return self

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            missing = "access_key" if self.access_key is None else "secret_key"
            raise ValueError(
                f"{self.named(missing)}: missing while the other key is given; "
                "give both, or none to use the machine's own credentials"
            )
        return self
