"""Own pictures for the demonstration: wrong files are named before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.errors import SettingsError
from ingest.settings import GatewaySettings
from standgale.demo.frames import source_frames
from standgale.demo.source import check_source

GATEWAY = GatewaySettings(max_image_bytes=50_000)


def photo(path: Path, width: int = 400, height: int = 300) -> Path:
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def test_good_pictures_are_sent_and_each_wrong_file_has_a_line(tmp_path: Path) -> None:
    good = [photo(tmp_path / "a.jpg"), photo(tmp_path / "b.PNG")]
    cut_off = photo(tmp_path / "cut.jpg")
    cut_off.write_bytes(cut_off.read_bytes()[:200])
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "film.mp4").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / ".hidden").touch()
    (tmp_path / "large.tif").write_bytes(b"II*\0" + bytes(60_000))
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    photo(tmp_path / "small.jpg", 40, 30)
    source = check_source(tmp_path, 100, GATEWAY)
    assert list(source.pictures) == good
    named = {line.partition(" is left out: ")[0]: line for line in source.left_out}
    wrong = {"cut.jpg", "empty.png", "film.mp4", "folder.jpg", "gone.jpg", "large.tif", "notes.txt", "small.jpg"}
    assert set(named) == wrong
    assert named["film.mp4"].endswith(f"a video is sent by itself: --source {tmp_path / 'film.mp4'}")
    assert "max_image_bytes (50000)" in named["large.tif"]
    assert all("\n" not in line for line in source.left_out)
    assert [frame.name for frame in source_frames(source, "own", 1)] == ["a.jpg"]


def test_more_wrong_files_than_can_be_read_are_counted(tmp_path: Path) -> None:
    for number in range(14):
        (tmp_path / f"{number:02}.txt").touch()
    photo(tmp_path / "z.jpg")
    notes = check_source(tmp_path, 10, GATEWAY).notes()
    assert len(notes) == 11
    assert notes[-1] == "and 4 more files are left out"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, r"no picture that can be sent in it; it takes files like \.jpg"),
        ({"notes.txt": b"text"}, r"\n- notes.txt is left out: no picture by its name"),
        ({"wrong.jpg": b"text"}, r"\n- wrong.jpg is left out: "),
    ],
)
def test_folders_without_a_picture_are_refused(tmp_path: Path, content: dict[str, bytes], words: str) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SettingsError, match=words):
        check_source(tmp_path, 10, GATEWAY)


def test_single_files_may_be_pictures_and_others_must_be_videos(tmp_path: Path) -> None:
    one = photo(tmp_path / "one.jpg")
    assert check_source(one, 10, GATEWAY).pictures == (one,)
    (tmp_path / "film.mp4").write_bytes(b"no video")
    with pytest.raises(SettingsError, match=r"--source: .*film\.mp4: no frame of this video can be decoded"):
        check_source(tmp_path / "film.mp4", 10, GATEWAY)
    with pytest.raises(SettingsError, match="no such folder or video"):
        check_source(tmp_path / "nothing", 10, GATEWAY)


def test_check_source_names_a_picture_in_another_format(tmp_path: Path) -> None:
    heic = tmp_path / "IMG_1.HEIC"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(SettingsError, match=r"IMG_1.HEIC: this is a HEIC picture.* save it as JPEG"):
        check_source(heic, 10, GATEWAY)
    photo(tmp_path / "one.jpg")
    (line,) = check_source(tmp_path, 10, GATEWAY).left_out
    assert line.startswith("IMG_1.HEIC is left out: this is a HEIC picture")


def test_a_pipe_or_a_name_like_an_address_is_no_other_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SettingsError, match="it is a pipe"):
        check_source(tmp_path / "pipe.mp4", 10, GATEWAY)
    for name, frames in (("a.avi", 5), ("b.avi", 1)):
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*"MJPG"), 2, (64, 48))
        for _ in range(frames):
            writer.write(np.full((48, 64, 3), 90, np.uint8))
        writer.release()
    (tmp_path / "b.avi").rename(tmp_path / "concat:a.avi")
    monkeypatch.chdir(tmp_path)
    assert len(list(source_frames(check_source(Path("concat:a.avi"), 10, GATEWAY), "own", 10))) == 1
