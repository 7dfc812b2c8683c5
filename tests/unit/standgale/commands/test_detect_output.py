"""Checks which output files `standgale detect` takes, before anything is detected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.errors import SettingsError
from standgale.commands.detect_output import OutputFiles


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
