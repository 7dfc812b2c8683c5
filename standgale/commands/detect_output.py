"""Writes and prints the result of `standgale detect`: files, JSON rows, a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from rich.table import Table

from infra.errors import SettingsError
from infra.written_files import write_whole
from schemas.timestamps import format_utc
from standgale.commands.context import Context, engine_text

if TYPE_CHECKING:
    from detectors.card.card import ModelCard
    from detectors.model.predict import PictureResult
    from detectors.rasters.ground_positions import GroundPositions
    from standgale.pictures import Picture

_MOST_LISTED = 500
# Without a suffix it is a JPEG.
_DRAWN_SUFFIXES = ("", ".jpg", ".jpeg", ".png")


class OutputFileError(SettingsError):
    """An output file or folder cannot be written: no further picture can be, either."""


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Names the files that are written besides the output; None: not written."""

    drawn: Path | None
    map: Path | None

    def check(self, source: Path) -> None:
        """Raise SettingsError if a file cannot be written, or would replace ``source``, the picture itself.

        That is before minutes are spent on detection.
        """
        if self.drawn is not None and self.drawn.suffix.lower() not in _DRAWN_SUFFIXES:
            raise SettingsError(f"--out {self.drawn}: {self.drawn.suffix!r} is not written; end it with .jpg or .png")
        for option, path in (("--out", self.drawn), ("--geojson", self.map)):
            if path is not None and not path.absolute().parent.is_dir():
                raise SettingsError(f"{option} {path}: there is no folder {path.absolute().parent}; make it first")
            if path is not None and path.is_dir():
                raise SettingsError(f"{option} {path}: is a folder; give the path of a file in it")
            if path is not None and _is_same(path, source):
                raise SettingsError(f"{option} {path}: is the picture itself, which would be lost; give another path")
        if self.drawn is not None and self.map is not None and self.drawn.resolve() == self.map.resolve():
            raise SettingsError(f"--out and --geojson {self.map}: one file for both; give two paths")

    def check_for_many(self, source: Path) -> None:
        """Raise SettingsError if these are no outputs for many pictures, those of ``source``."""
        if self.map is not None:
            raise SettingsError(f"--geojson {self.map}: takes one GeoTIFF, and {source} is more than one picture")
        if self.drawn is None:
            return
        if self.drawn.is_file() or self.drawn.suffix.lower() in _DRAWN_SUFFIXES[1:]:
            raise SettingsError(f"--out {self.drawn}: {source} is more than one picture; give a folder")
        if not self.drawn.absolute().parent.is_dir():
            raise SettingsError(f"--out {self.drawn}: there is no folder {self.drawn.absolute().parent}; make it first")
        if source.is_dir() and self.drawn.exists() and self.drawn.samefile(source):
            raise SettingsError(f"--out {self.drawn}: is the folder of the pictures themselves; give another one")


def write_files(files: OutputFiles, shown: Picture, found: PictureResult, card: ModelCard) -> GroundPositions | None:
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


def _is_same(path: Path, source: Path) -> bool:
    """Return whether both are one file, under whatever names."""
    return path.is_file() and source.exists() and path.samefile(source)


def _write(path: Path, option: str, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise OutputFileError(f"{option} {path}: cannot be written ({error.strerror}); give a path that can") from error


def rows_of(found: PictureResult, card: ModelCard, places: GroundPositions | None) -> list[dict[str, object]]:
    """Return each detection as JSON values; boxes and corners in pixels of the picture."""
    detections = found.detections
    rows: list[dict[str, object]] = [
        {
            "label": card.classes[index].name,
            "class_id": index,
            "confidence": round(score, 4),
            "box": [round(side, 1) for side in box],
        }
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


def result_of(
    path: Path, shown: Picture, found: PictureResult, card: ModelCard, rows: list[dict[str, object]]
) -> dict[str, object]:
    """Return all about the picture at ``path`` as JSON values: size, metadata, options, warnings, detections."""
    capture = shown.capture
    return {
        "image": str(path),
        "model": card.name,
        "width": shown.width,
        "height": shown.height,
        "gsd_m": found.options.gsd_m,
        "camera": None if capture.camera is None else capture.camera.model_dump(exclude_none=True),
        "captured_at": None if capture.captured_at is None else format_utc(capture.captured_at),
        "options": found.options.as_options().model_dump(exclude_none=True),
        "tiles": found.tiles,
        "scales": [{"scale": each.scale, "tiles": each.tiles} for each in found.by_scale],
        "empty_tiles": found.empty,
        "too_large": found.detections.too_large,
        "scaled_from": shown.scaled_from,
        "warnings": [*(warning.text for warning in capture.warnings), *notices_of(card, shown, found)],
        "detections": rows,
    }


def metadata_warnings(shown: Picture) -> list[str]:
    """Return the warnings about metadata for people: the time of a picture has no effect on what is found."""
    return [one.text for one in shown.capture.warnings if one.fields != {"captured_at"}]


def notices_of(card: ModelCard, shown: Picture, found: PictureResult) -> list[str]:
    """Return the warnings about a picture: see :func:`detectors.model.notices.notices`."""
    from detectors.images.sky import has_sky
    from detectors.model.least_confidence import why_less_finds_nothing
    from detectors.model.notices import Shown, notices

    camera = shown.capture.camera
    pitch_deg = None if camera is None else camera.pitch_deg
    less = why_less_finds_nothing(found.options.least_confidence, found.least_confidence)
    # What the camera says is more certain. Of a raster, which is read by window, the upper part is not read again.
    sky = pitch_deg is None and shown.image is not None and has_sky(shown.image)
    texts = notices(card, found.options, found.detections, Shown(shown.width, shown.height, pitch_deg, sky))
    return texts if less is None else [less, *texts]


def print_engine(here: Context, card: ModelCard, name: str, reason: str) -> None:
    """Print which model runs on which engine, the one called ``name``, and the ``reason``."""
    here.notes.print(f"{card.name} {card.version} on {engine_text(name, reason)}", highlight=False)


def print_result(
    here: Context,
    shown: Picture,
    found: PictureResult,
    card: ModelCard,
    rows: list[dict[str, object]],
    files: OutputFiles,
) -> None:
    """Print the detections as a table, with notes about tiles, warnings, left-out boxes and written files."""
    from detectors.model.notices import nothing_found

    options = found.options
    ground = "" if options.gsd_m is None else f", {options.gsd_m:.3g} m per pixel"
    if options.gsd_m is None and card.tiling.gsd_m is not None:
        ground = ", metres per pixel unknown (--gsd)"
    sides = "the whole frame" if options.tile_width is None else f"{options.tile_width}×{options.tile_height} px"
    empty = f", {found.empty} of them without content" if found.empty else ""
    here.notes.print(f"{_tiles(found.tiles)}{empty}; {sides}{_scales_text(found)}{ground}", highlight=False)
    _print_warnings(here, metadata_warnings(shown))
    table = Table("label", "confidence", "box (x1, y1, x2, y2 in pixels)")
    for row in rows[:_MOST_LISTED]:
        table.add_row(str(row["label"]), str(row["confidence"]), str(row["box"]))
    if rows:
        here.out.print(table)
    else:
        here.out.print(nothing_found(card, options), markup=False, highlight=False, soft_wrap=True)
    _print_warnings(here, notices_of(card, shown, found))
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


def _print_warnings(here: Context, texts: list[str]) -> None:
    for text in texts:
        here.notes.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _scales_text(found: PictureResult) -> str:
    """Return how many tiles each scale has, where not all are of scale 1, and whether one is the whole picture."""
    tiled = [each for each in found.by_scale if each.scale > 0]
    whole = ", and the whole picture" if tiled and len(tiled) < len(found.by_scale) else ""
    if found.options.scales == (1.0,):
        return whole
    parts = [f"{each.scale:g} ({_tiles(each.tiles)})" for each in tiled]
    return f" at scale{'s' if len(parts) > 1 else ''} {', '.join(parts)}{whole}"


def _tiles(count: int) -> str:
    return f"{count} tile{'' if count == 1 else 's'}"
