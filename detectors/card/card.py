"""Defines and checks the model card: ``model.yaml`` says what a model is, how to feed it and how to read it."""

from __future__ import annotations

from collections import Counter
from hashlib import file_digest
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from detectors.card.model_formats import no_card
from detectors.errors import ModelLoadError
from detectors.settings import Precision
from infra.plugin_names import NameOrPlugin
from infra.regular_files import open_regular, read_regular
from infra.texts import LONGEST_VALUE
from schemas.events import MOST_BOX_PX, MergeMethod, Scales, TilingMode
from schemas.geometry import Unit
from schemas.yaml_text import parse_yaml, yaml_fault

ShippedLayout = Literal[
    "yolov8",
    "yolov5",
    "nms_inside",
    "yolox",
    "yolox_decoded",
    "rtdetr",
    "rfdetr",
    "yolov8_obb",
    "nms_inside_obb",
    "grounding_dino",
    "boxes_scores",
    "tf_nms",
    "nms_parts",
    "mmdet",
]
"""The layouts whose heads ship."""
Layout = Annotated[str, NameOrPlugin(get_args(ShippedLayout), "standgale.heads")]
"""The layout of a model's outputs: a shipped one, or one whose head a plug-in offers."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""The names that a model may have."""
_LARGEST_CARD_BYTES = 1 << 20
# So many wrong things of a kind are named in an error.
_MOST_NAMED = 5
DEFAULT_MODEL = "standgale-small/1.1.0/model.yaml"
_Side = Annotated[int, Field(ge=32, le=8192)]
_Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Positive = Annotated[float, Field(gt=0, le=100_000)]
_Scale = Annotated[float, Field(ge=1e-6, le=1)]
_Mean = Annotated[float, Field(ge=-100_000, le=100_000)]
_Deviation = Annotated[float, Field(ge=1e-6, le=100_000)]
# Control characters are none of a file's name, and the database takes no null character.
_LINE = r"^[^\x00-\x1f\x7f-\x9f]+$"
_FileName = Annotated[str, Field(min_length=1, max_length=4096, pattern=_LINE)]
Evidence = Literal["photographs", "drawn", "none"]
"""What a class was tested on."""


class _CardModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class InputCard(_CardModel):
    """Says how a tile becomes the model's input: value = (pixel * scale - mean) / std, per channel."""

    width: _Side
    height: _Side
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: _Scale = Field(
        default=1 / 255, description="what pixels (0..255) are multiplied by: 0.00392156862745098 gives 0..1"
    )
    mean: tuple[_Mean, _Mean, _Mean] = Field(default=(0.0, 0.0, 0.0), description="after scaling, in channel order")
    std: tuple[_Deviation, _Deviation, _Deviation] = Field(
        default=(1.0, 1.0, 1.0), description="after scaling, in channel order"
    )
    letterbox: Literal["center", "top_left", "stretch"] = Field(
        default="center", description="where a tile of a different shape is in the input; stretch changes its shape"
    )
    pad: Annotated[int, Field(ge=0, le=255)] = 114


class ClassCard(_CardModel):
    """Describes one class of the model; its number in the model's output is its place in the list, or its id."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_LINE)]
    id: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None, description="its number in the model's output, where that is not its place in the list"
    )
    color: _Colour | None = None
    max_size_m: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="its largest side in metres on the ground"
    )
    confidence: Unit | None = Field(
        default=None, description="its own least score, in place of thresholds.confidence; a call's confidence wins"
    )
    evidence: Evidence | None = Field(
        default=None,
        description="what the class was tested on: photographs; drawn: pictures made by a program only, so users are "
        "told that it is not tested on photographs; none: nothing. Left out, nothing is said",
    )


class ThresholdCard(_CardModel):
    """Says what counts as a detection within one tile."""

    confidence: Unit = 0.25
    iou: Unit = Field(default=0.5, description="boxes of one tile that overlap by more are one object")
    min_box_px: Annotated[float, Field(ge=0, le=MOST_BOX_PX)] = Field(
        default=0.0, description="smaller boxes are no detections: their area in square pixels of the frame"
    )


class TilingCard(_CardModel):
    """Says how frames are cut when the frame's options do not."""

    mode: TilingMode = Field(
        default="fixed",
        description="fixed: width and height; gsd: tiles of metres a side, where the camera's geometry is known, else "
        "fixed; auto: by the size of frame and objects; whole: the frame as it is, scaled down",
    )
    metres: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="gsd: how much ground a tile shows from side to side"
    )
    width: Annotated[int, Field(ge=64, le=8192)] | None = Field(default=None, description="default the input's")
    height: Annotated[int, Field(ge=64, le=8192)] | None = Field(default=None, description="default the input's")
    overlap: Annotated[float, Field(ge=0.0, lt=0.9)] = 0.2
    whole_frame: bool = False
    scales: Scales | Literal["auto"] = Field(
        default=(1.0,),
        description="at which scales frames are cut, merged as one: 1 is native pixels, 0.5 the frame at half its "
        "sides; auto: by the ground sampling distance, else by what a quick pass finds",
    )
    object_px: tuple[_Positive, _Positive] | None = Field(
        default=None, description="from and to which size in pixels, at scale 1, the model knows objects"
    )
    gsd_m: tuple[_Positive, _Positive] | None = Field(
        default=None, description="from and to how many metres on the ground per pixel, at scale 1, the model knows"
    )

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name, given in (("object_px", self.object_px), ("gsd_m", self.gsd_m)):
            if given is not None and given[0] >= given[1]:
                raise ValueError(f"{name}: {given[0]:g} to {given[1]:g} is no range; write the smaller number first")
        return self

    @model_validator(mode="after")
    def _metres_are_given(self) -> Self:
        if self.mode == "gsd" and self.metres is None:
            raise ValueError("mode gsd needs metres: how much ground a tile shows from side to side")
        return self


class MergeCard(_CardModel):
    """Says how boxes of different tiles that show the same object are merged into one."""

    method: MergeMethod = "nms"
    metric: Literal["iou", "ios"] = "iou"
    threshold: Unit = 0.5
    class_aware: bool = True
    settle: Unit = Field(
        default=0.7,
        description="boxes of different classes that overlap by more (IoU) show one thing, and the best stays; so do "
        "pieces of a thing that was found whole; 1 settles none",
    )


class TextCard(_CardModel):
    """Says how the text prompt of a model is made (Grounding DINO); the prompt of a class is its name."""

    tokenizer: _FileName = Field(description="a tokenizer.json, relative to the card")
    threshold: Unit = Field(default=0.25, description="a word belongs to a box from this score on")


class BoxesCard(_CardModel):
    """Says how the two outputs of layout boxes_scores are read."""

    unit: Literal["pixels", "shares"] = Field(default="pixels", description="of the input, or shares of its sides")
    form: Literal["corners", "centre"] = Field(default="corners", description="x1, y1, x2, y2, or cx, cy, w, h")
    background: Literal["none", "first", "last"] = Field(
        default="none", description="which column of the scores is no class, where there is one"
    )


class ModelCard(_CardModel):
    """Holds everything that Standgale needs to know about a model."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,49}$")]
    file: _FileName = Field(description="the ONNX file, relative to the card")
    sha256: _Sha256
    files: dict[_FileName, _Sha256] = Field(
        default_factory=dict,
        description="further files next to the card (weights outside the ONNX file, a tokenizer, what torch exported)",
    )
    layout: Layout | None = Field(default=None, description="without it the layout is recognised by the output's shape")
    input: InputCard
    classes: Annotated[tuple[ClassCard, ...], Field(min_length=1)]
    thresholds: ThresholdCard = ThresholdCard()
    tiling: TilingCard = TilingCard()
    merge: MergeCard = MergeCard()
    text: TextCard | None = Field(default=None, description="for layouts that take a text prompt")
    boxes: BoxesCard | None = Field(default=None, description="for layout boxes_scores")
    max_detections: Annotated[int, Field(gt=0, le=100_000)] = 1000
    precision: Precision = Field(
        default="auto", description="what the engine computes in; auto: the fastest with outputs close to those of f32"
    )
    rules: _FileName | None = Field(
        default=None, description="a file of Prolog rules for the detections; files has its checksum"
    )
    licence: Annotated[str, Field(min_length=1)]
    training: dict[str, JsonValue] = Field(default_factory=dict, description="where the model comes from")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = Counter(one.name for one in self.classes)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            more = f" and {len(twice) - _MOST_NAMED} more" if len(twice) > _MOST_NAMED else ""
            named = f"{', '.join(twice[:_MOST_NAMED])}{more}"
            raise ValueError(f"classes: {named} is there twice; every class needs a different name")
        return self

    @model_validator(mode="after")
    def _ids_are_complete(self) -> Self:
        ids = [one.id for one in self.classes if one.id is not None]
        if ids and len(set(ids)) < len(self.classes):
            raise ValueError("classes: either no class has an id, or every class has a different one")
        return self

    @model_validator(mode="after")
    def _only_words_need_a_tokenizer(self) -> Self:
        if self.layout == "grounding_dino" and self.text is None:
            raise ValueError(
                "text: layout grounding_dino takes a text prompt; write text: {tokenizer: tokenizer.json} and put the "
                "tokenizer.json published with the model next to the card"
            )
        if self.text is not None and self.layout not in (None, "grounding_dino"):
            raise ValueError(f"text: layout {self.layout} takes no text prompt; leave text out")
        return self

    @model_validator(mode="after")
    def _only_two_outputs_need_boxes(self) -> Self:
        if self.boxes is not None and self.layout not in (None, "boxes_scores"):
            raise ValueError(f"boxes: layout {self.layout} has nothing to choose there; leave boxes out")
        return self

    @model_validator(mode="after")
    def _rules_have_a_checksum(self) -> Self:
        if self.rules is not None and self.rules not in self.files:
            raise ValueError(f"rules: {self.rules} has no checksum; add it to files with its SHA-256")
        return self

    @model_validator(mode="after")
    def _one_checksum_each(self) -> Self:
        if self.file in self.files:
            raise ValueError(f"files: {self.file} is the ONNX file, whose checksum is sha256; leave it out there")
        return self

    @property
    def confidences(self) -> tuple[float, ...]:
        """Return the least score of a detection, per class."""
        general = self.thresholds.confidence
        return tuple(general if one.confidence is None else one.confidence for one in self.classes)

    @property
    def class_ids(self) -> tuple[int, ...] | None:
        """Return the numbers of the classes in the model's output, or None when they are the places in the list."""
        ids = tuple(one.id for one in self.classes if one.id is not None)
        return ids or None


def default_card_path() -> Path:
    """Return the shipped model's card: ``models/`` in a checkout, inside ``detectors`` in an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    checkout = here.parent / "models" / DEFAULT_MODEL
    return checkout if checkout.is_file() else here / "models" / DEFAULT_MODEL


def read_card(path: Path) -> ModelCard:
    """Return the card at ``path``. Raises ModelLoadError that names the field when the file is missing or wrong."""
    other = no_card(path)
    if other is not None:
        raise ModelLoadError(other)
    try:
        content = read_regular(path, _LARGEST_CARD_BYTES)
    except OSError as error:
        raise ModelLoadError(
            f"model card {path} cannot be read ({error.strerror}); "
            "set detector.model (STANDGALE_DETECTOR__MODEL) to a model.yaml"
        ) from error
    return parse_card(content, str(path))


def parse_card(content: bytes, where: str) -> ModelCard:
    """Return the card in ``content``, which is from ``where``. Raises ModelLoadError that names the wrong field."""
    try:
        return ModelCard.model_validate(parse_yaml(content.decode()))
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"model card {where} is not YAML: {error}") from error
    except yaml.YAMLError as error:
        raise ModelLoadError(f"model card {where} is not YAML: {yaml_fault(error)}") from error
    except ValidationError as error:
        raise ModelLoadError(f"model card {where}: {_problems(error)}; correct the card") from error


def _problems(error: ValidationError) -> str:
    """Return the first problems in ``error``, each with its field and the value received."""
    texts = []
    for problem in error.errors()[:_MOST_NAMED]:
        field = ".".join(map(str, problem["loc"])) or "the card"
        is_quoted = problem["type"] != "missing" and not isinstance(problem["input"], dict)
        received = f" (got {_quoted(problem['input'])})" if is_quoted else ""
        texts.append(f"{field}: {problem['msg']}{received}")
    return "; ".join(texts)


def _quoted(value: object) -> str:
    """Return ``value`` as Python writes it, cut so that a huge one stays a line."""
    short = Repr()
    short.maxstring = short.maxother = LONGEST_VALUE
    return short.repr(value)


def verified_model_file(card: ModelCard, card_path: Path) -> Path:
    """Check all checksums of the card, and return the path of its ONNX file.

    Raises ModelLoadError when a file is missing or has a different checksum.
    """
    folder = card_path.parent
    for name, sha256 in card.files.items():
        _verify(folder / name, sha256, f"files.{name}", card_path)
    _verify(folder / card.file, card.sha256, "sha256", card_path)
    return folder / card.file


def exported_program(card: ModelCard, card_path: Path) -> Path | None:
    """Return the path of the program that torch exported: the first ``.pt2`` file of the card; None without one."""
    return next((card_path.parent / name for name in sorted(card.files) if name.endswith(".pt2")), None)


def _verify(path: Path, sha256: str, field: str, card_path: Path) -> None:
    try:
        with open_regular(path) as file:
            found = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        what = "the ONNX file" if field == "sha256" else "the file"
        raise ModelLoadError(
            f"model file {path} cannot be read ({error.strerror}); "
            f"put {what} there, or correct {'file' if field == 'sha256' else field} in {card_path}"
        ) from error
    if found != sha256:
        raise ModelLoadError(
            f"model file {path} has SHA-256 {found}, the card {card_path} says {sha256}: the file is damaged or "
            f"a different one; fetch it again, or correct {field} if you replaced it on purpose"
        )
