"""Reads pages of counted windows, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from infra.database.pool import Connection
from schemas.statistics_events import StatisticsSource
from schemas.timestamps import format_utc

_PLACE = "SELECT minute, id FROM statistics_windows WHERE id = $1"
# In the order of the indexes statistics_windows_minute and statistics_windows_device.
_PAGE = """
SELECT w.*, (
    SELECT coalesce(json_agg(json_build_object('label', c.label, 'detections', c.detections, 'frames', c.frames,
        'mean_confidence', c.mean_confidence) ORDER BY c.label COLLATE "C"), '[]')
    FROM statistics_classes c WHERE c.window_id = w.id
) AS classes
FROM statistics_windows w
WHERE ($1::varchar IS NULL OR device_id = $1)
    AND ($2::varchar IS NULL OR EXISTS (
        SELECT FROM statistics_classes c WHERE c.window_id = w.id AND c.label = $2
    ))
    AND ($3::varchar IS NULL OR model_name = $3)
    AND ($4::varchar IS NULL OR model_version = $4)
    AND ($5::varchar IS NULL OR source = $5)
    AND ($6::timestamptz IS NULL OR minute >= $6)
    AND ($7::timestamptz IS NULL OR minute < $7)
    AND ($8::timestamptz IS NULL OR (minute <= $8 AND (minute < $8 OR id > $9::uuid)))
ORDER BY minute DESC, id LIMIT $10
"""


@dataclass(frozen=True, slots=True)
class WindowFilters:
    """Says which windows are listed; None: all."""

    device_id: str | None = None
    label: str | None = None
    """Only windows in which it was found"""
    model_name: str | None = None
    model_version: str | None = None
    source: StatisticsSource | None = None
    minute_from: datetime | None = None
    minute_to: datetime | None = None
    """Only windows that begin before"""


async def find_place(connection: Connection, window: UUID) -> tuple[datetime, UUID] | None:
    """Return the place of ``window`` in the list; None where there is no such window."""
    row: Any = await connection.fetchrow(_PLACE, window)
    return None if row is None else (row["minute"], row["id"])


async def list_windows(
    connection: Connection, filters: WindowFilters, *, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[dict[str, Any]]:
    """Return at most ``limit`` windows that come after the place ``after``, as JSON has them."""
    rows: list[Any] = await connection.fetch(
        _PAGE,
        filters.device_id,
        filters.label,
        filters.model_name,
        filters.model_version,
        filters.source,
        filters.minute_from,
        filters.minute_to,
        *(after or (None, None)),
        limit,
    )
    return [_window(row) for row in rows]


def _window(row: Any) -> dict[str, Any]:
    return {
        "window_id": str(row["id"]),
        "device_id": row["device_id"],
        "minute": format_utc(row["minute"]),
        "model": {"name": row["model_name"], "version": row["model_version"]},
        "source": row["source"],
        "revision": row["revision"],
        "frames": row["frames"],
        "frames_with_detections": row["frames_with_detections"],
        "frames_per_s": row["frames_per_s"],
        "first_captured_at": format_utc(row["first_captured_at"]),
        "last_captured_at": format_utc(row["last_captured_at"]),
        "last_detected_at": format_utc(row["last_detected_at"]),
        "clock_ahead": row["clock_ahead"],
        "detections": row["detections"],
        "classes": orjson.loads(row["classes"]),
        "other_detections": row["other_detections"],
        "times": orjson.loads(row["times"]),
    }
