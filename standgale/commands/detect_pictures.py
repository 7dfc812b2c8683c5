"""Prepares `standgale detect` for each picture: what options need of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import SettingsError
from standgale.commands.detect_options import MOST_IN_A_RASTER, Wanted
from standgale.commands.detect_output import OutputFiles

if TYPE_CHECKING:
    from schemas.events import DetectOptions
    from standgale.pictures import Picture


def for_picture(asked: DetectOptions, shown: Picture) -> DetectOptions:
    """Return ``asked`` with the limit of detections that ``shown`` gets where none is given."""
    if asked.max_detections is not None or shown.raster is None:
        return asked
    return asked.model_copy(update={"max_detections": MOST_IN_A_RASTER})


def checked_gsd(shown: Picture, path: Path, wanted: Wanted, files: OutputFiles) -> float | None:
    """Return metres per pixel, as given or as the picture says; None if unknown.

    Raises SettingsError if an option needs a position or a scale that the picture does not have.
    """
    from standgale.pictures import require_ground_reader

    gsd_m = shown.gsd_m if wanted.gsd is None else wanted.gsd
    if files.map is not None and shown.ground is None:
        require_ground_reader(path, f"--geojson {files.map}")
        raise SettingsError(
            f"--geojson {files.map}: {path} has no place on a map; give a GeoTIFF with a coordinate system"
        )
    if wanted.tile_metres is not None and gsd_m is None:
        option = f"--tile-metres {wanted.tile_metres:g}"
        require_ground_reader(path, option)
        raise SettingsError(f"{option}: {path} does not state its scale; add --gsd, metres per pixel")
    return gsd_m
