"""Defines the settings of stores that keep files in a folder or an S3 bucket, and those of the frame store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import HttpAddress, PositiveSeconds, PositiveSize, Section, Size


class ObjectStoreSettings(Section):
    """Says where files are stored: in a folder, or in an S3 bucket."""

    kind: str = "folder"
    folder: Path | None = None
    bucket: str = Field(default="standgale", description="s3: the name of the bucket")
    prefix: str = ""
    endpoint_url: HttpAddress | None = Field(default=None, description="s3: the address of a server other than AWS")
    region: str = Field(default="us-east-1", description="s3: the region of the bucket")
    access_key: SecretStr | None = Field(
        default=None, description="s3: the id of the key; without both keys those of the machine are used"
    )
    secret_key: SecretStr | None = Field(default=None, description="s3: the secret of access_key")
    timeout_s: PositiveSeconds = Field(default=10.0, description="s3: the time limit for connecting, and for each read")

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        self.require_both("access_key", "secret_key")
        return self


class FrameSettings(ObjectStoreSettings):
    """Says where the bytes of frames are stored."""

    section = "frames"

    kind: Literal["folder", "s3"] = Field(default="folder", description="where frames are stored")
    folder: Path | None = Field(default=None, description="folder: its path; default DATA_DIR/frames")
    prefix: str = Field(default="frames", description="s3: what all keys begin with")
    max_bytes: PositiveSize | None = Field(
        default=None, description="folder: the size of all frames together beyond which new ones are refused"
    )
    min_free_bytes: Size = Field(
        default=100_000_000,
        description="folder: a frame that would leave less free space on the disk is refused, so that broker and "
        "database keep working",
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.kind == "s3" and self.max_bytes is not None:
            raise ValueError(
                f"{self.named('max_bytes')}: received {self.max_bytes} with frames.kind s3; a "
                "bucket is not measured, so leave it out and give the bucket a quota"
            )
        return self
