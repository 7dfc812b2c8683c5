"""Defines the settings of the archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.sections import HttpAddress, PositiveSeconds, Section

MOST_RECORDS = 1_000
"""The most frames of one commit that is made for its size, and the most records of one write"""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"


class LakeFsSettings(Section):
    """Says where frames are archived, and when they are committed."""

    section = "lakefs"

    kind: Literal["folder", "lakefs"] = Field(default="folder", description="where frames are archived")
    folder: Path | None = Field(default=None, description="folder: its path; default DATA_DIR/archive")
    endpoint_url: HttpAddress | None = Field(default=None, description="lakefs: the address of the server")
    access_key: SecretStr | None = Field(default=None, description="lakefs: the id of the key")
    secret_key: SecretStr | None = Field(default=None, description="lakefs: the secret of access_key")
    repository: Annotated[str, Field(pattern=_NAME)] = Field(
        default="bird-detection", description="the repository, which must exist in LakeFS"
    )
    branch: Annotated[str, Field(pattern=_NAME)] = Field(
        default="main", description="the branch; another one than main, such as experiment-yolo, is created from main"
    )
    timeout_s: PositiveSeconds = Field(
        default=10.0, description="lakefs: the time limit for connecting, and for each request"
    )
    link: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="lakefs: whether frames in S3 are linked instead of copied; auto: when the server can read them",
    )
    commit_strategy: Literal["batch", "immediate"] = Field(
        default="batch", description="batch: commit after batch_size frames or batch_timeout_s; immediate: each frame"
    )
    batch_size: Annotated[int, Field(ge=1, le=MOST_RECORDS)] = Field(
        default=10, description="how many frames are committed together; what a device sent as one batch always is"
    )
    batch_timeout_s: Annotated[float, Field(ge=0.05, le=86_400)] = Field(
        default=300.0, description="how long a frame waits for the others of its commit"
    )
    jobs: bool = Field(default=False, description="whether frames of jobs are archived too, which belong to clients")
    drawn: bool = Field(
        default=False, description="whether frames with detections are archived a second time, with boxes drawn"
    )

    @model_validator(mode="after")
    def _lakefs_needs(self) -> Self:
        keys = (self.endpoint_url, self.access_key, self.secret_key)
        if self.kind == "lakefs" and None in keys:
            raise ValueError(
                f"{self.named('endpoint_url', 'access_key', 'secret_key')}: all three are needed when lakefs.kind is "
                "lakefs"
            )
        return self

    def folder_in(self, data_dir: Path) -> Path | None:
        """Return the folder of the archive; None where it is in LakeFS."""
        return None if self.kind == "lakefs" else self.folder or data_dir / "archive"

    @property
    def frames_per_commit(self) -> int:
        """How many frames are committed together."""
        return 1 if self.commit_strategy == "immediate" else self.batch_size
