"""Defines the fields of a query: what they are in the database, and which values they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

Value: TypeAlias = str | float | int | bool | datetime
Kind = Literal["text", "number", "count", "time", "flag"]
_MOST_COUNT = 2**31 - 1
_MOST_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Field:
    """Describes one field."""

    column: str
    """In the statement of :mod:`console.datasets.query.statement`"""
    kind: Kind
    parameter: str
    """The type of its values in the database"""
    takes: str

    @property
    def is_ordered(self) -> bool:
        """Whether its values can be compared by < and >."""
        return self.kind in ("number", "count", "time")


_TEXT = "a word, or a text in quotes"
FIELDS: Mapping[str, Field] = {
    "device": Field("d.device_id", "text", "text", _TEXT),
    "flight": Field("i.flight_id", "text", "text", _TEXT),
    "job": Field("j.job_id", "text", "text", _TEXT),
    "time": Field("i.captured_at", "time", "timestamptz", "a date or time such as 2026-05-01 or 2026-05-01T12:00:00Z"),
    "width": Field("i.width", "count", "integer", "a whole number of pixels"),
    "height": Field("i.height", "count", "integer", "a whole number of pixels"),
    "model": Field("s.model_name", "text", "text", _TEXT),
    "version": Field("s.model_version", "text", "text", _TEXT),
    "label": Field("b.label", "text", "text", _TEXT),
    # As the column: compared as double precision, a confidence of 0.7 would be less than 0.7.
    "confidence": Field("b.confidence", "number", "real", "a number from 0 to 1"),
    "corrected": Field("b.by_person", "flag", "boolean", "true or false"),
    "boxes": Field("coalesce(b.boxes, 0)", "count", "bigint", "how many boxes the picture has, 0 or more"),
}
"""All fields by name. Those of a box (label, confidence, corrected) are unknown for a picture without boxes."""


def read_value(field: str, text: str) -> Value:
    """Return the value of ``field`` that ``text`` gives. Raises ValueError, whose text may say why."""
    kind = FIELDS[field].kind
    if kind == "text":
        return _text(text)
    if kind == "flag":
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    if kind == "time":
        return _time(text)
    return _count(text) if kind == "count" else _share(text)


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a null character")
    if len(text) > _MOST_TEXT:
        raise ValueError(f"it has more than {_MOST_TEXT} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character") from None
    return text


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError from None


def _count(text: str) -> int:
    # isdecimal alone is true for the digits of other scripts, too; all are read by int.
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > _MOST_COUNT:
        raise ValueError
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError from None
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError
    return value
