"""Defines the bodies of results in each format, for the OpenAPI document; a test compares them with real ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from console.jobs.bodies import FileFault


class _Body(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class PixelBox(_Body):
    """A box in pixels of the file as it is stored."""

    format: Literal["xyxy"]
    x_min: float
    y_min: float
    x_max: float
    y_max: float


class CentreBox(_Body):
    """The same box as shares of width and height."""

    format: Literal["yolo"]
    center_x: float
    center_y: float
    width: float
    height: float


class DecidingRule(_Body):
    """The rule that confirmed or relabelled a detection."""

    name: str
    ruling: str
    former_label: str | None = None


class JobDetection(_Body):
    """An object that a job found."""

    class_id: int
    class_name: str
    confidence: float
    bbox: PixelBox
    bbox_normalized: CentreBox
    corners: list[list[float]] | None = None
    """Those of a rotated box, in pixels, clockwise as seen"""
    rule: DecidingRule | None = None
    """Only where a rule decided"""


class FileRules(_Body):
    """What rules did with the detections of a file."""

    file: str
    sha256: str
    dropped_by_rule: dict[str, int] | None
    problem: str | None
    """Why they gave no rulings"""


class FileResults(_Body):
    """What was found in one file."""

    file_id: str
    filename: str
    detections: list[JobDetection]
    detection_count: int
    rules: FileRules | None = None
    """Only where rules were asked for"""
    error: FileFault | None = None
    """Only of a file without a result"""


class JsonResults(_Body):
    """The format json."""

    job_id: str
    format: Literal["json"]
    results: list[FileResults]


class YoloFile(_Body):
    """The label lines of one file."""

    file_id: str
    filename: str
    label_content: str
    """Lines of class, centre, width and height (normalised), and score"""
    download_url: str


class YoloResults(_Body):
    """The format yolo."""

    job_id: str
    format: Literal["yolo"]
    files: list[YoloFile]


class VocFile(_Body):
    """The annotation of one file."""

    file_id: str
    filename: str
    xml: str
    download_url: str


class VocResults(_Body):
    """The format voc."""

    job_id: str
    format: Literal["voc"]
    files: list[VocFile]


class CocoResults(_Body):
    """The format coco: one document, as pycocotools read it."""

    job_id: str
    format: Literal["coco"]
    coco: dict[str, Any]
    """`images`, `annotations`, `categories` and `info`"""


class ResultsBody(_Body):
    """The response with results, in the format that was asked for."""

    status: Literal["success"]
    data: Annotated[JsonResults | YoloResults | VocResults | CocoResults, Field(discriminator="format")]
