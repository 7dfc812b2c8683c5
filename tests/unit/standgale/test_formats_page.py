"""Checks that docs/formats.md says of every format what the gateway and `detect` really do with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from detectors.geometry.arrays import ImageArray
from detectors.images.decode import decode_image
from detectors.tiff.areas import PixelArea
from infra.errors import ImageCorruptError
from ingest.images.check import ImageError, ImageLimits, inspect_image
from standgale import pictures
from standgale.pictures import open_picture
from tests.format_files import FILES, SIDE, scene
from tests.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

LIMITS = ImageLimits(max_image_bytes=10_000_000, min_side_px=256, max_side_px=16_384, max_pixels=120_000_000)
DOORS = ("gateway", "detect", "detect with geo")
READ = "read"


def table() -> dict[str, tuple[str, ...]]:
    """Return the page's table: what each door does, by format."""
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    lines = page.split("\n## ", maxsplit=1)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {name: tuple(said) for name, *said in cells[2:]}


def through_gateway(data: bytes) -> ImageArray | str:
    """Return the pixels that a worker decodes, or why the gateway refuses ``data``."""
    try:
        inspect_image(data, LIMITS)
    except ImageError as error:
        return str(error)
    return decode_image(data, max_pixels=LIMITS.max_pixels)


def through_detect(path: Path) -> ImageArray | str:
    try:
        with open_picture(path, LIMITS.max_pixels) as picture:
            if picture.raster is not None:
                return picture.raster.read(PixelArea(0, 0, picture.width, picture.height)).image
            assert picture.image is not None
            return picture.image
    except ImageCorruptError as error:
        return str(error)


def results(name: str, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, ImageArray | str]:
    path = folder / "picture"
    path.write_bytes(FILES[name]())
    found = {"gateway": through_gateway(path.read_bytes()), "detect with geo": through_detect(path)}
    patch.setattr(pictures, "find_spec", lambda name: None)
    return found | {"detect": through_detect(path)}


def test_every_format_is_in_the_table() -> None:
    assert list(table()) == list(FILES)


@pytest.mark.parametrize("name", FILES)
def test_open_picture_and_inspect_image_follow_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results(name, tmp_path, monkeypatch)
    for door, said in zip(DOORS, table()[name], strict=True):
        result = found[door]
        if said == READ:
            assert not isinstance(result, str), f"{door}: {result}"
            assert result.shape == (SIDE, SIDE, 3)
            # Dark on the left and bright on the right, in every channel: no negative, nothing darkened by a band.
            for channel in range(3):
                likeness = np.corrcoef(result[..., channel].ravel(), scene()[..., 1].ravel())[0, 1]
                assert likeness > 0.85, f"{door}: channel {channel} is alike by {likeness:.2f}"
        else:
            assert isinstance(result, str), f"{door} reads it"
            words = [part.strip(" `") for part in said.removeprefix("refused: ").replace("`", "").split("…")]
            assert re.search(".*".join(map(re.escape, words)), result.replace("`", "")), result
    pixels = [result for result in found.values() if not isinstance(result, str)]
    assert all(np.abs(pixels[0].astype(int) - other).mean() < 1 for other in pixels)
