"""Defines the event that reports a commit of the archive."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from schemas.event_base import Event, EventPart, UtcDatetime

MAX_IMAGES = 1_000
"""The most images of one event; a larger commit has several."""


class ArchivedImage(EventPart):
    """Says where the archive keeps a frame."""

    frame_id: UUID
    path: Annotated[str, Field(min_length=1, max_length=512)]
    """The path on the branch, for example images/drone-7/2026-05-01/12-00-00_a3f5.jpg"""


class ArchiveCommitted(Event):
    """Reports that frames are in the archive: at ``path`` of ``commit_id``, and of every later commit of the branch."""

    event_name: ClassVar[str] = "archive.committed"
    key_pattern: ClassVar[str] = r"^[0-9a-f-]{36}$"
    key_about: ClassVar[str] = "The id of the batch that was committed."

    id: UUID
    """Computed from commit and batch"""
    batch_id: UUID
    """Computed from the frames that were committed together; also in the metadata of the commit"""
    repository: Annotated[str, Field(min_length=1, max_length=255)]
    branch: Annotated[str, Field(min_length=1, max_length=255)]
    commit_id: Annotated[str, Field(min_length=1, max_length=64)]
    committed_at: UtcDatetime
    images: Annotated[list[ArchivedImage], Field(min_length=1, max_length=MAX_IMAGES)]
