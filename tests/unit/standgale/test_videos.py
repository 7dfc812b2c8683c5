"""Checks which videos are opened, and what is said about those without frames."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.errors import ImageCorruptError, SettingsError
from standgale.videos import open_video


def written(path: Path, frames: int) -> Path:
    plain = path.with_name("plain.avi")
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(frames):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    return plain.rename(path)


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    with (
        open_video(written(tmp_path / "a.avi", 0), 10_000) as video,
        pytest.raises(ImageCorruptError, match="no frames"),
    ):
        list(video.read(1))


def test_a_name_that_looks_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.avi", 5)
    written(tmp_path / "concat:a.avi", 2)
    monkeypatch.chdir(tmp_path)
    with open_video(Path("concat:a.avi"), 10_000) as video:
        assert [frame.number for frame in video.read(1)] == [0, 1]


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(SettingsError, match="it is a pipe"), open_video(tmp_path / "a.mp4", 10_000):
        pass
