"""Telemetry of real videos: each value is that of an independent tool, or unknown."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import orjson
import pytest

from ingest.settings import VideoSettings
from ingest.video.inputs.opened import Opener
from ingest.video.options import VideoSource
from ingest.video.reading import SourceReader, SourceState
from ingest.video.telemetry.klv import add_packets
from ingest.video.telemetry.local_times import find_local_time
from ingest.video.telemetry.srt import read_srt
from ingest.video.telemetry.track import TelemetryTrack
from tests.paths import real_file

pytestmark = pytest.mark.integration


def expectations(kind: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = orjson.loads(real_file("cameras/expected.json").read_bytes())
    return {name: values for name, values in found.items() if name.startswith(kind)}


def seconds(text: str) -> float:
    hours, minutes, rest = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))


def differences(name: str, expected: dict[str, object]) -> list[str]:
    """What differs from the independent tool; a height without a reference is unknown here."""
    track = read_srt(real_file(f"cameras/{name}"))
    wrong = [] if len(track) == expected["entries"] else [f"{name}: {len(track)} entries, not {expected['entries']}"]
    for which in ("first", "last"):
        values = expected[which]
        assert isinstance(values, dict)
        began = read_srt(real_file(f"cameras/{name}")).start()
        at = seconds(values["from"]) if "from" in values else _offset(values, began)
        camera = track.at(at)
        found = {} if camera is None else camera.model_dump()
        names = {
            "latitude": "latitude",
            "longitude": "longitude",
            "relative_altitude_m": "altitude_m",
            "barometer_m": "altitude_m",
            "absolute_altitude_m": "altitude_msl_m",
        }
        for theirs, ours in names.items():
            if theirs in values and not math.isclose(found.get(ours) or 0.0, values[theirs], abs_tol=1e-6):
                wrong.append(f"{name} {which}: {ours} is {found.get(ours)}, not {values[theirs]}")
        gimbal = values.get("gimbal")
        if gimbal and (found["pitch_deg"], found["heading_deg"]) != (gimbal["pitch"], gimbal["yaw"]):
            wrong.append(f"{name} {which}: the gimbal is {found['pitch_deg']}, {found['heading_deg']}, not {gimbal}")
    return wrong


def _offset(values: dict[str, object], began: datetime | None) -> float:
    moment = find_local_time(str(values["local_time"]), None)
    assert moment is not None
    assert began is not None
    return (moment - began).total_seconds()


def test_all_dialects_of_srt_agree_with_the_independent_tool() -> None:
    files = expectations("srt/")
    assert len(files) == 14
    assert [line for name, expected in files.items() for line in differences(name, expected)] == []


def test_a_gopro_karma_gives_each_frame_the_drones_position() -> None:
    expected = expectations("telemetry/gopro")["telemetry/gopro-karma-gpmf.mp4"]
    source = VideoSource("karma", str(real_file("cameras/telemetry/gopro-karma-gpmf.mp4")))
    frames = list(SourceReader(source, VideoSettings(), SourceState()).frames())
    first = next(frame.camera for frame in frames if frame.camera is not None)
    assert [first.latitude, first.longitude, first.altitude_msl_m] == pytest.approx(expected["first"], abs=1e-6)
    last = frames[-1].camera
    assert last is not None
    assert [last.latitude, last.longitude, last.altitude_msl_m] == pytest.approx(expected["last"], abs=1e-6)
    assert frames[0].clock == "telemetry"
    assert frames[0].captured_at.isoformat().startswith("2017-04-17T19:27:57.526")


def test_the_example_packet_of_misb_gives_the_values_of_the_independent_tool() -> None:
    content = real_file("cameras/telemetry/misb0601-dynamic-constant.klv").read_bytes()
    track = TelemetryTrack("MISB ST 0601")
    add_packets(content, 0.0, track)
    # The example's own checksum is not that of its bytes.
    assert "its checksum is wrong" in track.warnings[0].text
    total = sum(byte << (8 if index % 2 == 0 else 0) for index, byte in enumerate(content[:-2])) & 0xFFFF
    add_packets(content[:-2] + total.to_bytes(2, "big"), 0.0, track)
    expected = expectations("telemetry/misb")["telemetry/misb0601-dynamic-constant.klv"]
    camera = track.at(0.0)
    assert camera is not None
    assert camera.latitude == pytest.approx(expected["sensor_latitude"], abs=1e-6)
    assert camera.longitude == pytest.approx(expected["sensor_longitude"], abs=1e-6)
    assert camera.altitude_msl_m == pytest.approx(expected["sensor_altitude_m"], abs=0.01)
    began = track.start()
    assert began is not None
    assert began.isoformat() == str(expected["time"]).replace("Z", "+00:00")


def test_a_real_video_is_read_whole() -> None:
    path: Path = real_file("one-by-one-person-detection.mp4")
    with Opener(VideoSettings()).open(VideoSource("a", str(path))) as opened:
        assert opened.is_live is False
        assert opened.container.streams.video[0].frames > 0
