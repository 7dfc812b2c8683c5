"""Reads detections with their frames, newest capture first, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from console.detections.query import DetectionsQuery, Place
from console.http.callers import Caller
from console.http.connection import request_connection
from console.ids import is_id
from console.jobs.status import job_not_found
from console.parts import ConsoleParts
from infra.auth.scopes import DeviceScope
from schemas.earth_areas import EarthArea

_JOB = "SELECT id FROM jobs WHERE client_id = $1 AND job_id = $2"
_DEVICES = "SELECT id FROM devices WHERE device_id = ANY($1)"
# The position is that of the camera; detections have none of their own.
_ROWS = """
SELECT d.id, i.id AS frame_id, v.device_id, i.captured_at, d.created_at AS detected_at, d.label, d.class_id,
    d.confidence, d.bbox_x1, d.bbox_y1, d.bbox_x2, d.bbox_y2, d.corners, i.width, i.height, d.model_name,
    d.model_version, i.flight_id, i.original_filename, i.lakefs_path,
    (i.camera ->> 'latitude')::float8 AS latitude, (i.camera ->> 'longitude')::float8 AS longitude
FROM images AS i
JOIN devices AS v ON v.id = i.device_id
JOIN detections AS d ON d.image_id = i.id
LEFT JOIN inference_sessions AS s ON s.id = d.session_id
"""
# What is found in a job is its client's alone.
_OF_NO_JOB = "s.job_id IS NULL"
_ORDER = "ORDER BY i.captured_at DESC, i.id DESC, d.id DESC"
_BOX_PX = "(d.bbox_x2 - d.bbox_x1)::float8 * i.width * (d.bbox_y2 - d.bbox_y1)::float8 * i.height"
_CAMERA = "point((i.camera ->> 'longitude')::float8, (i.camera ->> 'latitude')::float8)"
# A polygon that crosses the meridian of 180 degrees goes on beyond it, to either side.
_WITHIN = (
    f"({_CAMERA} <@ {{0}}::text::polygon OR {_CAMERA} + point(360, 0) <@ {{0}}::text::polygon"
    f" OR {_CAMERA} - point(360, 0) <@ {{0}}::text::polygon)"
)
_IN_SCOPE = (
    "(v.device_id = ANY({0}::varchar[]) OR EXISTS ("
    "SELECT FROM unnest({1}::varchar[]) AS beginning WHERE starts_with(v.device_id, beginning)))"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Holds the conditions of a query and their values; an unknown device makes it ``empty``."""

    conditions: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    empty: bool = False

    def where(self, condition: str, *values: object) -> Selection:
        """Return the selection with a further condition; ``{0}``, ``{1}`` in it are the places of ``values``."""
        first = len(self.values) + 1
        places = [f"${first + number}" for number in range(len(values))]
        return replace(self, conditions=(*self.conditions, condition.format(*places)), values=(*self.values, *values))

    def after(self, place: Place) -> Selection:
        """Return the selection of what comes after ``place``."""
        # The first condition says nothing new, and lets the index of capture times begin at the place.
        return self.where(
            "i.captured_at <= {0} AND (i.captured_at, i.id, d.id) < ({0}, {1}, {2})",
            place.captured_at,
            place.frame_id,
            place.id,
        )

    def statement(self, limit: int) -> str:
        """Return the query of at most ``limit`` rows in their order; its parameters are ``values``."""
        return f"{_ROWS} WHERE {' AND '.join(self.conditions)} {_ORDER} LIMIT {int(limit)}"


class DetectionRecords:
    """Reads the detections that a client may see. All methods raise the errors of the database."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    async def select(self, caller: Caller, query: DetectionsQuery) -> Selection:
        """Return what ``query`` selects for the client; a device that it may not see counts as unknown.

        Raises JobNotFoundError for a job that is not its own.
        """
        chosen = chosen_by(query)
        async with request_connection(self._parts) as connection:
            if query.job is None:
                chosen = _in_scope(chosen.where(_OF_NO_JOB), caller.scope)
            else:
                job = await connection.fetchval(_JOB, caller.client_id, query.job) if is_id(query.job, "job") else None
                if job is None:
                    raise job_not_found(query.job, "job")
                chosen = chosen.where("s.job_id = {0}", job)
            if query.device:
                rows = await connection.fetch(_DEVICES, query.device)
                chosen = _of_devices(chosen, [row["id"] for row in rows])
        return chosen

    async def page(self, chosen: Selection, after: Place | None, limit: int) -> Sequence[Any]:
        """Return at most ``limit`` rows, those after the place ``after``."""
        if chosen.empty:
            return ()
        here = chosen if after is None else chosen.after(after)
        async with request_connection(self._parts) as connection:
            rows: Sequence[Any] = await connection.fetch(here.statement(limit), *here.values)
        return rows


def place_of(row: Any) -> Place:
    """Return the place of a row in the order of all."""
    return Place(row["captured_at"], row["frame_id"], row["id"])


def _of_devices(chosen: Selection, devices: Sequence[UUID]) -> Selection:
    if not devices:
        return replace(chosen, empty=True)
    if len(devices) == 1:
        # Of one device the index has the frames in their order.
        return chosen.where("i.device_id = {0}", devices[0])
    return chosen.where("i.device_id = ANY({0}::uuid[])", list(devices))


def _in_scope(chosen: Selection, scope: DeviceScope | None) -> Selection:
    """Return ``chosen`` without what is of devices outside ``scope``."""
    if scope is None:
        return chosen
    return _in_scope(chosen.where(_IN_SCOPE, sorted(scope.ids), list(scope.prefixes)), scope.also)


def _polygon(area: EarthArea) -> str:
    """Return ``area`` as PostgreSQL reads a polygon: ((x,y),…)."""
    return f"({','.join(f'({x!r},{y!r})' for x, y in area.corners)})"


def chosen_by(query: DetectionsQuery) -> Selection:
    """Return the conditions of ``query`` that need no other table to be read first."""
    chosen = Selection()
    area = query.parsed_area
    for condition, value in (
        ("d.label = ANY({0}::varchar[])", query.label or None),
        # As REAL, which the column is: 0.7 is not less than itself then.
        ("d.confidence >= {0}::float8::real", query.confidence),
        ("i.captured_at >= {0}", query.captured_from),
        ("i.captured_at < {0}", query.captured_to),
        ("i.flight_id = {0}", query.flight),
        (f"{_BOX_PX} >= {{0}}", query.min_box_px),
        (f"{_BOX_PX} <= {{0}}", query.max_box_px),
        (_WITHIN, None if area is None else _polygon(area)),
    ):
        if value is not None:
            chosen = chosen.where(condition, value)
    return chosen
