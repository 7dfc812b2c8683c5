"""Converts a raster's pixels to longitude, latitude and metres, from any coordinate system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.geometry.arrays import DoubleArray

# WGS 84: half of the longer axis in metres, and the square of the first eccentricity.
_AXIS_M = 6_378_137.0
_ECCENTRICITY_2 = 6.694_379_990_14e-3
# Distances are taken over so many pixels, so that the rounding of degrees does not show in them.
_SPAN_PX = 16.0
_WGS_84 = "EPSG:4326"
_HALF_TURN, _QUARTER_TURN = 180.0, 90.0


@dataclass(frozen=True, slots=True)
class Georeference:
    """Holds a coordinate system, and the transformation of pixels into it.

    crs: a coordinate system (rasterio's); affine: (a, b, c, d, e, f), its x = a · column + b · row + c and y = d ·
    column + e · row + f, with columns and rows counted from the picture's upper left corner.
    """

    crs: Any
    affine: tuple[float, float, float, float, float, float]

    def lonlat(self, points: npt.NDArray[np.floating[Any]]) -> DoubleArray:
        """Return float64 (..., 2): longitude and latitude (WGS 84, degrees) of ``points`` (float (..., 2), pixels).

        Longitudes are -180 to 180, wherever the file begins to count. Not a number where the coordinate system has no
        such place on earth.
        """
        a, b, c, d, e, f = self.affine
        flat = points.reshape(-1, 2).astype(np.float64)
        places = np.stack([a * flat[:, 0] + b * flat[:, 1] + c, d * flat[:, 0] + e * flat[:, 1] + f], axis=1)
        found = self._converted(places)
        if found is None:
            # One place that does not exist makes the call fail for all of them.
            nowhere = np.full((1, 2), np.nan)
            each = [self._converted(place[None]) for place in places]
            found = np.concatenate([nowhere if one is None else one for one in each])
        # The file may count degrees beyond a pole, where nothing is.
        found[~(np.isfinite(found).all(axis=1) & (np.abs(found[:, 1]) <= _QUARTER_TURN))] = np.nan
        # Rasters across the 180th meridian count on, to 190 or to -190.
        beyond = np.abs(found[:, 0]) > _HALF_TURN
        found[beyond, 0] = (found[beyond, 0] + _HALF_TURN) % (2 * _HALF_TURN) - _HALF_TURN
        return found.reshape(points.shape)

    def _converted(self, places: DoubleArray) -> DoubleArray | None:
        """Return float64 (N, 2): longitude and latitude of ``places`` (float64 (N, 2)); None when one has none."""
        from rasterio._err import CPLE_BaseError  # noqa: PLC0415 (an extra)
        from rasterio.errors import RasterioError  # noqa: PLC0415
        from rasterio.warp import transform  # noqa: PLC0415

        try:
            longitudes, latitudes = transform(self.crs, _WGS_84, places[:, 0], places[:, 1])[:2]
        except (RasterioError, CPLE_BaseError):
            return None
        return np.stack([np.asarray(longitudes, np.float64), np.asarray(latitudes, np.float64)], axis=1)

    def pixel_sides_m(self, x: float, y: float) -> tuple[float, float]:
        """Return how many metres a pixel at ``x``, ``y`` shows along the row and along the column, on the ellipsoid.

        Not a number where the pixel is nowhere on earth.
        """
        half = _SPAN_PX / 2
        ends = np.array([[[x - half, y], [x + half, y]], [[x, y - half], [x, y + half]]])
        along_row, along_column = metres_between(*np.swapaxes(self.lonlat(ends), 0, 1)).tolist()
        return along_row / _SPAN_PX, along_column / _SPAN_PX


def metres_between(one: DoubleArray, other: DoubleArray) -> DoubleArray:
    """Return float64 (...,): metres from ``one`` to ``other`` (float64 (..., 2), longitude and latitude in degrees).

    For distances within a picture: straight through the ellipsoid, which holds everywhere, also at the poles.
    """
    metres: DoubleArray = np.linalg.norm(_from_centre_m(other) - _from_centre_m(one), axis=-1)
    return metres


def _from_centre_m(places: DoubleArray) -> DoubleArray:
    """Return float64 (..., 3): metres from the earth's centre of ``places`` (longitude and latitude, degrees)."""
    turn, height = np.radians(places[..., 0]), np.radians(places[..., 1])
    normal = _AXIS_M / np.sqrt(1.0 - _ECCENTRICITY_2 * np.sin(height) ** 2)
    across = normal * np.cos(height)
    return np.stack(
        [across * np.cos(turn), across * np.sin(turn), normal * (1.0 - _ECCENTRICITY_2) * np.sin(height)], axis=-1
    )
