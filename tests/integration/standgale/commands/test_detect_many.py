"""`standgale detect` over a folder and a video, and what it says about files that are none of these."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest
from typer.testing import CliRunner, Result

from detectors.geometry.arrays import ImageArray
from schemas.errors import StandgaleError
from standgale import pictures
from standgale.cli import app
from standgale.pictures import Picture
from standgale.testing.graphs import COLOURS_BGR, GraphSpec, write_model

pytestmark = pytest.mark.integration


def picture(*classes: int) -> ImageArray:
    image = np.zeros((150, 200, 3), np.uint8)
    for index in classes:
        image[20:50, 10 + 50 * index : 40 + 50 * index] = COLOURS_BGR[index]
    return image


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = [{"name": "red", "evidence": "drawn"}, {"name": "green"}, {"name": "blue"}]
    return str(write_model(tmp_path_factory.mktemp("model"), classes=names))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: str):  # type: ignore[no-untyped-def]  # a function
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["detect", *arguments, "--model", card])

    return call


def write(path: Path, image: ImageArray) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def video(path: Path, frames: int = 7) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (200, 150))
    for number in range(frames):
        writer.write(picture(number % 3))
    writer.release()
    return path


def lines(result: Result) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def test_a_folder_gives_a_json_line_per_picture_and_names_what_it_skips(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "pictures"
    write(folder / "a.png", picture(0, 1))
    write(folder / "b.jpg", picture(2))
    write(folder / "b.png", picture())
    (folder / "notes.txt").write_text("no picture")
    (folder / "film.mp4").touch()
    (folder / ".hidden").write_text("no picture")
    (folder / "inside").mkdir()
    done = run(str(folder), "--json", "--out", str(tmp_path / "drawn"))
    assert done.exit_code == 1
    found = {Path(str(line["image"])).name: line for line in lines(done)}
    assert [sorted(row["label"] for row in found[name]["detections"]) for name in ("a.png", "b.jpg", "b.png")] == [
        ["green", "red"],
        ["blue"],
        [],
    ]
    assert {(row["label"], row["class_id"]) for row in found["a.png"]["detections"]} == {("red", 0), ("green", 1)}
    assert found["a.png"]["warnings"] == ["not tested on photographs: red"]
    assert found["a.png"]["scales"] == [{"scale": 1.0, "tiles": found["a.png"]["tiles"]}]
    assert "skipped notes.txt: not an image" in done.stderr
    assert "begins with the text 'no picture'" in done.stderr
    assert f"skipped film.mp4: a video is read by itself: standgale detect {folder / 'film.mp4'}" in done.stderr
    assert "2 of 5 files skipped: film.mp4, notes.txt" in done.stderr
    assert "%|" not in done.stderr, "a progress bar without a terminal"
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.jpg", "b.jpg.jpg", "b.png.jpg"]


def test_entries_of_a_folder_that_are_no_files_or_cannot_be_looked_at_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run,  # type: ignore[no-untyped-def]
) -> None:
    folder = tmp_path / "pictures"
    for name in ("a.png", "gone.png", f"{'n' * 250}.png"):
        write(folder / name, picture(0))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "nowhere.jpg").symlink_to("there-is-none")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    # What lies in a folder that this user may not enter.
    (folder / "closed.jpg").symlink_to("/root/closed.jpg")
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == "closed.jpg" and follow_symlinks:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, follow_symlinks=follow_symlinks)

    def decoded(path: Path, max_pixels: int) -> Picture:
        if path.name == "gone.png":
            path.unlink()
            path.open("rb")
        return shown(path, max_pixels)

    shown = pictures._decoded
    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(pictures, "_decoded", decoded)
    done = run(str(folder), "--out", str(tmp_path / "drawn"))
    assert done.exit_code == 1
    assert "skipped pipe.jpg: cannot be read (it is a pipe, not a file)" in done.stderr
    assert "skipped nowhere.jpg: cannot be read (No such file or directory)" in done.stderr
    assert "skipped circle.jpg: cannot be read (Too many levels of symbolic links)" in done.stderr
    assert "skipped closed.jpg: cannot be read (Permission denied)" in done.stderr
    assert "skipped gone.png: cannot be read (No such file or directory)" in done.stderr
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert [name[:10] for name in drawn] == ["a.jpg", "n" * 10]
    assert len(drawn[1]) < 255


def test_a_folder_of_pictures_ends_with_zero_and_gives_each_warning_once(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.png", "b.png"):
        write(tmp_path / "pictures" / name, picture(0))
    done = run(str(tmp_path / "pictures"))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["a.png: 1 red", "b.png: 1 red"]
    assert done.stderr.count("not tested on photographs") == 1
    assert "2 pictures: 2 red" in done.stderr


def test_a_video_gives_a_json_line_per_frame(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    done = run(str(video(tmp_path / "a.avi")), "--json", "--every", "3", "--out", str(tmp_path / "drawn"))
    assert done.exit_code == 0
    assert [(line["frame"], line["time_s"]) for line in lines(done)] == [(0, 0.0), (3, 0.3), (6, 0.6)]
    assert all([row["label"] for row in line["detections"]] == ["red"] for line in lines(done))  # type: ignore[attr-defined]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "a-000000.jpg",
        "a-000003.jpg",
        "a-000006.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.mp4", b"no video", (), "no frame of this video can be decoded: .*ffmpeg -i a.mp4 -c:v libx264"),
        ("a.gif", b"GIF89a" + bytes(20), (), "GIF"),
        ("a.pt", b"PK", (), "is a model, not a picture"),
        ("a.png", b"", ("--every", "2"), "--every 2: is for videos"),
        ("a.png", b"", ("--scales", "1,x"), "--scales 1,x: no numbers"),
        ("a.png", b"", ("--scales", "1,0.01"), "--scales 1,0.01: takes up to four .*from 0.1 to 2"),
        ("a.png", b"", ("--out", "."), r"--out \.: is a folder; give the path of a file in it"),
        ("a.png", b"", ("--mode", "tiles"), "--mode tiles: unknown; give one of fixed, gsd, auto, whole"),
        ("a.png", b"", ("--metric", "area"), "--metric area: unknown; give one of iou, ios"),
        ("a.png", b"", ("--mode", "whole", "--tile-metres", "3"), "--mode whole cuts no tiles"),
    ],
)
def test_wrong_files_and_options_get_one_clear_error(  # type: ignore[no-untyped-def]
    tmp_path: Path, run, name: str, content: bytes, options: tuple[str, ...], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if name == "a.png":
        write(path, picture(0))
    done = run(str(path), *options)
    assert isinstance(done.exception, StandgaleError)
    assert re.search(message, str(done.exception)), done.exception


def test_outputs_that_do_not_fit_many_pictures_are_refused(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    folder = write(tmp_path / "pictures" / "a.png", picture(0)).parent
    for options, message in (
        (("--out", "a.png"), "more than one picture; give a folder"),
        (("--out", str(folder)), "is the folder of the pictures themselves"),
        (("--geojson", "a.geojson"), "takes one GeoTIFF"),
        (("--out", "gone/drawn"), "there is no folder"),
    ):
        assert message in str(run(str(folder), *options).exception)
    (tmp_path / "empty").mkdir()
    assert "has no files" in str(run(str(tmp_path / "empty")).exception)
    (tmp_path / "empty" / "flight").mkdir()
    assert "(folders in it are not searched: flight)" in str(run(str(tmp_path / "empty")).exception)
    (tmp_path / "empty" / "a.txt").write_text("a")
    assert "none of its 1 files could be read" in str(run(str(tmp_path / "empty")).exception)


def test_options_of_the_call_reach_the_model(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "a.png", picture(0, 1))
    options = ("--iou", "0.3", "--overlap", "0.4", "--metric", "ios", "--threshold", "0.6", "--settle", "0.9")
    (line,) = lines(run(str(path), "--json", *options, "--scales", "1,0.5", "--confidence", "0.85"))
    used = line["options"]
    assert isinstance(used, dict)
    wanted = {"iou": 0.3, "overlap": 0.4, "merge_metric": "ios", "merge_threshold": 0.6, "settle": 0.9}
    assert wanted.items() <= used.items()
    assert (used["scales"], used["confidence"]) == ([1.0, 0.5], 0.85)
    assert [row["label"] for row in line["detections"]] == ["red"]  # type: ignore[attr-defined]
    (whole,) = lines(run(str(path), "--json", "--mode", "whole"))
    assert (whole["tiles"], whole["options"]["mode"]) == (1, "whole")  # type: ignore[index]


@pytest.mark.parametrize("name", ["gone.yaml", "gone.onnx"])
def test_a_model_that_is_not_there_is_named_with_the_option(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["detect", "a.png", "--model", str(tmp_path / name)])
    assert str(done.exception).startswith(f"--model {tmp_path / name}: there is no such file")


def test_tiles_are_counted_with_the_pass_over_the_whole_picture(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "a.png", picture(0))
    for options, words in (
        (("--mode", "whole"), "1 tile; the whole frame\n"),
        (("--whole",), " px, and the whole picture\n"),
        (("--whole", "--scales", "1,0.5"), r"0\.5 \(\d+ tiles?\), and the whole picture\n"),
    ):
        assert re.search(words, run(str(path), *options).stderr)


@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_a_model_without_a_card_gets_the_command_that_writes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path / "data"))
    model = write_model(tmp_path, GraphSpec())
    model.rename(tmp_path / "aside.yaml")
    done = CliRunner().invoke(app, ["detect", "a.png", "--model", str(tmp_path / name)])
    assert "standgale model inspect" in str(done.exception)
    assert "--write" in str(done.exception)
    if name == "model.onnx":
        (tmp_path / "aside.yaml").rename(model)
        done = CliRunner().invoke(app, ["detect", "a.png", "--model", str(tmp_path / name)])
        assert f"give --model {model}" in str(done.exception)


def test_ctrl_c_keeps_what_is_done_and_ends_in_one_line(tmp_path: Path, card: str) -> None:
    path = video(tmp_path / "a.avi", frames=3000)
    command = [sys.executable, "-P", "-m", "standgale", "detect", str(path), "--model", card, "--json"]
    environment = {**os.environ, "STANDGALE_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        first = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 30
        rest, notes = child.communicate(timeout=max(1, deadline - time.monotonic()))
    assert child.returncode == 130
    done = [orjson.loads(line) for line in (first + rest).splitlines()]
    assert [line["frame"] for line in done] == list(range(len(done)))
    assert f"stopped after {len(done)} of 3000 frames; what is done is kept" in notes
    assert "Traceback" not in notes
