"""Defines `standgale detect PICTURE`: finds objects in one picture of any size, without any service."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.errors import SettingsError
from schemas.events import DetectOptions, MergeMethod
from schemas.geometry import COARSEST_GSD_M, FINEST_GSD_M
from standgale.commands.context import Context, JsonOption, context_of, print_json

if TYPE_CHECKING:
    from detectors.card.card import ModelCard
    from detectors.model.predict import Model, PictureResult, Predictor
    from detectors.rasters.ground_positions import GroundPositions
    from standgale.pictures import Picture
    from standgale.settings import Settings

# A raster may have as many objects as a thousand frames, so it gets the largest limit.
_MOST_IN_A_RASTER = 100_000
_MOST_LISTED = 500

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


@dataclass(frozen=True, slots=True)
class _Files:
    """Names the files that are written besides the output; None: not written."""

    drawn: Path | None
    map: Path | None

    def check(self) -> None:
        """Raise SettingsError if a file cannot be written, before minutes are spent on detection."""
        import cv2

        if self.drawn is not None and not cv2.haveImageWriter(f"a{self.drawn.suffix or '.jpg'}"):
            suffix = self.drawn.suffix
            raise SettingsError(f"--out {self.drawn}: OpenCV can't write {suffix!r}; end it with .jpg or .png")
        for option, path in (("--out", self.drawn), ("--geojson", self.map)):
            if path is not None and not path.absolute().parent.is_dir():
                raise SettingsError(f"{option} {path}: there is no folder {path.absolute().parent}; make it first")


def detect(  # noqa: PLR0913, PLR0917 (each is an option of the command line)
    context: typer.Context,
    picture: Annotated[Path, typer.Argument(help="A JPEG, PNG, TIFF, GeoTIFF or WebP file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the picture with boxes to this file (.jpg or .png); a very large one is reduced."),
    ] = None,
    geojson: Annotated[
        Path | None, typer.Option(help="Write the detections as a map to this file (GeoJSON); needs a GeoTIFF.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A model.yaml; the default is the model that ships.")] = None,
    confidence: Annotated[float | None, typer.Option(min=0.0, max=1.0)] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Also run the model on the whole picture, not only on its tiles.")
    ] = False,
    gsd: _GsdOption = None,
    tile_metres: _TileMetresOption = None,
    merging: _MergingOption = None,
    max_detections: Annotated[int | None, typer.Option(min=1, max=_MOST_IN_A_RASTER)] = None,
    as_json: JsonOption = False,
) -> None:
    """Find things in a picture and list them; --out draws them, --geojson maps them."""
    from detectors.model.predict import Predictor
    from standgale.pictures import open_picture

    here = context_of(context)
    settings = here.settings(detector__model=model)
    files = _Files(out, geojson)
    files.check()
    _check_metres(gsd, tile_metres)
    method = _method(merging)
    with open_picture(picture, settings.detector.max_pixels) as shown:
        gsd_m = shown.gsd_m if gsd is None else gsd
        _check_ground(shown, picture, gsd_m, files, tile_metres)
        limit = _MOST_IN_A_RASTER if shown.raster is not None else None
        options = DetectOptions(
            confidence=confidence,
            whole_frame=True if whole else None,
            tile_metres=tile_metres,
            merge_method=method,
            max_detections=max_detections or limit,
        )
        with Predictor(_model(settings)) as predictor:
            found = _find(here, predictor, shown, options, gsd_m)
            card, reason = predictor.model.card, predictor.model.engine.reason
        places = _write_files(files, shown, found, card)
    rows = _rows(found, card, places)
    if as_json:
        print_json({"image": str(picture), "model": card.name, **_about(shown, found), "detections": rows})
    else:
        here.notes.print(f"{card.name} {card.version} on {reason}", highlight=False)
        _print(here, found, rows, files)


def _method(text: str | None) -> MergeMethod | None:
    for known in get_args(MergeMethod):
        if known == text:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    if text is not None:
        raise SettingsError(f"--merging {text}: unknown; give one of {', '.join(get_args(MergeMethod))}")
    return None


def _check_metres(gsd: float | None, tile_metres: float | None) -> None:
    if gsd is not None and not FINEST_GSD_M <= gsd <= COARSEST_GSD_M:
        raise SettingsError(f"--gsd {gsd:g}: takes metres per pixel, {FINEST_GSD_M:g} to {COARSEST_GSD_M:g}")
    if tile_metres is not None and not 0 < tile_metres <= 100_000:
        raise SettingsError(f"--tile-metres {tile_metres:g}: takes metres, above 0 and up to 100,000")


def _check_ground(shown: Picture, path: Path, gsd_m: float | None, files: _Files, tile_metres: float | None) -> None:
    """Raise SettingsError if an option needs a position or a scale that the picture does not have."""
    if files.map is not None and shown.ground is None:
        raise SettingsError(
            f"--geojson {files.map}: {path} has no place on a map; give a GeoTIFF with a coordinate system"
        )
    if tile_metres is not None and gsd_m is None:
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
    columns = (TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=here.notes, transient=True) as progress:
        task = progress.add_task("tiles", total=None)
        return predictor.find(
            shown.source, options, gsd_m, lambda done, total: progress.update(task, completed=done, total=total)
        )


def _write_files(files: _Files, shown: Picture, found: PictureResult, card: ModelCard) -> GroundPositions | None:
    """Write the files; return the positions of the detections on the ground if the picture has one."""
    from detectors.rasters.ground_positions import feature_collection, ground_positions

    places = None if shown.ground is None else ground_positions(found.detections, shown.ground)
    if files.drawn is not None:
        _draw(files.drawn, shown, found, card)
    if files.map is not None and places is not None:
        _write(files.map, "--geojson", orjson.dumps(feature_collection(found.detections, places, card.classes)))
    return places


def _draw(out: Path, shown: Picture, found: PictureResult, card: ModelCard) -> None:
    import cv2

    from detectors.images.draw import draw_detections

    image, detections = shown.shown_with(found.detections)
    encoded, data = cv2.imencode(out.suffix or ".jpg", draw_detections(image, detections, card.classes))
    if not encoded:
        raise SettingsError(f"--out {out}: the picture could not be encoded; end it with .jpg or .png")
    _write(out, "--out", data.tobytes())


def _write(path: Path, option: str, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SettingsError(f"{option} {path}: cannot be written ({error.strerror}); give a path that can") from error


def _rows(found: PictureResult, card: ModelCard, places: GroundPositions | None) -> list[dict[str, object]]:
    detections = found.detections
    rows: list[dict[str, object]] = [
        {"label": card.classes[index].name, "confidence": round(score, 4), "box": [round(side, 1) for side in box]}
        for box, score, index in zip(
            detections.boxes.tolist(), detections.scores.tolist(), detections.classes.tolist(), strict=True
        )
    ]
    for index, row in enumerate(rows):
        if detections.quads is not None:
            row["corners"] = [[round(side, 1) for side in corner] for corner in detections.quads[index].tolist()]
        if places is not None:
            row["ground"] = places.row(index)
    return rows


def _about(shown: Picture, found: PictureResult) -> dict[str, object]:
    return {
        "width": shown.width,
        "height": shown.height,
        "gsd_m": found.options.gsd_m,
        "options": found.options.as_options().model_dump(exclude_none=True),
        "tiles": found.tiles,
        "empty_tiles": found.empty,
        "too_large": found.detections.too_large,
        "scaled_from": None if shown.raster is None else shown.raster.scaled_from,
    }


def _print(here: Context, found: PictureResult, rows: list[dict[str, object]], files: _Files) -> None:
    options = found.options
    ground = "" if options.gsd_m is None else f", {options.gsd_m:.3g} m per pixel"
    sides = "the whole frame" if options.tile_width is None else f"{options.tile_width}×{options.tile_height} px"
    empty = f", {found.empty} of them without content" if found.empty else ""
    here.notes.print(f"{found.tiles} tiles{empty}; {sides}{ground}", highlight=False)
    table = Table("label", "confidence", "box (x1, y1, x2, y2 in pixels)")
    for row in rows[:_MOST_LISTED]:
        table.add_row(str(row["label"]), str(row["confidence"]), str(row["box"]))
    here.out.print(table if rows else "nothing found")
    if found.detections.too_large:
        here.notes.print(
            f"{found.detections.too_large} boxes left out: larger than their class can be at {options.gsd_m:.3g} m per "
            "pixel; if that is wrong, give --gsd",
            highlight=False,
        )
    if len(rows) > _MOST_LISTED:
        here.notes.print(f"the best {_MOST_LISTED} of {len(rows)}; --json lists all", highlight=False)
    for what, path in (("picture", files.drawn), ("map", files.map)):
        if path is not None:
            here.notes.print(f"{what} written to {path}", highlight=False)
