"""Reads the telemetry that a video file or stream has beside its pictures: data and subtitle tracks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import timezone

from ingest.video.telemetry import gpmf, klv
from ingest.video.telemetry.srt import SrtReader
from ingest.video.telemetry.track import MAX_MOMENTS, TelemetryTrack

MAX_PACKET_BYTES = 4_000_000
# What a live stream needs: the moments around the frames that are decoded now.
_LIVE_MOMENTS = 2_000

Add = Callable[[bytes, float, float], None]


class EmbeddedTelemetry:
    """Sorts the packets of data and subtitle tracks by what they hold, and collects the moments in them."""

    def __init__(self, zone: timezone | None, *, live: bool) -> None:
        """Read local times as times in ``zone``; of a ``live`` stream only the last moments are kept."""
        self._zone = zone
        self._live = live
        self._readers: dict[int, Add] = {}
        self.track: TelemetryTrack | None = None
        """What was found up to now; None while no track with known content was seen"""
        self.unread: list[str] = []
        """What tracks hold that is not read, as sentences"""

    def add(self, stream: int, name: str, packet: bytes, time_s: float, duration_s: float) -> None:
        """Add a packet of the track with the number ``stream`` and the handler's ``name``."""
        if not packet or len(packet) > MAX_PACKET_BYTES:
            return
        if stream not in self._readers:
            self._readers[stream] = self._reader(name, packet)
        self._readers[stream](packet, time_s, duration_s)

    def _reader(self, name: str, packet: bytes) -> Add:
        if gpmf.is_gpmf(packet):
            track = self._begin(gpmf.KIND)
            return lambda data, time_s, duration_s: gpmf.add_payload(data, time_s, duration_s or 1.0, track)
        if klv.UNIVERSAL_KEY in packet[:64]:
            packets = self._begin(klv.KIND)
            return lambda data, time_s, _: klv.add_packets(data, time_s, packets)
        text = subtitle_text(packet)
        if text is not None and ("GPS" in text or "latitude" in text.lower()):
            reader = SrtReader(self._zone, held_back=1)
            if self.track is None:
                self.track = reader.found
            return lambda data, time_s, duration_s: reader.add(
                time_s, time_s + duration_s if duration_s else None, (subtitle_text(data) or "").splitlines()
            )
        label = ascii(name[:40]) if name else "without a name"
        self.unread.append(f"a track ({label}) holds no telemetry that is known; it was not read")
        return lambda _data, _time_s, _duration_s: None

    def _begin(self, kind: str) -> TelemetryTrack:
        most = _LIVE_MOMENTS if self._live else MAX_MOMENTS
        track = TelemetryTrack(kind, max_moments=most, keep="last" if self._live else "first")
        if self.track is None:
            self.track = track
        else:
            self.track.note(f"{kind}: the video has a second track with telemetry; it was not used")
        return track


def subtitle_text(packet: bytes) -> str | None:
    """Return the text of a subtitle of MP4 (after its length) or Matroska; None where it is no text."""
    raw = packet[: MAX_PACKET_BYTES // 1000]
    if len(packet) >= 2 and packet[0] == 0:
        (length,) = struct.unpack_from(">H", packet)
        raw = packet[2 : 2 + length]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or all(each.isprintable() or each.isspace() for each in text) else None
