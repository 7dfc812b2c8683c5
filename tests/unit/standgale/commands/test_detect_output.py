"""Checks which output files `standgale detect` takes, and which of its warnings come from the picture itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import ModelCard
from detectors.geometry.arrays import Detections
from detectors.model.options import FrameView, resolve
from detectors.model.predict import PictureResult
from detectors.tiling.sources import ArraySource
from infra.errors import SettingsError
from ingest.images.exif import Capture
from schemas.events import CameraGeometry, DetectOptions
from standgale.commands.detect_output import OutputFiles, notices_of
from standgale.pictures import Picture


def test_an_output_that_is_the_picture_itself_is_refused_under_every_name(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"picture")
    os.link(picture, tmp_path / "hard.jpg")
    (tmp_path / "link.png").symlink_to(picture)
    for name in ("a.jpg", "hard.jpg", "link.png", "../" + tmp_path.name + "/a.jpg"):
        with pytest.raises(SettingsError, match=r"--out .* is the picture itself"):
            OutputFiles(tmp_path / name, None).check(picture)
        with pytest.raises(SettingsError, match=r"--geojson .* is the picture itself"):
            OutputFiles(None, tmp_path / name).check(picture)
    OutputFiles(tmp_path / "b.jpg", tmp_path / "b.geojson").check(picture)


def test_one_file_for_both_outputs_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one file for both"):
        OutputFiles(tmp_path / "b.jpg", tmp_path / "b.jpg").check(tmp_path / "a.tif")
    (tmp_path / "c.png").mkdir()
    with pytest.raises(SettingsError, match="is a folder"):
        OutputFiles(tmp_path / "c.png", None).check(tmp_path / "a.tif")


def card() -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "a",
            "version": "1",
            "file": "a.onnx",
            "sha256": "0" * 64,
            "input": {"width": 320, "height": 320},
            "classes": [{"name": "vehicle", "max_size_m": 20}],
            "licence": "MIT",
        }
    )


@pytest.mark.parametrize(
    ("rows_of_sky", "pitch_deg", "warns"), [(60, None, True), (60, -90.0, False), (0, None, False)]
)
def test_notices_of_warns_of_sky_where_the_pitch_is_unknown(
    rows_of_sky: int, pitch_deg: float | None, warns: bool
) -> None:
    image = np.random.default_rng(3).integers(0, 180, (200, 300, 3), np.uint8)
    image[:rows_of_sky] = 220
    camera = None if pitch_deg is None else CameraGeometry(pitch_deg=pitch_deg)
    shown = Picture(300, 200, ArraySource(image), None, image=image, capture=Capture(camera=camera))
    options = resolve(card(), DetectOptions(), FrameView(300, 200, None))
    nothing = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
    found = PictureResult(nothing, options, tiles=1, empty=0)
    assert any("looks like sky" in text for text in notices_of(card(), shown, found)) == warns
