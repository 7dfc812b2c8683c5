"""`windhover detect PICTURE…`: what is in one picture, without any service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.errors import SettingsError
from schemas.events import DetectOptions
from windhover.commands.context import Context, JsonOption, context_of, print_json

if TYPE_CHECKING:
    from detectors.arrays import Detections, ImageArray
    from detectors.card import ModelCard
    from detectors.loading import LoadRequest, load_model
    from detectors.predict import Predictor


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(detect)


def detect(
    context: typer.Context,
    picture: Annotated[Path, typer.Argument(help="A JPEG, PNG, TIFF or WebP file.")],
    out: Annotated[Path | None, typer.Option(help="Write the picture with boxes here (.jpg or .png).")] = None,
    model: Annotated[Path | None, typer.Option(help="A model.yaml; default is the model that ships.")] = None,
    confidence: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Look at the whole frame too, not only at its tiles.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find things in a picture: tiled, merged, listed, and drawn with --out."""
    from detectors.predict import Predictor

    here = context_of(context)
    settings = here.settings(detector__model=model)
    data = _read(picture)
    options = DetectOptions(confidence=confidence, whole_frame=True if whole else None)
    wanted = settings.detector
    with Predictor(load_model(LoadRequest(wanted.model, wanted.engine, wanted.threads, wanted.precision))) as predictor:
        image, found = _find(here, predictor, data, options, settings.detector.max_pixels)
        card = predictor.model.card
        reason = predictor.model.engine.reason
    if out is not None:
        _draw(out, image, found, card)
    rows = _rows(found, card)
    if as_json:
        height, width = image.shape[:2]
        print_json({"image": str(picture), "width": width, "height": height, "model": card.name, "detections": rows})
    else:
        _print(here, card, reason, rows, out)


def _read(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise SettingsError(f"{picture}: cannot be read ({error.strerror}); give the path of a picture") from error


def _find(
    here: Context, predictor: Predictor, data: bytes, options: DetectOptions, max_pixels: int
) -> tuple[ImageArray, Detections]:
    from detectors.decode import decode_image

    image = decode_image(data, max_pixels=max_pixels)
    columns = (TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=here.notes, transient=True) as progress:
        task = progress.add_task("tiles", total=None)
        found = predictor.predict(
            image, options, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    return image, found


def _draw(out: Path, image: ImageArray, found: Detections, card: ModelCard) -> None:
    import cv2

    from detectors.draw import draw_detections

    try:
        encoded, data = cv2.imencode(out.suffix or ".jpg", draw_detections(image, found, card.classes))
    except cv2.error as error:
        raise SettingsError(f"--out {out}: OpenCV can't write {out.suffix!r}; end it with .jpg or .png") from error
    if not encoded:
        raise SettingsError(f"--out {out}: the picture could not be encoded; end it with .jpg or .png")
    try:
        out.write_bytes(data.tobytes())
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written ({error.strerror}); give a path that can") from error


def _rows(found: Detections, card: ModelCard) -> list[dict[str, object]]:
    return [
        {"label": card.classes[index].name, "confidence": round(score, 4), "box": [round(side, 1) for side in box]}
        for box, score, index in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    ]


def _print(here: Context, card: ModelCard, reason: str, rows: list[dict[str, object]], out: Path | None) -> None:
    here.notes.print(f"{card.name} {card.version} on {reason}", highlight=False)
    table = Table("label", "confidence", "box (x1, y1, x2, y2 in pixels)")
    for row in rows:
        table.add_row(str(row["label"]), str(row["confidence"]), str(row["box"]))
    here.out.print(table if rows else "nothing found")
    if out is not None:
        here.notes.print(f"picture written to {out}", highlight=False)
