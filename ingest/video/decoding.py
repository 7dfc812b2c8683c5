"""Decodes the frames of an open video, with their times; broken packets are counted and survived."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from ingest.settings import VideoSettings
from ingest.video.counts import VideoCounts
from ingest.video.errors import FramesTooLargeError, VideoError
from ingest.video.gaps import GapCounter
from ingest.video.inputs.opened import OpenedVideo, ffmpeg_errors
from ingest.video.lag import Arrived, LagLimits, PacketQueue
from ingest.video.pictures import whole_jpeg
from ingest.video.telemetry.embedded import EmbeddedTelemetry
from schemas.errors import StandgaleError

if TYPE_CHECKING:
    from typing import TypeAlias

    from av import Packet as AnyPacket
    from av import VideoFrame as DecodedPicture
    from av.stream import Stream
    from av.video.stream import VideoStream

    Packet: TypeAlias = AnyPacket[Stream]

# What is read before the first frame is given, to learn where the times come from.
_AHEAD_PACKETS = 600
_AHEAD_BYTES = 32_000_000
_AHEAD_VIDEO_S = 2.0
_AHEAD_LIVE_S = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A decoder with threads gives its frames some packets later.
_MOST_JPEGS = 16


@dataclass(frozen=True, slots=True)
class Decoded:
    """Holds one decoded frame."""

    picture: DecodedPicture
    time_s: float
    """On the stream's time line, from its first frame"""
    is_key: bool
    arrived_at: datetime
    """When its packet was read here"""
    camera_time: datetime | None
    """When the camera's clock says that it was taken (RTCP)"""
    jpeg: bytes | None = None
    """The picture as it came, where that is a whole JPEG"""


@dataclass(frozen=True, slots=True)
class _Read:
    """Is a packet and when it was read."""

    packet: Packet
    arrived_at: datetime
    arrived: Arrived | None = None
    """As a camera's queue gave it; None for files"""


class VideoDecoder:
    """Reads one open video from begin to end; not for several threads at once."""

    def __init__(
        self,
        opened: OpenedVideo,
        settings: VideoSettings,
        counts: VideoCounts,
        telemetry: EmbeddedTelemetry,
        *,
        only_keys: bool = False,
        limit: str = "video.max_pixels",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Choose the stream. Raises VideoError where there is none that can be decoded, or its frames are too large.

        ``limit`` is the name of the setting that limits their size.
        """
        self._opened = opened
        self._settings = settings
        self._counts = counts
        self._telemetry = telemetry
        self._now = now
        self.stream = _choose_stream(opened, settings.max_pixels, limit)
        self._only_keys = only_keys
        self._prepare()
        self._first_pts: int | None = None
        self._last_s: float | None = None
        self._last_packet_s = 0.0
        self._packets_read = 0
        self._interval_s = _interval(self.stream)
        self._gaps = self._gap_counter()
        self._camera_clock: dict[int, datetime] = {}
        self._arrivals: dict[int, datetime] = {}
        self._jpegs: dict[int, bytes] = {}
        self._gap_pts: int | None = None
        self._queue = self._packet_queue() if opened.is_live else None
        self._packets = self._read()
        self._ahead: deque[_Read] = deque()
        self.arrival_start: datetime | None = None
        """When the stream's time 0 was, by the frames' arrivals; set by :meth:`read_ahead`"""
        self._camera_start: datetime | None = None

    def close(self) -> None:
        """End the thread that reads a camera, and its connection; the container may be closed after it.

        Afterwards nothing here refers to itself, so that FFmpeg's decoder, its threads and its pictures are freed at
        once: Python's search for such circles knows nothing of their size, and comes late.
        """
        if self._queue is not None:
            assert self._opened.network is not None
            self._opened.network.close()
            self._queue.join()
        self._queue, self._packets = None, iter(())
        self._ahead.clear()

    def lag_s(self) -> float:
        """Return how far behind a camera decoding is; 0 for files, which wait."""
        return 0.0 if self._queue is None else self._queue.lag_s()

    def _packet_queue(self) -> PacketQueue:
        limits = LagLimits(self._settings.max_lag_s, self._settings.max_lag_bytes)
        queue = PacketQueue(self._demux, self.stream.index, limits, self._count_skipped, now=self._now)
        queue.start()
        return queue

    def _count_skipped(self, frames: int) -> None:
        self._counts.overflowed += frames

    def _gap_counter(self) -> GapCounter | None:
        """Return what counts missing frames; None for files that state their number, which is exact."""
        if self._only_keys or self._opened.has_arrival_times:
            return None
        if self._opened.is_live:
            return GapCounter(None)
        return GapCounter(self._interval_s) if not self.stream.frames and _is_constant(self.stream) else None

    def _prepare(self) -> None:
        context = self.stream.codec_context
        context.thread_count = self._settings.threads
        # Threads for whole frames delay each frame; a camera's are wanted at once.
        context.thread_type = "SLICE" if self._opened.is_live else "AUTO"
        context.options = {"max_pixels": str(self._settings.max_pixels)}
        if context.name == "mjpeg":
            # Else the rest of a JPEG that was cut off is what a picture before it showed there, and is not marked.
            context.options |= {"err_detect": "explode"}
        if self._only_keys:
            context.skip_frame = "NONKEY"

    def read_ahead(self) -> None:
        """Read the first packets, to learn what telemetry there is and when the stream began."""
        if self._queue is None:
            self._read_ahead()
            return
        with suppress(StandgaleError):
            # An error that ended the stream is raised again after the packets before it.
            self._read_ahead()
        self._queue.put_back([read.arrived for read in self._ahead if read.arrived is not None])
        self._ahead.clear()
        self._packets = self._read()

    def _read_ahead(self) -> None:
        began = time.monotonic()
        size_bytes = 0
        for read in self._packets:
            self._ahead.append(read)
            size_bytes += read.packet.size
            time_s = self._packet_time(read.packet)
            if time_s is not None:
                self._learn_start(read, time_s)
                if not self._opened.is_live and (time_s > _AHEAD_VIDEO_S or self._has_telemetry_start()):
                    return
            if self._opened.is_live and time.monotonic() - began > _AHEAD_LIVE_S:
                return
            if len(self._ahead) >= _AHEAD_PACKETS or size_bytes > _AHEAD_BYTES:
                return

    @property
    def camera_start(self) -> datetime | None:
        """When the stream's time 0 was, by the camera's clock (RTCP); None where it does not say it."""
        if self._camera_start is not None:
            return self._camera_start
        session_us = self._opened.container.start_time_realtime
        if not session_us or not _is_set(session_us):
            return None
        return _EPOCH + timedelta(microseconds=session_us, seconds=self._first_pts_s())

    def _has_telemetry_start(self) -> bool:
        track = self._telemetry.track
        return track is not None and track.start() is not None

    def _learn_start(self, read: _Read, time_s: float) -> None:
        by_arrival = read.arrived_at - timedelta(seconds=time_s)
        if self.arrival_start is None or by_arrival < self.arrival_start:
            self.arrival_start = by_arrival
        clock = _camera_time(read.packet)
        if clock is not None:
            self._camera_start = clock - timedelta(seconds=time_s)

    def _packet_time(self, packet: Packet) -> float | None:
        if packet.stream_index != self.stream.index or packet.pts is None or packet.time_base is None:
            return None
        if self._first_pts is None:
            self._first_pts = self._start_pts(packet)
        return float((packet.pts - self._first_pts) * packet.time_base)

    def _start_pts(self, packet: Packet) -> int:
        """Return the time of the first frame; with B-frames it is not that of the first packet."""
        stated = self.stream.start_time
        assert packet.pts is not None
        if self._opened.is_live or stated is None:
            return packet.pts
        return min(stated, packet.pts) if abs(stated - packet.pts) < 10 / (packet.time_base or 1) else packet.pts

    def frames(self) -> Iterator[Decoded]:
        """Yield the frames in the order of presentation; frames with missing parts are counted and left out."""
        while self._ahead:
            yield from self._decode(self._ahead.popleft())
        for read in self._packets:
            yield from self._decode(read)
        stated = self.stream.frames
        # Some files of AVI fill a variable rate with empty frames, which are counted but not there.
        if not self._opened.is_live and self._packets_read > stated / 2:
            self._counts.missing += max(0, stated - self._packets_read)
        if self._counts.decoded == 0 and not self._opened.is_live:
            raise VideoError(f"{self._opened.name}: has no frames that can be decoded; it is empty or damaged")

    def _read(self) -> Iterator[_Read]:
        """Yield the packets of the video stream; those of other tracks go to the telemetry."""
        for read in self._arrived():
            if read.packet.stream_index != self.stream.index:
                self._keep_telemetry(read.packet)
            else:
                yield read

    def _arrived(self) -> Iterator[_Read]:
        if self._queue is None:
            yield from (_Read(packet, self._now()) for packet in self._demux())
        else:
            yield from (_Read(cast("Packet", each.packet), each.arrived_at, each) for each in self._queue)

    def _demux(self) -> Iterator[Packet]:
        container = self._opened.container
        streams = [each for each in container.streams if each is self.stream or each.type in ("data", "subtitle")]
        try:
            yield from container.demux(streams)
        except ffmpeg_errors() as error:
            self._opened.fail(error)
        self._opened.require_whole()

    def _keep_telemetry(self, packet: Packet) -> None:
        if not packet.size:
            return
        base = float(packet.time_base or 0)
        start = self._first_pts_s()
        time_s = 0.0 if packet.pts is None else packet.pts * base - start
        self._telemetry.add(
            packet.stream_index,
            packet.stream.metadata.get("handler_name", ""),
            bytes(packet),
            max(0.0, time_s),
            (packet.duration or 0) * base,
        )

    def _first_pts_s(self) -> float:
        base = float(self.stream.time_base or 0)
        if self._first_pts is not None:
            return self._first_pts * base
        return (self.stream.start_time or 0) * base

    def _decode(self, read: _Read) -> Iterator[Decoded]:
        packet = read.packet
        self._packets_read += bool(packet.size)
        if read.arrived is not None and read.arrived.is_after_gap:
            self._gap_pts = packet.pts
        if packet.is_corrupt:
            self._counts.broken_packets += 1
        if packet.pts is not None:
            self._remember(packet, read.arrived_at)
            self._last_packet_s = max(self._packet_time(packet) or 0.0, self._last_packet_s)
        if self._only_keys and packet.size and not packet.is_keyframe:
            return
        # At the end comes a packet without content or time, which makes the decoder give its last frames. An empty one
        # before stands for a frame that did not change.
        if not packet.size and packet.pts is not None:
            return
        try:
            pictures = self.stream.codec_context.decode(packet)
        except EOFError:
            # Some containers end twice.
            return
        except ffmpeg_errors():
            # Of the errors of PyAV's decoders, none ends the stream: the next packet is tried.
            self._counts.broken_packets += 1
            return
        for picture in pictures:
            decoded = self._decoded(picture, read.arrived_at)
            if decoded is not None:
                yield decoded

    def _remember(self, packet: Packet, arrived_at: datetime) -> None:
        """Keep what is known of the packet until its frame comes out of the decoder, some packets later."""
        assert packet.pts is not None
        jpeg = whole_jpeg(packet) if self.stream.codec_context.name == "mjpeg" else None
        if jpeg is not None:
            self._jpegs[packet.pts] = jpeg
            while len(self._jpegs) > _MOST_JPEGS:
                del self._jpegs[next(iter(self._jpegs))]
        if not self._opened.is_live:
            return
        clock = _camera_time(packet)
        for known, value in ((self._arrivals, arrived_at), (self._camera_clock, clock)):
            if value is not None:
                known[packet.pts] = value
            while len(known) > 64:
                del known[next(iter(known))]

    def _decoded(self, picture: DecodedPicture, arrived_at: datetime) -> Decoded | None:
        self._counts.decoded += 1
        if picture.is_corrupt:
            self._counts.damaged += 1
            return None
        if picture.width * picture.height > self._settings.max_pixels:
            self._counts.too_large += 1
            return None
        time_s = self._time(picture)
        pts = picture.pts if picture.pts is not None else -1
        if self._gap_pts is not None and pts >= self._gap_pts:
            # What was left out here is counted already.
            self._gap_pts, self._gaps = None, self._gap_counter()
        if self._gaps is not None:
            self._counts.missing += self._gaps.missing_before(time_s)
        self._last_s = time_s
        return Decoded(
            picture=picture,
            time_s=time_s,
            is_key=bool(picture.key_frame),
            arrived_at=self._arrivals.get(pts, arrived_at),
            camera_time=self._camera_clock.get(pts),
            jpeg=self._jpegs.pop(pts, None),
        )

    def _time(self, picture: DecodedPicture) -> float:
        """Return the frame's time; one without any is one interval after the frame before it."""
        if picture.pts is None or picture.time_base is None:
            return 0.0 if self._last_s is None else self._last_s + (self._interval_s or 0.04)
        if self._first_pts is None:
            self._first_pts = picture.pts
        return float((picture.pts - self._first_pts) * picture.time_base)

    @property
    def frames_per_s(self) -> float | None:
        """The rate that the stream states; None where it states none."""
        return None if self._interval_s is None else 1 / self._interval_s

    @property
    def end_s(self) -> float:
        """The time of the last packet that was read."""
        return self._last_packet_s

    @property
    def duration_s(self) -> float | None:
        """How long a recording says that it is."""
        stream = self.stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        whole = self._opened.container.duration
        return None if whole is None else whole / 1_000_000


def _choose_stream(opened: OpenedVideo, max_pixels: int, limit: str) -> VideoStream:
    best = opened.container.streams.best("video")
    # By index, which has the type of a video's stream.
    found = next(
        (each for each in opened.container.streams.video if best is not None and each.index == best.index), None
    )
    # A codec that is not known has no context, whatever the types of the library say.
    if found is None or getattr(found, "codec_context", None) is None:
        raise VideoError(f"{opened.name}: has no video that can be decoded; its codec is unknown, or it is sound alone")
    context = found.codec_context
    if context.width * context.height > max_pixels:
        raise FramesTooLargeError(
            f"{opened.name}: frames of {context.width}x{context.height} pixels are more than {limit} allows "
            f"({max_pixels})"
        )
    return found


def _interval(stream: VideoStream) -> float | None:
    """Return the seconds between frames where the stream says a rate that a camera may have."""
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate and 0.1 <= rate <= 1_000 else None


def _is_constant(stream: VideoStream) -> bool:
    """Whether a file's frames have a constant rate: their average is the rate that all their times are multiples of."""
    average, base = stream.average_rate, stream.base_rate
    return average is not None and base is not None and abs(float(average) / float(base) - 1) < 0.01


def _camera_time(packet: Packet) -> datetime | None:
    """Return what the camera's clock says about ``packet``: microseconds since 1970, from RTCP's sender reports."""
    if not packet.has_sidedata("prft"):
        return None
    raw = bytes(packet.get_sidedata("prft"))[:8]
    microseconds = int.from_bytes(raw, "little", signed=True)
    return _EPOCH + timedelta(microseconds=microseconds) if _is_set(microseconds) else None


def _is_set(microseconds: int) -> bool:
    """Whether a clock was ever set: others count from 1970 or 1900."""
    return 10**15 < microseconds < 4 * 10**15
