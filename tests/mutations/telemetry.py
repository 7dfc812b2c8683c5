"""Makes the telemetry of videos (SRT, GPMF, MISB ST 0601), and reads mutated ones."""

from __future__ import annotations

import struct
from functools import cache
from random import Random
from typing import Final

from ingest.video.telemetry.embedded import EmbeddedTelemetry
from ingest.video.telemetry.gpmf import add_payload
from ingest.video.telemetry.klv import add_packets
from ingest.video.telemetry.srt import read_srt_lines
from ingest.video.telemetry.track import TelemetryTrack
from tests.mutations.mutate import mutate_bytes
from tests.videos import gpmf, gpmf_nested, klv_packet, signed, unsigned

_ENTRIES: Final = (
    "HOME(160.8251,-8.4532) 2017.08.05 14:11:51\nGPS(160.8251,-8.4533,16) BAROMETER:1.9\nISO:100 Shutter:60",
    "F/2.8, SS 30.15, ISO 260, EV -1.7, GPS (-9.9458, 59.8771, 17), D 221.21m, H 200.70m, G.PRY (-24.4°, 0.0°, 110.4°)",
    "2022.06.21 16:06:17\nGPS(48.4146,5.6880,0.0M) BAROMETER:0.3M",
    "2022-05-01 15:01:58,531,716\n[focal_len : 24] [latitude: 53.22] [longtitude : 13.96] [rel_alt: 5.0 abs_alt: 105]",
)


@cache
def _srt() -> bytes:
    return "\n\n".join(
        f"{number + 1}\n00:00:0{number},000 --> 00:00:0{number + 1},000\n{text}" for number, text in enumerate(_ENTRIES)
    ).encode()


@cache
def _klv() -> bytes:
    angles = {5: unsigned(90, 0, 360), 6: signed(0, 20, 2), 7: signed(0, 50, 2), 18: bytes(4), 19: signed(-90, 180)}
    place = {2: (1_777_000_000_000_000).to_bytes(8, "big"), 13: signed(48.5, 90), 14: signed(9.5, 180), 15: bytes(2)}
    return klv_packet(place | angles)


@cache
def _gpmf() -> bytes:
    scale = gpmf("SCAL", "l", 4, 5, struct.pack(">5i", 10**7, 10**7, 1000, 1000, 100))
    row = gpmf("GPS5", "l", 20, 2, struct.pack(">10i", *([485_000_000, 95_000_000, 0, 0, 0] * 2)))
    time = gpmf("GPSU", "U", 16, 1, b"260501100000.500")
    fixed = gpmf("GPSF", "L", 4, 1, bytes([0, 0, 0, 3]))
    kinds = gpmf("TYPE", "c", 1, 9, b"LllllsssS")
    karma = gpmf("GLPI", "?", 28, 1, bytes(28))
    return gpmf_nested("DEVC", gpmf_nested("STRM", fixed, time, scale, row), gpmf_nested("STRM", kinds, karma))


def make_srt(rng: Random) -> bytes:
    """Return a mutated SRT file."""
    return mutate_bytes(rng, (_srt(),))


def make_klv(rng: Random) -> bytes:
    """Return mutated KLV packets."""
    return mutate_bytes(rng, (_klv(),))


def make_gpmf(rng: Random) -> bytes:
    """Return a mutated GPMF payload."""
    return mutate_bytes(rng, (_gpmf(),))


def read_srt_bytes(data: bytes) -> None:
    """Read ``data`` as an SRT file."""
    _use(read_srt_lines(data.decode("utf-8", "replace").split("\n")))


def read_klv_bytes(data: bytes) -> None:
    """Read ``data`` as packets, and as a track of a stream."""
    track = TelemetryTrack("klv")
    add_packets(data, 1.0, track)
    _use(track)
    EmbeddedTelemetry(None, live=True).add(0, "", data, 1.0, 0.0)


def read_gpmf_bytes(data: bytes) -> None:
    """Read ``data`` as a payload."""
    track = TelemetryTrack("gpmf")
    add_payload(data, 1.0, 1.0, track)
    _use(track)


def _use(track: TelemetryTrack) -> None:
    """Ask for what a reader of a video asks for; the event schema checks each camera."""
    track.start()
    for time_s in (0.0, 0.5, 1.0, 1.5, 2.5):
        track.at(time_s)
    assert all(warning.text for warning in track.warnings)
