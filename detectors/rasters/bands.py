"""Decides which bands of a TIFF are colours, transparency, palette and mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detectors.geometry.arrays import ImageArray
from detectors.tiff.colours import colour_bands
from detectors.tiff.pixels import ColourSpace, PixelRule, readable
from infra.errors import ImageCorruptError


def rule_of(data: Any, space: ColourSpace, path: Path) -> PixelRule:
    """Return how the bands of ``data``, whose colours mean ``space`` in the file, become pixels.

    Raises ImageCorruptError when they cannot.
    """
    names = [interpretation.name for interpretation in data.colorinterp]
    dtype = np.dtype(data.dtypes[0])
    if not readable(dtype):
        raise ImageCorruptError(f"{path}: its values are {data.dtypes[0]}; whole and real numbers can be shown")
    # A file whose only band is called transparency has its picture in that band.
    alpha = names.index("alpha") + 1 if "alpha" in names and len(names) > 1 else None
    if names[0] == "palette":
        return PixelRule((1,), alpha, data.nodata, _palette(data))
    structure = data.tags(ns="IMAGE_STRUCTURE")
    if space != "rgb" and structure.get("SOURCE_COLOR_SPACE") is None:
        # Of 16 bits the inks themselves are read; of 8 bits the library makes red, green and blue of them.
        return PixelRule((1, 2, 3, 4) if space == "cmyk" else (1, 2, 3), alpha, data.nodata, space=space)
    inverted = structure.get("MINISWHITE") == "YES"
    rule = PixelRule(colour_bands(names, alpha), alpha, data.nodata, inverted=inverted)
    bits = data.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if dtype == np.uint8 and bits is not None and int(bits) < 8:
        return rule.with_range(0.0, float(2 ** int(bits) - 1))
    return rule


def _palette(data: Any) -> ImageArray:
    entries = data.colormap(1)
    table = np.zeros((max(entries) + 1, 3), np.uint8)
    for index, (red, green, blue, *_) in entries.items():
        table[index] = (blue, green, red)
    return table


def has_mask_of_its_own(data: Any) -> bool:
    """Return whether a mask, and not an alpha band or a value, shows which pixels have content."""
    flags = {flag.name for flag in data.mask_flag_enums[0]}
    return "per_dataset" in flags and "alpha" not in flags
