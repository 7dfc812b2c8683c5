"""Defines the port between the spool and what brings frames: a folder, a video, a camera."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from pydantic import JsonValue

from infra.errors import TransientError
from schemas.errors import StandgaleError


class SpoolUnavailableError(TransientError):
    """The disk of the spool cannot be written or read; the same call may succeed later, and nothing was lost."""

    code = "SPOOL_UNAVAILABLE"


class SpoolGoneError(StandgaleError):
    """The folder of the spool was removed, unmounted or replaced: what this process knows of it is not there."""

    code = "SPOOL_GONE"


@dataclass(frozen=True, slots=True)
class NewFrame:
    """Is a frame as a source brings it."""

    image: bytes
    captured_at: datetime
    """When it was taken (aware). With the content it is the frame's identity, so it never changes afterwards."""
    name: str | None = None
    """A file name for people."""
    camera: Mapping[str, float] = field(default_factory=dict)
    """Fields of CameraGeometry; they replace what the image itself contains."""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    flight: str | None = None
    """The flight that it belongs to; None: that of the settings, if any"""
    is_late: bool = False
    """The source brings it long after it was taken: it belongs to the backlog at once."""


class Taken(Enum):
    """Says what became of a frame that a source brought."""

    SPOOLED = "spooled"
    """It is durable in the spool."""
    KNOWN = "known"
    """It is in the spool or was sent before; nothing was written."""
    DROPPED = "dropped"
    """The spool is full, and by edge.when_full this frame is lost; it was counted and logged."""
    FULL = "full"
    """The spool is full; the source keeps the frame and brings it again."""

    @property
    def is_final(self) -> bool:
        """Whether the source may release the frame."""
        return self is not Taken.FULL


class Spooling(Protocol):
    """Takes frames from sources."""

    async def add(self, frame: NewFrame) -> Taken:
        """Keep ``frame``; at the return of SPOOLED it survives a power cut. Raises SpoolUnavailableError."""
        ...

    async def wait_for_space(self) -> None:
        """Wait until a frame has left the spool, or a second has passed."""
        ...


class FrameSource(Protocol):
    """Brings frames until it is asked to stop."""

    @property
    def name(self) -> str:
        """The name in logs and in the status."""
        ...

    @property
    def problem(self) -> str | None:
        """What keeps it from bringing frames now, for the status; None when nothing does."""
        ...

    async def run(self, spool: Spooling, stop: asyncio.Event) -> None:
        """Bring frames to ``spool`` until ``stop`` is set, or to the end of the source, if it has one."""
        ...
