"""Defines the bodies of responses about results, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from console.results.result_bodies import JobDetection


class PictureAddresses(BaseModel):
    """Where the pictures of one file are."""

    file_id: str
    filename: str
    original_url: str
    annotated_url: str | None = Field(description="none for a file without a result")
    thumbnail_url: str | None
    detection_count: int


class Visualizations(BaseModel):
    """The pictures of a job."""

    job_id: str
    visualizations: list[PictureAddresses]


class InlinePictures(BaseModel):
    """The pictures of one file, as data URLs."""

    file_id: str
    filename: str
    format: Literal["base64"] = "base64"
    original_image: str
    annotated_image: str | None
    detection_count: int


class InlineList(BaseModel):
    """The pictures of several files, as data URLs."""

    job_id: str
    visualizations: list[InlinePictures]


class VisualizationBody(BaseModel):
    """The response about pictures."""

    status: Literal["success"] = "success"
    data: Visualizations | InlinePictures | InlineList


class RelabelledPair(BaseModel):
    """Boxes of two jobs at one place, with different classes."""

    first: JobDetection
    second: JobDetection
    iou: float


class ComparedFile(BaseModel):
    """What two jobs found in one picture."""

    filename: str
    first_file_id: str
    second_file_id: str
    both: int
    relabelled: list[RelabelledPair] = Field(description="pairs at one place with different classes")
    only_first: list[JobDetection]
    only_second: list[JobDetection]


class ComparisonData(BaseModel):
    """What two jobs found in the pictures that both have."""

    first_job_id: str
    second_job_id: str
    iou: float
    files_compared: int
    files_only_first: int
    files_only_second: int
    both: int
    relabelled: int
    only_first: int
    only_second: int
    files: list[ComparedFile]


class ComparisonBody(BaseModel):
    """The response to a comparison."""

    status: Literal["success"] = "success"
    data: ComparisonData
