"""Finds the values in one DJI subtitle: labelled ones in brackets, and those of the older dialects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ingest.images.metadata.numbers import parse_number
from ingest.video.telemetry.track import Tally

Order = Literal["longitude first", "latitude first"]

_NUM = r"[+-]?\d{1,9}(?:\.\d{1,12})?"
# "[rel_alt: 5.0 abs_alt: 105.0]" has two labels in one pair of brackets.
_LABELLED = re.compile(rf"([A-Za-z_]{{2,24}}) {{0,3}}: {{0,3}}({_NUM})(?![\d.])", re.ASCII)
_PAIR = re.compile(rf"GPS {{0,2}}\( {{0,2}}({_NUM}), {{0,2}}({_NUM}), {{0,2}}({_NUM})(M?) {{0,2}}\)", re.ASCII)
_HOME = re.compile(r"HOME {0,2}\(", re.ASCII)
_BAROMETER = re.compile(rf"BAROMETER {{0,2}}([:(]) {{0,2}}({_NUM})", re.ASCII)
_HEIGHT = re.compile(rf"(?:^|[ ,])H {{0,2}}({_NUM}) ?m\b", re.ASCII)
_ANGLES = re.compile(rf"([FG])\.PRY {{0,2}}\( {{0,2}}({_NUM})°?, {{0,2}}({_NUM})°?, {{0,2}}({_NUM})°? {{0,2}}\)")
_SAME_HEIGHT_M = 0.005
_LABELS = frozenset(
    {
        "latitude",
        "longitude",
        "longtitude",
        "rel_alt",
        "abs_alt",
        "altitude",
        "hb",
        "gb_yaw",
        "gb_pitch",
        "focal_len",
    }
)
_POSITION = ("latitude", "longitude")


@dataclass(frozen=True, slots=True)
class EntryFields:
    """Holds the values of one subtitle as they are written; false where it has none that is known."""

    labelled: Mapping[str, float] = field(default_factory=dict)
    pair: tuple[float, float] | None = None
    """The first two numbers of `GPS(a, b, c)`; what they are depends on the dialect"""
    pair_order: Order | None = None
    """The order of that pair, where the entry is of a dialect whose order is known"""
    height_m: float | None = None
    """Above the take-off point, by barometer"""
    gimbal: tuple[float, float] | None = None
    """Pitch and yaw of the camera"""
    aircraft_yaw: float | None = None

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self.labelled) or self.pair is not None or self.height_m is not None or self.gimbal is not None

    def values(self, order: Order | None, tally: Tally, time_s: float) -> dict[str, float | None]:
        """Return the camera fields; what cannot be known is None, and counted in ``tally``."""
        latitude, longitude = self._position(order)
        if latitude == 0 and longitude == 0:
            tally.add("SRT: the position is 0, 0, which means that there was none yet", time_s, *_POSITION)
            latitude = longitude = None
        height, above_sea = self._heights(tally, time_s)
        pitch, yaw = self.gimbal or (self.labelled.get("gb_pitch"), self.labelled.get("gb_yaw"))
        yaw = self.aircraft_yaw if yaw is None else yaw
        if "focal_len" in self.labelled:
            tally.add(
                "SRT: focal_len is for 35 mm film, and the part of the sensor that the video shows is unknown, so it "
                "was not used",
                time_s,
                "focal_length_mm",
            )
        return {
            "latitude": latitude,
            "longitude": longitude,
            "altitude_m": height,
            "altitude_msl_m": above_sea,
            "pitch_deg": pitch,
            "heading_deg": None if yaw is None else yaw % 360,
        }

    def _position(self, order: Order | None) -> tuple[float | None, float | None]:
        latitude = self.labelled.get("latitude")
        longitude = self.labelled.get("longitude", self.labelled.get("longtitude"))
        if latitude is not None and longitude is not None:
            return latitude, longitude
        if self.pair is None or order is None:
            return None, None
        first, second = self.pair
        return (second, first) if order == "longitude first" else (first, second)

    def _heights(self, tally: Tally, time_s: float) -> tuple[float | None, float | None]:
        height = self.labelled.get("rel_alt", self.labelled.get("hb", self.height_m))
        above_sea = self.labelled.get("abs_alt")
        if "altitude" in self.labelled and height is None and above_sea is None:
            tally.add(
                "SRT: altitude does not say whether it is above the take-off point or the sea, so it was not used",
                time_s,
                "altitude_m",
                "altitude_msl_m",
            )
        if height and above_sea is not None and abs(height - above_sea) < _SAME_HEIGHT_M:
            tally.add(
                "SRT: the height above take-off equals that above the sea, so one of them is there twice; it was not "
                "used",
                time_s,
                "altitude_m",
            )
            height = None
        return height, above_sea


def read_fields(text: str) -> EntryFields:
    """Return what the ``text`` of one subtitle says; at most some thousand characters."""
    labelled: dict[str, float] = {}
    for match in _LABELLED.finditer(text):
        name = match[1].lower()
        value = parse_number(match[2])
        if name in _LABELS and value is not None:
            labelled.setdefault(name, value)
    pair = _PAIR.search(text)
    barometer = _BAROMETER.search(text)
    height = _HEIGHT.search(text)
    angles = {match[1]: (float(match[2]), float(match[4])) for match in _ANGLES.finditer(text)}
    return EntryFields(
        labelled=labelled,
        pair=None if pair is None else (float(pair[1]), float(pair[2])),
        pair_order=None if pair is None else _dialect_order(text, pair, barometer),
        height_m=float(barometer[2]) if barometer else float(height[1]) if height else None,
        gimbal=angles.get("G"),
        aircraft_yaw=angles["F"][1] if "F" in angles else None,
    )


def _dialect_order(text: str, pair: re.Match[str], barometer: re.Match[str] | None) -> Order | None:
    """Return the order of coordinates in dialects that are known by samples; None for any other."""
    # "GPS(48.4146,5.6880,0.0M) BAROMETER:0.3M" (Matrice 300) and "GPS(51.7,128.2,69.8) BAROMETER(91.2)" (Avata 2).
    if pair[4] == "M" or (barometer is not None and barometer[1] == "("):
        return "latitude first"
    # "F/2.8, SS 30.15, ISO 260, EV -1.7, GPS (-109.9458, 59.8771, 17), D 221.21m, H 200.70m" (Mavic Mini, Phantom 4).
    if text.lstrip().startswith("F/") and "GPS (" in text:
        return "longitude first"
    # "HOME(-46.6563,-22.9386) 2017.07.03 10:15:03 GPS(-46.6563,-22.9383,19) BAROMETER:20.1 ISO:100" (Mavic Pro).
    if _HOME.match(text.lstrip()) and "ISO:" in text:
        return "longitude first"
    return None
