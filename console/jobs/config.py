"""Defines what a client may ask of a job: the fields of `config`, as it sends them and as a job keeps them."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from infra.storable import StorableText
from schemas.events import MOST_BOX_PX, MergeMethod
from schemas.job_events import MAX_RULES, JobRules

MAX_FILES = 10_000
"""More file ids than any upload has files are not read"""


_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Slice = Annotated[int, Field(ge=256, le=2048)]


class Asked(BaseModel):
    """Is the base of all parts of a request: no other fields, no text for a number, no number for true or false."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )


class Slicing(Asked):
    """Says whether pictures are cut into slices, as SAHI does, and how; else the model's card decides."""

    enabled: bool = True
    """false: each picture as it is, scaled down to the model's input"""
    slice_width: _Slice | None = None
    """Pixels"""
    slice_height: _Slice | None = None
    """Pixels"""
    overlap_ratio: Annotated[float, Field(ge=0.0, le=0.5)] | None = None
    """The part of a slice that the next one repeats"""


class Merging(Asked):
    """Says how boxes of different slices that show the same object become one; else the model's card decides."""

    method: MergeMethod | None = None
    metric: Literal["iou", "ios"] | None = None
    threshold: _Share | None = None


class Model(Asked):
    """Names a version in the model store; else the detectors use the version that is active."""

    name: Annotated[StorableText, Field(min_length=1, max_length=100)]
    version: Annotated[StorableText, Field(min_length=1, max_length=50)]


class SymbolicReasoning(Asked):
    """Says which rules confirm, drop or relabel what the model found."""

    enabled: bool = True
    rules_file: Annotated[StorableText, Field(min_length=1, max_length=MAX_RULES)] | None = None
    """The name of rules that the operator installed, or the text of rules; never a path"""


class Visualization(Asked):
    """Says how the annotated pictures are drawn."""

    enabled: bool = True
    show_labels: bool = True
    confidence_display: bool = True


class JobConfig(Asked):
    """Holds the options of a job; what it leaves out, the model's card decides."""

    confidence_threshold: _Share | None = None
    """The least score of a detection"""
    iou_threshold: _Share | None = None
    """Boxes of one slice that overlap by more are one object"""
    min_box_px: Annotated[float, Field(ge=0, le=MOST_BOX_PX)] | None = None
    """Smaller boxes are left out: their area in square pixels of the picture"""
    sahi: Slicing | None = None
    merging: Merging | None = None
    whole_frame: bool | None = None
    """Whether the whole picture, scaled down, is detected beside its slices, for large objects"""
    model: Model | None = None
    prompt: Annotated[StorableText, Field(min_length=1, max_length=1_000)] | None = None
    """What to look for, of a model that takes text: names of things, with dots between"""
    symbolic_reasoning: SymbolicReasoning | None = None
    visualization: Visualization | None = None


_EXAMPLE: JsonValue = {
    "upload_id": "upl_a1b2c3d4e5f6g7h8",
    "config": {
        "confidence_threshold": 0.3,
        "sahi": {"slice_width": 640, "slice_height": 640, "overlap_ratio": 0.2},
        "visualization": {"show_labels": True, "confidence_display": True},
    },
}


class PredictRequest(Asked):
    """Asks for a job: certain files of an upload, detected with certain options."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    upload_id: Annotated[StorableText, Field(min_length=1, max_length=255)]
    file_ids: Annotated[list[StorableText], Field(min_length=1, max_length=MAX_FILES)] | None = None
    """All files of the upload when left out"""
    config: JobConfig = JobConfig()
    webhook_id: Annotated[StorableText, Field(min_length=1, max_length=255)] | None = None
    """The web-hook to call when the job has ended"""


class KeptConfig(BaseModel):
    """Holds the options of a job as its row keeps them: what was asked, and the rules as they were at that time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    asked: JobConfig = JobConfig()
    rules: JobRules | None = None
    webhook: UUID | None = None

    def to_json(self) -> str:
        """Return it as JSON of ASCII characters."""
        return self.model_dump_json(exclude_none=True, exclude_unset=True, ensure_ascii=True)
