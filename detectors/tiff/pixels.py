"""Converts raster values to uint8 pixels: chooses bands, scales more than 8 bits, and finds pixels without content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from detectors.geometry.arrays import BoolArray, ImageArray

Bands = npt.NDArray[Any]
"""(bands, h, w) of any type that files have."""

# The darkest and the brightest pixels are outliers (water, roofs in the sun); the values between get all of 0 to 255.
DARKEST_PERCENT, BRIGHTEST_PERCENT = 0.5, 99.5
ColourSpace = Literal["rgb", "cmyk", "lab", "lab_unsigned"]
"""What colour bands mean; lab: CIE L*a*b* whose a and b have a sign, lab_unsigned: with 128 as their middle."""

_KINDS = "uif"
# Ranges of values that numbers of 32 bits hold with room.
_FINEST_RANGE, _LARGEST_VALUE = 1e-30, 1e30
# Larger arrays of 16 bits are converted by a table of all values.
_TABLE_SIZE = 1 << 16
_ALL = 255


@dataclass(frozen=True, slots=True, eq=False)
class PixelRule:
    """Says how the bands of a file become uint8 BGR."""

    colours: tuple[int, ...]
    """The numbers (from 1) of the bands that are red, green and blue, or of the one that is grey or an index into
    ``palette``
    """
    alpha: int | None = None
    """The number of the band with the transparency, or None"""
    nodata: float | None = None
    """The value of pixels without content, or None"""
    palette: ImageArray | None = None
    """uint8 (entries, 3) BGR, or None"""
    low: float | None = None
    """The value that becomes 0; None: values are 0 to 255 already"""
    high: float | None = None
    """The value that becomes 255"""
    inverted: bool = False
    """Whether the lowest value is white"""
    space: ColourSpace = "rgb"
    """What the colours mean; of ``cmyk`` and ``lab`` all colours have 8 or 16 bits"""

    @property
    def bands(self) -> tuple[int, ...]:
        """Return the bands to read, in the order ``apply`` takes them."""
        return self.colours if self.alpha is None else (*self.colours, self.alpha)

    @property
    def scaled_from(self) -> tuple[float, float] | None:
        """Return the values that become 0 and 255; None where values are 0 to 255 already."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def apply(self, raw: Bands) -> tuple[ImageArray, BoolArray | None]:
        """Return ``raw`` ((len(bands), h, w)) as uint8 (h, w, 3) BGR, and bool (h, w) of the pixels with content.

        The second is None when all have content. Pixels without content keep the file's value, as far as it is a
        number, so that a picture is the same whether it is read at once or in parts.
        """
        return self.colours_of(raw), self.content(raw)

    def colours_of(self, raw: Bands) -> ImageArray:
        """Return the colours in ``raw`` ((at least len(colours), h, w)) as uint8 (h, w, 3) BGR."""
        colours = raw[: len(self.colours)]
        if self.palette is not None:
            index = np.minimum(colours[0], len(self.palette) - 1)
            return np.ascontiguousarray(self.palette[index])
        if self.space == "cmyk":
            return _from_inks(colours)
        if self.space in ("lab", "lab_unsigned"):
            return _from_lab(colours, has_sign=self.space == "lab")
        if len(colours) == 3 and colours.dtype == np.uint8 and self.low is None and not self.inverted:
            # Values of a pixel are mostly next to each other already.
            together = np.ascontiguousarray(colours.transpose(1, 2, 0))
            return cv2.cvtColor(together, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
        planes = [self._scaled(plane) for plane in colours[::-1]]
        if len(planes) == 1:
            planes *= 3
        return cv2.merge(planes).astype(np.uint8, copy=False)

    def pixel_of(self, value: float, kind: np.dtype[Any]) -> ImageArray:
        """Return uint8 (3,) BGR: the pixel whose bands all have ``value``, as far as ``kind`` can hold it."""
        held = np.zeros((len(self.colours), 1, 1), kind)
        with np.errstate(all="ignore"):
            held[...] = np.asarray(value).astype(kind) if np.isfinite(value) else 0
        pixel: ImageArray = self.colours_of(held)[0, 0]
        return pixel

    def is_ready_for(self, kind: np.dtype[Any]) -> bool:
        """Return whether values of type ``kind`` become pixels without a range from samples of the file."""
        return self.palette is not None or self.space != "rgb" or self.low is not None or kind == np.uint8

    def with_range(self, low: float, high: float) -> PixelRule:
        """Return the same rule with ``low`` and ``high``."""
        return replace(self, low=low, high=high)

    def has_content(self, raw: Bands) -> bool:
        """Return whether a pixel of ``raw`` has content."""
        seen = self.content(raw)
        return seen is None or bool(seen.any())

    def content(self, raw: Bands) -> BoolArray | None:
        """Return bool (h, w): the pixels of ``raw`` that have content; None when all have."""
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
        """Return the same rule with ``low`` and ``high`` taken from ``samples`` of the file.

        They are the same for all bands, so that colours stay. Samples without any content give 0 to 255.
        """
        values = [self._values(raw) for raw in samples]
        found = np.concatenate(values) if values else np.empty(0)
        if not found.size:
            return replace(self, low=0.0, high=float(_ALL))
        # Of halves, as the difference of two values may be larger than any number is.
        halves = np.percentile(found * 0.5, (DARKEST_PERCENT, BRIGHTEST_PERCENT)).tolist()
        low, high = (2 * half for half in halves)
        return replace(self, low=low, high=high if high > low else low + max(1.0, abs(low) * 1e-6))

    def _values(self, raw: Bands) -> npt.NDArray[np.float64]:
        seen = self.content(raw)
        colours = raw[: len(self.colours)]
        return (colours if seen is None else colours[:, seen]).astype(np.float64).ravel()

    def _scaled(self, plane: Bands) -> ImageArray:
        if self.low is None or self.high is None:
            stored = np.ascontiguousarray(plane, np.uint8)
            return cv2.bitwise_not(stored).astype(np.uint8, copy=False) if self.inverted else stored
        if plane.dtype.itemsize == 2 and plane.dtype.kind != "f" and plane.size > _TABLE_SIZE:
            whole = np.arange(_TABLE_SIZE, dtype=np.uint16)
            table = self._scaled(whole.view(plane.dtype))
            looked_up: ImageArray = table[plane.view(np.uint16)]
            return looked_up
        narrow = (plane.dtype.itemsize <= 2 or plane.dtype == np.float32) and _is_usual(self.low, self.high)
        values: npt.NDArray[np.floating[Any]] = plane.astype(np.float32 if narrow else np.float64)
        if _is_usual(self.low, self.high):
            values = (values - self.low) * (_ALL / (self.high - self.low))
        else:
            with np.errstate(all="ignore"):
                values = (values * 0.5 - self.low * 0.5) / np.float64(self.high * 0.5 - self.low * 0.5) * _ALL
        if plane.dtype.kind == "f":
            np.nan_to_num(values, copy=False, nan=0.0)
        scaled: ImageArray = np.clip(np.rint(values), 0, _ALL).astype(np.uint8)
        return cv2.bitwise_not(scaled).astype(np.uint8, copy=False) if self.inverted else scaled


def _is_usual(low: float, high: float) -> bool:
    """Return whether numbers of 32 bits hold the range from ``low`` to ``high``, and what scales it to 0 to 255."""
    return _FINEST_RANGE < high - low < _LARGEST_VALUE and max(abs(low), abs(high)) < _LARGEST_VALUE


def _from_inks(inks: Bands) -> ImageArray:
    """Return cyan, magenta, yellow and black (8 or 16 bits, (4, h, w)) as uint8 (h, w, 3) BGR."""
    eight = inks.astype(np.uint8, copy=False) if inks.dtype.itemsize == 1 else (inks >> 8).astype(np.uint8)
    light: ImageArray = np.invert(eight)
    black = light[3].astype(np.uint16)
    planes: list[ImageArray] = [(black * light[place] // _ALL).astype(np.uint8) for place in (2, 1, 0)]
    return cv2.merge(planes).astype(np.uint8, copy=False)


def _from_lab(bands: Bands, *, has_sign: bool) -> ImageArray:
    """Return CIE L*a*b* (8 or 16 bits, (3, h, w)) as uint8 (h, w, 3) BGR; grey stays grey."""
    wide = bands.dtype.itemsize == 2
    brightest = (0xFFFF if has_sign else 0xFF00) if wide else 0xFF
    light = bands[0].astype(np.float32) * (100 / brightest)
    signed = np.dtype(np.int16 if wide else np.int8)
    unit = 256 if wide else 1
    colours = [
        band.view(signed).astype(np.float32) / unit if has_sign else band.astype(np.float32) / unit - 128
        for band in bands[1:3]
    ]
    rgb = cv2.cvtColor(cv2.merge([np.minimum(light, 100), *colours]), cv2.COLOR_Lab2BGR)
    pixels: ImageArray = np.clip(np.rint(rgb * _ALL), 0, _ALL).astype(np.uint8)
    return pixels


def readable(dtype: np.dtype[Any]) -> bool:
    """Return whether values of ``dtype`` can become pixels: integers and real numbers of up to 8 bytes."""
    return dtype.kind in _KINDS and dtype.itemsize <= 8
