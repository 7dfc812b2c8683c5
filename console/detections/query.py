"""Defines which detections a request asks for, and the place after which its page begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from infra.storable import StorableText, StorableTime, require_written_time
from schemas.earth_areas import AreaError, EarthArea, parse_area
from schemas.timestamps import format_utc, in_utc

FORMATS = ("json", "geojson", "csv", "parquet")
Format = Literal["json", "geojson", "csv", "parquet"]
MOST_ROWS = 100_000
"""The most detections of one response; the next one goes on after its last."""
_MOST_VALUES = 100
_MOST_PIXELS = 10_000_000_000
_AREA_FORMS = "west,south,east,north, or POLYGON((lon lat, lon lat, …)), in degrees"
_PLACE_FORM = "Must be next_after of the page before, or captured_at,frame_id,id of its last detection"


@dataclass(frozen=True, slots=True)
class Place:
    """Is the place of a detection in the order of all: the newest capture first, then by the ids of frame and itself.

    Pages begin after a place, so rows that come or go meanwhile shift none of them.
    """

    captured_at: datetime
    frame_id: UUID
    id: UUID

    def as_text(self) -> str:
        """Return the place as a request has it."""
        return f"{format_utc(self.captured_at)},{self.frame_id},{self.id}"


def parse_place(text: str) -> Place:
    """Return the place in ``text``. Raises ValueError that says how it is written."""
    try:
        moment, frame, own = text.split(",")
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise ValueError(_PLACE_FORM)
        return Place(in_utc(at), UUID(frame), UUID(own))
    except ValueError as error:
        raise ValueError(_PLACE_FORM) from error


def _place(text: str) -> str:
    parse_place(text)
    return text


def _limit(rows: int) -> int:
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"Must be between 1 and {MOST_ROWS:,}")
    return rows


def _area(text: str) -> str:
    try:
        parse_area(text)
    except AreaError as error:
        raise ValueError(str(error).removeprefix("area: ")) from error
    return text


_Texts = Annotated[list[Annotated[StorableText, Field(min_length=1, max_length=255)]], Field(max_length=_MOST_VALUES)]
_Time = Annotated[StorableTime, BeforeValidator(require_written_time)]
_Pixels = Annotated[float, Field(ge=0, le=_MOST_PIXELS)]


_Limit = Annotated[int, AfterValidator(_limit), Field(json_schema_extra={"minimum": 1, "maximum": MOST_ROWS})]


class DetectionsQuery(BaseModel):
    """Says which detections are asked for; all conditions must be met."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    device: _Texts = Field(default_factory=list)
    """Only of these devices; may be given several times"""
    label: _Texts = Field(default_factory=list)
    """Only these classes; may be given several times"""
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    """Only with this score or more"""
    captured_from: _Time | None = None
    """Only of frames that were captured at this time or later"""
    captured_to: _Time | None = None
    """Only of frames that were captured before this time"""
    job: Annotated[StorableText, Field(max_length=255)] | None = None
    """Only of this job of yours; left out: of frames that belong to no job"""
    flight: Annotated[StorableText, Field(max_length=128)] | None = None
    """Only of frames of the flight with this name"""
    min_box_px: _Pixels | None = None
    """Only boxes with this area or more, in square pixels"""
    max_box_px: _Pixels | None = None
    """Only boxes with this area or less, in square pixels"""
    area: (
        Annotated[
            str, AfterValidator(_area), Field(description=f"Only of frames whose camera was in it: {_AREA_FORMS}")
        ]
        | None
    ) = None
    format: Format = "json"
    """Of the response"""
    limit: _Limit = 100
    """The most detections of the response"""
    after: Annotated[str, Field(max_length=200), AfterValidator(_place)] | None = None
    """Only detections after this one: ``next_after`` of the page before"""

    @property
    def parsed_area(self) -> EarthArea | None:
        """Return the area that is asked for."""
        return None if self.area is None else parse_area(self.area)

    @property
    def begins_after(self) -> Place | None:
        """Return the place after which the page begins."""
        return None if self.after is None else parse_place(self.after)
