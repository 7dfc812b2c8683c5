"""Turns the settings of retention into times and bytes, for one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from infra.storage.frames.port import REFRESH_AFTER_S
from sinks.retention.settings import GIGABYTE, RetentionSettings

Reason = Literal["age", "size", "orphan"]
"""Why a picture is removed; an orphan is one that no row names."""


PUT_BEFORE = timedelta(seconds=REFRESH_AFTER_S + 600.0)
"""How much earlier than the last put of a picture its stored time may be, because not every put renews it; with a
margin"""


@dataclass(frozen=True, slots=True)
class Policy:
    """Says which frames a run removes: it depends on nothing but its settings and the moment at which the run began."""

    now: datetime
    settled: datetime
    """All consumer groups have read everything about frames that were published before this time"""
    max_bytes: int | None
    removed_before: datetime | None
    """Frames received before are removed, because of their age"""
    removable_before: datetime
    """Frames received before may be removed, because of the total size"""
    keep_confidence: float | None

    def cutoff(self, reason: Reason) -> datetime:
        """Return the time after which a picture must not have been put again, to be removed for ``reason``."""
        read = self.settled - PUT_BEFORE
        if reason == "age" and self.removed_before is not None:
            return min(read, self.removed_before)
        return min(read, self.removable_before)

    @classmethod
    def of(cls, settings: RetentionSettings, now: datetime, settled: datetime) -> Policy:
        """Return the policy of ``settings`` for a run that began at ``now``."""
        removable_before = min(now - timedelta(hours=settings.min_age_hours), settled)
        removed_before = None
        if settings.retention_days is not None:
            removed_before = min(now - timedelta(days=settings.retention_days), removable_before)
        return cls(
            now,
            settled,
            None if settings.max_total_gb is None else round(settings.max_total_gb * GIGABYTE),
            removed_before,
            removable_before,
            settings.keep_confidence,
        )


@dataclass(slots=True)
class Tally:
    """Counts pictures and their bytes."""

    pictures: int = 0
    bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count one picture."""
        self.pictures += 1
        self.bytes += size_bytes


@dataclass(slots=True)
class RunReport:
    """Says what a run did, or would do."""

    began_at: datetime
    objects: Tally = field(default_factory=Tally)
    """All pictures in the store before"""
    planned: dict[Reason, Tally] = field(default_factory=dict)
    """What the policy says, by reason"""
    kept: dict[str, Tally] = field(default_factory=dict)
    """What the policy would remove if nothing kept it, by what keeps it"""
    leftovers: dict[Reason, Tally] = field(default_factory=dict)
    """What a former run had planned, and this one removed before it planned"""
    removed: dict[Reason, Tally] = field(default_factory=dict)
    """What this run removed, with the leftovers"""
    removed_frames: int = 0
    """Rows of frames that were removed with their pictures"""
    spared: int = 0
    """Pictures that were planned and are kept: put again, or needed again, since"""
    over_bytes: int = 0
    """Bytes above the limit that stay, because everything that is left is kept"""

    @property
    def rest_bytes(self) -> int:
        """The bytes of all pictures without those that were removed, or are planned."""
        gone = (*self.planned.values(), *self.leftovers.values())
        return self.objects.bytes - sum(tally.bytes for tally in gone)
