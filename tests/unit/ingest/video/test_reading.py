"""Checks the frames of real files: times, selection, rotation, telemetry, and files that are damaged or no video."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.errors import SettingsError
from ingest.settings import VideoSettings
from ingest.video.errors import VideoError
from ingest.video.options import Selection, VideoSource
from ingest.video.port import VideoFrame
from ingest.video.reading import SourceReader, SourceState
from tests.videos import klv_packet, scene, signed, steady, turned, write_video

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
CREATED = {"creation_time": "2026-05-01T10:00:00Z"}


@pytest.fixture(scope="module")
def steady_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video with B-frames, 50 frames in 2 s."""
    options = {"preset": "fast", "bf": "3", "sc_threshold": "0", "x264-params": "b-adapt=0"}
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", steady(50), metadata=CREATED, options=options)


def read(
    path: Path, selection: Selection | None = None, state: SourceState | None = None, **options: object
) -> list[VideoFrame]:
    source = VideoSource("a", str(path), selection or Selection(), **options)  # type: ignore[arg-type]  # its fields
    return list(SourceReader(source, VideoSettings(), state or SourceState()).frames())


def decoded(frame: VideoFrame) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR)


def test_frames_come_in_the_order_of_presentation_with_b_frames(steady_mp4: Path) -> None:
    frames = read(steady_mp4)
    assert [frame.number for frame in frames] == list(range(50))
    assert [frame.presentation_time_s for frame in frames] == pytest.approx(steady(50), abs=1e-6)
    assert frames[0].captured_at == START
    assert frames[49].captured_at == START + timedelta(seconds=1.96)
    brightness = [int(decoded(frame)[200, 300, 0]) for frame in frames]
    assert brightness == pytest.approx([40 + number for number in range(50)], abs=3)


def test_pictures_have_the_colours_of_the_video(steady_mp4: Path) -> None:
    picture = decoded(read(steady_mp4, Selection("nth", every=50))[0])
    assert picture.shape == (240, 320, 3)
    expected = scene(0)[..., ::-1].astype(int)
    assert np.abs(picture.astype(int) - expected)[8:50, 8:70].mean() < 6
    assert np.abs(picture.astype(int) - expected)[80:, 100:].mean() < 3


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection("nth", every=20), [0, 20, 40]),
        (Selection("rate", per_second=2), [0, 13, 25, 38]),
        (Selection("scene", change=0.1), [0, 26]),
    ],
    ids=["nth", "rate", "scene"],
)
def test_selections_choose_frames_of_a_file(steady_mp4: Path, selection: Selection, numbers: list[int]) -> None:
    """C-S3-047."""
    assert [frame.number for frame in read(steady_mp4, selection)] == pytest.approx(numbers, abs=1)


def test_key_frames_alone_are_decoded(steady_mp4: Path) -> None:
    state = SourceState()
    frames = read(steady_mp4, Selection("key"), state)
    assert [frame.presentation_time_s for frame in frames] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6], abs=1e-6)
    assert state.counts.decoded == 5


def test_a_variable_rate_keeps_the_times_of_the_file(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.21, 1.7, 1.74]
    frames = read(write_video(tmp_path / "a.mp4", times, metadata=CREATED))
    assert [frame.presentation_time_s for frame in frames] == pytest.approx(times, abs=1e-4)


def test_times_of_hours_and_a_transport_stream_that_wraps_are_right(tmp_path: Path) -> None:
    # The clock of a transport stream begins anew after 95443.7 s.
    path = write_video(tmp_path / "a.ts", steady(150), container_options={"output_ts_offset": "95440"})
    frames = read(path, start=START)
    assert [frame.presentation_time_s for frame in frames] == pytest.approx(steady(150), abs=1e-4)
    late = write_video(tmp_path / "b.mp4", [0.0, 3_600.0, 7_200.5], metadata=CREATED)
    assert [frame.presentation_time_s for frame in read(late)] == pytest.approx([0, 3_600, 7_200.5], abs=1e-3)


def test_rotation_turns_the_picture(tmp_path: Path) -> None:
    path = turned(write_video(tmp_path / "a.mp4", steady(3), metadata=CREATED), 90)
    frame = read(path)[0]
    assert (frame.width, frame.height) == (240, 320)
    picture = decoded(frame)
    assert picture.shape == (320, 240, 3)
    # The red corner was at the top left, and a quarter turn clockwise brings it to the top right.
    assert picture[10, -10, 2] > 150
    assert picture[10, 10, 2] < 100


def test_telemetry_in_a_transport_stream_gives_camera_and_start(tmp_path: Path) -> None:
    first = int(START.timestamp()) * 1_000_000
    packets = [
        (
            number / 5,
            klv_packet(
                {2: (first + number * 200_000).to_bytes(8, "big"), 13: signed(48 + number, 90), 14: signed(9, 180)}
            ),
        )
        for number in range(10)
    ]
    frames = read(write_video(tmp_path / "a.ts", steady(50), klv=packets))
    assert frames[0].captured_at == START
    assert frames[0].clock == "telemetry"
    latitudes = [frame.camera.latitude for frame in frames if frame.camera and frame.camera.latitude]
    assert latitudes == pytest.approx([48 + number // 5 for number in range(50)], abs=1e-6)


def test_an_srt_file_beside_the_video_gives_camera_and_start(tmp_path: Path, steady_mp4: Path) -> None:
    shutil.copy(steady_mp4, tmp_path / "DJI_0001.MP4")
    (tmp_path / "DJI_0001.SRT").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\n2026-05-01 08:00:00.000\n"
        "[latitude: 48.5] [longitude: 9.5] [rel_alt: 80 abs_alt: 90]\n"
    )
    state = SourceState()
    frames = read(tmp_path / "DJI_0001.MP4", state=state)
    assert frames[0].captured_at == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert frames[0].camera is not None
    assert frames[0].camera.altitude_m == 80
    assert frames[49].camera is None
    assert any("read as UTC" in warning for warning in state.warnings)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no video that can be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "is no video that can be read"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n", "is no video that can be read"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "is no video that can be read"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n", "is no video that can be read"),
        (bytes(range(256)) * 400, "is no video that can be read"),
    ],
    ids=["empty", "picture", "playlist", "concat", "sdp", "noise"],
)
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason):
        read(path, start=START)


def test_a_file_that_is_cut_short_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.mp4", steady(250), metadata=CREATED, container_options={"movflags": "faststart"}
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames: list[VideoFrame] = []
    reader = SourceReader(VideoSource("a", str(cut)), VideoSettings(), SourceState())
    with pytest.raises(VideoError, match=r"ends after \d\.\d of 10\.0 s; the file is cut short"):
        frames.extend(reader.frames())
    assert frames == [] or frames[0].number == 0


def test_broken_packets_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", steady(60), codec="mjpeg", options={})
    content = bytearray(path.read_bytes())
    start = content.index(b"movi")
    for at in range(start + 8_000, start + 20_000):
        content[at] = 0xFF
    path.write_bytes(content)
    state = SourceState()
    frames = read(path, state=state, start=START)
    counts = state.counts
    assert len(frames) + counts.broken_packets + counts.damaged + counts.missing == 60
    assert 40 < len(frames) < 60


def test_frames_larger_than_allowed_are_refused(steady_mp4: Path) -> None:
    reader = SourceReader(VideoSource("a", str(steady_mp4)), VideoSettings(max_pixels=10_000), SourceState())
    with pytest.raises(VideoError, match="max_pixels"):
        list(reader.frames())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"a\.mp4: cannot be read \(No such file"):
        read(tmp_path / "a.mp4")


def test_whole_jpeg_of_a_stream_are_passed_on_as_they_are(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", steady(4), codec="mjpeg", options={}, metadata=CREATED)
    content = path.read_bytes()
    frames = read(path, start=START)
    assert len(frames) == 4
    assert all(frame.image in content for frame in frames)
    assert (frames[0].width, frames[0].height) == (320, 240)


def test_jpeg_without_tables_or_turned_are_written_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mov", steady(2), codec="mjpeg", options={})
    shown = turned(path, 90)
    first = read(shown, start=START)[0]
    assert first.image not in shown.read_bytes()
    assert (first.width, first.height) == (240, 320)
    bare = write_video(tmp_path / "b.mkv", steady(2), codec="mjpeg", options={})
    # Another length of the name of the segment's marker: a comment where the tables for decoding were.
    bare.write_bytes(bare.read_bytes().replace(b"\xff\xc4", b"\xff\xfe"))
    assert all(frame.image not in bare.read_bytes() for frame in read(bare, start=START))


def test_a_recording_that_was_read_in_part_is_read_on_with_the_same_frames(steady_mp4: Path) -> None:
    selection = Selection("nth", every=10)
    whole = read(steady_mp4, selection)
    state = SourceState(number=17, resume_after=whole[2].captured_at)
    assert read(steady_mp4, selection, state) == whole[3:]
