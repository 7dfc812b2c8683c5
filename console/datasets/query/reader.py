"""Reads the pictures that a query selects, with their boxes, as of one moment and in a fixed order."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import QueryCanceledError

from console.datasets.errors import CorrectionError, DatasetOptionError
from console.datasets.query.statement import Statement
from console.datasets.settings import DatasetSettings
from infra.database.pool import Connection, Database
from infra.texts import shortened

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


async def read_pictures(
    database: Database, statement: Statement, *, timeout_s: float
) -> AsyncGenerator[SelectedPicture, None]:
    """Yield the pictures, by capture time and id.

    Raises CorrectionError, DatasetOptionError when the time limit is over, and the errors of the database.

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
                yield _picture(first, boxes)
                first, boxes = None, []
            first = first or row
            if row["box_id"] is not None:
                boxes.append(_box(row))
        if first is not None:
            yield _picture(first, boxes)


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
        box, corners = corrected_box(corrected, row["correction"]), None
    left, top, right, bottom = (round(side, 6) for side in box)
    return SelectedBox(
        row["label"],
        round(row["confidence"], 4),
        (left, top, right, bottom),
        None if corners is None else tuple(round(side, 6) for side in corners),
        row["by_person"],
    )


def corrected_box(text: str, correction: UUID) -> Box:
    """Return the box in the JSON ``text`` of a correction: [x1, y1, x2, y2], or an object with these names.

    Raises CorrectionError when it is none, or not inside of its picture.
    """
    found = json.loads(text)
    sides = [found.get(name) for name in _CORNERS] if isinstance(found, dict) else found
    if (
        not isinstance(sides, list)
        or len(sides) != len(_CORNERS)
        or not all(isinstance(side, int | float) and not isinstance(side, bool) and 0 <= side <= 1 for side in sides)
        or sides[0] >= sides[2]
        or sides[1] >= sides[3]
    ):
        raise CorrectionError(
            f"the row {correction} of data_annotations has the corrected_bbox {shortened(text, 100)}; it takes x1, y1, "
            "x2, y2 as shares of the picture, from 0 to 1, x1 < x2 and y1 < y2. Correct that row, or delete it"
        )
    left, top, right, bottom = sides
    return left, top, right, bottom
