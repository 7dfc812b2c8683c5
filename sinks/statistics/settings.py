"""Defines the settings of the statistics: what counts, how often windows are published, and how long they are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.sections import Interval, PositiveSeconds, Section

FAUST_GROUP = "sink.statistics.faust"
"""The consumer group in which Faust counts; here, because Faust is an extra"""
_Days = Annotated[float, Field(ge=1, le=36_500)]


class StatisticsSettings(Section):
    """Says how detections are counted."""

    section = "statistics"

    engine: Literal["plain", "faust"] = Field(
        default="plain",
        description="what counts: plain keeps its state in the database; faust, on Kafka only, in a topic of its own",
    )
    remember_s: PositiveSeconds = Field(
        default=21_600.0,
        description="faust: how long after its last frame a window takes further ones, each once",
    )
    publish_s: Interval = Field(
        default=5.0, description="how often windows that have changed are published on the topic stats"
    )
    keep_days: _Days = Field(
        default=400.0, description="how long windows are kept in the database after their last change"
    )
