"""Checks DJI's SRT dialects: fields, the order of coordinates, times, and damaged or hostile files."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ingest.video.errors import TelemetryError
from ingest.video.telemetry.srt import read_srt, read_srt_lines
from ingest.video.telemetry.track import TelemetryTrack

MAVIC_PRO = "HOME(160.8251,-8.4532) 2017.08.05 14:11:51\nGPS(160.8251,-8.4533,16) BAROMETER:1.9\nISO:100 Shutter:60"
OLD = "HOME(60.8251,-8.4532) 2017.8.5 14:11:51\nGPS(60.8251,-8.4533,16) Hb:1.9 Hs:1.7\nISO:100 TV:60 EV: 0 IR:F2.8"
MAVIC_MINI = "F/2.8, SS 30.15, ISO 260, EV -1.7, GPS (-9.9458, 59.8771, 17), D 221.21m, H 200.70m, H.S n/a, V.S n/a "
P4_RTK = (
    "F/5.6, SS 400, ISO 100, EV 0, GPS (-47.051745, -22.437922, 15), HOME (-47.047509, -22.432707, -57.98m), "
    "D 698.70m, H 85.80m, H.S 0.00m/s, V.S 0.00m/s, F.PRY (2.7°, -7.0°, 110.1°), G.PRY (-24.4°, 0.0°, 110.4°)"
)
MATRICE = "2022.06.21 16:06:17\nGPS(48.4146,5.6880,0.0M) BAROMETER:0.3M"
AVATA = "GPS(51.706217,28.191305,69.800) BAROMETER(91.2) HOME(51.706206,28.191400)"
AIR2 = "2022-05-01 15:01:58,531,716\n[focal_len : 240] [latitude: 53.22] [longitude: 13.96] [altitude: 27.300000] "
MAVIC3 = "2021-12-25 12:27:52.373\n[latitude: 15.21531] [longitude: 8.42560] [rel_alt: -2.400 abs_alt: 0.401] </font>"
MAVIC2 = "[latitude : -8.4533] [longtitude : 160.8251] [iso : 100]"
M3E = "[latitude: 15.2] [longitude: 8.4] [rel_alt: 80.0 abs_alt: 120.0] [gb_yaw: -12.5 gb_pitch: -90.0 gb_roll: 0.0]"


def track(*texts: str, zone: timezone | None = None) -> TelemetryTrack:
    lines: list[str] = []
    for number, text in enumerate(texts):
        lines += [str(number + 1), f"00:00:0{number},000 --> 00:00:0{number + 1},000", *text.split("\n"), ""]
    return read_srt_lines(lines, zone)


def texts_of(found: TelemetryTrack) -> str:
    return "\n".join(warning.text for warning in found.warnings)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (MAVIC_PRO, {"latitude": -8.4533, "longitude": 160.8251, "altitude_m": 1.9}),
        (OLD, {"latitude": -8.4533, "longitude": 60.8251, "altitude_m": 1.9}),
        (MAVIC_MINI, {"latitude": 59.8771, "longitude": -9.9458, "altitude_m": 200.7}),
        (
            P4_RTK,
            {
                "latitude": -22.437922,
                "longitude": -47.051745,
                "altitude_m": 85.8,
                "pitch_deg": -24.4,
                "heading_deg": 110.4,
            },
        ),
        (MATRICE, {"latitude": 48.4146, "longitude": 5.688, "altitude_m": 0.3}),
        (AVATA, {"latitude": 51.706217, "longitude": 28.191305, "altitude_m": 91.2}),
        (AIR2, {"latitude": 53.22, "longitude": 13.96}),
        (MAVIC3, {"latitude": 15.21531, "longitude": 8.4256, "altitude_m": -2.4, "altitude_msl_m": 0.401}),
        (MAVIC2, {"latitude": -8.4533, "longitude": 160.8251}),
        (
            M3E,
            {
                "latitude": 15.2,
                "longitude": 8.4,
                "altitude_m": 80.0,
                "altitude_msl_m": 120.0,
                "pitch_deg": -90.0,
                "heading_deg": 347.5,
            },
        ),
    ],
    ids=["mavic-pro", "old", "mavic-mini", "p4-rtk", "matrice", "avata", "air2", "mavic3", "mavic2", "gimbal"],
)
def test_each_dialect_gives_only_what_is_known(text: str, values: dict[str, float]) -> None:
    camera = track(text).at(0.5)
    assert camera is not None
    assert camera.model_dump(exclude_none=True) == values


def test_an_unknown_dialect_with_two_possible_orders_gives_no_position() -> None:
    found = track("GPS(10.5, 20.5, 3) BAROMETER:5.0")
    camera = found.at(0)
    assert camera is not None
    assert camera.model_dump(exclude_none=True) == {"altitude_m": 5.0}
    assert "dialect is not known" in texts_of(found)


def test_a_number_above_90_decides_the_order_for_the_whole_file() -> None:
    found = track("GPS(10.5, 20.5, 3) BAROMETER:5.0", "GPS(10.6, 100.5, 3) BAROMETER:5.0")
    first = found.at(0)
    assert first is not None
    assert (first.latitude, first.longitude) == (10.5, 20.5)


def test_numbers_above_90_win_over_the_dialect_with_a_warning() -> None:
    found = track(AVATA.replace("51.706217,28.191305", "128.191305,51.706217"))
    camera = found.at(0)
    assert camera is not None
    assert (camera.latitude, camera.longitude) == (51.706217, 128.191305)
    assert "its dialect writes the other order" in texts_of(found)


def test_positions_in_both_orders_are_not_used() -> None:
    found = track("GPS(10.5, 120.5, 3)", "GPS(120.5, 10.5, 3)")
    assert found.at(0) is None
    assert "so none was used" in texts_of(found)


def test_an_altitude_without_reference_is_unknown_and_focal_len_is_not_used() -> None:
    warnings = texts_of(track(AIR2))
    assert "altitude does not say" in warnings
    assert "focal_len is for 35 mm film" in warnings


def test_the_position_0_0_is_unknown() -> None:
    found = track("[latitude: 0.0] [longitude: 0.0] [rel_alt: 1.0 abs_alt: 50.0]")
    camera = found.at(0)
    assert camera is not None
    assert camera.model_dump(exclude_none=True) == {"altitude_m": 1.0, "altitude_msl_m": 50.0}
    assert "there was none yet" in texts_of(found)


def test_equal_heights_above_take_off_and_sea_are_one_that_is_written_twice() -> None:
    camera = track("[latitude: 5] [longitude: 6] [rel_alt: 50.0 abs_alt: 50.0]").at(0)
    assert camera is not None
    assert camera.altitude_m is None
    assert camera.altitude_msl_m == 50.0


def test_local_times_give_the_start_in_utc_or_in_the_zone() -> None:
    assert track(AIR2).start() == datetime(2022, 5, 1, 15, 1, 58, 531716, UTC)
    assert "read as UTC" in texts_of(track(AIR2))
    shifted = track(AIR2, zone=timezone(timedelta(hours=2)))
    assert shifted.start() == datetime(2022, 5, 1, 13, 1, 58, 531716, UTC)
    assert "read as UTC" not in texts_of(shifted)


def test_a_file_that_begins_at_one_second_counts_back_to_the_first_frame() -> None:
    found = read_srt_lines(["1", "00:00:01,000 --> 00:00:02,000", *MAVIC_PRO.split("\n")])
    assert found.start() == datetime(2017, 8, 5, 14, 11, 50, tzinfo=UTC)
    assert found.at(0.5) is None
    assert found.at(1.5) is not None


def test_entries_without_times_are_placed_by_their_local_times() -> None:
    lines = ["1", "2017.08.05 14:11:51,393,525", MAVIC2, "", "2", "2017.08.05 14:11:53,393,525", MAVIC2, ""]
    found = read_srt_lines(lines)
    assert len(found) == 2
    assert found.at(2.5) is not None
    assert "placed by their local times" in texts_of(found)


def test_a_file_that_is_cut_off_keeps_the_entries_before() -> None:
    found = track(MAVIC_PRO, MAVIC_PRO.split("\n", maxsplit=1)[0][:40])
    assert found.at(0.5) is not None
    assert len(found) == 1 or found.at(1.5) is None


def test_subtitles_without_telemetry_are_named() -> None:
    assert "none of its 2 subtitles is telemetry" in texts_of(track("Hello", "Good bye"))
    assert "it has no subtitles" in texts_of(read_srt_lines([]))


def test_values_out_of_range_are_counted_and_unknown() -> None:
    found = track("[latitude: 95.0] [longitude: 10.0]", "[latitude: 96.0] [longitude: 10.0]")
    camera = found.at(0)
    assert camera is not None
    assert camera.latitude is None
    assert "latitude is out of range; it is unknown (2 times, from 0.0 s)" in texts_of(found)


def test_bytes_with_bom_and_crlf_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.SRT"
    path.write_bytes(b"\xef\xbb\xbf1\r\n00:00:00,000 --> 00:00:01,000\r\n" + MATRICE.replace("\n", "\r\n").encode())
    camera = read_srt(path).at(0)
    assert camera is not None
    assert camera.latitude == 48.4146


def test_a_file_that_cannot_be_opened_names_the_path_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match=r"nothing\.srt: the telemetry cannot be read \(No such file"):
        read_srt(tmp_path / "nothing.srt")
    with pytest.raises(TelemetryError, match="it is a folder"):
        read_srt(tmp_path)


def test_mutated_files_never_raise(tmp_path: Path) -> None:
    random_source = random.Random(11)
    clean = "\n\n".join(
        f"{number}\n00:00:0{number},000 --> 00:00:0{number + 1},000\n{text}"
        for number, text in enumerate((MAVIC_PRO, MAVIC_MINI, P4_RTK, MATRICE, AVATA, AIR2, MAVIC3))
    ).encode()
    path = tmp_path / "a.srt"
    for _ in range(100):
        content = bytearray(clean)
        for _ in range(random_source.randint(1, 40)):
            content[random_source.randrange(len(content))] = random_source.randrange(256)
        path.write_bytes(content[: random_source.randrange(len(content))])
        found = read_srt(path)
        camera = found.at(0.0)
        assert camera is None or all(math.isfinite(value) for value in camera.model_dump(exclude_none=True).values())


def test_a_long_line_of_brackets_takes_linear_time() -> None:
    found = track("[latitude" * 400 + ": " * 400, "GPS (" * 800, "0:" * 2000 + " --> ")
    assert found.at(0) is None
