"""Defines the options of `standgale detect` that say how a picture is processed, and checks them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from infra.errors import SettingsError

if TYPE_CHECKING:
    from detectors.card.card import ModelCard
    from schemas.events import DetectOptions

# A raster may have as many objects as a thousand frames, so it gets the largest limit.
MOST_IN_A_RASTER = 100_000

ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, help="Only detections with at least this score, of any class; default is what the model says."
    ),
]
IouOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Boxes of one tile that overlap by more (IoU) are one thing (NMS)."),
]
MostOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_IN_A_RASTER,
        help=f"At most so many detections, those with the highest scores; default is {MOST_IN_A_RASTER} for a TIFF "
        "that is read by window, else that of the model.",
    ),
]
ModeOption = Annotated[
    str | None,
    typer.Option(help="How the picture is cut into tiles: fixed, auto, gsd (by metres), or whole for not at all."),
]
ScalesOption = Annotated[
    str | None,
    typer.Option(
        help="Scales of the picture to cut, for example 1,0.5 (a quarter more tiles), or auto. 0.5 for large things."
    ),
]
OverlapOption = Annotated[
    float | None, typer.Option(min=0.0, max=0.89, help="The share of a tile that the next one shows again.")
]
WholeOption = Annotated[
    bool, typer.Option("--whole", help="Also run the model on the whole picture, not only on its tiles.")
]
GsdOption = Annotated[
    float | None, typer.Option(help="Metres on the ground per pixel, if the picture does not state it.")
]
TileMetresOption = Annotated[float | None, typer.Option(help="Metres of ground that a tile shows from left to right.")]
MergingOption = Annotated[
    str | None, typer.Option(help="How boxes of one object are merged: nms, nmm, greedy_nmm or wbf.")
]
MetricOption = Annotated[
    str | None, typer.Option(help="How the overlap is measured for merging: iou, or ios for boxes within boxes.")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Boxes of different tiles that overlap by more are one thing."),
]
SettleOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Boxes of different classes that overlap by more (IoU) are one thing, and the best stays; 1 keeps all.",
    ),
]
EveryOption = Annotated[int, typer.Option(min=1, help="Of a video only every n-th frame.")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Holds the options as given; None means not given."""

    confidence: float | None = None
    iou: float | None = None
    mode: str | None = None
    scales: str | None = None
    overlap: float | None = None
    whole: bool = False
    tile_metres: float | None = None
    gsd: float | None = None
    merging: str | None = None
    metric: str | None = None
    threshold: float | None = None
    settle: float | None = None
    most: int | None = None

    def checked(self) -> DetectOptions:
        """Return the options for the model. Raises SettingsError that names the first wrong one."""
        from pydantic import ValidationError

        from schemas.events import DetectOptions, MergeMethod, TilingMode

        self._check_metres()
        if self.mode == "whole" and self.tile_metres is not None:
            raise SettingsError("--mode whole cuts no tiles; leave --tile-metres out, or take another mode")
        scales = _scales(self.scales)
        try:
            return DetectOptions(
                confidence=self.confidence,
                iou=self.iou,
                mode=_one_of("--mode", self.mode, get_args(TilingMode)),
                scales=scales,
                overlap=self.overlap,
                whole_frame=True if self.whole else None,
                tile_metres=self.tile_metres,
                merge_method=_one_of("--merging", self.merging, get_args(MergeMethod)),
                merge_metric=_one_of("--metric", self.metric, ("iou", "ios")),
                merge_threshold=self.threshold,
                settle=self.settle,
                max_detections=self.most,
            )
        except ValidationError as error:
            raise SettingsError(
                f"--scales {self.scales}: takes up to four different scales from 0.1 to 2, for example 1,0.5, or auto"
            ) from error

    def check_card(self, card: ModelCard) -> None:
        """Raise SettingsError if an option needs what ``card`` does not have."""
        if self.mode == "gsd" and self.tile_metres is None and card.tiling.metres is None:
            raise SettingsError(
                "--mode gsd: the model's card does not say how many metres a tile shows; add --tile-metres"
            )

    def _check_metres(self) -> None:
        from schemas.geometry import COARSEST_GSD_M, FINEST_GSD_M

        if self.gsd is not None and not FINEST_GSD_M <= self.gsd <= COARSEST_GSD_M:
            raise SettingsError(f"--gsd {self.gsd:g}: takes metres per pixel, {FINEST_GSD_M:g} to {COARSEST_GSD_M:g}")
        if self.tile_metres is not None and not 0 < self.tile_metres <= 100_000:
            raise SettingsError(f"--tile-metres {self.tile_metres:g}: takes metres, above 0 and up to 100,000")


def _scales(text: str | None) -> tuple[float, ...] | str | None:
    if text is None or text == "auto":
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"--scales {text}: no numbers; give for example 1,0.5, or auto") from error


def _one_of(option: str, text: str | None, known: tuple[str, ...]) -> Any:
    if text is not None and text not in known:
        raise SettingsError(f"{option} {text}: unknown; give one of {', '.join(known)}")
    return text


_MODEL_SUFFIXES = frozenset((".onnx", ".pt", ".pth", ".ckpt"))


def check_model_file(model: Path | None, picture: Path) -> None:
    """Raise SettingsError if ``model`` is not a card but a model file, with the command that makes a card for it.

    The same where ``picture`` is a model.
    """
    if picture.suffix.lower() in _MODEL_SUFFIXES:
        raise SettingsError(
            f"{picture}: is a model, not a picture; give a picture, a folder or a video, and the model's card with "
            "--model (standgale model inspect FILE.onnx --write writes one)"
        )
    if model is None:
        return
    suffix = model.suffix.lower()
    if suffix == ".onnx" and model.is_file():
        card = model.parent / "model.yaml"
        if card.is_file() and _describes(card, model):
            raise SettingsError(f"--model {model}: takes the model's card; give --model {card}")
        raise SettingsError(
            f"--model {model}: takes a card (model.yaml), which says how the model is read; write one with\n"
            f"  standgale model inspect {model} --write\nand give --model the path that it prints"
        )
    if suffix in _MODEL_SUFFIXES - {".onnx"}:
        raise SettingsError(
            f"--model {model}: is a PyTorch file, which runs code when it is loaded, so it is not read; export it to "
            f"ONNX with the program that trained it (Ultralytics: yolo export model={model.name} format=onnx), then "
            f"write its card with: standgale model inspect {model.with_suffix('.onnx').name} --write"
        )
    if model.is_dir():
        raise SettingsError(f"--model {model}: is a folder; give the model.yaml in it")
    if not model.exists():
        raise SettingsError(f"--model {model}: there is no such file; give the path of a model's card (model.yaml)")


def _describes(card: Path, model: Path) -> bool:
    """Return whether the file ``card`` names ``model`` as its ONNX file."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        # Then it is no card of this model, and the caller says how to write one.
        return False
    return any(line.strip() in {f"file: {model.name}", f"file: '{model.name}'"} for line in lines)
