"""Defines `standgale detect PICTURE`: finds objects in one picture of any size, without any service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from infra.errors import SettingsError
from standgale.commands.context import Context, JsonOption, context_of, engine_text, print_json
from standgale.commands.detect_output import OutputFiles, fields_of, print_result, rows_of, write_files

if TYPE_CHECKING:
    from detectors.model.predict import Model, PictureResult, Predictor
    from schemas.events import DetectOptions, MergeMethod
    from standgale.pictures import Picture
    from standgale.settings import Settings

# A raster may have as many objects as a thousand frames, so it gets the largest limit.
_MOST_IN_A_RASTER = 100_000

_OutOption = Annotated[
    Path | None,
    typer.Option(help="Write the picture with boxes to this file (.jpg or .png); a very large one is reduced."),
]
_GeojsonOption = Annotated[
    Path | None, typer.Option(help="Write the detections as a map to this file (GeoJSON); needs a GeoTIFF.")
]
_ConfidenceOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Only detections with at least this score; default is that of the model."),
]
_MostOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=_MOST_IN_A_RASTER,
        help=f"At most so many detections, those with the highest scores; default is {_MOST_IN_A_RASTER} for a TIFF "
        "that is read by window, else that of the model.",
    ),
]
_WholeOption = Annotated[
    bool, typer.Option("--whole", help="Also run the model on the whole picture, not only on its tiles.")
]
_GsdOption = Annotated[
    float | None, typer.Option(help="Metres on the ground per pixel, if the picture does not state it.")
]
_TileMetresOption = Annotated[float | None, typer.Option(help="Metres of ground that a tile shows from left to right.")]
_MergingOption = Annotated[
    str | None, typer.Option(help="How boxes of one object are merged: nms, nmm, greedy_nmm or wbf.")
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(detect)


def detect(  # noqa: PLR0913, PLR0917 (each is an option of the command line)
    context: typer.Context,
    picture: Annotated[Path, typer.Argument(help="A JPEG, PNG, TIFF, GeoTIFF or WebP file.")],
    out: _OutOption = None,
    geojson: _GeojsonOption = None,
    model: Annotated[Path | None, typer.Option(help="A model.yaml; the default is the model that ships.")] = None,
    confidence: _ConfidenceOption = None,
    whole: _WholeOption = False,
    gsd: _GsdOption = None,
    tile_metres: _TileMetresOption = None,
    merging: _MergingOption = None,
    max_detections: _MostOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find things in a picture and list them; --out draws them, --geojson maps them."""
    from detectors.model.predict import Predictor
    from schemas.events import DetectOptions
    from standgale.pictures import open_picture

    here = context_of(context)
    settings = here.settings(detector__model=model)
    files = OutputFiles(out, geojson)
    files.check()
    _check_metres(gsd, tile_metres)
    method = _method(merging)
    with open_picture(picture, settings.detector.max_pixels) as shown:
        gsd_m = shown.gsd_m if gsd is None else gsd
        _check_ground(shown, picture, gsd_m, files, tile_metres)
        options = DetectOptions(
            confidence=confidence,
            whole_frame=True if whole else None,
            tile_metres=tile_metres,
            merge_method=method,
            max_detections=max_detections or (None if shown.raster is None else _MOST_IN_A_RASTER),
        )
        with Predictor(_model(settings)) as predictor:
            found = _find(here, predictor, shown, options, gsd_m)
            card, engine = predictor.model.card, predictor.model.engine
            chosen = engine_text(engine.name, engine.reason)
        places = write_files(files, shown, found, card)
    rows = rows_of(found, card, places)
    if as_json:
        print_json({"image": str(picture), "model": card.name, **fields_of(shown, found), "detections": rows})
    else:
        here.notes.print(f"{card.name} {card.version} on {chosen}", highlight=False)
        print_result(here, shown, found, rows, files)


def _method(text: str | None) -> MergeMethod | None:
    from schemas.events import MergeMethod

    for known in get_args(MergeMethod):
        if known == text:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    if text is not None:
        raise SettingsError(f"--merging {text}: unknown; give one of {', '.join(get_args(MergeMethod))}")
    return None


def _check_metres(gsd: float | None, tile_metres: float | None) -> None:
    from schemas.geometry import COARSEST_GSD_M, FINEST_GSD_M

    if gsd is not None and not FINEST_GSD_M <= gsd <= COARSEST_GSD_M:
        raise SettingsError(f"--gsd {gsd:g}: takes metres per pixel, {FINEST_GSD_M:g} to {COARSEST_GSD_M:g}")
    if tile_metres is not None and not 0 < tile_metres <= 100_000:
        raise SettingsError(f"--tile-metres {tile_metres:g}: takes metres, above 0 and up to 100,000")


def _check_ground(
    shown: Picture, path: Path, gsd_m: float | None, files: OutputFiles, tile_metres: float | None
) -> None:
    """Raise SettingsError if an option needs a position or a scale that the picture does not have."""
    from standgale.pictures import require_ground_reader

    if files.map is not None and shown.ground is None:
        require_ground_reader(path, f"--geojson {files.map}")
        raise SettingsError(
            f"--geojson {files.map}: {path} has no place on a map; give a GeoTIFF with a coordinate system"
        )
    if tile_metres is not None and gsd_m is None:
        require_ground_reader(path, f"--tile-metres {tile_metres:g}")
        raise SettingsError(
            f"--tile-metres {tile_metres:g}: {path} does not state its scale; add --gsd, metres per pixel"
        )


def _model(settings: Settings) -> Model:
    from detectors.engines.host import configure_process
    from detectors.model.loading import LoadRequest, load_model

    configure_process()
    # One picture is not worth the seconds of measuring; what a worker or `standgale model measure` measured is used.
    return load_model(replace(LoadRequest.of(settings.detector, settings.engines_folder), measure_s=0.0))


def _find(
    here: Context, predictor: Predictor, shown: Picture, options: DetectOptions, gsd_m: float | None
) -> PictureResult:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=here.notes, transient=True) as progress:
        task = progress.add_task("tiles", total=None)
        return predictor.find(
            shown.source, options, gsd_m, lambda done, total: progress.update(task, completed=done, total=total)
        )
