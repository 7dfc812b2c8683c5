"""Reads what the Annotations service answers: its id of the post, and annotations of people that come back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Self
from uuid import UUID, uuid5

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.storable import StorableText, StorableTime
from schemas.events import DetectionsMade
from schemas.geometry import Unit
from sinks.annotations.payloads import post_id

_ANNOTATION = UUID("a3e9f0f2-3b9e-5d0b-8f0c-5f1a9a3b7c11")
_MOST = 1_000
_MOST_ID = 255
_NOTHING_THERE = "false_positive"
_Name = Annotated[StorableText, Field(min_length=1, max_length=100)]


class ReturnedAnnotation(BaseModel):
    """Is an annotation in a response; fields that are not known here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: Annotated[StorableText, Field(min_length=1, max_length=_MOST_ID)] | Annotated[int, Field(ge=0)] | None = None
    annotationType: Annotated[StorableText, Field(min_length=1, max_length=50)]  # noqa: N815 (names of the contract)
    detection: Annotated[int, Field(ge=0)] | None = None
    """Which detection of the post it is about: its place in the list, from 0"""
    centerX: Unit | None = None  # noqa: N815
    centerY: Unit | None = None  # noqa: N815
    width: Unit | None = None
    height: Unit | None = None
    label: _Name | None = None
    annotator: _Name | None = None
    annotatedAt: StorableTime | None = None  # noqa: N815
    notes: Annotated[StorableText, Field(max_length=10_000)] | None = None

    @property
    def box(self) -> dict[str, float] | None:
        """The corners of the corrected box, 0 to 1, within the frame; None where it has none."""
        if self.centerX is None or self.centerY is None or self.width is None or self.height is None:
            return None
        half_x, half_y = self.width / 2, self.height / 2
        return {
            "x1": round(max(0.0, self.centerX - half_x), 6),
            "y1": round(max(0.0, self.centerY - half_y), 6),
            "x2": round(min(1.0, self.centerX + half_x), 6),
            "y2": round(min(1.0, self.centerY + half_y), 6),
        }

    @model_validator(mode="after")
    def _area(self) -> Self:
        box = self.box
        # Who says that nothing is there needs no box.
        has_area = box is None or (box["x1"] < box["x2"] and box["y1"] < box["y2"])
        if not has_area and self.annotationType != _NOTHING_THERE:
            raise ValueError("the box has no area")
        return self


@dataclass(frozen=True, slots=True)
class Returned:
    """Holds what a response says."""

    annotation_id: str | None = None
    """How the service calls what it made of the post"""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows of data_annotations, as JSON"""
    unreadable: int = 0
    """Annotations that are none"""


def is_of_service(body: bytes | None, media_type: str) -> bool:
    """Whether a response with success can be the service's: it is JSON, or has no content.

    The page of a proxy or of a sign-in says nothing about the post. Of a response that is too large to be read the
    media type decides.
    """
    if body is None:
        return media_type == "application/json" or media_type.endswith("+json")
    try:
        _parsed(body)
    except (ValueError, RecursionError):
        return False
    return True


def read_response(body: bytes | None, event: DetectionsMade) -> Returned:
    """Return what the JSON response to the post about ``event`` says; a response that says nothing is one, too."""
    response = _parsed(body)
    named = response.get("id") if isinstance(response, dict) else None
    given = response.get("annotations") if isinstance(response, dict) else response
    listed = given if isinstance(given, list) else []
    rows: list[dict[str, Any]] = []
    for place, each in enumerate(listed[:_MOST]):
        try:
            rows.append(_row(ReturnedAnnotation.model_validate(each), place, event))
        except ValidationError:
            # Nothing of it in the log: it is another service's text.
            continue
    # The same id twice is one annotation.
    unique = {row["id"]: row for row in rows}
    return Returned(_id_of(named), list(unique.values()), len(listed) - len(rows))


def _parsed(body: bytes | None) -> Any:
    try:
        return orjson.loads(body or b"null")
    except orjson.JSONDecodeError:
        # Some programs write NaN, or half of a character: only the field that has it is wrong, not the whole response.
        return json.loads(body or b"null")


def _id_of(named: object) -> str | None:
    if isinstance(named, bool) or not isinstance(named, str | int):
        return None
    text = str(named)
    is_storable = text.isprintable() and text.isascii()
    return text if is_storable and 0 < len(text) <= _MOST_ID else None


def _row(given: ReturnedAnnotation, place: int, event: DetectionsMade) -> dict[str, Any]:
    assert event.job_id is not None
    detection = None
    if given.detection is not None and given.detection < len(event.detections):
        detection = str(event.detections[given.detection].id)
    named = f"place {place}" if given.id is None else f"id {given.id}"
    own = f"{post_id(event.job_id, event.frame_id)}\x1f{named}"
    return {
        "id": str(uuid5(_ANNOTATION, own)),
        "detection_id": detection,
        "annotation_type": given.annotationType,
        "corrected_bbox": None if given.annotationType == _NOTHING_THERE else given.box,
        "corrected_label": given.label,
        "annotator": given.annotator,
        "annotated_at": None if given.annotatedAt is None else given.annotatedAt.isoformat(),
        "notes": given.notes,
    }
