"""Decodes a whole TIFF in memory into uint8 BGR pixels, as they are stored, without a library for rasters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.geometry.arrays import ImageArray
from detectors.tiff.areas import sample_places
from detectors.tiff.chunks import Values, band_pieces, number_type, read_bands
from detectors.tiff.colours import header_rule
from detectors.tiff.pixels import PixelRule
from infra.errors import ImageCorruptError
from infra.images.errors import UnreadableImageError
from infra.tiff.coded_chunks import check_coded_chunks
from infra.tiff.layout import TiffLayout
from infra.tiff.verdict import verdict_of


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """Holds decoded pixels, and how the values of the file became them."""

    image: ImageArray
    """uint8 (h, w, 3) BGR"""
    scaled_from: tuple[float, float] | None
    """the values that became 0 and 255; None where values are 0 to 255 already"""


def decode_tiff(layout: TiffLayout) -> DecodedPicture:
    """Decode the page that ``layout`` describes; its orientation is not applied, transparency is left out.

    The caller limits its pixels. Raises ImageCorruptError when the file is broken, or of a kind that is not read, the
    latter before anything is decoded.
    """
    verdict = verdict_of(layout)
    if verdict.reader != "plain":
        raise ImageCorruptError(verdict.reason)
    try:
        check_coded_chunks(layout)
    except UnreadableImageError as error:
        raise ImageCorruptError(str(error)) from error
    rule = header_rule(layout)
    if rule.is_ready_for(number_type(layout)):
        return DecodedPicture(_pieced(layout, rule), rule.scaled_from)
    values = read_bands(layout, rule.bands, rule.nodata)
    rule = rule.scaled_to(_samples(values, rule))
    return DecodedPicture(rule.colours_of(values), rule.scaled_from)


def _pieced(layout: TiffLayout, rule: PixelRule) -> ImageArray:
    """Return the pixels of a file whose values need no range; only some chunks of raw values are in memory at once."""
    if layout.is_planar and len(rule.colours) > 1:
        # Each band comes in pieces of its own.
        return rule.colours_of(read_bands(layout, rule.colours, rule.nodata))
    image = np.empty((layout.height, layout.width, 3), np.uint8)
    if not all(layout.places()[1]):
        image[...] = rule.pixel_of(0 if rule.nodata is None else rule.nodata, number_type(layout))
    for top, left, values, _ in band_pieces(layout, rule.colours):
        image[top : top + values.shape[1], left : left + values.shape[2]] = rule.colours_of(values)
    return image


def _samples(values: Values, rule: PixelRule) -> list[Values]:
    """Return small parts of ``values``, spread over the picture; all of it where they have no content."""
    height, width = values.shape[1:]
    found = [values[:, place.top : place.bottom, place.left : place.right] for place in sample_places(width, height)]
    return found if any(rule.has_content(each) for each in found) else [values]
