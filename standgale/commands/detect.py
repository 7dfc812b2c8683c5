"""Defines `standgale detect PICTURE`: finds objects in pictures, a folder or a video, without any service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from infra.errors import SettingsError
from standgale.commands import detect_options as options
from standgale.commands.context import Context, JsonOption, context_of, print_json
from standgale.commands.detect_output import OutputFiles, print_engine, print_result, result_of, rows_of, write_files
from standgale.commands.detect_pictures import checked_gsd, for_picture

if TYPE_CHECKING:
    from detectors.model.predict import PictureResult, Predictor
    from schemas.events import DetectOptions
    from standgale.pictures import Picture
    from standgale.settings import Settings

_OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Write the picture with boxes to this file (.jpg or .png); a very large one is reduced. For a folder or a "
        "video: a folder for such pictures."
    ),
]
_GeojsonOption = Annotated[
    Path | None, typer.Option(help="Write the detections as a map to this file (GeoJSON); needs a GeoTIFF.")
]
_ModelOption = Annotated[Path | None, typer.Option(help="A model.yaml; the default is the model that ships.")]


class _OnePictureCommand(TyperCommand):
    """Says what to give instead of several pictures, as a shell makes of `pictures/*.jpg`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            message = getattr(error, "message", None)
            if isinstance(message, str) and "unexpected extra argument" in message:
                error.message = f"{message}; give one picture, or the folder that has them"  # type: ignore[attr-defined]
            raise


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(cls=_OnePictureCommand)(detect)


def detect(  # noqa: PLR0913, PLR0917 (each is an option of the command line)
    context: typer.Context,
    picture: Annotated[
        Path, typer.Argument(help="A JPEG, PNG, TIFF, GeoTIFF or WebP file, a folder of them, or a video.")
    ],
    out: _OutOption = None,
    geojson: _GeojsonOption = None,
    model: _ModelOption = None,
    confidence: options.ConfidenceOption = None,
    iou: options.IouOption = None,
    mode: options.ModeOption = None,
    scales: options.ScalesOption = None,
    overlap: options.OverlapOption = None,
    whole: options.WholeOption = False,
    gsd: options.GsdOption = None,
    tile_metres: options.TileMetresOption = None,
    merging: options.MergingOption = None,
    metric: options.MetricOption = None,
    threshold: options.ThresholdOption = None,
    settle: options.SettleOption = None,
    max_detections: options.MostOption = None,
    every: options.EveryOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Find things in a picture, a folder or a video and list them; --out draws them, --geojson maps them.

    Exits with 0 when all was read, with 1 when files of a folder were skipped, with 2 after an error.
    """
    from standgale.commands.detect_many import ManyRequest, detect_in_folder, detect_in_video
    from standgale.videos import is_video

    here = context_of(context)
    options.check_model_file(model, picture)
    settings = here.settings(detector__model=model)
    wanted = options.Wanted(
        confidence=confidence,
        iou=iou,
        mode=mode,
        scales=scales,
        overlap=overlap,
        whole=whole,
        tile_metres=tile_metres,
        gsd=gsd,
        merging=merging,
        metric=metric,
        threshold=threshold,
        settle=settle,
        most=max_detections,
    )
    asked = wanted.checked()
    files = OutputFiles(out, geojson)
    many = detect_in_folder if picture.is_dir() else detect_in_video if is_video(picture) else None
    if many is not None:
        files.check_for_many(picture)
        complete = many(ManyRequest(here, settings, asked, wanted, files.drawn, as_json, every), picture)
        raise typer.Exit(0 if complete else 1)
    if every != 1:
        raise SettingsError(f"--every {every}: is for videos; leave it out for a picture")
    files.check(picture)
    _detect_in_picture(here, settings, picture, asked, wanted, files, as_json)


def _detect_in_picture(
    here: Context,
    settings: Settings,
    path: Path,
    asked: DetectOptions,
    wanted: options.Wanted,
    files: OutputFiles,
    as_json: bool,
) -> None:
    from detectors.model.predict import Predictor
    from standgale.picture_models import load_for_pictures
    from standgale.pictures import open_picture

    with open_picture(path, settings.detector.max_pixels) as shown:
        gsd_m = checked_gsd(shown, path, wanted, files)
        with Predictor(load_for_pictures(settings)) as predictor:
            wanted.check_card(predictor.model.card)
            found = _find(here, predictor, shown, for_picture(asked, shown), gsd_m)
            card, engine = predictor.model.card, predictor.model.engine
            named = (engine.name, engine.reason)
        places = write_files(files, shown, found, card)
    rows = rows_of(found, card, places)
    if as_json:
        print_json(result_of(path, shown, found, card, rows))
    else:
        print_engine(here, card, *named)
        print_result(here, shown, found, card, rows, files)


def _find(
    here: Context, predictor: Predictor, shown: Picture, asked: DetectOptions, gsd_m: float | None
) -> PictureResult:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Without a terminal a bar that is not shown would leave an empty line.
    with Progress(*columns, console=here.notes, transient=True, disable=not here.notes.is_terminal) as progress:
        task = progress.add_task("tiles", total=None)
        return predictor.find(
            shown.source, asked, gsd_m, lambda done, total: progress.update(task, completed=done, total=total)
        )
