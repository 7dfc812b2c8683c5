"""Decides from a TIFF's header which bands are colours, transparency and palette, and what colours they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import starmap

import numpy as np

from detectors.geometry.arrays import ImageArray
from detectors.tiff.pixels import ColourSpace, PixelRule
from infra.tiff.layout import (
    CIELAB,
    COLOUR_MAP,
    GDAL_METADATA,
    GDAL_NODATA,
    ICCLAB,
    MINISWHITE,
    PALETTE,
    RGB,
    SEPARATED,
    YCBCR,
    TiffLayout,
)

_SPACES: dict[int, ColourSpace] = {SEPARATED: "cmyk", CIELAB: "lab", ICCLAB: "lab_unsigned"}
_MOST_METADATA_BYTES = 256 << 10
# GDAL's note of what a band means: <Item name="COLORINTERP" sample="1" role="colorinterp">Blue</Item>
_NOTE = re.compile(rb'<Item name="COLORINTERP" sample="(\d{1,4})" role="colorinterp">(\w{1,20})</Item>')
_PRIMARIES = ("red", "green", "blue")


def colour_space(layout: TiffLayout) -> ColourSpace:
    """Return what the colours mean, once YCbCr is decoded."""
    return _SPACES.get(layout.photometric, "rgb")


def is_inverted(layout: TiffLayout) -> bool:
    """Return whether 0 is white."""
    return layout.photometric == MINISWHITE


def header_rule(layout: TiffLayout) -> PixelRule:
    """Return how the bands of a file become pixels, by its header alone."""
    alpha = layout.alpha if layout.samples > 1 else None
    nodata = _nodata(layout)
    space = colour_space(layout)
    if layout.photometric == PALETTE:
        return PixelRule((1,), alpha, nodata, palette=_palette(layout))
    if layout.bits == 1 and layout.samples == 1:
        black_and_white = np.array([[0] * 3, [255] * 3], np.uint8)
        return PixelRule((1,), alpha, nodata, palette=black_and_white[:: -1 if is_inverted(layout) else 1])
    if layout.photometric in (RGB, YCBCR) or space != "rgb":
        colours = tuple(range(1, layout.colours + 1))
        return _for_few_bits(PixelRule(colours, alpha, nodata, space=space), layout)
    notes = _notes(layout)
    alpha = next((band for band, name in notes.items() if name == "alpha"), alpha) if layout.samples > 1 else None
    colours = colour_bands([notes.get(band, "") for band in range(1, layout.samples + 1)], alpha)
    return _for_few_bits(PixelRule(colours, alpha, nodata, inverted=is_inverted(layout)), layout)


def colour_bands(names: Sequence[str], alpha: int | None) -> tuple[int, ...]:
    """Return the numbers (from 1) of the bands that are red, green and blue, or of the one that is grey.

    Where the ``names`` of the bands do not say it, they are the first ones beside band ``alpha``.
    """
    if all(name in names for name in _PRIMARIES):
        return tuple(names.index(name) + 1 for name in _PRIMARIES)
    seen = [band for band in range(1, len(names) + 1) if band != alpha]
    return tuple(seen[:3]) if len(seen) >= 3 else (seen[0],)


def _for_few_bits(rule: PixelRule, layout: TiffLayout) -> PixelRule:
    """Return ``rule`` so that the values of fewer than 8 bits use all of 0 to 255."""
    if layout.bits >= 8:
        return rule
    return rule.with_range(0.0, float(2**layout.bits - 1))


def _nodata(layout: TiffLayout) -> float | None:
    text = layout.directory.content(GDAL_NODATA, 64).split(b"\0", 1)[0].strip()
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _notes(layout: TiffLayout) -> dict[int, str]:
    """Return what GDAL noted about bands, by number from 1."""
    text = layout.directory.content(GDAL_METADATA, _MOST_METADATA_BYTES)
    found = starmap(lambda sample, name: (int(sample) + 1, name.decode().lower()), _NOTE.findall(text))
    return {band: name for band, name in found if band <= layout.samples}


def _palette(layout: TiffLayout) -> ImageArray:
    """Return uint8 (entries, 3) BGR; missing entries are black. Entries of 8 bits, which old writers made, stay."""
    entries = 2**layout.bits
    values = np.zeros(3 * entries, np.uint16)
    found = np.asarray(layout.directory.integers(COLOUR_MAP, 3 * entries), np.uint16)
    values[: len(found)] = found
    wide = values if values.max(initial=0) < 256 else values >> 8
    return np.ascontiguousarray(wide.reshape(3, entries)[::-1].T.astype(np.uint8))
