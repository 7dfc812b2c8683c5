"""Converts raster values to uint8 pixels: chooses bands, scales more than 8 bits, and finds pixels without content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from detectors.geometry.arrays import BoolArray, ImageArray

Bands = npt.NDArray[Any]
"""(bands, h, w) of whatever type the file has."""

# The darkest and the brightest pixels are outliers (water, roofs in the sun); what lies between gets all of 0 to 255.
DARKEST_PERCENT, BRIGHTEST_PERCENT = 0.5, 99.5
_KINDS = "uif"
_ALL = 255


@dataclass(frozen=True, slots=True, eq=False)
class PixelRule:
    """How the bands of a file become uint8 BGR.

    colours: numbers (from 1) of the bands that are red, green and blue, or of the one that is grey or an index into
    palette; alpha: that of the transparency, or None; nodata: the value of pixels without content, or None; palette:
    uint8 (entries, 3) BGR, or None; low, high: the values that become 0 and 255; None: values are 0 to 255 already.
    """

    colours: tuple[int, ...]
    alpha: int | None = None
    nodata: float | None = None
    palette: ImageArray | None = None
    low: float | None = None
    high: float | None = None

    @property
    def bands(self) -> tuple[int, ...]:
        """The bands to read, in the order ``apply`` takes them."""
        return self.colours if self.alpha is None else (*self.colours, self.alpha)

    def apply(self, raw: Bands) -> tuple[ImageArray, BoolArray | None]:
        """``raw`` ((len(bands), h, w)) as uint8 (h, w, 3) BGR, and bool (h, w) of the pixels that have content.

        The second is None when all have. Pixels without content keep what the file holds there, as far as it is a
        number, so that a picture looks the same whether it is read in one piece or in many.
        """
        colours = raw[: len(self.colours)]
        seen = self.content(raw)
        if self.palette is not None:
            index = np.minimum(colours[0], len(self.palette) - 1)
            return np.ascontiguousarray(self.palette[index]), seen
        planes = [self._scaled(plane) for plane in colours[::-1]]
        if len(planes) == 1:
            planes *= 3
        return cv2.merge(planes).astype(np.uint8, copy=False), seen

    def content(self, raw: Bands) -> BoolArray | None:
        """bool (h, w): the pixels of ``raw`` that have content; None when all have."""
        found: BoolArray | None = None
        colours = raw[: len(self.colours)]
        if raw.dtype.kind == "f":
            found = np.asarray(np.isfinite(colours).all(axis=0))
        if self.nodata is not None and not np.isnan(self.nodata):
            there = np.asarray((colours != self.nodata).any(axis=0))
            found = there if found is None else found & there
        if self.alpha is not None:
            opaque = raw[len(self.colours)] != 0
            found = opaque if found is None else found & opaque
        return None if found is None or bool(found.all()) else found

    def scaled_to(self, samples: Sequence[Bands]) -> PixelRule:
        """The same with ``low`` and ``high`` taken from ``samples`` of the file, alike for all bands, so that colours
        stay. Without any content in them there is nothing to see, and it is 0 to 255."""
        values = [self._values(raw) for raw in samples]
        found = np.concatenate(values) if values else np.empty(0)
        if not found.size:
            return replace(self, low=0.0, high=float(_ALL))
        low, high = np.percentile(found, (DARKEST_PERCENT, BRIGHTEST_PERCENT)).tolist()
        return replace(self, low=low, high=high if high > low else low + 1.0)

    def _values(self, raw: Bands) -> npt.NDArray[np.float64]:
        seen = self.content(raw)
        colours = raw[: len(self.colours)]
        return (colours if seen is None else colours[:, seen]).astype(np.float64).ravel()

    def _scaled(self, plane: Bands) -> ImageArray:
        if self.low is None or self.high is None:
            return np.ascontiguousarray(plane, np.uint8)
        narrow = plane.dtype.itemsize <= 2 or plane.dtype == np.float32
        values: npt.NDArray[np.floating[Any]] = plane.astype(np.float32 if narrow else np.float64)
        values = (values - self.low) * (_ALL / (self.high - self.low))
        if plane.dtype.kind == "f":
            np.nan_to_num(values, copy=False, nan=0.0)
        scaled: ImageArray = np.clip(np.rint(values), 0, _ALL).astype(np.uint8)
        return scaled


def readable(dtype: np.dtype[Any]) -> bool:
    """Whether values of ``dtype`` can become pixels: whole and real numbers of up to 8 bytes."""
    return dtype.kind in _KINDS and dtype.itemsize <= 8
