"""Reading one file of the watched folder, with its side file."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.edge.folder.reading import Later, Loaded, load_file
from ingest.edge.settings import EdgeSettings
from tests.harnesses.edge_process import small_jpeg
from tests.unit.ingest.edge.folder.pictures import WHEN, with_exif_time

WRITTEN = datetime(2026, 3, 1, 10, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "DJI_0001.JPG"
    path.write_bytes(small_jpeg(1))
    os.utime(path, (WRITTEN.timestamp(), WRITTEN.timestamp()))
    return path


def load(path: Path, *, is_settled: bool = False, **settings: object) -> Loaded | Later:
    return load_file(path, path.parent, EdgeSettings.model_validate(settings), is_settled=is_settled)


def loaded(path: Path, **settings: object) -> Loaded:
    found = load(path, **settings)
    assert isinstance(found, Loaded), found
    return found


def later(path: Path, **settings: object) -> Later:
    found = load(path, **settings)
    assert isinstance(found, Later), found
    return found


def test_picture_without_exif_has_the_time_of_writing(picture: Path) -> None:
    found = loaded(picture)
    assert (found.frame.captured_at, found.frame.name, found.side_file) == (WRITTEN, "DJI_0001.JPG", None)
    assert found.frame.image == small_jpeg(1)


def test_picture_with_exif_has_the_time_in_it(picture: Path) -> None:
    picture.write_bytes(with_exif_time(small_jpeg(1)))
    assert loaded(picture).frame.captured_at == WHEN


@pytest.mark.parametrize("name", ["DJI_0001.JPG.json", "DJI_0001.json"])
def test_side_file_gives_time_camera_metadata_and_name(picture: Path, name: str) -> None:
    side = {
        "captured_at": "2026-05-01T14:00:00+02:00",
        "altitude_m": 80,
        "latitude": 52.5,
        "longitude": 13.4,
        "metadata": {"mission": "north"},
        "original_filename": "flight-7.jpg",
    }
    picture.with_name(name).write_text(json.dumps(side))
    frame = loaded(picture).frame
    assert frame.captured_at == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert frame.camera == {"altitude_m": 80.0, "latitude": 52.5, "longitude": 13.4}
    assert (frame.metadata, frame.name) == ({"mission": "north"}, "flight-7.jpg")
    assert loaded(picture, side_files="ignore").frame.camera == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"captured_at": "2026-05', "is not JSON"),
        ("[]", "its fields are"),
        ('{"altitude": 80}', "altitude: Extra inputs are not permitted; its fields are"),
        ('{"captured_at": "2026-05-01T12:00:00"}', "captured_at: Input should have timezone info"),
        ('{"captured_at": "0001-01-01T00:00:00+14:00"}', "captured_at: date value out of range"),
        ('{"latitude": 91, "longitude": 0}', "latitude: Input should be less than or equal to 90"),
        ('{"latitude": 50}', "latitude and longitude must be given together"),
        ('{"metadata": ["a"]}', "metadata: Input should be a valid dictionary"),
        (" " * 70_000, "at most 65,536 are taken"),
    ],
)
def test_wrong_side_file_leaves_the_picture_in_the_folder(picture: Path, text: str, reason: str) -> None:
    picture.with_suffix(".json").write_text(text)
    found = later(picture)
    assert reason in found.reason
    assert found.may_change


def test_required_side_file_that_is_missing_leaves_the_picture(picture: Path) -> None:
    assert "its side file is missing" in later(picture, side_files="required").reason


def test_picture_that_is_cut_off_is_taken_once_it_is_settled(picture: Path) -> None:
    picture.write_bytes(small_jpeg(1)[:-30])
    assert later(picture).reason == "it is not complete yet"
    assert isinstance(load(picture, is_settled=True), Loaded)


def test_file_that_is_no_picture_is_taken_for_the_gateway_to_judge(picture: Path) -> None:
    picture.write_bytes(b"hello")
    assert loaded(picture).frame.image == b"hello"


def test_empty_large_and_missing_files_and_links_stay(picture: Path) -> None:
    assert "edge.max_frame_bytes is 100" in later(picture, max_frame_bytes=100).reason
    link = picture.with_name("link.jpg")
    link.symlink_to(picture)
    assert later(link) == Later("it is not a regular file", later(link).state, may_change=False)
    picture.write_bytes(b"")
    assert later(picture).reason == "it is empty"
    picture.unlink()
    assert later(picture) == Later("it is gone")


def test_name_that_is_no_text_is_shown_with_replacements(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(small_jpeg(1))
    assert loaded(path).frame.name == "caf\N{REPLACEMENT CHARACTER}.jpg"


def test_picture_with_the_longest_name_has_no_side_file(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.jpg"
    path.write_bytes(small_jpeg(1))
    assert loaded(path).side_file is None
