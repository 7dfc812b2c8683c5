"""Prepares `standgale detect` for each picture: what options need of it, and the model without measuring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import SettingsError
from standgale.commands.detect_options import MOST_IN_A_RASTER, Wanted
from standgale.commands.detect_output import OutputFiles

if TYPE_CHECKING:
    from detectors.model.predict import Model
    from schemas.events import DetectOptions
    from standgale.pictures import Picture
    from standgale.settings import Settings


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


def load_for_pictures(settings: Settings) -> Model:
    """Load the model of ``settings`` without measuring which engine is fastest."""
    from detectors.engines.host import configure_process, release_freed_memory
    from detectors.model.loading import LoadRequest, load_model

    configure_process(spare_memory=True)
    # One picture is not worth the seconds of measuring; what a worker or `standgale model measure` measured is used.
    model = load_model(replace(LoadRequest.of(settings.detector, settings.engines_folder), measure_s=0.0))
    release_freed_memory()
    return model
