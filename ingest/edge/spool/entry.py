"""Describes one frame in the queue without reading its file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ingest.edge.spool.frame_file import file_name


class Lane(StrEnum):
    """Is one of the two queues of the spool; each is sent in its order, and both at the same time."""

    LIVE = "live"
    BACKLOG = "backlog"


@dataclass(eq=False, slots=True)
class Entry:
    """Is one frame in the queue."""

    number: int
    """The position in the queue; a later frame has a higher one."""
    key: str
    size_bytes: int
    """Of its file."""
    arrived_s: float | None
    """When it was taken, on the monotonic clock; None: before this process started."""
    flight: str | None = None
    """Of the frame, once it was read"""
    maybe_sent: bool = False
    """The gateway may have it: an attempt has no answer, or this process does not know of one"""
    sent_by: Lane | None = None
    """The queue from which it is being sent; such a frame is not dropped."""

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return file_name(self.number, self.key)
