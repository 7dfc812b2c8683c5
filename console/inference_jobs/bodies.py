"""Defines the bodies of requests and responses about inference jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from infra.storage.s3_address import S3Address

Status = Literal["pending", "running", "completed", "failed"]
InferenceType = Literal["single", "batch", "dataset"]
MOST_PATHS = 1_000
# All addresses are one variable of the environment, which Linux limits to 131,072 bytes.
_MOST_PATH_BYTES = 100_000
_MOST_DETECTIONS = 100_000
_LARGEST_INTEGER = 2**31 - 1
_STORE = "model:"
_Score = Annotated[float, Field(ge=0.0, le=1.0)]
_Number = Annotated[float, Field(ge=0.0, le=1e12)]


def _is_s3(text: str) -> str:
    S3Address.parse(text)
    return text


def _is_checkpoint(text: str) -> str:
    if text.startswith(_STORE):
        name, at, version = text.removeprefix(_STORE).partition("@")
        if not (name and at and version) or not text.isprintable():
            raise ValueError("it takes model:NAME@VERSION")
        return text
    try:
        return _is_s3(text)
    except ValueError as error:
        raise ValueError(
            "it takes model:NAME@VERSION, or s3://bucket/key of an ONNX file or a card's folder"
        ) from error


class InputData(BaseModel):
    """Says which pictures, and what counts as found."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    image_paths: Annotated[
        list[Annotated[str, Field(max_length=500), AfterValidator(_is_s3)]],
        Field(min_length=1, max_length=MOST_PATHS, description="pictures, or folders that end with a slash"),
    ]
    confidence_threshold: _Score = 0.25
    iou_threshold: _Score = 0.45
    max_detections: Annotated[int, Field(ge=1, le=_MOST_DETECTIONS)] = 100

    @model_validator(mode="after")
    def _fits(self) -> InputData:
        if sum(len(path.encode()) + 4 for path in self.image_paths) > _MOST_PATH_BYTES:
            raise ValueError(
                f"image_paths has more than {_MOST_PATH_BYTES} bytes; name a folder, s3://bucket/folder/, instead"
            )
        return self


class NewInferenceJob(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    training_job_id: Annotated[int, Field(ge=1, le=_LARGEST_INTEGER)] | None = None
    checkpoint_path: Annotated[str, Field(max_length=500), AfterValidator(_is_checkpoint)] = Field(
        examples=["s3://training-checkpoints/checkpoints/23/best.onnx", "model:birds@1.0.0"]
    )
    inference_type: InferenceType
    input_data: InputData

    @model_validator(mode="after")
    def _one_picture(self) -> NewInferenceJob:
        paths = self.input_data.image_paths
        if self.inference_type == "single" and (len(paths) > 1 or S3Address.parse(paths[0]).is_folder):
            raise ValueError("inference_type single takes one picture in image_paths; batch takes several, and folders")
        return self


class InferenceJobBody(BaseModel):
    """A job with its times and counts."""

    id: int
    training_job_id: int | None
    checkpoint_path: str
    inference_type: InferenceType
    input_data: dict[str, Any]
    status: Status
    error_message: str | None
    total_images: int
    total_inference_time_ms: float | None
    avg_inference_time_ms: float | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class Prediction(BaseModel):
    """One object in a picture."""

    model_config = ConfigDict(frozen=True)

    class_id: Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)]
    class_name: Annotated[str, Field(max_length=255)]
    confidence: _Score
    bbox: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels of the picture")


class ResultRow(BaseModel):
    """What was found in one picture of a job."""

    id: int = Field(description="rows of the next page have larger ids")
    inference_job_id: int
    image_path: str
    image_name: str
    predictions: list[Prediction]
    inference_time_ms: float | None
    num_detections: int
    error_message: str | None = Field(description="why this picture has no result")
    created_at: datetime


class PostedResult(BaseModel):
    """The result of one picture, as the process of the job posts it."""

    model_config = ConfigDict(frozen=True)

    image_path: Annotated[str, Field(min_length=1, max_length=500, pattern="^[^\x00]*$")]
    predictions: list[Prediction]
    inference_time_ms: _Number | None = None
    error_message: Annotated[str, Field(max_length=4_000)] | None = None


class PostedResults(BaseModel):
    """The body of a call-back."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    status: Literal["completed", "failed"]
    total_images: Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)] | None = None
    total_inference_time_ms: _Number | None = None
    avg_inference_time_ms: _Number | None = None
    results: list[PostedResult] = []
    error_message: Annotated[str, Field(max_length=4_000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> PostedResults:
        if self.status == "completed" and not self.results:
            raise ValueError("a completed job has at least one result")
        if self.total_images is not None and self.status == "completed" and self.total_images != len(self.results):
            raise ValueError(f"total_images is {self.total_images}, but there are {len(self.results)} results")
        return self


class TakenBody(BaseModel):
    """The response to a call-back."""

    id: int
    status: Status
    changed: bool = Field(description="false: the same was posted before")


class UploadedImages(BaseModel):
    """Pictures that were uploaded for a job to come."""

    inference_job_id: int = Field(description="the id that a job with these pictures gets")
    folder: str = Field(examples=["s3://training-checkpoints/inference/456/"])
    image_paths: list[str] = Field(description="for input_data.image_paths, in the order sent")
    expires_at: datetime = Field(description="when they are removed, unless a job uses them")
