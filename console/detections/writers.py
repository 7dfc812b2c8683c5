"""Writes detections as JSON, GeoJSON and CSV, piece by piece, so that only a part of them is in memory at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID

import orjson

from console.detections.query import Format
from console.detections.rows import COLUMNS, DetectionRow
from schemas.timestamps import format_utc


class Writer(Protocol):
    """Writes one response: ``begin`` once, ``rows`` for each page, ``end`` once; none of them waits for anything."""

    media_type: ClassVar[str]

    def begin(self) -> bytes:
        """Return what is before the detections."""

    def rows(self, rows: Sequence[DetectionRow]) -> bytes:
        """Return the bytes of ``rows``; there may be none yet."""

    def end(self, next_after: str | None) -> bytes:
        """Return the rest; ``next_after``: where the next page begins, if there may be one."""


class JsonWriter:
    """Writes the body of the API: an object with the detections and the place of the next page."""

    media_type: ClassVar[str] = "application/json"

    def __init__(self) -> None:
        self._separator = b""

    def begin(self) -> bytes:
        """Return the beginning of the body."""
        return b'{"status":"success","data":{"detections":['

    def rows(self, rows: Sequence[DetectionRow]) -> bytes:
        """Return the detections as objects."""
        return self._joined([orjson.dumps(_plain(row)) for row in rows])

    def end(self, next_after: str | None) -> bytes:
        """Return the end with ``next_after``."""
        return b'],"next_after":' + orjson.dumps(next_after) + b"}}"

    def _joined(self, pieces: Sequence[bytes]) -> bytes:
        if not pieces:
            return b""
        before, self._separator = self._separator, b","
        return before + b",".join(pieces)


class GeoJsonWriter(JsonWriter):
    """Writes a FeatureCollection (RFC 7946); a feature is at the camera's position, or has none where it is unknown."""

    media_type: ClassVar[str] = "application/geo+json"

    def begin(self) -> bytes:
        """Return the beginning of the collection."""
        return b'{"type":"FeatureCollection","features":['

    def rows(self, rows: Sequence[DetectionRow]) -> bytes:
        """Return the detections as features."""
        return self._joined([orjson.dumps(_feature(row)) for row in rows])

    def end(self, next_after: str | None) -> bytes:
        """Return the end with ``next_after``, which readers of GeoJSON pass over."""
        return b'],"next_after":' + orjson.dumps(next_after) + b"}"


class CsvWriter:
    """Writes comma-separated values (RFC 4180) with a line of names; the next page begins after its last line."""

    media_type: ClassVar[str] = "text/csv; charset=utf-8"

    def begin(self) -> bytes:
        """Return the line of names."""
        return _csv([COLUMNS])

    def rows(self, rows: Sequence[DetectionRow]) -> bytes:
        """Return a line for each detection; corners are numbers with spaces between."""
        return _csv([[_cell(value) for value in _plain(row).values()] for row in rows])

    def end(self, next_after: str | None) -> bytes:
        """Return nothing: a table has no place for it."""
        del next_after
        return b""


EXTENSIONS: dict[Format, str] = {"json": "json", "geojson": "geojson", "csv": "csv", "parquet": "parquet"}


def _plain(row: DetectionRow) -> dict[str, Any]:
    """Return ``row`` as JSON has it."""
    return {name: _text(value) for name, value in row.items()}


def _text(value: object) -> object:
    if isinstance(value, datetime):
        return format_utc(value)
    return str(value) if isinstance(value, UUID) else value


def _feature(row: DetectionRow) -> dict[str, Any]:
    longitude, latitude = row["longitude"], row["latitude"]
    known = longitude is not None and latitude is not None
    properties = _plain(row)
    return {
        "type": "Feature",
        "id": properties["id"],
        "geometry": {"type": "Point", "coordinates": [longitude, latitude]} if known else None,
        "properties": properties,
    }


def _cell(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _csv(lines: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()
