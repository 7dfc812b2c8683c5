"""Defines the settings of retention: which frames are kept for how long, and when the others are removed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from infra.sections import Interval, Section

GIGABYTE = 1_000_000_000
_Gigabytes = Annotated[float, Field(ge=0.000_001, le=1_000_000_000)]
_Days = Annotated[float, Field(ge=0.1, le=36_500)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class RetentionSettings(Section):
    """Says which frames are kept, and when the others are removed."""

    section = "retention"

    cleanup_enabled: bool = Field(
        default=False,
        description="whether frames are removed; `standgale retention estimate` says before what would go",
    )
    cleanup_schedule: str = Field(
        default="0 2 * * *", description="when frames are removed: minute, hour, day, month, day of the week, in UTC"
    )
    max_total_gb: _Gigabytes | None = Field(
        default=100.0,
        description="the size of all stored pictures together, in 1,000,000,000 bytes, beyond which frames are "
        "removed: those without detections first, the oldest of them first; none: no limit",
    )
    retention_days: _Days | None = Field(
        default=90.0, description="after how many days a frame is removed, from when it was received; none: never"
    )
    keep_confidence: _Share | None = Field(
        default=0.8,
        description="frames with a detection of at least this confidence are kept, whatever their age and the total "
        "size; none: they are removed as others are",
    )
    min_age_hours: Annotated[float, Field(ge=2.0, le=8_760)] = Field(
        default=24.0, description="younger frames are not removed, whatever the total size is"
    )
    warning_threshold_gb: _Gigabytes = Field(
        default=85.0, description="the size of all stored pictures beyond which there is a warning"
    )
    max_orphan_share: _Share = Field(
        default=0.1,
        description="when more of the stored pictures have no row in the database, or more rows have no picture, "
        "nothing is removed: then store and database are probably not of one installation",
    )
    measure_interval_s: Interval = Field(
        default=3_600.0, description="how often the size of all stored pictures is measured"
    )

    @field_validator("cleanup_schedule")
    @classmethod
    def _schedule(cls, schedule: str) -> str:
        try:
            next(CronSim(schedule, datetime(2000, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                f"{cls.named('cleanup_schedule')}: received {schedule[:60]!r}; it takes minute, hour, day, month and "
                'day of the week of some time, such as "0 2 * * *"'
            ) from error
        return schedule

    def next_after(self, moment: datetime) -> datetime:
        """Return the first time of the schedule after ``moment``, in UTC."""
        return next(CronSim(self.cleanup_schedule, moment.astimezone(UTC)))
