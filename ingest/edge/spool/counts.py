"""Counts what became of frames, since the spool was created."""

from __future__ import annotations

from pydantic import BaseModel


class Counts(BaseModel):
    """Holds the numbers; written to the status file every second, so a power cut loses the last ones."""

    spooled: int = 0
    """Taken from sources."""
    known: int = 0
    """Brought again by a source, and not taken a second time."""
    sent: int = 0
    """Accepted by the gateway."""
    sent_bytes: int = 0
    dropped_oldest: int = 0
    """Lost because the spool was full."""
    dropped_newest: int = 0
    """Lost on arrival because the spool was full."""
    refused: int = 0
    """Set aside because the gateway refuses them."""
    damaged: int = 0
    """Set aside because the disk did not keep their bytes."""
