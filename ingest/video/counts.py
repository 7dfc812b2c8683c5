"""Counts what became of the packets and frames of a source, so that nothing is skipped without saying so."""

from __future__ import annotations

from dataclasses import dataclass, fields

_ABOUT = {
    "accepted": "accepted",
    "decoded": "decoded",
    "broken_packets": "broken packets",
    "damaged": "damaged and left out",
    "missing": "missing",
    "overflowed": "left out as decoding or acceptance was too slow",
    "refused": "refused",
    "too_large": "left out as too large",
    "time_jumps": "jumps of the stream's time",
    "corrected": "corrections of the clock",
    "reconnects": "attempts to connect again",
    "away_s": "seconds without the camera",
}


@dataclass(slots=True)
class VideoCounts:
    """Counts of one source since it was opened first."""

    decoded: int = 0
    """Frames that the decoder gave"""
    accepted: int = 0
    """Frames that are durable"""
    broken_packets: int = 0
    """Packets that the decoder refused, or that were marked as corrupt"""
    damaged: int = 0
    """Frames with missing parts, which would show things that are not there; they were left out"""
    missing: int = 0
    """Frames that never came, by the number that a file states, or by the gaps in the times of a constant rate"""
    overflowed: int = 0
    """Frames of a camera that were left out, because decoding or acceptance was further behind than is allowed"""
    refused: int = 0
    """Frames that acceptance refused for good"""
    too_large: int = 0
    """Frames with more pixels than are allowed"""
    time_jumps: int = 0
    """Jumps of the stream's time, as after a restart of the camera"""
    corrected: int = 0
    """How often the camera's clock had drifted, and its times were corrected"""
    reconnects: int = 0
    """Attempts to connect to a camera again"""
    away_s: int = 0
    """Seconds between the last frame before a camera was lost and the first after it, also by another process"""

    def text(self) -> str:
        """Return the counts that are not 0 as a sentence's part."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        parts = [f"{values[name]} {about}" for name, about in _ABOUT.items() if values[name]]
        return ", ".join(parts) or "no frames"
