"""Reads DJI's subtitle files (SRT), which hold position, heights and angles of the drone for each moment of a video."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from infra.regular_files import open_regular
from ingest.video.errors import TelemetryError
from ingest.video.telemetry.local_times import find_local_time
from ingest.video.telemetry.srt_fields import EntryFields, Order, read_fields
from ingest.video.telemetry.srt_order import AxisOrder, decide_order
from ingest.video.telemetry.track import TelemetryTrack

KIND = "SRT"
MAX_BYTES = 512_000_000
_MAX_LINE = 4_096
_MAX_ENTRY_LINES = 32
# The order of coordinates is decided by this many entries, which are held back until then.
_HELD_BACK = 2_000
_TIMES = re.compile(
    r"(\d{1,3}):(\d{2}):(\d{2})[,.](\d{1,3})\s{0,4}-->\s{0,4}(\d{1,3}):(\d{2}):(\d{2})[,.](\d{1,3})", re.ASCII
)
_NUMBER = re.compile(r"\s{0,4}\d{1,9}\s{0,4}", re.ASCII)


@dataclass(slots=True)
class _Entry:
    """Is one subtitle: its times on the video's time line, where it has them, and its text."""

    start_s: float | None = None
    end_s: float | None = None
    lines: list[str] = field(default_factory=list)


class _Moment(NamedTuple):
    """Is one subtitle as it was read, before the order of its coordinates is known."""

    start_s: float
    end_s: float | None
    clock: datetime | None
    fields: EntryFields


def read_srt(path: Path, zone: timezone | None = None) -> TelemetryTrack:
    """Return the telemetry in the SRT file at ``path``; ``zone`` is that of its local times (None: read as UTC).

    Raises TelemetryError where the file cannot be read or is too large; no content raises any error.
    """
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise TelemetryError(f"{path}: has {size} bytes; telemetry of at most {MAX_BYTES} bytes is read")
            return read_srt_lines(_lines(iter(lambda: file.readline(_MAX_LINE), b"")), zone)
    except OSError as error:
        raise TelemetryError(
            f"{path}: the telemetry cannot be read ({error.strerror}); give the path of an SRT file"
        ) from error


def read_srt_lines(lines: Iterable[str], zone: timezone | None = None) -> TelemetryTrack:
    """Return the telemetry in the ``lines`` of an SRT file."""
    reader = SrtReader(zone)
    for entry in _entries(lines):
        reader.add(entry.start_s, entry.end_s, entry.lines)
    return reader.track()


class SrtReader:
    """Collects the subtitles of one video, and decides by the first ones in which order coordinates are written."""

    def __init__(self, zone: timezone | None = None, held_back: int = _HELD_BACK) -> None:
        """Read local times as times in ``zone``; the order is decided by the first ``held_back`` subtitles."""
        self._zone = zone
        self._most_held_back = held_back
        self._seen = AxisOrder()
        self._order: Order | None = None
        self._held_back: list[_Moment] | None = []
        self.found = TelemetryTrack(KIND)
        """Grows with each subtitle, once the order is decided"""
        self._first_clock: datetime | None = None
        self._entries = self._empty = 0

    def add(self, start_s: float | None, end_s: float | None, lines: list[str]) -> None:
        """Add a subtitle; one without times is placed by its local time, from the first."""
        self._entries += 1
        clock = next(filter(None, (find_local_time(line, self._zone) for line in lines)), None)
        fields = read_fields(" ".join(lines))
        if clock is None and not fields:
            self._empty += 1
            return
        self._first_clock = self._first_clock or clock
        if start_s is None:
            if clock is None or self._first_clock is None:
                self.found.tally.add(f"{KIND}: an entry has neither times nor a local time; it was left out", 0.0)
                return
            start_s = (clock - self._first_clock).total_seconds()
            self.found.note(f"{KIND}: the entries have no times; they were placed by their local times, from the first")
        moment = _Moment(start_s, end_s, clock, fields)
        if self._held_back is None:
            self._write(moment)
        else:
            self._seen.see(fields)
            self._held_back.append(moment)
            if len(self._held_back) >= self._most_held_back:
                self._release()

    def track(self) -> TelemetryTrack:
        """Return what was found; call it once, after the last subtitle."""
        self._release()
        track = self.found
        if not self._entries:
            track.note(f"{KIND}: it has no subtitles, so it says nothing about the camera")
        elif self._empty == self._entries:
            track.note(f"{KIND}: none of its {self._entries} subtitles is telemetry that is known")
        elif self._empty:
            track.note(f"{KIND}: {self._empty} of {self._entries} subtitles hold nothing that is known")
        if self._zone is None and self._first_clock is not None:
            track.note(
                f"{KIND}: its local times have no time zone; they were read as UTC. Give the zone, or the video's "
                "start",
                "captured_at",
            )
        return track

    def _release(self) -> None:
        if self._held_back is None:
            return
        self._order = decide_order(self._seen, self.found)
        for moment in self._held_back:
            self._write(moment)
        self._held_back = None

    def _write(self, moment: _Moment) -> None:
        values = moment.fields.values(self._order, self.found.tally, moment.start_s)
        self.found.add(moment.start_s, values, until_s=moment.end_s, captured_at=moment.clock)


def _lines(raw: Iterator[bytes]) -> Iterator[str]:
    """Yield the lines of a file, each at most _MAX_LINE bytes long; bytes that are no UTF-8 become a sign for that."""
    first = True
    for line in raw:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text.removeprefix("\ufeff") if first else text
        first = False


def _entries(lines: Iterable[str]) -> Iterator[_Entry]:
    """Yield the subtitles: each begins with a line of its number, or of its times where the number is missing."""
    entry: _Entry | None = None
    for line in lines:
        times = _TIMES.search(line)
        if times is None and not _NUMBER.fullmatch(line):
            if entry is not None and line.strip() and len(entry.lines) < _MAX_ENTRY_LINES:
                entry.lines.append(line)
            continue
        if entry is not None and (entry.lines or (times is not None and entry.start_s is not None)):
            yield entry
            entry = None
        entry = entry or _Entry()
        if times is not None:
            entry.start_s, entry.end_s = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
    if entry is not None and entry.lines:
        yield entry


def _seconds(parts: tuple[str, ...]) -> float:
    hours, minutes, seconds, thousandths = parts
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths.ljust(3, "0")) / 1000
