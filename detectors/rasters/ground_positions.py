"""Computes where on the ground detections are and how large, and writes them as a map (GeoJSON, RFC 7946)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections, DoubleArray, FloatArray
from detectors.rasters.ground import Georeference, metres_between

# A hundred-millionth of a degree is a millimetre.
_DECIMALS = 8
_WHOLE_TURN = 360.0
_CENTIMETRES = 2


@dataclass(frozen=True, slots=True, eq=False)
class GroundPositions:
    """Holds where N detections are, in degrees (WGS 84); not a number where there is no such place."""

    centres: DoubleArray
    """float64 (N, 2): longitude and latitude"""
    corners: DoubleArray
    """float64 (N, 4, 2), in the order of ``corners_px``"""
    sides_m: DoubleArray
    """float64 (N, 2), the longer and the shorter side in metres"""

    def row(self, index: int) -> dict[str, object] | None:
        """Return detection ``index`` for JSON; None where it has no place on earth."""
        if not np.isfinite(self.corners[index]).all() or not np.isfinite(self.centres[index]).all():
            return None
        lon, lat = self.centres[index].round(_DECIMALS).tolist()
        longer, shorter = self.sides_m[index].round(_CENTIMETRES).tolist()
        corners = self.corners[index].round(_DECIMALS).tolist()
        return {"lon": lon, "lat": lat, "corners": corners, "length_m": longer, "width_m": shorter}


def corners_px(found: Detections) -> FloatArray:
    """Return float32 (N, 4, 2): the corners of ``found`` in pixels, clockwise as seen; of rotated boxes their own."""
    if found.quads is not None:
        return found.quads
    corners: FloatArray = found.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return corners


def ground_positions(found: Detections, ground: Georeference) -> GroundPositions:
    """Return where ``found`` (pixels of the picture that ``ground`` belongs to) are."""
    pixels = corners_px(found)
    corners, centres = ground.lonlat(pixels), ground.lonlat(pixels.mean(axis=1))
    sides = metres_between(corners[:, :2], corners[:, 1:3])
    return GroundPositions(centres, corners, np.sort(sides, axis=1)[:, ::-1])


def feature_collection(found: Detections, places: GroundPositions, classes: Sequence[ClassCard]) -> dict[str, object]:
    """Return ``found`` as a GeoJSON FeatureCollection: a polygon each, with label, confidence and size in metres.

    A detection without a place on earth has no geometry, as the format requires.
    """
    features = []
    for index, (score, number) in enumerate(zip(found.scores.tolist(), found.classes.tolist(), strict=True)):
        place = places.row(index)
        about: dict[str, object] = {"label": classes[number].name, "confidence": round(score, 4)}
        if place is not None:
            about |= {"length_m": place["length_m"], "width_m": place["width_m"]}
        shape = None if place is None else _shape(places.corners[index])
        features.append({"type": "Feature", "id": index, "geometry": shape, "properties": about})
    return {"type": "FeatureCollection", "features": features}


def _shape(corners: DoubleArray) -> dict[str, object]:
    """Return ``corners`` (float64 (4, 2)) as a geometry; one across the 180th meridian is cut in two, as required."""
    joined = corners.copy()
    joined[:, 0] -= _WHOLE_TURN * np.round((corners[:, 0] - corners[0, 0]) / _WHOLE_TURN)
    for edge in (_WHOLE_TURN / 2, -_WHOLE_TURN / 2):
        if joined[:, 0].min() < edge < joined[:, 0].max():
            west, east = _cut(joined, edge, -1), _cut(joined, edge, 1)
            # The part beyond the meridian is on the other side of the map.
            far = east if edge > 0 else west
            far[:, 0] -= np.copysign(_WHOLE_TURN, edge)
            return {"type": "MultiPolygon", "coordinates": [[_ring(west)], [_ring(east)]]}
    return {"type": "Polygon", "coordinates": [_ring(corners)]}


def _cut(corners: DoubleArray, edge: float, side: int) -> DoubleArray:
    """Return the corners (float64 (N, 2)) of the part west (``side`` -1) or east (1) of the meridian ``edge``."""
    kept: list[DoubleArray] = []
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        before, after = (one[0] - edge) * side, (other[0] - edge) * side
        if before >= 0:
            kept.append(one)
        if before * after < 0:
            share = (edge - one[0]) / (other[0] - one[0])
            kept.append(np.array([edge, one[1] + share * (other[1] - one[1])]))
    return np.array(kept)


def _ring(corners: DoubleArray) -> list[list[float]]:
    """Return ``corners`` (float64 (N, 2)) as a closed ring, counterclockwise as the format requires outer rings."""
    x, y = (corners - corners.mean(axis=0)).T
    area = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    turned = corners if area >= 0 else corners[::-1]
    points: list[list[float]] = turned.round(_DECIMALS).tolist()
    return [*points, points[0]]
