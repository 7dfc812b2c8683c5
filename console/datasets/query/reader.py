"""Reads the pictures that a query selects, with their boxes, as of one moment and in a fixed order."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import QueryCanceledError

from console.datasets.errors import DatasetOptionError
from console.datasets.query.statement import Statement
from console.datasets.settings import DatasetSettings
from infra.database.pool import Connection, Database

_ROWS = 1_000
_CORNERS = ("x1", "y1", "x2", "y2")
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SelectedBox:
    """Is one box of a picture; all sides are shares of the picture's."""

    label: str
    confidence: float
    box: Box
    corners: tuple[float, ...] | None
    """x1, y1 … x4, y4 of a rotated box"""
    by_person: bool
    """Whether a person corrected or added it"""


@dataclass(frozen=True, slots=True)
class SelectedPicture:
    """Is one picture that a query selects, with those of its boxes that the query selects."""

    id: str
    """Of its frame"""
    device: str
    flight: str | None
    captured_at: datetime
    sha256: str
    uri: str
    size_bytes: int
    width: int
    height: int
    media_type: str
    model: str | None
    version: str | None
    boxes: tuple[SelectedBox, ...]


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """Is a picture with what is known of the corrections that are not in it."""

    picture: SelectedPicture
    unusable: int
    """Corrections with a box that cannot be used"""


async def read_pictures(
    database: Database, statement: Statement, *, timeout_s: float
) -> AsyncGenerator[ReadPicture, None]:
    """Yield the pictures, by capture time and id.

    Raises DatasetOptionError when the time limit is over, and the errors of the database.

    All are of one snapshot of the database, whatever is written meanwhile.
    """
    async with (
        database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # Compiling it would take longer than reading the first rows.
        await connection.execute("SET LOCAL jit = off")
        await connection.execute(f"SET LOCAL statement_timeout = {int(timeout_s * 1_000)}")
        first: Any = None
        boxes: list[SelectedBox] = []
        async for row in _rows(connection, statement, timeout_s):
            if first is not None and row["id"] != first["id"]:
                yield ReadPicture(_picture(first, boxes), first["unusable"])
                first, boxes = None, []
            first = first or row
            if row["box_id"] is not None:
                boxes.append(_box(row))
        if first is not None:
            yield ReadPicture(_picture(first, boxes), first["unusable"])


async def _rows(connection: Connection, statement: Statement, timeout_s: float) -> AsyncIterator[Any]:
    rows = connection.cursor(statement.text, *statement.values, prefetch=_ROWS, timeout=timeout_s)
    try:
        async for row in rows:
            yield row
    except (TimeoutError, QueryCanceledError) as error:
        raise DatasetOptionError(
            f"the query took longer than {timeout_s:g} s ({DatasetSettings.named('query_timeout_s')}); select fewer "
            "pictures by time or device, or raise that setting"
        ) from error


def _picture(row: Any, boxes: list[SelectedBox]) -> SelectedPicture:
    return SelectedPicture(
        id=str(row["id"]),
        device=row["device_id"],
        flight=row["flight_id"],
        captured_at=row["captured_at"],
        sha256=row["sha256"],
        uri=row["image_uri"],
        size_bytes=row["size_bytes"],
        width=row["width"],
        height=row["height"],
        media_type=f"image/{row['format']}",
        model=row["model_name"],
        version=row["model_version"],
        boxes=tuple(boxes),
    )


def _box(row: Any) -> SelectedBox:
    corrected = row["corrected_bbox"]
    if corrected is None:
        box, corners = tuple(row[side] for side in _CORNERS), row["corners"]
    else:
        box, corners = tuple(json.loads(corrected)), None
    left, top, right, bottom = (round(side, 6) for side in box)
    return SelectedBox(
        row["label"],
        round(row["confidence"], 4),
        (left, top, right, bottom),
        None if corners is None else tuple(round(side, 6) for side in corners),
        row["by_person"],
    )
